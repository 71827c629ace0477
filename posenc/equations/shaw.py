r"""Relative position vectors: every clipped offset has a vector for keys and one for values.

The offset is $t = j - i$, key position minus query position, in tokens. A query sees offsets from
$-l$ on the left to $r$ on the right apart; those beyond share the last vector of their side. One
number $k$ for both sides is the paper's case, $l = r = k$.
"""

import numpy as np

from posenc._checks import (
    check_count,
    check_integers,
    check_reach,
    check_real,
    check_shape,
    check_table,
)
from posenc.equations.sinusoidal import sinusoidal

__all__ = [
    "bucket_weights",
    "clip_offsets",
    "gather_logits",
    "relative_logits",
    "relative_values",
    "sinusoidal_table",
    "skew",
]


def clip_offsets(offsets: np.ndarray | int, max_distance: int | tuple[int, int]) -> np.ndarray:
    r"""Move every offset that lies too far onto the farthest one that has a vector.

    $$\operatorname{clip}(t) = \max\left(-l, \min(r, t)\right), \qquad t = j - i$$

    Parameters
    ----------
    offsets
        Offsets $t$, integers of any shape, in tokens.
    max_distance
        The number $k \ge 0$ with $l = r = k$, or the pair $(l, r)$.

    Returns
    -------
    np.ndarray
        Offsets from $-l$ to $r$, of the same shape, int64.

    Raises
    ------
    TypeError
        If `offsets` are not integers, or `max_distance` is neither an integer nor two of them.
    ValueError
        If `offsets` are empty, or a distance is negative.

    Examples
    --------
    >>> clip_offsets(np.arange(-4, 5), 2)
    array([-2, -2, -2, -1,  0,  1,  2,  2,  2])

    Another reach on each side.

    >>> clip_offsets(np.arange(-4, 5), (3, 1))
    array([-3, -3, -2, -1,  0,  1,  1,  1,  1])

    With $k = 0$ all offsets are one, and order is gone.

    >>> clip_offsets([-4, 0, 4], 0)
    array([0, 0, 0])

    >>> clip_offsets(3, -1)
    Traceback (most recent call last):
        ...
    ValueError: max_distance must be at least 0, got -1

    See Also
    --------
    posenc.equations.relative.offsets : The offsets of a sequence.

    References
    ----------
    Shaw, Uszkoreit, Vaswani. *Self-Attention with Relative Position Representations*. 2018,
    arXiv:1803.02155, Section 3.2.
    """
    left, right = check_reach("max_distance", max_distance)
    t = check_real("offsets", check_integers("offsets", offsets)).astype(np.int64)
    return np.clip(t, -left, right)


