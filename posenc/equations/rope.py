r"""Rotary position embedding (RoPE): every pair of columns of q and k turns with its position.

Queries stand at position $i$, keys at $j$, the offset is $s = j - i$, and frequency pairs are
$m = 0 \dots d/2 - 1$. Vectors are rows, as everywhere; the imaginary unit is upright, $\mathrm{i}$.
"""

import numpy as np

from posenc._checks import (
    check_batches,
    check_between,
    check_choice,
    check_count,
    check_multiple,
    check_number,
    check_real,
    check_shape,
)
from posenc.equations.sinusoidal import column_order, frequencies

__all__ = [
    "decay_bound",
    "partial_sums",
    "permute_layout",
    "relative_score",
    "rotate",
    "rotate_complex",
    "rotate_pairs",
    "rotation_matrix",
]


def rotate_pairs(x: np.ndarray, angles: np.ndarray, *, layout: str = "interleaved") -> np.ndarray:
    r"""Turn every pair of columns by an angle of its own.

    $$\begin{aligned}
    (x_1, x_2) \mapsto (&x_1 \cos\varphi - x_2 \sin\varphi, \\
    &x_2 \cos\varphi + x_1 \sin\varphi)
    \end{aligned}$$

    Parameters
    ----------
    x
        Vectors of shape `(..., d)` with $d$ even.
    angles
        Angles $\varphi$ of shape `(..., d / 2)`, in radians, one for each pair; leading axes
        broadcast with those of `x`.
    layout
        Which columns are a pair: `"interleaved"`, 0 with 1, 2 with 3, and so on; or `"halves"`,
        column $m$ with column $m + d/2$.

    Returns
    -------
    np.ndarray
        Vectors of shape `(..., d)`, float64, in the same layout.

    Raises
    ------
    TypeError
        If `x` or `angles` are not real numbers.
    ValueError
        If `x` or `angles` are empty or not finite, if $d$ is odd, if the shapes do not agree, or
        if `layout` is neither of the two.

    Examples
    --------
    Two pairs: a quarter turn, and none.

    >>> turns = np.array([np.pi / 2, 0])
    >>> rotate_pairs(np.array([1, 2, 3, 4]), turns).round(9)
    array([-2.,  1.,  3.,  4.])
    >>> rotate_pairs(np.array([1, 2, 3, 4]), turns, layout="halves").round(9)
    array([-3.,  2.,  1.,  4.])

    A column without a partner cannot turn.

    >>> rotate_pairs(np.ones(3), np.zeros(1))
    Traceback (most recent call last):
        ...
    ValueError: width of x must be a multiple of 2, got 3

    See Also
    --------
    rotate : The angles that belong to positions.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.4.2.
    """
    x, phi = check_real("x", x, min_ndim=1), check_real("angles", angles, min_ndim=1)
    half = check_multiple("width of x", x.shape[-1], 2) // 2
    check_shape("angles", phi, (*phi.shape[:-1], half))
    check_batches(x=x[..., None], angles=phi[..., None])
    halves = check_choice("layout", layout, ("interleaved", "halves")) == "halves"
    shape, pair = ((2, half), -2) if halves else ((half, 2), -1)
    x1, x2 = np.moveaxis(x.reshape(*x.shape[:-1], *shape), pair, 0)
    c, s = np.cos(phi), np.sin(phi)
    y = np.stack([x1 * c - x2 * s, x2 * c + x1 * s], axis=pair)
    return y.reshape(*y.shape[:-2], 2 * half)


