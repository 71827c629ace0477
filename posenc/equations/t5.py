r"""T5's bias: one trained number per head and bucket of offsets.

The offset is $t = j - i$, key position minus query position, in tokens. Buckets are found with
whole numbers alone, so that no logarithm is rounded; everything else is computed in float64.
"""

from bisect import bisect_left

import numpy as np

from posenc._checks import check_above, check_count, check_multiple, check_real, check_table

__all__ = ["buckets", "diagonal_sums", "first_distances", "hankel", "logit_std", "position_bias"]


def first_distances(
    n_buckets: int = 32, max_distance: int = 128, *, bidirectional: bool = True
) -> np.ndarray:
    r"""Smallest distance in each bucket of one direction, by integers alone.

    $$\begin{aligned}
    d_r &= r, && r < m \\
    d_{m + k} &= \min \left\{ d : d^{\,L} \ge m^{L - k} M^k \right\}, && k = 0 \dots L - 1 \\
    m &= \lfloor B / 2 \rfloor, \quad L = B - m
    \end{aligned}$$

    $B$ buckets serve one direction: half of `n_buckets` if keys on both sides are to be told
    apart, all of them if only keys before the query matter.

    Parameters
    ----------
    n_buckets
        Number of buckets in all: at least 4 and even, or at least 2 if not `bidirectional`.
    max_distance
        Distance $M$ up to which the ranges grow, above $m$.
    bidirectional
        Whether keys after the query have buckets of their own.

    Returns
    -------
    np.ndarray
        Distances $d_0 \le d_1 \le \dots$ of shape `(B,)`, int64. A bucket is empty if the next
        one starts at the same distance.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If there are too few buckets, if their number is odd although `bidirectional`, or if
        `max_distance` is not above $m$.

    Examples
    --------
    An encoder: the last bucket starts at 91, not at 128.

    >>> first_distances()
    array([ 0,  1,  2,  3,  4,  5,  6,  7,  8, 12, 16, 23, 32, 46, 64, 91])

    A decoder has all buckets for one side.

    >>> first_distances(bidirectional=False)[16:]
    array([ 16,  19,  21,  24,  27,  31,  35,  40,  46,  52,  59,  67,  77,
            87,  99, 113])

    >>> first_distances(32, 8)
    Traceback (most recent call last):
        ...
    ValueError: max_distance must be at least 9, got 8

    See Also
    --------
    buckets : Puts offsets into these buckets.
    """
    B = _per_direction(n_buckets, bidirectional)
    m, L = B // 2, B - B // 2
    M = check_count("max_distance", max_distance, at_least=m + 1)
    powers = (m ** (L - k) * M**k for k in range(L))
    tail = [bisect_left(range(M), power, key=lambda d: d**L) for power in powers]
    return np.array([*range(m), *tail])


def buckets(
    offsets: np.ndarray,
    n_buckets: int = 32,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
) -> np.ndarray:
    r"""Number of the bucket of every offset.

    $$\begin{aligned}
    \operatorname{bucket}(t) &= B\,[t > 0] + r(|t|) \\
    r(d) &= d, && d < m \\
    r(d) &= \min\left(m + \lfloor \ell(d) \rfloor, B - 1\right), && d \ge m \\
    \ell(d) &= L\, \frac{\ln (d / m)}{\ln (M / m)} \\
    m &= \lfloor B / 2 \rfloor, \quad L = B - m
    \end{aligned}$$

    $B$ is half of `n_buckets`. If not `bidirectional`, then $B$ is all of it and
    $\operatorname{bucket}(t) = r(\max(-t, 0))$: keys after the query share its own bucket.

    Parameters
    ----------
    offsets
        Offsets $t = j - i$, integers of any shape.
    n_buckets, max_distance, bidirectional
        As in `first_distances`.

    Returns
    -------
    np.ndarray
        Buckets of the same shape, int64, from 0 to `n_buckets` - 1.

    Raises
    ------
    TypeError
        If `offsets` or a number are not integers.
    ValueError
        If the numbers do not fit `first_distances`.

    Examples
    --------
    >>> buckets(np.array([-200, -91, -90, -1, 0, 1, 200]))
    array([15, 15, 14,  1,  0, 17, 31])

    Bucket 16 would be for the distance 0 after the query, which there is not.

    >>> int((buckets(np.arange(-1000, 1001)) == 16).sum())
    0

    A decoder: what comes after the query is not told apart, because a mask hides it.

    >>> buckets(np.array([-200, -1, 0, 1, 200]), bidirectional=False)
    array([31,  1,  0,  0,  0])

    See Also
    --------
    first_distances : Where the buckets begin.
    posenc.equations.relative.offsets : Offsets from every query to every key.

    References
    ----------
    Raffel et al. *Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer*. 2019, arXiv:1910.10683, Section 2.1; the formula is in the authors' code.
    """
    t = np.asarray(offsets)
    if t.dtype.kind not in {"i", "u"}:
        raise TypeError(f"offsets must be integers, got dtype {t.dtype}")
    first = first_distances(n_buckets, max_distance, bidirectional=bidirectional)
    t = t.astype(np.int64)
    distance = np.abs(t) if bidirectional else np.maximum(-t, 0)
    rank = np.searchsorted(first, distance, side="right") - 1
    return rank + len(first) * (t > 0) if bidirectional else rank


