r"""Rotary position embedding (RoPE) as a layer: it opens the query/key door and trains nothing.

Angles, cosines and sines are computed in float64 and rounded once. Queries and keys below float32
are turned in float32 and rounded once, last.
"""

import numpy as np
import torch

from posenc._checks import check_above, check_between, check_choice, check_multiple
from posenc.equations.rope import permute_layout as permute_columns
from posenc.layers import _checks as check
from posenc.layers.attention import PositionEncoding

__all__ = ["Rope", "apply_rotary", "permute_layout"]

_BLOCK = 2**18  # numbers, which a core's cache holds in float32


class Rope(PositionEncoding):
    r"""Query/key door: turn every pair of columns of queries and keys by its position.

    $$\begin{aligned}
    (q_i, k_j) &\mapsto (q_i R_i^\top, k_j R_j^\top) \\
    q_i R_i^\top (k_j R_j^\top)^\top &= q_i R_{j-i} k_j^\top
    \end{aligned}$$

    Any position will do, however large, negative too, and no length is set in advance. The
    layer holds no tensor: there is nothing that a cast could round, that a checkpoint could
    lack, or that `to_empty` could erase.

    Parameters
    ----------
    d_head
        Width $d$ of a head.
    base
        Base $b > 1$ of the frequencies.
    layout
        Which columns are a pair. `"interleaved"`, the default because it is the paper's: 0 with
        1, 2 with 3, and so on, as in GPT-J. `"halves"`: $m$ with $m + d/2$, as in GPT-NeoX and
        in the Llama class of transformers. Weights trained with one are wrong with the other,
        though nothing raises an error: see `permute_layout`.
    d_rotary
        Number of leading columns that turn, even, from 2 to $d$; `None` is $d$.
    precision
        Of the angles. `"float64"`: cosine and sine have all their digits at any position up to
        ten million and far beyond. `"float32"`: they are what the Llama class of transformers
        computes, bit for bit, with an error that grows like the position, $6 \cdot 10^{-5}$ at
        a thousand.

    Raises
    ------
    TypeError
        If `d_head` or `d_rotary` is not an integer, or `base` not a real number.
    ValueError
        If `d_head` is less than 1, if the number of columns that turn is odd or not from 2 to
        $d$, if `base` is not finite or not above 1, or if `layout` or `precision` is unknown.

    Examples
    --------
    >>> layer = Rope(4)
    >>> layer(torch.tensor([[[[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]]]))
    tensor([[[[1.0000, 0.0000, 1.0000, 0.0000],
              [0.5403, 0.8415, 0.9999, 0.0100]]]])
    >>> len(layer.state_dict())
    0

    In an attention layer it is the query/key door; values are never turned.

    >>> from posenc.layers.attention import Attention, doors
    >>> doors(Rope)
    ('query/key',)
    >>> attention = Attention(8, n_heads=2, encoding=layer, causal=True)

    A decoder that continues from a cache says where it is.

    >>> x = torch.ones(1, 5, 8)
    >>> last = attention(x[:, -1:], torch.tensor([4]), context=x)
    >>> torch.allclose(last, attention(x)[:, -1:], atol=1e-6)
    True

    >>> Rope(4, d_rotary=3)
    Traceback (most recent call last):
        ...
    ValueError: d_rotary must be a multiple of 2, got 3

    See Also
    --------
    posenc.equations.rope.rotate : The equation.
    apply_rotary : The rotation alone, for tables that layers share.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.2.2.
    """

    def __init__(
        self,
        d_head: int,
        base: float = 10000.0,
        *,
        layout: str = "interleaved",
        d_rotary: int | None = None,
        precision: str = "float64",
    ) -> None:
        super().__init__()
        name = "d_head" if d_rotary is None else "d_rotary"
        turning = check_multiple(name, d_head if d_rotary is None else d_rotary, 2)
        self.d_head = check_multiple("d_head", d_head, 1)
        self.d_rotary = int(check_between("d_rotary", turning, 2, self.d_head))
        self.base = check_above("base", base, 1)
        self.layout = check_choice("layout", layout, ("interleaved", "halves"))
        self.precision = check_choice("precision", precision, ("float64", "float32"))

    def angles(self, positions: torch.Tensor) -> torch.Tensor:
        r"""Angle by which every pair turns at every position.

        $$\varphi_{i,m} = i\, b^{-2m/d}$$

        What is in this method is all that schemes which turn otherwise need to override.

        Parameters
        ----------
        positions
            int64 or int32, of any shape, in tokens.

        Returns
        -------
        torch.Tensor
            Angles of shape `positions.shape + (d_rotary / 2,)`, in radians, of the layer's
            `precision`.

        Examples
        --------
        >>> Rope(4, base=16).angles(torch.tensor([0, 1, 2]))
        tensor([[0.0000, 0.0000],
                [1.0000, 0.2500],
                [2.0000, 0.5000]], dtype=torch.float64)

        >>> Rope(2, precision="float32").angles(torch.tensor(2**24 + 1))
        tensor([16777216.])
        """
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        m = torch.arange(0, self.d_rotary, 2, dtype=dtype, device=positions.device)
        return positions.unsqueeze(-1) * torch.pow(self.base, m / self.d_rotary).reciprocal()

    def tables(
        self, positions: torch.Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Cosines and sines of all angles, with an axis for the heads.

        $$(\cos\varphi_{i,m}, \sin\varphi_{i,m})$$

        A model whose layers all turn alike can compute them once and hand them to
        `apply_rotary` in each. The layer itself keeps none.

        Parameters
        ----------
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens.
        dtype
            What they are rounded to, once.

        Returns
        -------
        tuple of torch.Tensor
            Cosines and sines, `(1, n, d_rotary / 2)` or `(batch, 1, n, d_rotary / 2)` each.

        Raises
        ------
        TypeError
            If `positions` are neither int64 nor int32.

        Examples
        --------
        >>> cos, sin = Rope(2).tables(torch.tensor([0, 1]))
        >>> sin
        tensor([[[0.0000],
                 [0.8415]]])

        Another table for every row of a batch.

        >>> Rope(8).tables(torch.tensor([[0, 1, 2], [7, 8, 9]]))[0].shape
        torch.Size([2, 1, 3, 4])

        >>> Rope(2).tables(torch.tensor([0.5]))
        Traceback (most recent call last):
            ...
        TypeError: positions must be int64 or int32, got torch.float32
        """
        check.integers("positions", positions)
        angles = self.angles(positions).unsqueeze(-3)
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def rotate(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        q_positions: torch.Tensor,
        k_positions: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Turn queries and keys, after their projection, by their positions.

        $$(q_i, k_j) \mapsto (q_i R_i^\top, k_j R_j^\top)$$

        Parameters
        ----------
        q, k
            Queries `(batch, n_heads, n_q, d_head)` and keys `(batch, n_kv_heads, n_k, d_head)`,
            of any floating dtype, in any memory layout. There may be fewer heads for the keys.
        q_positions, k_positions
            int64 or int32, `(n,)` or `(batch, n)` each, in tokens. If they are one tensor, the
            tables are computed once.

        Returns
        -------
        tuple of torch.Tensor
            Queries and keys of the same shapes and dtypes.

        Raises
        ------
        TypeError
            If `q` or `k` is not floating, or positions are neither int64 nor int32.
        ValueError
            If a tensor has the wrong shape, or positions are on another device.

        Examples
        --------
        One new query at position 2, for three keys.

        >>> q, k = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 3, 2)
        >>> q, k = Rope(2).rotate(q, k, torch.tensor([2]), torch.arange(3))
        >>> q @ k.mT
        tensor([[[[-0.8323,  1.0806,  2.0000]]]])

        Only the difference of the positions counts.

        >>> q, k = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 3, 2)
        >>> q, k = Rope(2).rotate(q, k, torch.tensor([1002]), torch.arange(1000, 1003))
        >>> q @ k.mT
        tensor([[[[-0.8323,  1.0806,  2.0000]]]])
        """
        q_at, k_at = self._places("q", q, q_positions), self._places("k", k, k_positions)
        # Nothing is kept between calls: what a cache is keyed by is soon too little.
        q_tables = self.tables(q_at, _wide(q))
        if k_positions is not q_positions or k_at.shape != q_at.shape or k.dtype != q.dtype:
            k_tables = self.tables(k_at, _wide(k))
        elif _few(q, k):
            both = _apply(torch.cat((q, k), dim=1), *q_tables, self.layout)
            return both[:, : q.shape[1]], both[:, q.shape[1] :]
        else:
            k_tables = q_tables
        return _apply(q, *q_tables, self.layout), _apply(k, *k_tables, self.layout)

    def forward(self, x: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        r"""Turn queries or keys alone, say for a cache of keys that have been turned.

        $$x_i \mapsto x_i R_i^\top$$

        Parameters
        ----------
        x
            Queries or keys of shape `(batch, heads, n, d_head)`, of any floating dtype.
        positions
            int64 or int32, `(n,)` or `(batch, n)`, in tokens; `None` is `0 .. n-1`.

        Returns
        -------
        torch.Tensor
            Tensor of the same shape and dtype.

        Raises
        ------
        TypeError
            If `x` is not floating, or `positions` are neither int64 nor int32.
        ValueError
            If `x` or `positions` have the wrong shape, or are on different devices.

        Examples
        --------
        >>> layer = Rope(2)
        >>> layer(torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]))
        tensor([[[[1.0000, 0.0000],
                  [0.5403, 0.8415]]]])

        One more key, with its position.

        >>> layer(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([1]))
        tensor([[[[0.5403, 0.8415]]]])
        """
        places = self._places("x", x, positions)
        return _apply(x, *self.tables(places, _wide(x)), self.layout)

    def _places(self, name: str, x: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
        """Check both, and return the positions as `angles` wants them."""
        check.heads(name, x, self.d_head)
        if positions is None:
            positions = torch.arange(x.shape[2], device=x.device)
        rows, name = x.transpose(1, 2), "positions" if name == "x" else f"{name}_positions"
        check.positions(name, positions, rows, self.axes)
        if self.axes is None or check.has_axes(positions, rows, self.axes):
            return positions
        return positions.unsqueeze(-1).expand(*positions.shape, self.axes)


def apply_rotary(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, layout: str = "interleaved"
) -> torch.Tensor:
    r"""Turn every pair of columns, given the cosines and sines of the angles.

    $$\begin{aligned}
    (x_1, x_2) \mapsto (&x_1 \cos\varphi - x_2 \sin\varphi, \\
    &x_2 \cos\varphi + x_1 \sin\varphi)
    \end{aligned}$$

    The result is a new tensor. It is computed in float32 at least, and rounded once.

    Parameters
    ----------
    x
        Queries or keys of shape `(..., n, d)`, of any floating dtype, in any memory layout.
    cos, sin
        Tables of shape `(..., n, r / 2)` with $r \le d$, as `Rope.tables` yields them; leading
        axes broadcast with those of `x`. The leading $r$ columns turn, the others stay.
    layout
        `"interleaved"` or `"halves"`, see `Rope`.

    Returns
    -------
    torch.Tensor
        Tensor of the dtype of `x`, and of its shape unless the tables have more leading axes.

    Raises
    ------
    TypeError
        If `x`, `cos` or `sin` is not floating.
    ValueError
        If `x` has no rows, if `cos` does not have as many or is wider than half of `x`, if `sin`
        does not have the shape of `cos`, or if `layout` is neither of the two.

    Examples
    --------
    Tables that two layers share.

    >>> cos, sin = Rope(2).tables(torch.arange(3))
    >>> x = torch.tensor([[1.0, 0.0]]).expand(1, 1, 3, 2)
    >>> apply_rotary(x, cos, sin)
    tensor([[[[ 1.0000,  0.0000],
              [ 0.5403,  0.8415],
              [-0.4161,  0.9093]]]])

    A quarter turn in each layout; columns beyond the tables' reach stay.

    >>> x, cos, sin = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]]), torch.zeros(1, 2), torch.ones(1, 2)
    >>> apply_rotary(x, cos, sin)
    tensor([[-2.,  1., -4.,  3.,  5.]])
    >>> apply_rotary(x, cos, sin, layout="halves")
    tensor([[-3., -4.,  1.,  2.,  5.]])

    >>> apply_rotary(x[:, :3], cos, sin)
    Traceback (most recent call last):
        ...
    ValueError: cos must have shape (..., 1, r / 2) with r <= 3, got (1, 2)

    See Also
    --------
    Rope.tables : The tables.
    posenc.equations.rope.rotate_pairs : The equation.
    """
    check_choice("layout", layout, ("interleaved", "halves"))
    _check_tables(x, cos, sin)
    wide = _wide(x)
    if cos.dtype != wide or sin.dtype != wide:
        cos, sin = cos.to(wide), sin.to(wide)
    return _apply(x, cos, sin, layout)


def _check_tables(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    for name, tensor in (("x", x), ("cos", cos), ("sin", sin)):
        check.floating(name, tensor)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (..., n, d), got {tuple(x.shape)}")
    n, d = x.shape[-2:]
    if cos.shape[-2:-1] != (n,) or not 2 <= 2 * cos.shape[-1] <= d:
        wanted = f"(..., {n}, r / 2) with r <= {d}"
        raise ValueError(f"cos must have shape {wanted}, got {tuple(cos.shape)}")
    if sin.shape != cos.shape:
        raise ValueError(f"sin must have shape {tuple(cos.shape)}, got {tuple(sin.shape)}")


def _wide(x: torch.Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _few(q: torch.Tensor, k: torch.Tensor) -> bool:
    """Whether calls cost more than numbers, so that q and k had better turn as one."""
    small = not torch.compiler.is_compiling() and q.numel() + k.numel() <= _BLOCK
    return small and q.shape[0] == k.shape[0]


def _apply(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layout: str) -> torch.Tensor:
    """Turn the leading columns and leave the others."""
    r = 2 * cos.shape[-1]
    if r == x.shape[-1]:
        return _turn(x, cos, sin, layout)
    turned = _turn(x[..., :r], cos, sin, layout)
    return torch.cat((turned, x[..., r:].expand(*turned.shape[:-1], -1)), dim=-1)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layout: str) -> torch.Tensor:
    """Choose how to compute the formula: what differs is only how often memory is passed over."""
    if torch.compiler.is_compiling():  # one loop, if both parts are rounded before they are joined
        y1, y2 = _turned_pair(x.to(cos.dtype), cos, sin, layout)
        return _join(y1.to(x.dtype), y2.to(x.dtype), layout)
    turn = _turn_complex if layout == "interleaved" else _turn_halves
    if x.dtype == cos.dtype:
        return turn(x, cos, sin)
    size = x.numel()
    if size <= _BLOCK or x.device.type != "cpu":
        return turn(x.to(cos.dtype), cos, sin).to(x.dtype)
    # What is widened on the way is widened piece by piece, so that it stays in the cache.
    rows = max(1, _BLOCK * x.shape[-2] // size)
    pieces = zip(*(part.split(rows, dim=-2) for part in (x, cos, sin)), strict=True)
    return torch.cat([turn(y.to(c.dtype), c, s).to(x.dtype) for y, c, s in pieces], dim=-2)


def _turned_pair(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, layout: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write the formula as it is printed."""
    x1, x2 = (x[..., ::2], x[..., 1::2]) if layout == "interleaved" else x.chunk(2, dim=-1)
    return torch.addcmul(x1 * cos, x2, sin, value=-1), torch.addcmul(x2 * cos, x1, sin)


def _join(y1: torch.Tensor, y2: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "interleaved":
        return torch.stack((y1, y2), dim=-1).flatten(-2)
    return torch.cat((y1, y2), dim=-1)


def _turn_complex(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Multiply neighbours, seen as complex numbers, by cos + i sin: one pass."""
    pairs = x.unflatten(-1, (-1, 2))
    try:
        z = torch.view_as_complex(pairs)
    except RuntimeError:  # the pairs do not lie on even places in memory
        z = torch.view_as_complex(pairs.clone(memory_format=torch.contiguous_format))
    return torch.view_as_real(z * torch.complex(cos, sin)).flatten(-2)


def _turn_halves(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Multiply both halves by cos, then add the other half times sin in place: two passes."""
    trained = torch.is_grad_enabled() and (x.requires_grad or cos.requires_grad)
    if trained or x.numel() <= _BLOCK:  # backwards, writing in place would cost many passes
        return _join(*_turned_pair(x, cos, sin, "halves"), "halves")
    halves = x.unflatten(-1, (2, -1))
    y = halves * cos.unsqueeze(-2)
    y.select(-2, 0).addcmul_(halves.select(-2, 1), sin, value=-1)
    y.select(-2, 1).addcmul_(halves.select(-2, 0), sin)
    return y.flatten(-2)


def permute_layout(
    weight: torch.Tensor, n_heads: int, *, to: str, d_rotary: int | None = None
) -> torch.Tensor:
    r"""Rearrange the rows of a `torch.nn.Linear` from one layout to the other, head by head.

    $$(P^\top W)_m = W_{2m}, \quad (P^\top W)_{m + d/2} = W_{2m+1} \qquad \text{to the halves}$$

    Done to the maps of queries and keys alike, it leaves all scores as they are, if the layout
    of the rotation changes with it. It is not for the map of the values.

    Parameters
    ----------
    weight
        `weight` of the linear map, `(n_heads * d_head, d_model)`, or its `bias`; the first axis
        is rearranged.
    n_heads
        Number of heads; for the keys, of those that the keys have.
    to
        `"halves"` if `weight` is interleaved now, `"interleaved"` if it is in halves.
    d_rotary
        Number of columns of each head that turn, as in `Rope`; the others stay.

    Returns
    -------
    torch.Tensor
        New tensor of the same shape, dtype and device.

    Raises
    ------
    TypeError
        If `n_heads` or `d_rotary` is not an integer.
    ValueError
        If the first axis of `weight` is missing, empty or not a multiple of `n_heads`, if the
        number of columns that turn is odd or not from 2 to `d_head`, or if `to` is neither of
        the two.

    Examples
    --------
    Weights of GPT-J's layout for a model in Llama's; the scores stay.

    >>> x, W = torch.ones(1, 3, 4), torch.arange(16.0).view(4, 4) / 8
    >>> U = permute_layout(W, 1, to="halves")
    >>> U[:, 0]
    tensor([0.0000, 1.0000, 0.5000, 1.5000])
    >>> a = Rope(4)((x @ W.T).unsqueeze(1))
    >>> b = Rope(4, layout="halves")((x @ U.T).unsqueeze(1))
    >>> torch.allclose(a @ a.mT, b @ b.mT)
    True

    The way back.

    >>> torch.equal(permute_layout(U, 1, to="interleaved"), W)
    True

    See Also
    --------
    posenc.equations.rope.permute_layout : The same for columns, in NumPy.
    """
    if weight.ndim < 1:
        raise ValueError("weight must have at least 1 axes, got shape ()")
    rows = permute_columns(np.arange(len(weight)), n_heads, to=to, d_rotary=d_rotary)
    return weight[torch.as_tensor(rows, dtype=torch.int64, device=weight.device)]