def rotate(
    x: np.ndarray,
    positions: np.ndarray | float,
    base: float = 10000.0,
    *,
    layout: str = "interleaved",
    d_rotary: int | None = None,
) -> np.ndarray:
    r"""Turn queries or keys by their positions: the rotary position embedding.

    $$\operatorname{rotate}(x, i) = x R_i^\top, \qquad \varphi_m = i\,\theta_m$$

    Pair $m$ turns by the angle $\varphi_m$. With `d_rotary` only so many leading columns turn,
    with the frequencies of that width, and the others stay.

    Parameters
    ----------
    x
        Queries or keys of shape `(..., d)`, after their projection.
    positions
        Positions $i$ in tokens, real numbers; they broadcast with the leading axes of `x`.
    base
        Base $b > 1$ of the frequencies.
    layout
        `"interleaved"` or `"halves"`, see `rotate_pairs`; the pairs lie within the leading
        `d_rotary` columns.
    d_rotary
        Number of columns that turn, even, from 2 to $d$; `None` is $d$.

    Returns
    -------
    np.ndarray
        Vectors of shape `(..., d)`, float64, as long as before.

    Raises
    ------
    TypeError
        If `x`, `positions` or `base` are not real numbers, or `d_rotary` is not an integer.
    ValueError
        If `x` or `positions` are empty or not finite or do not broadcast, if the number of
        columns that turn is odd or not from 2 to $d$, if `base` is not finite or not above 1, or
        if `layout` is neither of the two.

    Examples
    --------
    The same query at three positions.

    >>> rotate(np.array([1, 0]), np.arange(3))
    array([[ 1.        ,  0.        ],
           [ 0.54030231,  0.84147098],
           [-0.41614684,  0.90929743]])

    Scores depend on the offset alone: here it is 7, at two places.

    >>> q, k = np.array([1, -2, 0.5, 3]), np.array([2, 1, -1, 0.25])
    >>> here, there = rotate(q, 3) @ rotate(k, 10), rotate(q, 90) @ rotate(k, 97)
    >>> bool(np.isclose(here, there, rtol=0, atol=1e-13))
    True

    Two of four columns turn.

    >>> rotate(np.array([1, 0, 5, 6]), np.pi, d_rotary=2).round(9) + 0.0
    array([-1.,  0.,  5.,  6.])

    See Also
    --------
    rotation_matrix : The matrix $R_i$.
    relative_score : The score as a function of the offset.
    posenc.layers.rope.Rope : The layer that a model trains with.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.2.2.
    """
    x, at = check_real("x", x, min_ndim=1), check_real("positions", positions)
    check_batches(x=x[..., None], positions=at[..., None, None])
    r = _rotary_width(x.shape[-1], d_rotary)
    angles = at[..., None] * frequencies(r, base)
    turned = rotate_pairs(x[..., :r], angles, layout=layout)
    rest = np.broadcast_to(x[..., r:], (*turned.shape[:-1], x.shape[-1] - r))
    return np.concatenate([turned, rest], axis=-1)


def _rotary_width(width: int, d_rotary: int | None) -> int:
    if d_rotary is None:
        return check_multiple("width", width, 2)
    return int(check_between("d_rotary", check_multiple("d_rotary", d_rotary, 2), 2, width))


def rotate_complex(
    x: np.ndarray, positions: np.ndarray | float, base: float = 10000.0
) -> np.ndarray:
    r"""Do what `rotate` does, with every interleaved pair as one complex number.

    $$z_m \mapsto z_m\, e^{\mathrm{i}\, i\, \theta_m}, \qquad z_m = x_{2m} + \mathrm{i}\, x_{2m+1}$$

    Parameters
    ----------
    x
        Queries or keys of shape `(..., d)` with $d$ even, interleaved.
    positions
        Positions $i$ in tokens, real numbers; they broadcast with the leading axes of `x`.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray
        Vectors of shape `(..., d)`, float64.

    Raises
    ------
    TypeError
        If `x`, `positions` or `base` are not real numbers.
    ValueError
        If `x` or `positions` are empty or not finite or do not broadcast, if $d$ is odd, or if
        `base` is not finite or not above 1.

    Examples
    --------
    >>> x, at = np.arange(12.0).reshape(3, 4), np.array([0, 5, -1])
    >>> bool(np.allclose(rotate_complex(x, at), rotate(x, at), rtol=0, atol=1e-14))
    True

    At position 0 nothing turns.

    >>> rotate_complex(np.array([1, 2, 3, 4]), 0)
    array([1., 2., 3., 4.])

    See Also
    --------
    rotate : The same in real numbers, in both layouts.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.2.1.
    """
    x, at = check_real("x", x, min_ndim=1), check_real("positions", positions)
    d = check_multiple("width of x", x.shape[-1], 2)
    check_batches(x=x[..., None], positions=at[..., None, None])
    z = x[..., ::2] + 1j * x[..., 1::2]
    z = z * np.exp(1j * at[..., None] * frequencies(d, base))
    return np.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:-1], d)


