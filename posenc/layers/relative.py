r"""The chapter's tool for layers: offsets and the four terms; untied positions (TUPE).

The offset is $t = j - i$, key position minus query position, in tokens.
"""

import math

import torch
from torch import nn

from posenc._checks import check_above, check_count
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Tupe", "offsets", "score_terms"]


def offsets(q_positions: torch.Tensor, k_positions: torch.Tensor) -> torch.Tensor:
    r"""Offset from every query to every key, in tokens.

    $$t_{ij} = j - i$$

    Parameters
    ----------
    q_positions, k_positions
        Positions of queries and keys, int64 or int32, `(n,)` or `(batch, n)` each.

    Returns
    -------
    torch.Tensor
        Offsets of shape `(n_q, n_k)` or `(batch, n_q, n_k)`, int64 or int32; negative where the
        key comes first.

    Raises
    ------
    TypeError
        If positions are neither int64 nor int32.

    Examples
    --------
    >>> offsets(torch.arange(3), torch.arange(3))
    tensor([[ 0,  1,  2],
            [-1,  0,  1],
            [-2, -1,  0]])

    Left padding: every row of a batch has positions of its own.

    >>> offsets(torch.tensor([[0], [7]]), torch.tensor([[0, 1], [7, 8]]))
    tensor([[[0, 1]],
    <BLANKLINE>
            [[0, 1]]])

    >>> offsets(torch.tensor([0.5]), torch.tensor([0]))
    Traceback (most recent call last):
        ...
    TypeError: q_positions must be int64 or int32, got torch.float32

    See Also
    --------
    posenc.equations.relative.offsets : The same in NumPy.
    """
    check.integers("q_positions", q_positions)
    check.integers("k_positions", k_positions)
    return k_positions.unsqueeze(-2) - q_positions.unsqueeze(-1)


