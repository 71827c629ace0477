r"""Complex-order as layers: a word table that knows positions, and its shared clocks as a door.

With frequencies of its own, a word must be known by its number, so `ComplexOrderEmbedding` takes
the place of the word table. If all words share the frequencies, token vectors are enough, and
`ComplexOrder` is an encoding like any other. Angles are computed in float64 from frequencies that
stay in float32 or better, and the result is rounded last.
"""

import torch
from torch import nn

from posenc._checks import check_choice, check_count, check_multiple
from posenc.equations.sinusoidal import frequencies
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["ComplexOrder", "ComplexOrderEmbedding"]


class ComplexOrder(PositionEncoding):
    r"""Input door: turn each pair of a token's columns by a trained frequency, all words alike.

    $$(x_{i,m} + \mathrm{i}\, y_{i,m}) \mapsto (x_{i,m} + \mathrm{i}\, y_{i,m})\,
    e^{\mathrm{i}\, \omega_m k_i}$$

    Amplitude and phase of a word are its own vector, read in pairs $(x, y)$; $k_i$ is the
    position of token $i$.

    Parameters
    ----------
    d_model
        Width of the tokens, a positive multiple of 2.
    base
        Base $b > 1$ of the frequencies $b^{-2m/d}$ at the start of training.
    layout
        `"interleaved"`: a pair is two neighbouring columns. `"halves"`: a column of the first
        half and its counterpart in the second.

    Attributes
    ----------
    clocks.frequency : torch.nn.Parameter
        Frequencies $\omega$, `(1, d_model // 2)`. They stay in float32 when the layer is cast to
        a narrower dtype; `clocks.requires_grad_(False)` holds them fixed.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `d_model` is not a positive multiple of 2, if `base` is not finite or not above 1, or
        if `layout` is unknown.

    Examples
    --------
    >>> layer = ComplexOrder(2)
    >>> layer(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).detach()
    tensor([[[1.0000, 0.0000],
             [0.5403, 0.8415]]])
    >>> layer.bfloat16().clocks.frequency.dtype
    torch.float32

    Before an attention layer it is the input door.

    >>> from posenc.layers.attention import Attention
    >>> Attention(4, n_heads=1, encoding=ComplexOrder(4))(torch.zeros(1, 2, 4)).shape
    torch.Size([1, 2, 4])

    >>> ComplexOrder(3)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 2, got 3

    See Also
    --------
    ComplexOrderEmbedding : Every word has frequencies of its own.
    posenc.equations.complex_order.complex_order : The equation.

    References
    ----------
    Wang et al. *Encoding word order in complex embeddings*. 2019, arXiv:1912.12333, Section 3.1,
    where this is the word-sharing scheme.
    """

    def __init__(self, d_model: int, base: float = 10000.0, *, layout: str = "interleaved") -> None:
        super().__init__()
        self.d_model = check_multiple("d_model", d_model, 2)
        self.layout = check_choice("layout", layout, ("interleaved", "halves"))
        self.clocks = _Clocks(1, d_model, base)

    def embed(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        r"""Turn every token by its position.

        $$(x_{i,m} + \mathrm{i}\, y_{i,m}) \mapsto (x_{i,m} + \mathrm{i}\, y_{i,m})\,
        e^{\mathrm{i}\, \omega_m k_i}$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        At position 0 nothing turns.

        >>> x = torch.tensor([[[2.0, 0.0], [2.0, 0.0]]])
        >>> ComplexOrder(2).embed(x, torch.tensor([0, 3])).detach()
        tensor([[[ 2.0000,  0.0000],
                 [-1.9800,  0.2822]]])

        >>> ComplexOrder(2).embed(x, torch.tensor([0.5, 1.5]))
        Traceback (most recent call last):
            ...
        TypeError: positions must be int64 or int32, got torch.float32
        """
        check.tokens("x", x, self.d_model, self.clocks.frequency)
        check.positions("positions", positions, x)
        working = torch.promote_types(x.dtype, torch.float32)
        c, s = self.clocks(positions, working)
        a, b = _split(x, self.layout)
        return _join(a * c - b * s, a * s + b * c, self.layout).to(x.dtype)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Do the same as `embed`, for a model that calls the layer by itself.

        $$(x_{i,m} + \mathrm{i}\, y_{i,m}) \mapsto (x_{i,m} + \mathrm{i}\, y_{i,m})\,
        e^{\mathrm{i}\, \omega_m k_i}$$

        Parameters
        ----------
        x
            Tokens of shape `(batch, n, d_model)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`.

        Returns
        -------
        torch.Tensor
            Tokens of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        >>> layer, x = ComplexOrder(2, layout="halves"), torch.ones(1, 2, 2)
        >>> layer(x).detach()
        tensor([[[ 1.0000,  1.0000],
                 [-0.3012,  1.3818]]])
        >>> torch.equal(layer(x), layer(x, torch.arange(2)))
        True
        """
        check.tokens("x", x, self.d_model, self.clocks.frequency)
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)
        return self.embed(x, positions)


class ComplexOrderEmbedding(nn.Module):
    r"""Word table and position encoding in one: amplitude, frequency and phase of every word.

    $$f(j, k) = r_j \odot e^{\mathrm{i}\,(\omega_j k + \theta_j)}$$

    It takes the numbers of the words, so that it stands where a model has its word table; no
    encoding is needed behind it. The result is the real view, of width $d = 2D$.

    Parameters
    ----------
    n_words
        Number of words $V \ge 1$.
    d_model
        Width $d$ of the result, a positive multiple of 2.
    base
        Base $b > 1$ of the frequencies $b^{-2m/d}$ at the start of training, the same for every
        word.
    layout
        `"interleaved"` or `"halves"`, see `posenc.equations.complex_order.real_view`.
    shared
        Let all words share one row of frequencies, which can then be trained but not differ.
    phase
        Give every word a phase; without it all phases are 0.

    Attributes
    ----------
    amplitude : torch.nn.Parameter
        Amplitudes $r$, `(n_words, D)`; they start as the weights of `torch.nn.Embedding` do.
    clocks.frequency, clocks.phase : torch.nn.Parameter
        Frequencies $\omega$, `(n_words, D)`, or `(1, D)` if shared, and phases $\theta$,
        `(n_words, D)`, at first 0, or `None`. Both stay in float32 when the layer is cast to a
        narrower dtype.

    Raises
    ------
    TypeError
        If `n_words` or `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `n_words` is less than 1, if `d_model` is not a positive multiple of 2, if `base` is
        not finite or not above 1, or if `layout` is unknown.

    Examples
    --------
    One word, twice: its frequency is 1 at the start, its phase 0.

    >>> layer = ComplexOrderEmbedding(5, 2)
    >>> _ = nn.init.constant_(layer.amplitude, 2.0)
    >>> layer(torch.tensor([[3, 3]])).detach()
    tensor([[[2.0000, 0.0000],
             [1.0806, 1.6829]]])

    A word whose frequency is 0 is the same everywhere, as in a bag of words.

    >>> _ = nn.init.zeros_(layer.clocks.frequency)
    >>> layer(torch.tensor([[3, 3]]), torch.tensor([7, 100])).detach()
    tensor([[[2., 0.],
             [2., 0.]]])

    What there is to train, for 5 words and D = 4.

    >>> full = ComplexOrderEmbedding(5, 8, phase=True)
    >>> shared = ComplexOrderEmbedding(5, 8, shared=True)
    >>> [sum(p.numel() for p in layer.parameters()) for layer in (full, shared)]
    [60, 24]

    See Also
    --------
    ComplexOrder : The door for shared frequencies.
    posenc.equations.complex_order.complex_order : The equation.

    References
    ----------
    Wang et al. *Encoding word order in complex embeddings*. 2019, arXiv:1912.12333, Equation 5
    and Appendix C.
    """

    def __init__(
        self,
        n_words: int,
        d_model: int,
        base: float = 10000.0,
        *,
        layout: str = "interleaved",
        shared: bool = False,
        phase: bool = False,
    ) -> None:
        super().__init__()
        self.n_words = check_count("n_words", n_words)
        self.d_model = check_multiple("d_model", d_model, 2)
        self.layout = check_choice("layout", layout, ("interleaved", "halves"))
        self.amplitude = nn.Parameter(torch.randn(n_words, d_model // 2))
        self.clocks = _Clocks(1 if shared else n_words, d_model, base, n_words if phase else 0)

    def forward(self, ids: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Embed words at their positions.

        $$f(j, k) = r_j \odot e^{\mathrm{i}\,(\omega_j k + \theta_j)}$$

        Parameters
        ----------
        ids
            Numbers of the words, int64 or int32, `(batch, n)`, each from 0 to `n_words` - 1.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`.

        Returns
        -------
        torch.Tensor
            Tokens of shape `(batch, n, d_model)`, of the dtype of the amplitudes.

        Raises
        ------
        TypeError
            If `ids` or `positions` are neither int64 nor int32.
        ValueError
            If `ids` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        Left padding: every row has positions of its own.

        >>> layer = ComplexOrderEmbedding(5, 2)
        >>> _ = nn.init.ones_(layer.amplitude)
        >>> ids, positions = torch.tensor([[0, 3], [2, 3]]), torch.tensor([[0, 0], [0, 1]])
        >>> layer(ids, positions).detach()[:, :, 1]
        tensor([[0.0000, 0.0000],
                [0.0000, 0.8415]])

        >>> layer(torch.tensor([0, 3]))
        Traceback (most recent call last):
            ...
        ValueError: ids must have shape (batch, n >= 1), got (2,)
        """
        _words(ids, self.amplitude)
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)
        check.positions("positions", positions, ids)
        r = nn.functional.embedding(ids, self.amplitude)
        working = torch.promote_types(r.dtype, torch.float32)
        c, s = self.clocks(positions, working, ids)
        return _join(r * c, r * s, self.layout).to(r.dtype)


class _Clocks(nn.Module):
    """Frequencies and phases that stay in float32 or better when a model is cast."""

    def __init__(self, rows: int, d_model: int, base: float, phases: int = 0) -> None:
        super().__init__()
        start = torch.tensor(frequencies(d_model, base), dtype=torch.float32)
        zeros = torch.zeros(phases, len(start), dtype=torch.float32)
        self.frequency = nn.Parameter(start.repeat(rows, 1))
        self.phase = nn.Parameter(zeros) if phases else None

    def forward(
        self, positions: torch.Tensor, dtype: torch.dtype, ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of every clock; `ids` are the words whose clocks these are."""
        if ids is None or len(self.frequency) == 1:
            omega = self.frequency[0]
        else:
            omega = nn.functional.embedding(ids, self.frequency)
        angle = positions.unsqueeze(-1) * omega.double()
        if ids is not None and self.phase is not None:
            angle = angle + nn.functional.embedding(ids, self.phase)
        return angle.cos().to(dtype), angle.sin().to(dtype)

    def _apply(self, fn, recurse=True):
        return super()._apply(lambda t: _kept(t, fn(t)), recurse)


def _kept(t: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Follow a move to another device, and a cast unless it leaves less than float32."""
    return moved if moved.element_size() >= 4 else t.to(moved.device)


def _words(ids: torch.Tensor, like: torch.Tensor) -> None:
    """Raise unless `ids` is `(batch, n)`, of integers, and where the table is."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids must be int64 or int32, got {ids.dtype}")
    if ids.ndim != 2 or ids.shape[1] < 1:
        raise ValueError(f"ids must have shape (batch, n >= 1), got {tuple(ids.shape)}")
    if ids.device != like.device:
        raise ValueError(f"ids must be on device {like.device}, got {ids.device}")


def _split(x: torch.Tensor, layout: str) -> tuple[torch.Tensor, ...]:
    """Real and imaginary parts of tokens in a layout."""
    if layout == "interleaved":
        return x.unflatten(-1, (-1, 2)).unbind(-1)
    return x.chunk(2, -1)


def _join(a: torch.Tensor, b: torch.Tensor, layout: str) -> torch.Tensor:
    """Tokens in a layout, of real and imaginary parts."""
    return torch.stack([a, b], -1 if layout == "interleaved" else -2).flatten(-2)