def position_bias(
    table: np.ndarray,
    offsets: np.ndarray,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
) -> np.ndarray:
    r"""Bias of every head at given offsets, read from a table of buckets.

    $$b^{(h)}_{ij} = \beta_{\operatorname{bucket}(j - i),\, h}$$

    Parameters
    ----------
    table
        Numbers $\beta$ of shape `(n_buckets, n_heads)`, real, in logits.
    offsets
        Offsets $t = j - i$, integers of any shape.
    max_distance, bidirectional
        As in `first_distances`.

    Returns
    -------
    np.ndarray
        Bias of shape `(n_heads, *offsets.shape)`, float64.

    Raises
    ------
    TypeError
        If `table` does not hold real numbers, or `offsets` or `max_distance` are not integers.
    ValueError
        If `table` is empty, not finite or not of shape `(n_buckets, n_heads)`, or if the numbers
        do not fit `first_distances`.

    Examples
    --------
    Two heads and four buckets: 0 for the query itself, 1 for all keys before it, 3 for all after.

    >>> t = np.arange(3) - np.arange(3)[:, None]
    >>> table = np.array([[0.0, 1.0], [2.0, 0.0], [9.0, 9.0], [-4.0, 0.0]])
    >>> position_bias(table, t, 2)[0]
    array([[ 0., -4., -4.],
           [ 2.,  0., -4.],
           [ 2.,  2.,  0.]])

    The second head prefers its own token, and does not tell before from after.

    >>> position_bias(table, np.arange(-1, 2), 2)[1]
    array([0., 1., 0.])

    See Also
    --------
    buckets : Which row of the table an offset reads.
    posenc.layers.t5.T5 : The table as a layer.
    """
    beta = check_table("table", table)
    at = buckets(offsets, len(beta), max_distance, bidirectional=bidirectional)
    return beta.T[:, at]


def hankel(values: np.ndarray, n_rows: int) -> np.ndarray:
    r"""View a vector of $n_q + n_k - 1$ numbers as a matrix of $n_q$ rows, without a copy.

    $$H_{rj} = b_{r + j}$$

    The number $b_s$ belongs to the offset $t = s - (n_q - 1)$. Every row is a window of the
    vector, one further than the row before. Read from the last row to the first it is the bias:
    $H_{n_q - 1 - i,\, j} = b_{(j - i) + n_q - 1}$, one number along each diagonal.

    Parameters
    ----------
    values
        Numbers $b$ by offset, from $1 - n_q$ to $n_k - 1$, shape `(..., n_q + n_k - 1)`.
    n_rows
        Number of rows $n_q$, at least 1 and at most the length of `values`.

    Returns
    -------
    np.ndarray
        Matrix of shape `(..., n_q, n_k)`, float64. It cannot be written to, and shares the
        memory of `values` if these are float64.

    Raises
    ------
    TypeError
        If `values` are not real numbers, or `n_rows` is not an integer.
    ValueError
        If `values` are empty or not finite, or `n_rows` is too small or too large.

    Examples
    --------
    The bias $-|t|$ for three queries and three keys: the windows, and the bias.

    >>> values = -abs(np.arange(-2.0, 3.0))
    >>> hankel(values, 3)
    array([[-2., -1., -0.],
           [-1., -0., -1.],
           [-0., -1., -2.]])
    >>> hankel(values, 3)[::-1]
    array([[-0., -1., -2.],
           [-1., -0., -1.],
           [-2., -1., -0.]])

    A million entries that nobody stores.

    >>> values = np.zeros(1999)
    >>> matrix = hankel(values, 1000)
    >>> matrix.shape, np.shares_memory(matrix, values)
    ((1000, 1000), True)

    See Also
    --------
    posenc.layers.t5.attend_by_offset : Hands this view to PyTorch's fused attention.
    """
    b = check_real("values", values, min_ndim=1)
    n = b.shape[-1]
    if check_count("n_rows", n_rows) > n:
        raise ValueError(f"n_rows must be at most {n}, the length of values, got {n_rows}")
    return np.lib.stride_tricks.sliding_window_view(b, n - n_rows + 1, axis=-1)