def rotation_matrix(
    position: float, d_head: int, base: float = 10000.0, *, layout: str = "interleaved"
) -> np.ndarray:
    r"""Matrix that turns every pair of columns by the angle of one position.

    $$R_i = \bigoplus_m \begin{pmatrix} \cos i\theta_m & -\sin i\theta_m \\
    \sin i\theta_m & \cos i\theta_m \end{pmatrix}$$

    It turns columns from the left, so rows need its transpose: $q_i = x_i W^Q R_i^\top$.

    Parameters
    ----------
    position
        Position $i$ in tokens, one real number.
    d_head
        Width $d$ of a head, even.
    base
        Base $b > 1$ of the frequencies.
    layout
        `"interleaved"`, which has the blocks on the diagonal, or `"halves"`, see `rotate_pairs`.

    Returns
    -------
    np.ndarray
        Orthogonal matrix of shape `(d_head, d_head)`, float64.

    Raises
    ------
    TypeError
        If `position` or `base` is not a real number, or `d_head` is not an integer.
    ValueError
        If `position` is not one finite number, if `d_head` is not a positive multiple of 2, if
        `base` is not finite or not above 1, or if `layout` is neither of the two.

    Examples
    --------
    >>> x = np.array([1, 2, 3, 4])
    >>> bool(np.allclose(x @ rotation_matrix(5, 4).T, rotate(x, 5), rtol=0, atol=1e-15))
    True

    Column 0 is a pair with column 1, or with column 2.

    >>> rotation_matrix(1, 4)[0].round(2) + 0.0
    array([ 0.54, -0.84,  0.  ,  0.  ])
    >>> rotation_matrix(1, 4, layout="halves")[0].round(2) + 0.0
    array([ 0.54,  0.  , -0.84,  0.  ])

    Position 0 turns nothing.

    >>> rotation_matrix(0, 2) + 0.0
    array([[1., 0.],
           [0., 1.]])

    See Also
    --------
    rotate : The same without a matrix.
    posenc.equations.sinusoidal.shift_matrix : The same matrix, which moves sinusoidal encodings.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.2.2.
    """
    d = check_multiple("d_head", d_head, 2)
    angle = check_number("position", position) * frequencies(d, base)
    c, s = np.cos(angle), np.sin(angle)
    m = np.arange(d // 2)
    R = np.zeros((d // 2, 2, d // 2, 2))
    R[m, :, m, :] = np.moveaxis(np.array([[c, -s], [s, c]]), -1, 0)
    order = column_order(d, layout)
    return R.reshape(d, d)[np.ix_(order, order)]


def permute_layout(
    weight: np.ndarray, n_heads: int, *, to: str, d_rotary: int | None = None
) -> np.ndarray:
    r"""Rearrange the columns of a projection from one layout to the other, head by head.

    $$\begin{aligned}
    (W P)_{\cdot\,m} &= W_{\cdot\,2m} \\
    (W P)_{\cdot\,m + d/2} &= W_{\cdot\,2m+1}
    \end{aligned}
    \qquad \text{to the halves}$$

    Done to $W^Q$ and $W^K$ alike, it leaves all scores as they are, if the layout of the
    rotation changes with it. It is not for $W^V$, which no rotation touches.

    Parameters
    ----------
    weight
        Projection of shape `(d_model, n_heads * d_head)`, its bias `(n_heads * d_head,)`, or
        what it yields; the last axis is rearranged. `torch.nn.Linear` keeps the transpose:
        `posenc.layers.rope.permute_layout` is for that.
    n_heads
        Number of heads; for $W^K$, of those that the keys have.
    to
        `"halves"` if `weight` is interleaved now, `"interleaved"` if it is in halves.
    d_rotary
        Number of columns of each head that turn, as in `rotate`; the others stay.

    Returns
    -------
    np.ndarray
        Array of the same shape, float64.

    Raises
    ------
    TypeError
        If `weight` is not real, or `n_heads` or `d_rotary` is not an integer.
    ValueError
        If `weight` is empty or not finite, if `n_heads` is less than 1 or does not divide its
        last axis, if the number of columns that turn is odd or not from 2 to `d_head`, or if
        `to` is neither of the two.

    Examples
    --------
    Two heads of width 4, each by itself, and back.

    >>> there = permute_layout(np.arange(8), 2, to="halves")
    >>> there
    array([0., 2., 1., 3., 4., 6., 5., 7.])
    >>> permute_layout(there, 2, to="interleaved")
    array([0., 1., 2., 3., 4., 5., 6., 7.])

    Columns that do not turn stay where they are.

    >>> permute_layout(np.arange(6), 1, to="halves", d_rotary=4)
    array([0., 2., 1., 3., 4., 5.])

    See Also
    --------
    posenc.equations.sinusoidal.column_order : The permutation of one head.
    """
    W = check_real("weight", weight, min_ndim=1)
    check_multiple("width of weight", W.shape[-1], check_count("n_heads", n_heads))
    heads = W.reshape(*W.shape[:-1], n_heads, -1)
    d = heads.shape[-1]
    r = _rotary_width(d, d_rotary)
    order = column_order(r, "halves")
    if check_choice("to", to, ("interleaved", "halves")) == "interleaved":
        order = np.argsort(order)
    return heads[..., [*order, *range(r, d)]].reshape(W.shape)


def relative_score(
    query: np.ndarray, key: np.ndarray, offset: np.ndarray | float, base: float = 10000.0
) -> np.ndarray | np.float64:
    r"""Score of a query and a key, both rotated, as a function of the offset between them.

    $$\begin{aligned}
    q R_i^\top (k R_j^\top)^\top &= q\, R_{j-i}\, k^\top \\
    &= \operatorname{Re} \sum_m \bar q_m k_m\, e^{\mathrm{i}\, s\, \theta_m}
    \end{aligned}$$

    Here $s = j - i$, and $q_m$, $k_m$ are the pairs as complex numbers. The scale
    $1/\sqrt{d}$ of the logits is left out.

    Parameters
    ----------
    query, key
        Vectors $q$ and $k$ of shape `(..., d)` with $d$ even, interleaved, not rotated yet.
    offset
        Offsets $s$ from query to key in tokens, real numbers; they broadcast with the leading
        axes of `query` and `key`.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray or np.float64
        Scores, float64, of the shape that offsets and leading axes broadcast to.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, if $d$ is odd, if the shapes do not agree, or if
        `base` is not above 1.

    Examples
    --------
    >>> q, k = np.array([1, -2, 0.5, 3]), np.array([2, 1, -1, 0.25])
    >>> bool(np.isclose(relative_score(q, k, 7), rotate(q, 3) @ rotate(k, 10)))
    True

    A vector with itself falls at first, and comes back.

    >>> ones = np.ones(4)
    >>> relative_score(ones, ones, np.arange(8)).round(2)
    array([4.  , 3.08, 1.17, 0.02, 0.69, 2.56, 3.92, 3.5 ])

    With two vectors that are perpendicular it can rise.

    >>> relative_score(np.array([1, 0]), np.array([0, -1]), np.array([0, np.pi / 2])).round(9)
    array([0., 1.])

    See Also
    --------
    decay_bound : What the offset bounds.
    posenc.equations.kernel.kernel : The score of equal vectors with all pairs of one length.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.4.3.
    """
    s, h = check_real("offset", offset), _pair_products(query, key)
    check_batches(query_and_key=h[..., None], offset=s[..., None, None])
    turned = h * np.exp(1j * s[..., None] * frequencies(2 * h.shape[-1], base))
    return np.real(turned).sum(axis=-1)


def _pair_products(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Compute conj(q_m) k_m for every pair, as complex numbers."""
    q, k = check_real("query", query, min_ndim=1), check_real("key", key, min_ndim=1)
    check_multiple("width of query", q.shape[-1], 2)
    check_shape("key", k, (*k.shape[:-1], q.shape[-1]))
    check_batches(query=q[..., None], key=k[..., None])
    return (q[..., ::2] - 1j * q[..., 1::2]) * (k[..., ::2] + 1j * k[..., 1::2])


def partial_sums(
    offset: np.ndarray | float, d_head: int, base: float = 10000.0
) -> np.ndarray | np.float64:
    r"""Mean size of the partial sums of all rotations: what the offset does to the bound.

    $$\frac{2}{d} \sum_{m=1}^{d/2} |S_m|, \qquad S_m = \sum_{l<m} e^{\mathrm{i}\, s\, \theta_l}$$

    Parameters
    ----------
    offset
        Offsets $s$ in tokens, real numbers of any shape.
    d_head
        Width $d$ of a head, even.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray or np.float64
        Means of the shape of `offset`, float64.

    Raises
    ------
    TypeError
        If `offset` or `base` is not real, or `d_head` is not an integer.
    ValueError
        If `offset` is empty or not finite, if `d_head` is not a positive multiple of 2, or if
        `base` is not finite or not above 1.

    Examples
    --------
    At offset 0 all terms are 1, and the mean of 1 to $d/2$ is left.

    >>> float(partial_sums(0, 128))
    32.5

    It falls, but not from each token to the next.

    >>> partial_sums(np.array([1, 10, 100, 1000]), 128).round(1)
    array([31.5, 18. , 10.2,  4.5])
    >>> steps = np.diff(partial_sums(np.arange(256), 128))
    >>> bool(steps.max() > 0)
    True

    See Also
    --------
    decay_bound : The bound for given vectors.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.4.3.
    """
    check_multiple("d_head", d_head, 2)
    angles = check_real("offset", offset)[..., None] * frequencies(d_head, base)
    return abs(np.cumsum(np.exp(1j * angles), axis=-1)).mean(axis=-1)


def decay_bound(
    query: np.ndarray, key: np.ndarray, offset: np.ndarray | float, base: float = 10000.0
) -> np.ndarray | np.float64:
    r"""Bound on the score by summation by parts: it falls with the offset, the score need not.

    $$\begin{aligned}
    &\Big|\sum_m h_m e^{\mathrm{i}\, s\, \theta_m}\Big| \\
    &\quad \le \max_m |h_{m+1} - h_m| \sum_{m=1}^{d/2} |S_m| \\
    &h_m = \bar q_m k_m, \qquad h_{d/2} = 0
    \end{aligned}$$

    It is an upper bound, and a loose one: for independent vectors the score is 0 on average at
    every offset, and its spread does not depend on the offset at all.

    Parameters
    ----------
    query, key
        Vectors of shape `(..., d)` with $d$ even, interleaved, not rotated yet.
    offset
        Offsets $s$ from query to key in tokens, real numbers; they broadcast with the leading
        axes of `query` and `key`.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray or np.float64
        Bounds on the absolute value of `relative_score`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, if $d$ is odd, if the shapes do not agree, or if
        `base` is not above 1.

    Examples
    --------
    For equal vectors with pairs of length 1 only the last difference is not zero, and
    the bound is the sum of $|S_m|$.

    >>> q = np.tile([1, 0], 64)
    >>> decay_bound(q, q, np.array([0, 1, 1000])).round()
    array([2080., 2018.,  286.])
    >>> relative_score(q, q, np.array([0, 1, 1000])).round()
    array([64., 62., 10.])

    A single pair: the bound is the size of the product, and it never falls.

    >>> decay_bound(np.array([3, 4]), np.array([0, 2]), np.array([0, 5, 1000])).round(9)
    array([10., 10., 10.])

    See Also
    --------
    partial_sums : The factor that depends on the offset, as a mean.

    References
    ----------
    Su et al. *RoFormer: Enhanced Transformer with Rotary Position Embedding*. 2021,
    arXiv:2104.09864, Section 3.4.3.
    """
    s, h = check_real("offset", offset), _pair_products(query, key)
    check_batches(query_and_key=h[..., None], offset=s[..., None, None])
    steps = abs(np.diff(h, append=0, axis=-1)).max(axis=-1)
    pairs = h.shape[-1]
    return steps * pairs * partial_sums(s, 2 * pairs, base)