def _rows(
    table: np.ndarray, offsets: np.ndarray, max_distance: int | tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the table and the number of the row that belongs to every offset."""
    left, right = check_reach("max_distance", max_distance)
    rows, vectors = clip_offsets(offsets, max_distance) + left, check_table("table", table)
    check_shape("table", vectors, (left + right + 1, vectors.shape[1]))
    if rows.ndim != 2:
        raise ValueError(f"offsets must have shape (n_q, n_k), got {rows.shape}")
    return vectors, rows


def _check_width(q: np.ndarray, table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    q = check_real("q", q, min_ndim=2)
    check_shape("q", q, (*q.shape[:-2], len(rows), table.shape[1]))
    return q


def _check_weights(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    weights = check_real("weights", weights, min_ndim=2)
    check_shape("weights", weights, (*weights.shape[:-2], *shape))
    return weights


def relative_logits(
    q: np.ndarray, table: np.ndarray, offsets: np.ndarray, max_distance: int | tuple[int, int]
) -> np.ndarray:
    r"""Key term: what the vectors of the offsets add to the scaled logits.

    $$b_{ij} = \frac{q_i\, \big(w^K_{\operatorname{clip}(j - i)}\big)^\top}{\sqrt{d}}$$

    Computed as it is written, with a vector for every pair: memory grows like $n^2 d$.

    Parameters
    ----------
    q
        Queries $q_i$ of shape `(..., n_q, d)`, after their projection.
    table
        Vectors $w^K_{-l} \dots w^K_r$, shape `(l + r + 1, d)`, in the order of their offsets.
    offsets
        Offsets $j - i$, integers of shape `(n_q, n_k)`.
    max_distance
        $k$, or the pair $(l, r)$.

    Returns
    -------
    np.ndarray
        Bias $b$ of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `q` or `table` is not real, `offsets` are not integers, or `max_distance` is neither an
        integer nor two of them.
    ValueError
        If something is empty or not finite, if `table` does not have $l + r + 1$ rows, if the
        shapes do not agree, or if a distance is negative.

    Examples
    --------
    >>> offsets = np.arange(3) - np.arange(3)[:, None]
    >>> q, table = np.array([[1.0], [2.0], [4.0]]), np.array([[-1.0], [0.0], [1.0]])
    >>> relative_logits(q, table, offsets, 1)
    array([[ 0.,  1.,  1.],
           [-2.,  0.,  2.],
           [-4., -4.,  0.]])

    Two heads with the same table.

    >>> relative_logits(np.ones((2, 3, 4)), np.ones((3, 4)), offsets, 1).shape
    (2, 3, 3)

    >>> relative_logits(q, table, offsets, 2)
    Traceback (most recent call last):
        ...
    ValueError: table must have shape (5, 1), got (3, 1)

    See Also
    --------
    gather_logits : The same with a vector for every offset only.
    posenc.layers.shaw.Shaw : The layer that a model trains with.

    References
    ----------
    Shaw, Uszkoreit, Vaswani. *Self-Attention with Relative Position Representations*. 2018,
    arXiv:1803.02155, Section 3.1, equation 4.
    """
    w, rows = _rows(table, offsets, max_distance)
    a = w[rows]  # (n_q, n_k, d)
    return np.einsum("...id,ijd->...ij", _check_width(q, w, rows), a) / np.sqrt(w.shape[1])


def gather_logits(
    q: np.ndarray, table: np.ndarray, offsets: np.ndarray, max_distance: int | tuple[int, int]
) -> np.ndarray:
    r"""Do what `relative_logits` does, but multiply every query with every row only once.

    $$b_{ij} = \frac{1}{\sqrt{d}}\, \big(q\, (w^K)^\top\big)_{i,\; \operatorname{clip}(j - i) + l}$$

    The product has $l + r + 1$ columns, rows of the table being counted from 0; the rest is
    looking up. Memory grows like $n^2$, as the result itself does.

    Parameters
    ----------
    q
        Queries $q_i$ of shape `(..., n_q, d)`, after their projection.
    table
        Vectors $w^K_{-l} \dots w^K_r$, shape `(l + r + 1, d)`, in the order of their offsets.
    offsets
        Offsets $j - i$, integers of shape `(n_q, n_k)`.
    max_distance
        $k$, or the pair $(l, r)$.

    Returns
    -------
    np.ndarray
        Bias $b$ of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `q` or `table` is not real, `offsets` are not integers, or `max_distance` is neither an
        integer nor two of them.
    ValueError
        If something is empty or not finite, if `table` does not have $l + r + 1$ rows, if the
        shapes do not agree, or if a distance is negative.

    Examples
    --------
    >>> offsets = np.arange(3) - np.arange(3)[:, None]
    >>> q, table = np.array([[1.0], [2.0], [4.0]]), np.array([[-1.0], [0.0], [1.0]])
    >>> gather_logits(q, table, offsets, 1)
    array([[ 0.,  1.,  1.],
           [-2.,  0.,  2.],
           [-4., -4.,  0.]])

    One new query behind a cache of four keys.

    >>> gather_logits(q[2:], table, np.array([[-3, -2, -1, 0]]), 1)
    array([[-4., -4., -4.,  0.]])

    See Also
    --------
    relative_logits : The definition.
    skew : Looks up by reshaping, where positions are consecutive.
    """
    w, rows = _rows(table, offsets, max_distance)
    products = _check_width(q, w, rows) @ w.T / np.sqrt(w.shape[1])
    places = np.broadcast_to(rows, (*products.shape[:-2], *rows.shape))
    return np.take_along_axis(products, places, axis=-1)


def skew(products: np.ndarray, n_keys: int) -> np.ndarray:
    r"""Turn one column per offset into one column per key, by reshaping alone.

    $$\operatorname{skew}(S)_{ij} = S_{i,\; j - i + n_q - 1}$$

    Column 0 belongs to the offset $-(n_q - 1)$ and the last to $n_k - 1$. One column more on the
    right makes every row start one place later than a row of the result does; what is then read
    row by row is the result.

    Parameters
    ----------
    products
        Numbers $S$ of shape `(..., n_q, n_q + n_k - 1)`, a column for every offset.
    n_keys
        Number of keys $n_k \ge 1$.

    Returns
    -------
    np.ndarray
        Numbers of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `products` are not real, or `n_keys` is not an integer.
    ValueError
        If `products` are empty, not finite or of another width, or `n_keys` is less than 1.

    Examples
    --------
    Columns for the offsets -2 to 2.

    >>> skew(np.array([[-2, -1, 0, 1, 2]] * 3), 3)
    array([[ 0.,  1.,  2.],
           [-1.,  0.,  1.],
           [-2., -1.,  0.]])

    One query has its keys side by side.

    >>> skew(np.array([[5, 6, 7]]), 3)
    array([[5., 6., 7.]])

    >>> skew(np.ones((3, 4)), 3)
    Traceback (most recent call last):
        ...
    ValueError: products must have shape (3, 5), got (3, 4)

    See Also
    --------
    gather_logits : Looks up by number, at any positions.

    References
    ----------
    Huang et al. *Music Transformer*. 2018, arXiv:1809.04281, which does this for the columns of a
    causal decoder, and pads on the left.
    """
    s, m = check_real("products", products, min_ndim=2), check_count("n_keys", n_keys)
    *lead, n, width = s.shape
    check_shape("products", s, (*lead, n, n + m - 1))
    padded = np.concatenate([s, np.zeros((*lead, n, 1))], axis=-1)
    line = padded.reshape(*lead, n * (width + 1))
    return line[..., n - 1 : -1].reshape(*lead, n, width)[..., :m]


def bucket_weights(
    weights: np.ndarray, offsets: np.ndarray, max_distance: int | tuple[int, int]
) -> np.ndarray:
    r"""Sum the attention weights of all keys whose offset is clipped to the same number.

    $$\beta_{ic} = \sum_{j:\; \operatorname{clip}(j - i) = c} \alpha_{ij}$$

    Parameters
    ----------
    weights
        Attention weights $\alpha$ of shape `(..., n_q, n_k)`.
    offsets
        Offsets $j - i$, integers of shape `(n_q, n_k)`.
    max_distance
        $k$, or the pair $(l, r)$.

    Returns
    -------
    np.ndarray
        Sums $\beta$ of shape `(..., n_q, l + r + 1)`, one for each $c = -l \dots r$, float64; a
        row sums to what its weights do.

    Raises
    ------
    TypeError
        If `weights` are not real, `offsets` are not integers, or `max_distance` is neither an
        integer nor two of them.
    ValueError
        If something is empty or not finite, if the shapes do not agree, or if a distance is
        negative.

    Examples
    --------
    >>> offsets = np.arange(3) - np.arange(3)[:, None]
    >>> bucket_weights([[0.5, 0.25, 0.25], [0, 0.5, 0.5], [0.25, 0.25, 0.5]], offsets, 1)
    array([[0. , 0.5, 0.5],
           [0. , 0.5, 0.5],
           [0.5, 0.5, 0. ]])

    With $k = 0$ there is one bucket, which holds everything.

    >>> bucket_weights([[0.5, 0.25, 0.25]], [[0, 1, 2]], 0)
    array([[1.]])

    See Also
    --------
    relative_values : Multiplies the sums with the vectors.
    """
    left, right = check_reach("max_distance", max_distance)
    rows = clip_offsets(offsets, max_distance) + left
    alpha = _check_weights(weights, rows.shape)
    which = np.arange(left + right + 1)[:, None, None] == rows  # (buckets, n_q, n_k)
    return np.einsum("...ij,cij->...ic", alpha, which)


def relative_values(
    weights: np.ndarray,
    table: np.ndarray,
    offsets: np.ndarray,
    max_distance: int | tuple[int, int],
) -> np.ndarray:
    r"""Value term: what the vectors of the offsets add to the output of a head.

    $$\sum_j \alpha_{ij}\, w^V_{\operatorname{clip}(j - i)}$$

    Computed as it is written, with a vector for every pair: memory grows like $n^2 d$.

    Parameters
    ----------
    weights
        Attention weights $\alpha$ of shape `(..., n_q, n_k)`.
    table
        Vectors $w^V_{-l} \dots w^V_r$, shape `(l + r + 1, d)`, in the order of their offsets.
    offsets
        Offsets $j - i$, integers of shape `(n_q, n_k)`.
    max_distance
        $k$, or the pair $(l, r)$.

    Returns
    -------
    np.ndarray
        Vectors of shape `(..., n_q, d)`, float64.

    Raises
    ------
    TypeError
        If `weights` or `table` is not real, `offsets` are not integers, or `max_distance` is
        neither an integer nor two of them.
    ValueError
        If something is empty or not finite, if `table` does not have $l + r + 1$ rows, if the
        shapes do not agree, or if a distance is negative.

    Examples
    --------
    The middle token looks at both neighbours, the others at themselves.

    >>> offsets = np.arange(3) - np.arange(3)[:, None]
    >>> weights, table = [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]], [[1, 0], [0, 0], [0, 1]]
    >>> relative_values(weights, table, offsets, 1)
    array([[0. , 0. ],
           [0.5, 0.5],
           [0. , 0. ]])

    The same by way of the buckets.

    >>> bucket_weights(weights, offsets, 1) @ table
    array([[0. , 0. ],
           [0.5, 0.5],
           [0. , 0. ]])

    See Also
    --------
    bucket_weights : Sums first, and needs no vector per pair.

    References
    ----------
    Shaw, Uszkoreit, Vaswani. *Self-Attention with Relative Position Representations*. 2018,
    arXiv:1803.02155, Section 3.1, equation 3.
    """
    w, rows = _rows(table, offsets, max_distance)
    alpha = _check_weights(weights, rows.shape)
    return np.einsum("...ij,ijd->...id", alpha, w[rows])


def sinusoidal_table(
    d_head: int, max_distance: int | tuple[int, int], base: float = 10000.0
) -> np.ndarray:
    r"""Vectors that need no training: the sinusoid of every offset, for keys and values alike.

    $$w_t = \mathrm{PE}(t), \qquad t = -l \dots r$$

    The row of offset $t$ is the sinusoidal encoding of the position $t$, negative ones included.

    Parameters
    ----------
    d_head
        Width $d \ge 1$ of a head.
    max_distance
        $k$, or the pair $(l, r)$.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray
        Vectors of shape `(l + r + 1, d_head)`, float64, sines and cosines interleaved.

    Raises
    ------
    TypeError
        If `d_head` is not an integer, `max_distance` is neither an integer nor two of them, or
        `base` is not a real number.
    ValueError
        If `d_head` is less than 1, a distance is negative, or `base` is not finite or not above 1.

    Examples
    --------
    >>> sinusoidal_table(2, 1).round(4)
    array([[-0.8415,  0.5403],
           [ 0.    ,  1.    ],
           [ 0.8415,  0.5403]])

    Looking back only.

    >>> sinusoidal_table(2, (1, 0)).round(4)
    array([[-0.8415,  0.5403],
           [ 0.    ,  1.    ]])

    See Also
    --------
    posenc.equations.sinusoidal.sinusoidal : The encoding of absolute positions.

    References
    ----------
    Wei et al. *NEZHA: Neural Contextualized Representation for Chinese Language Understanding*.
    2019, arXiv:1909.00204, Section 2.2.
    """
    left, right = check_reach("max_distance", max_distance)
    d = check_count("d_head", d_head)
    return sinusoidal(np.arange(-left, right + 1), d, base)