def score_terms(
    encoding: PositionEncoding,
    q: torch.Tensor,
    k: torch.Tensor,
    q_positions: torch.Tensor,
    k_positions: torch.Tensor,
) -> torch.Tensor:
    r"""Split the logits that an encoding makes of queries and keys into four terms.

    $$\begin{aligned}
    \mathrm{ee} &= e_{ij}(q, k) - e_{ij}(q, 0) - e_{ij}(0, k) + e_{ij}(0, 0) \\
    \mathrm{ep} &= e_{ij}(q, 0) - e_{ij}(0, 0) \\
    \mathrm{pe} &= e_{ij}(0, k) - e_{ij}(0, 0) \\
    \mathrm{pp} &= e_{ij}(0, 0)
    \end{aligned}$$

    It opens the query/key door and the logits door as `posenc.layers.attention.Attention` does,
    with the scale that the encoding asks for. The input door comes before the projections, and so
    before `q` and `k`: what it adds counts as content here.

    Parameters
    ----------
    encoding
        Any position encoding.
    q, k
        Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`, after
        their projection.
    q_positions, k_positions
        Their positions, int64 or int32, `(n,)` or `(batch, n)` each.

    Returns
    -------
    torch.Tensor
        Terms of shape `(4, batch, n_heads, n_q, n_k)`; their sum is the logits.

    Raises
    ------
    TypeError
        If `encoding` is not a `PositionEncoding`.

    Examples
    --------
    Without positions there is only one term.

    >>> q = k = torch.ones(1, 1, 2, 4)
    >>> score_terms(PositionEncoding(), q, k, torch.arange(2), torch.arange(2))[:, 0, 0]
    tensor([[[2., 2.],
             [2., 2.]],
    <BLANKLINE>
            [[0., 0.],
             [0., 0.]],
    <BLANKLINE>
            [[0., 0.],
             [0., 0.]],
    <BLANKLINE>
            [[0., 0.],
             [0., 0.]]])

    A rotation keeps to that one term and turns it.

    >>> from posenc.layers.rope import Rope
    >>> terms = score_terms(Rope(4), q, k, torch.tensor([2, 3]), torch.tensor([2, 3]))
    >>> terms[0, 0, 0]
    tensor([[2.0000, 1.5403],
            [1.5403, 2.0000]])
    >>> bool(terms[1:].any())
    False

    See Also
    --------
    posenc.equations.relative.score_terms : The same for a function in NumPy.
    """
    if not isinstance(encoding, PositionEncoding):
        raise TypeError(f"encoding must be a PositionEncoding, got {encoding!r}")

    def score(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        q, k = encoding.rotate(q, k, q_positions, k_positions)
        scale = 1 / math.sqrt(q.shape[-1]) if encoding.scale is None else encoding.scale
        bias = encoding.bias(q, k, q_positions, k_positions)
        return scale * q @ k.mT + (0 if bias is None else bias)

    no_q, no_k = torch.zeros_like(q), torch.zeros_like(k)
    both, query, key, none = score(q, k), score(q, no_k), score(no_q, k), score(no_q, no_k)
    return torch.stack([both - query - key + none, query - none, key - none, none])


class Tupe(PositionEncoding):
    r"""Logits door: a term of positions alone, with maps of its own (TUPE).

    $$\begin{aligned}
    e_{ij} &= \frac{q_i k_j^\top}{\sqrt{2 d_{head}}} + v_{ij} \\
    v_{ij} &= \frac{p_i U^Q (p_j U^K)^\top}{\sqrt{2 d_{head}}} + b_{j-i}
    \end{aligned}$$

    The tokens stay as they are: nothing is added to them. One instance serves all layers of a
    model, which then share the vectors $p$ and the maps $U^Q$ and $U^K$; and $v$ is the same in
    all of them. $b$ is there only with `max_distance`.

    Parameters
    ----------
    n_positions
        Number of rows $p$ of the table, at least 1; positions are 0 to `n_positions - 1`.
    d_model
        Width of the rows, a multiple of `n_heads`.
    n_heads
        Number of heads; they share the rows and have maps of their own.
    class_token
        Position 0 belongs to a class token that has no place in the sentence. Then
        $v_{0j} = \vartheta_1$ for all $j$ and $v_{i0} = \vartheta_2$ for $i > 0$, two numbers for
        every head.
    max_distance
        Also add a trained number $b_{j-i}$ for every head and offset; offsets beyond it share
        the last one. `None` is no such numbers. The authors' code has the buckets of T5 in this
        place.
    std
        Standard deviation of the rows at the start.
    device, dtype
        Of the parameters, as in `torch.nn.Linear`.

    Raises
    ------
    TypeError
        If a number that counts is not an integer, or `std` not a real number.
    ValueError
        If one of them is less than 1, if `d_model` is not a multiple of `n_heads`, or if `std`
        is not finite or not above 0.

    Examples
    --------
    Four rows of width 2, and two maps of 2 × 2.

    >>> layer = Tupe(4, 2, n_heads=1)
    >>> sum(parameter.numel() for parameter in layer.parameters())
    16

    >>> for part in (layer.query, layer.key):
    ...     part.weight = nn.Parameter(torch.eye(2))
    >>> layer.weight = nn.Parameter(torch.tensor([[2.0, 0.0], [0.0, 4.0], [0.0, 0.0], [0.0, 6.0]]))
    >>> layer.correlation(torch.arange(4), torch.arange(4)).detach()
    tensor([[[ 2.,  0.,  0.,  0.],
             [ 0.,  8.,  0., 12.],
             [ 0.,  0.,  0.,  0.],
             [ 0., 12.,  0., 18.]]])

    In a model, every layer gets the same instance.

    >>> from posenc.layers.attention import Attention
    >>> shared = Tupe(16, 8, n_heads=2)
    >>> layers = [Attention(8, n_heads=2, encoding=shared) for _ in range(3)]
    >>> layers[0].encoding is layers[2].encoding
    True

    >>> Tupe(4, 6, n_heads=4)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of n_heads = 4, got 6

    See Also
    --------
    posenc.equations.relative.tupe_logits : The equation.

    References
    ----------
    Ke, He, Liu. *Rethinking Positional Encoding in Language Pre-training*. 2020,
    arXiv:2006.15595, Equations 9 to 11.
    """

    def __init__(
        self,
        n_positions: int,
        d_model: int,
        n_heads: int,
        *,
        class_token: bool = False,
        max_distance: int | None = None,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.n_positions = check_count("n_positions", n_positions)
        self.d_model, self.n_heads = (
            check_count("d_model", d_model),
            check_count("n_heads", n_heads),
        )
        if d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
        self.std, self.scale = check_above("std", std, 0), 1 / math.sqrt(2 * d_model // n_heads)
        options = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(n_positions, d_model, **options))
        self.query, self.key = (nn.Linear(d_model, d_model, False, **options) for _ in range(2))
        self.theta = nn.Parameter(torch.empty(2, n_heads, **options)) if class_token else None
        self.relative = None
        if max_distance is not None:
            width = 2 * check_count("max_distance", max_distance) + 1
            self.relative = nn.Parameter(torch.empty(n_heads, width, **options))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Draw the rows and the maps anew; what is added per offset or class token starts at 0.

        $$p_{ij} \sim \mathcal{N}\left(0, \sigma^2\right), \qquad \sigma = \mathrm{std}$$

        Examples
        --------
        >>> layer = Tupe(4, 2, n_heads=1, class_token=True, device="meta").to_empty(device="cpu")
        >>> layer.reset_parameters()
        >>> layer.theta.detach()
        tensor([[0.],
                [0.]])
        """
        self.weight.normal_(std=self.std)
        for part in (self.query, self.key):
            part.reset_parameters()
        for numbers in (self.theta, self.relative):
            if numbers is not None:
                numbers.zero_()

    def correlation(self, q_positions: torch.Tensor, k_positions: torch.Tensor) -> torch.Tensor:
        r"""Term of positions alone, scale included; it is the same for all sentences and layers.

        $$v_{ij} = \frac{p_i U^Q (p_j U^K)^\top}{\sqrt{2 d_{head}}} + b_{j-i}$$

        With `class_token`, row and column of position 0 hold $\vartheta_1$ and $\vartheta_2$
        instead. No content is needed: a model may compute it once for all of its layers.

        Parameters
        ----------
        q_positions, k_positions
            Positions of queries and keys, int64 or int32, `(n,)` or `(batch, n)` each.

        Returns
        -------
        torch.Tensor
            Term $v$ of shape `(n_heads, n_q, n_k)` or `(batch, n_heads, n_q, n_k)`.

        Raises
        ------
        TypeError
            If positions are neither int64 nor int32.
        IndexError
            If a position has no row.

        Examples
        --------
        A row of a batch may start anywhere in the table.

        >>> layer = Tupe(9, 4, n_heads=2)
        >>> layer.correlation(torch.tensor([[0, 1], [5, 6]]), torch.tensor([[0, 1], [5, 6]])).shape
        torch.Size([2, 2, 2, 2])

        >>> layer.correlation(torch.tensor([9]), torch.tensor([0]))
        Traceback (most recent call last):
            ...
        IndexError: q_positions must be between 0 and 8, got 9
        """
        t = offsets(q_positions, k_positions)
        q = self._heads("q_positions", q_positions, self.query)
        k = self._heads("k_positions", k_positions, self.key)
        v = q @ k.mT / math.sqrt(2 * q.shape[-1])
        if self.relative is not None:
            most = self.relative.shape[1] // 2
            v = v + self.relative[:, t.clamp(-most, most) + most].movedim(0, -3)
        if self.theta is None:
            return v
        from_cls, to_cls = self.theta[..., None, None]
        v = torch.where((k_positions == 0)[..., None, None, :], to_cls, v)
        return torch.where((q_positions == 0)[..., None, :, None], from_cls, v)

    def bias(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> torch.Tensor:
        r"""Term of positions alone; neither queries nor keys have a say in it.

        $$e_{ij} = \frac{q_i k_j^\top}{\sqrt{2 d_{head}}} + v_{ij}$$

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_heads, n_k, d_head)`.
        q_positions, k_positions
            Their positions, int64 or int32, `(n,)` or `(batch, n)` each.

        Returns
        -------
        torch.Tensor
            Term $v$ of `correlation`.

        Raises
        ------
        TypeError
            If positions are neither int64 nor int32, or `q` or `k` is not floating.
        ValueError
            If a tensor has the wrong shape, or positions are on another device.
        IndexError
            If a position has no row.

        Examples
        --------
        A class token looks at all positions alike, and all look at it alike.

        >>> layer = Tupe(9, 4, n_heads=1, class_token=True)
        >>> layer.theta = nn.Parameter(torch.tensor([[1.0], [2.0]]))
        >>> q = k = torch.zeros(1, 1, 3, 4)
        >>> v = layer.bias(q, k, torch.arange(3), torch.arange(3)).detach()
        >>> v[0, 0], v[0, :, 0]
        (tensor([1., 1., 1.]), tensor([1., 2., 2.]))

        >>> layer.bias(q[..., :2], k, torch.arange(3), torch.arange(3))
        Traceback (most recent call last):
            ...
        ValueError: q must have shape (batch, heads, n >= 1, 4), got (1, 1, 3, 2)
        """
        for name, x, at in (("q", q, q_positions), ("k", k, k_positions)):
            check.heads(name, x, self.d_model // self.n_heads)
            if x.shape[1] != self.n_heads:
                raise ValueError(f"{name} must have n_heads = {self.n_heads}, got {x.shape[1]}")
            check.positions(f"{name}_positions", at, x.transpose(1, 2))
        return self.correlation(q_positions, k_positions)

    def _heads(self, name: str, positions: torch.Tensor, part: nn.Linear) -> torch.Tensor:
        """Map rows of the table, heads first."""
        try:
            rows = nn.functional.embedding(positions, self.weight)
        except IndexError:
            wrong = positions[(positions < 0) | (positions >= self.n_positions)][0]
            most = f"between 0 and {self.n_positions - 1}"
            raise IndexError(f"{name} must be {most}, got {wrong}") from None
        return part(rows).unflatten(-1, (self.n_heads, -1)).transpose(-2, -3)
