r"""Disentangled attention: content and relative position as two vectors, three of four terms kept.

The offset is $t = i - j$, query position minus key position, in tokens. Position vectors are the
rows of one table, so that an offset becomes the number of a row. Everything but offsets and rows
is computed in float64.
"""

import numpy as np

from posenc._checks import (
    check_between,
    check_choice,
    check_count,
    check_integers,
    check_multiple,
    check_shape,
    check_table,
)

__all__ = ["disentangled", "log_bucket", "row", "scale"]


def row(offset: np.ndarray | int, max_distance: int) -> np.ndarray:
    r"""Row of the table of positions that belongs to an offset.

    $$\delta(t) = \begin{cases}
    0 & t \le -k \\
    t + k & -k < t < k \\
    2k - 1 & t \ge k
    \end{cases}$$

    Of $2k + 1$ offsets from $-k$ to $k$ the table has rows for $2k$: the last row serves $k - 1$
    as well as all that is farther.

    Parameters
    ----------
    offset
        Offsets $t = i - j$, integers of any shape, in tokens; or buckets of offsets.
    max_distance
        Half the number of rows, $k \ge 1$.

    Returns
    -------
    np.ndarray
        Rows from 0 to $2k - 1$, int64, of the shape of `offset`.

    Raises
    ------
    TypeError
        If `offset` holds no integers, or `max_distance` is none.
    ValueError
        If `max_distance` is less than 1.

    Examples
    --------
    >>> row(np.arange(-6, 7), 4)
    array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7])

    With a single pair of rows, all that is left is whether the key comes later.

    >>> row([-2, -1, 0, 1, 2], 1)
    array([0, 0, 1, 1, 1])

    >>> row(0.5, 4)
    Traceback (most recent call last):
        ...
    TypeError: offset must hold integers, got dtype float64

    See Also
    --------
    log_bucket : Makes buckets of offsets first, so that fewer rows reach farther.
    disentangled : Reads the rows.

    References
    ----------
    He et al. *DeBERTa: Decoding-enhanced BERT with Disentangled Attention*. 2020,
    arXiv:2006.03654, Equation 3.
    """
    t, k = check_integers("offset", offset), check_count("max_distance", max_distance)
    return np.clip(t.astype(np.int64), -k, k - 1) + k


def log_bucket(offset: np.ndarray | int, n_buckets: int, max_distance: int) -> np.ndarray:
    r"""Bucket of an offset: near offsets keep their own, far ones share theirs.

    $$\begin{aligned}
    \beta(t) &= t && |t| \le h \\
    \beta(t) &= \operatorname{sgn}(t) \left(h + \left\lceil (h - 1)
    \frac{\ln (|t| / h)}{\ln ((D - 1) / h)} \right\rceil \right) && |t| > h \\
    h &= B / 2
    \end{aligned}$$

    The bucket keeps the sign of the offset. At $|t| = D - 1$ it is $B - 1$; what is farther lands
    beyond and is clipped by `row`.

    Parameters
    ----------
    offset
        Offsets $t = i - j$, integers of any shape, in tokens.
    n_buckets
        Number $B$ of buckets per direction, a multiple of 2.
    max_distance
        Distance $D \ge h + 2$ at which the buckets end.

    Returns
    -------
    np.ndarray
        Buckets, int64, of the shape of `offset`.

    Raises
    ------
    TypeError
        If `offset` holds no integers, or a number is none.
    ValueError
        If `n_buckets` is not a positive multiple of 2, or `max_distance` is less than $h + 2$.

    Examples
    --------
    >>> log_bucket([0, 1, 4, 5, 8, 16, 31], 8, 32)
    array([0, 1, 4, 5, 6, 7, 7])

    Released models have 256 buckets for 512 tokens.

    >>> log_bucket([128, 129, 130, 131, -511], 256, 512)
    array([ 128,  129,  130,  131, -255])

    >>> log_bucket(1, 8, 5)
    Traceback (most recent call last):
        ...
    ValueError: max_distance must be at least 6, got 5

    See Also
    --------
    row : Row of the table that belongs to a bucket.

    References
    ----------
    Microsoft. *DeBERTa*, the code of version 2: `make_log_bucket_position`.
    """
    t = check_integers("offset", offset).astype(np.int64)
    half = check_multiple("n_buckets", n_buckets, 2) // 2
    last = check_count("max_distance", max_distance, at_least=half + 2) - 1
    share = np.log(np.maximum(np.abs(t), half) / half) / np.log(last / half)
    # A share that is a whole number of buckets must not be rounded past it.
    bucket = half + np.ceil((half - 1) * share - 1e-9).astype(np.int64)
    return np.where(np.abs(t) <= half, t, np.sign(t) * bucket)