def diagonal_sums(matrix: np.ndarray) -> np.ndarray:
    r"""Sum a matrix along its diagonals, one sum per offset.

    $$g_t = \sum_{j - i = t} G_{ij}, \qquad t = 1 - n_q \dots n_k - 1$$

    If $G$ is the gradient of the logits, this is the gradient of a bias that depends on the
    offset alone: what was read in many places collects what flows back from all of them.

    Parameters
    ----------
    matrix
        Real numbers of shape `(..., n_q, n_k)`.

    Returns
    -------
    np.ndarray
        Sums of shape `(..., n_q + n_k - 1)`, from the offset $1 - n_q$ up, float64.

    Raises
    ------
    TypeError
        If `matrix` does not hold real numbers.
    ValueError
        If `matrix` is empty, not finite, or has fewer than two axes.

    Examples
    --------
    >>> diagonal_sums(np.array([[1.0, 2.0], [4.0, 8.0]]))
    array([4., 9., 2.])

    One query has one entry per diagonal.

    >>> diagonal_sums(np.array([[1.0, 2.0, 4.0]]))
    array([1., 2., 4.])

    See Also
    --------
    hankel : The step forwards.
    """
    G = check_real("matrix", matrix, min_ndim=2)
    n_q, n_k = G.shape[-2:]
    sums = [np.trace(G, t, axis1=-2, axis2=-1) for t in range(1 - n_q, n_k)]
    return np.stack(sums, axis=-1)


def logit_std(
    d_model: int, d_head: int, query_std: float, key_std: float, scale: float = 1.0
) -> float:
    r"""Standard deviation of a logit before training.

    $$\sigma_e = \lambda\, d\, \sqrt{d_{head}}\; \sigma_Q\, \sigma_K$$

    The tokens have entries of mean square 1, as a layer normalisation leaves them; the entries
    of $W^Q$ and $W^K$ are independent, with mean 0 and the given standard deviations.

    Parameters
    ----------
    d_model
        Width $d$ of the tokens.
    d_head
        Width $d_{head}$ of a head.
    query_std, key_std
        Standard deviations $\sigma_Q$ and $\sigma_K$, above 0.
    scale
        Factor $\lambda$ of the dot products, above 0.

    Returns
    -------
    float
        The standard deviation $\sigma_e$.

    Raises
    ------
    TypeError
        If a width is not an integer, or another argument not a real number.
    ValueError
        If a width is less than 1, or another argument not finite or not above 0.

    Examples
    --------
    The usual attention divides by $\sqrt{d_{head}}$; T5 starts with smaller queries instead.

    >>> logit_std(1024, 64, 1024**-0.5, 1024**-0.5, scale=64**-0.5)
    1.0
    >>> logit_std(1024, 64, (1024 * 64) ** -0.5, 1024**-0.5)
    1.0

    Neither of the two: the logits spread eight times as far.

    >>> logit_std(1024, 64, 1024**-0.5, 1024**-0.5)
    8.0

    See Also
    --------
    posenc.layers.t5.T5 : Sets the scale to 1.
    """
    d, d_h = check_count("d_model", d_model), check_count("d_head", d_head)
    spreads = check_above("query_std", query_std, 0) * check_above("key_std", key_std, 0)
    return check_above("scale", scale, 0) * d * d_h**0.5 * spreads


def _per_direction(n_buckets: int, bidirectional: bool) -> int:
    """Return how many buckets serve the keys on one side of the query."""
    if bidirectional:
        check_count("n_buckets", n_buckets, at_least=4)
        return check_multiple("n_buckets", n_buckets, 2) // 2
    return check_count("n_buckets", n_buckets, at_least=2)