def disentangled(
    q: np.ndarray,
    k: np.ndarray,
    key_table: np.ndarray,
    query_table: np.ndarray,
    offset: np.ndarray,
    *,
    p2c: str = "code",
) -> np.ndarray:
    r"""Three terms of every logit, not yet added up or scaled.

    $$\begin{aligned}
    A^{cc}_{ij} &= q_i\, k_j^\top \\
    A^{cp}_{ij} &= q_i\, K^r_{\delta(i - j)}{}^\top \\
    A^{pc}_{ij} &= Q^r_{\delta(\pm(i - j))}\, k_j^\top
    \end{aligned}$$

    With the sign $+$, both position terms read the same row, as the released code does; the paper
    prints $-$.

    Parameters
    ----------
    q, k
        Queries `(n_q, d)` and keys `(n_k, d)` of one head, from contents alone.
    key_table, query_table
        Positions $K^r = P W^{K,r}$ and $Q^r = P W^{Q,r}$ as keys and as queries, `(2k, d)` each.
    offset
        Offsets $i - j$, or their buckets, integers of shape `(n_q, n_k)`.
    p2c
        Sign in the position-to-content term: `"code"`, $+$, or `"paper"`, $-$.

    Returns
    -------
    np.ndarray
        Content to content, content to position, position to content; `(3, n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `offset` holds no integers, or another array no real numbers.
    ValueError
        If an array is empty, not finite or of the wrong shape, if the tables have an odd number
        of rows, or if `p2c` is unknown.

    Examples
    --------
    One column, three tokens. The table of keys says how far, that of queries only which side.

    >>> offset = np.arange(3)[:, None] - np.arange(3)
    >>> ones, far, side = np.ones((3, 1)), np.arange(4.0)[:, None], np.array([[-1], [-1], [0], [1]])
    >>> disentangled(ones, ones, far, side, offset)[1:]
    array([[[ 2.,  1.,  0.],
            [ 3.,  2.,  1.],
            [ 3.,  3.,  2.]],
    <BLANKLINE>
           [[ 0., -1., -1.],
            [ 1.,  0., -1.],
            [ 1.,  1.,  0.]]])

    The paper reads the row of the opposite offset, so that the sides change places.

    >>> disentangled(ones, ones, far, side, offset, p2c="paper")[2]
    array([[ 0.,  1.,  1.],
           [-1.,  0.,  1.],
           [-1., -1.,  0.]])

    See Also
    --------
    row : Which row belongs to an offset.
    scale : By what the sum of the terms is multiplied.

    References
    ----------
    He et al. *DeBERTa: Decoding-enhanced BERT with Disentangled Attention*. 2020,
    arXiv:2006.03654, Equation 4.
    """
    q, k = check_table("q", q), check_table("k", k)
    keys, queries = check_table("key_table", key_table), check_table("query_table", query_table)
    t = check_integers("offset", offset).astype(np.int64)
    sign = 1 if check_choice("p2c", p2c, ("code", "paper")) == "code" else -1
    half, d = check_multiple("rows of key_table", len(keys), 2) // 2, q.shape[1]
    check_shape("k", k, (len(k), d))
    check_shape("key_table", keys, (2 * half, d))
    check_shape("query_table", queries, (2 * half, d))
    check_shape("offset", t, (len(q), len(k)))
    i, j = np.indices(t.shape)
    content_position = (q @ keys.T)[i, row(t, half)]
    position_content = (queries @ k.T)[row(sign * t, half), j]
    return np.stack([q @ k.T, content_position, position_content])


def scale(d_head: int, n_terms: int = 3) -> float:
    r"""Factor that gives a sum of uncorrelated products the variance of one component.

    $$\lambda = \frac{1}{\sqrt{s\, d}}$$

    Parameters
    ----------
    d_head
        Width $d \ge 1$ of a head.
    n_terms
        Number $s$ of terms in the sum, from 1 to 3.

    Returns
    -------
    float
        The factor.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `d_head` is less than 1, or `n_terms` is not from 1 to 3.

    Examples
    --------
    >>> scale(12)
    0.16666666666666666

    Of content alone it is the usual one.

    >>> scale(64, 1)
    0.125

    See Also
    --------
    disentangled : The terms.

    References
    ----------
    He et al. *DeBERTa: Decoding-enhanced BERT with Disentangled Attention*. 2020,
    arXiv:2006.03654, Section 3.1.
    """
    check_between("n_terms", check_count("n_terms", n_terms), 1, 3)
    return 1 / np.sqrt(n_terms * check_count("d_head", d_head)).item()
