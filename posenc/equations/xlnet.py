r"""Transformer-XL and XLNet: four terms of a logit that know where the key stands from the query.

Queries stand at position $i$, keys at $j$, and the offset is $o = i - j$: positive if the key comes
first. Vectors are rows, as everywhere.
"""

import numpy as np

from posenc._checks import (
    check_batches,
    check_choice,
    check_count,
    check_multiple,
    check_real,
    check_shape,
)
from posenc.equations.rope import rotate
from posenc.equations.sinusoidal import sinusoidal

__all__ = [
    "column_offsets",
    "factorisation_mask",
    "logits",
    "offset_vectors",
    "segment_term",
    "shift",
    "shift_loop",
    "terms",
    "turned_scores",
]


def offset_vectors(
    offsets: np.ndarray | float, d_model: int, base: float = 10000.0, *, clamp: int | None = None
) -> np.ndarray:
    r"""Encode offsets as sinusoids, all sines first.

    $$\begin{aligned}
    R_o &= \big(\sin o\theta_0, \sin o\theta_1, \dots \,\big| \\
    &\qquad \cos o\theta_0, \cos o\theta_1, \dots\big) \\
    \theta_m &= b^{-2m/d}
    \end{aligned}$$

    Parameters
    ----------
    offsets
        Offsets $o = i - j$, real numbers of any shape, in tokens.
    d_model
        Width $d$, even.
    base
        Base $b > 1$ of the frequencies.
    clamp
        Greatest offset that is told from a greater one, on either side; `None` is no limit.

    Returns
    -------
    np.ndarray
        Vectors of shape `offsets.shape + (d_model,)`, float64.

    Raises
    ------
    TypeError
        If `offsets` or `base` are not real numbers, or `d_model` or `clamp` is not an integer.
    ValueError
        If `offsets` are empty or not finite, if `d_model` is not a positive multiple of 2, if
        `base` is not finite or not above 1, or if `clamp` is less than 1.

    Examples
    --------
    One token back, the same place, one token ahead: only the sines change their sign.

    >>> offset_vectors(np.array([1, 0, -1]), 4, base=100).round(3)
    array([[ 0.841,  0.1  ,  0.54 ,  0.995],
           [ 0.   ,  0.   ,  1.   ,  1.   ],
           [-0.841, -0.1  ,  0.54 ,  0.995]])

    All that is farther than the limit looks alike.

    >>> near, far = offset_vectors(np.array([8, 500]), 4, clamp=8)
    >>> bool(np.array_equal(near, far))
    True

    See Also
    --------
    posenc.equations.sinusoidal.sinusoidal : The same numbers, for positions.

    References
    ----------
    Dai et al. *Transformer-XL*. 2019, arXiv:1901.02860, Section 3.3. The layout and the limit are
    those of the authors' code.
    """
    o = check_real("offsets", offsets)
    if clamp is not None:
        o = np.clip(o, -check_count("clamp", clamp), clamp)
    return sinusoidal(o, check_multiple("d_model", d_model, 2), base, layout="halves")


def terms(q: np.ndarray, k: np.ndarray, r: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    r"""Four terms of a head's logits, not scaled yet.

    $$\begin{aligned}
    &\underbrace{q_i k_j^\top}_{\text{(a)}} + \underbrace{q_i r_{ij}^\top}_{\text{(b)}}
    + \underbrace{u\, k_j^\top}_{\text{(c)}} + \underbrace{v\, r_{ij}^\top}_{\text{(d)}} \\
    &r_{ij} = R_{i-j} W^{K,R}
    \end{aligned}$$

    Parameters
    ----------
    q, k
        Queries `(..., n_q, d_head)` and keys `(..., n_k, d_head)`, after their projections.
    r
        Vectors $r_{ij}$ of the offsets, projected by the matrix of their own,
        `(..., n_q, n_k, d_head)`.
    u, v
        Vectors of the head, `(d_head,)`, in the place of a query that would know its position.

    Returns
    -------
    np.ndarray
        The terms (a), (b), (c), (d), of shape `(4, ..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    One query, two keys, width 1.

    >>> q, k, r = np.array([[2.0]]), np.array([[1.0], [3.0]]), np.array([[[10.0], [20.0]]])
    >>> terms(q, k, r, np.array([0.5]), np.array([-1.0])).tolist()
    [[[2.0, 6.0]], [[20.0, 40.0]], [[0.5, 1.5]], [[-10.0, -20.0]]]

    Without content the last term is left, which depends on the offset alone.

    >>> terms(0 * q, 0 * k, r, np.array([0.5]), np.array([-1.0])).sum(axis=0)
    array([[-10., -20.]])

    See Also
    --------
    logits : Their sum, scaled.

    References
    ----------
    Dai et al. *Transformer-XL*. 2019, arXiv:1901.02860, Section 3.3.
    """
    q, k = check_real("q", q, min_ndim=2), check_real("k", k, min_ndim=2)
    (n_q, d), n_k = q.shape[-2:], k.shape[-2]
    check_shape("k", k, (*k.shape[:-1], d))
    check_batches(q=q, k=k)
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    r = check_real("r", r, min_ndim=3)
    check_shape("r", r, (*r.shape[:-3], n_q, n_k, d))
    check_batches(q=q, r=r[..., 0])
    u, v = check_real("u", u), check_real("v", v)
    check_shape("u", u, (d,))
    check_shape("v", v, (d,))
    shape = (*np.broadcast_shapes(lead, r.shape[:-3]), n_q, n_k)
    content, constant = q @ np.swapaxes(k, -1, -2), (k @ u)[..., None, :]
    found = content, (r @ q[..., None])[..., 0], constant, r @ v
    return np.array([np.broadcast_to(term, shape) for term in found])


def logits(q: np.ndarray, k: np.ndarray, r: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    r"""Logits of a head: the sum of the four terms, all of them scaled.

    $$e_{ij} = \frac{(q_i + u)\, k_j^\top + (q_i + v)\, r_{ij}^\top}{\sqrt{d_{head}}}$$

    Parameters
    ----------
    q, k, r, u, v
        As in `terms`.

    Returns
    -------
    np.ndarray
        Logits of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    >>> q, k, r = np.array([[2.0]]), np.array([[1.0], [3.0]]), np.array([[[10.0], [20.0]]])
    >>> logits(q, k, r, np.array([0.5]), np.array([-1.0]))
    array([[12.5, 27.5]])

    With $r$, $u$ and $v$ zero it is attention without positions.

    >>> logits(q, k, 0 * r, np.zeros(1), np.zeros(1))
    array([[2., 6.]])

    See Also
    --------
    posenc.layers.xlnet.TransformerXL : The layer, which adds (b), (c) and (d) to attention.

    References
    ----------
    Dai et al. *Transformer-XL*. 2019, arXiv:1901.02860, Section 3.3.
    """
    total = terms(q, k, r, u, v).sum(axis=0)
    return total / np.sqrt(np.shape(q)[-1])


def column_offsets(n_queries: int, n_keys: int, start: int | None = None) -> np.ndarray:
    r"""Offsets that a block of queries and keys can have, in the order that the shift wants.

    $$\begin{aligned}
    o_c &= s + n_q - c \\
    c &= 0, 1, \dots, n_q + n_k - 1
    \end{aligned}$$

    The first query stands $s$ positions after the first key. Column 0 belongs to no pair.

    Parameters
    ----------
    n_queries, n_keys
        Number of queries $n_q$ and of keys $n_k$; each stand in a row without a gap.
    start
        Position $s$ of the first query, counted from the first key; `None` is $n_k - n_q$: the
        last query and the last key are one token.

    Returns
    -------
    np.ndarray
        Offsets of shape `(n_queries + n_keys,)`, integers, falling.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If `n_queries` or `n_keys` is less than 1.

    Examples
    --------
    >>> column_offsets(3, 3)
    array([ 3,  2,  1,  0, -1, -2])

    Two tokens of memory in front.

    >>> column_offsets(3, 5)
    array([ 5,  4,  3,  2,  1,  0, -1, -2])

    See Also
    --------
    shift : What brings these columns to the keys.
    """
    n = check_count("n_queries", n_queries) + check_count("n_keys", n_keys)
    first = n_keys - n_queries if start is None else start
    if isinstance(first, bool) or not isinstance(first, int | np.integer):
        raise TypeError(f"start must be an integer, got {start!r}")
    return first + n_queries - np.arange(n)


def shift_loop(scores: np.ndarray) -> np.ndarray:
    r"""Take every key's score from the column of its offset, one pair at a time.

    $$Y_{ij} = S_{i,\; n_q - i + j}$$

    Parameters
    ----------
    scores
        Scores $S$ of every query with every offset, `(..., n_q, n_q + n_k)`, the columns in the
        order of `column_offsets`.

    Returns
    -------
    np.ndarray
        Scores $Y$ of every query with every key, `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `scores` are not real numbers.
    ValueError
        If `scores` are empty or not finite, or have no more columns than rows.

    Examples
    --------
    Every row holds the offsets themselves.

    >>> shift_loop(np.tile(column_offsets(2, 3), (2, 1)))
    array([[ 1.,  0., -1.],
           [ 2.,  1.,  0.]])

    One query reads all columns but the first.

    >>> shift_loop(np.array([[9.0, 1.0, 2.0]]))
    array([[1., 2.]])

    See Also
    --------
    shift : The same without a loop.
    """
    S, n_q, n_k = _scores(scores)
    Y = np.empty((*S.shape[:-2], n_q, n_k))
    for i in range(n_q):
        for j in range(n_k):
            Y[..., i, j] = S[..., i, n_q - i + j]
    return Y


def shift(scores: np.ndarray) -> np.ndarray:
    r"""Do what `shift_loop` does without a loop: drop $n_q$ numbers and fold anew.

    $$\begin{aligned}
    Y_{ij} &= \operatorname{flat}(S)_{\,n_q + i (n - 1) + j} \\
    n &= n_q + n_k
    \end{aligned}$$

    Parameters
    ----------
    scores
        As in `shift_loop`.

    Returns
    -------
    np.ndarray
        Scores of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `scores` are not real numbers.
    ValueError
        If `scores` are empty or not finite, or have no more columns than rows.

    Examples
    --------
    >>> shift(np.tile(column_offsets(2, 3), (2, 1)))
    array([[ 1.,  0., -1.],
           [ 2.,  1.,  0.]])

    >>> shift(np.ones((2, 2)))
    Traceback (most recent call last):
        ...
    ValueError: scores must have more columns than rows, got shape (2, 2)

    See Also
    --------
    posenc.layers.xlnet.shift : The same as a view of a tensor.

    References
    ----------
    Dai et al. *Transformer-XL*. 2019, arXiv:1901.02860, Appendix B.
    """
    S, n_q, n_k = _scores(scores)
    flat = S.reshape(*S.shape[:-2], -1)[..., n_q:]
    return flat.reshape(*S.shape[:-1], n_q + n_k - 1)[..., :n_k].copy()


def _scores(scores: np.ndarray) -> tuple[np.ndarray, int, int]:
    S = check_real("scores", scores, min_ndim=2)
    n_q, n = S.shape[-2:]
    if n <= n_q:
        raise ValueError(f"scores must have more columns than rows, got shape {S.shape}")
    return S, n_q, n - n_q


def turned_scores(
    g: np.ndarray,
    q_positions: np.ndarray,
    k_positions: np.ndarray,
    base: float = 10000.0,
) -> np.ndarray:
    r"""Inner products with the vectors of all offsets, from positions in any order.

    $$\begin{aligned}
    g_i R_{i-j}^\top &= \operatorname{rot}_i(g_i)\, \operatorname{rot}_j(R_0)^\top \\
    R_0 &= (0, \dots, 0 \mid 1, \dots, 1)
    \end{aligned}$$

    $\operatorname{rot}_i$ is RoPE's rotation by position $i$, in halves; the key is the same for
    every token.

    Parameters
    ----------
    g
        Vectors $g_i$ of shape `(..., n_q, d)` with $d$ even.
    q_positions, k_positions
        Positions `(n_q,)` of the vectors and `(n_k,)` of the keys, real numbers, in any order.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray
        Inner products of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, if $d$ is odd, if there is not one position for
        every vector, or if `base` is not above 1.

    Examples
    --------
    >>> g = np.array([[1.0, -2.0, 0.5, 3.0]])
    >>> got = turned_scores(g, np.array([7]), np.array([90, 5]))
    >>> bool(np.allclose(got, g @ offset_vectors(np.array([7 - 90, 7 - 5]), 4).T))
    True

    At offset 0 all cosines are 1.

    >>> turned_scores(g, np.array([7]), np.array([7])).round(12)
    array([[3.5]])

    See Also
    --------
    posenc.equations.rope.rotate : The rotation.
    """
    g = check_real("g", g, min_ndim=2)
    at, to = check_real("q_positions", q_positions), check_real("k_positions", k_positions)
    check_shape("q_positions", at, g.shape[-2:-1])
    check_shape("k_positions", to, (to.size,))
    zero = offset_vectors(np.zeros(to.size), g.shape[-1], base)
    turned = rotate(g, at, base, layout="halves")
    return turned @ rotate(zero, to, base, layout="halves").T


def segment_term(q: np.ndarray, same: np.ndarray, table: np.ndarray, w: np.ndarray) -> np.ndarray:
    r"""Fifth term of XLNet, which tells keys of the query's own segment from others.

    $$\begin{aligned}
    &(q_i + w)\, s_{ij}^\top \\
    &s_{ij} = \begin{cases} s_+ & \operatorname{seg}(i) = \operatorname{seg}(j) \\
    s_- & \operatorname{seg}(i) \ne \operatorname{seg}(j) \end{cases}
    \end{aligned}$$

    Parameters
    ----------
    q
        Queries of a head, `(n_q, d_head)`, after their projection.
    same
        Boolean, `(n_q, n_k)`: True where both tokens belong to one segment.
    table
        The vectors $s_+$ and $s_-$ of the head, `(2, d_head)`, in this order.
    w
        Vector of the head, `(d_head,)`.

    Returns
    -------
    np.ndarray
        The term, not scaled yet, of shape `(n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If `q`, `table` or `w` are not real numbers, or `same` is not boolean.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    >>> same = np.array([[True, False]])
    >>> segment_term(np.array([[2.0]]), same, np.array([[1.0], [-1.0]]), np.array([0.5]))
    array([[ 2.5, -2.5]])

    Which of two segments is the first does not matter.

    >>> def term(segments):
    ...     same = segments[:, None] == segments
    ...     return segment_term(np.ones((3, 1)), same, np.array([[1.0], [-1.0]]), np.zeros(1))
    >>> bool(np.array_equal(term(np.array([0, 0, 1])), term(np.array([1, 1, 0]))))
    True

    See Also
    --------
    terms : The other four.

    References
    ----------
    Yang et al. *XLNet*. 2019, arXiv:1906.08237, Section 2.5.
    """
    q, table, w = check_real("q", q, 2), check_real("table", table), check_real("w", w)
    check_shape("q", q, q.shape[-2:])
    same = np.asarray(same)
    if same.dtype != np.bool:
        raise TypeError(f"same must be boolean, got dtype {same.dtype}")
    check_shape("same", same, (len(q), max(same.size // len(q), 1)))
    check_shape("table", table, (2, q.shape[-1]))
    check_shape("w", w, q.shape[-1:])
    own, other = ((q + w) @ table.T).T[..., None]
    return np.where(same, own, other)


def factorisation_mask(order: np.ndarray, *, stream: str = "content") -> np.ndarray:
    r"""Who may look at whom if a text is predicted in another order than it is read.

    $$\begin{aligned}
    M^{h}_{ij} &= \left[\pi_j \le \pi_i\right] \\
    M^{g}_{ij} &= \left[\pi_j < \pi_i\right]
    \end{aligned}$$

    The first is for the content stream, the second for the query stream; $\pi_i$ says when
    position $i$ has its turn. Positions stay what they are.

    Parameters
    ----------
    order
        Positions in the order of prediction, `(n,)`, a permutation of `0 .. n-1`.
    stream
        `"content"`, which also sees the token itself, or `"query"`, which must predict it.

    Returns
    -------
    np.ndarray
        Boolean, `(n, n)`; True = may look.

    Raises
    ------
    ValueError
        If `order` is not a permutation of `0 .. n-1`, or `stream` is neither of the two.

    Examples
    --------
    Position 2 first, then 0, then 1.

    >>> factorisation_mask(np.array([2, 0, 1])).astype(int)
    array([[1, 0, 1],
           [1, 1, 1],
           [0, 0, 1]])
    >>> factorisation_mask(np.array([2, 0, 1]), stream="query").astype(int)
    array([[0, 0, 1],
           [1, 0, 1],
           [0, 0, 0]])

    In reading order the content stream has the causal mask.

    >>> bool(np.array_equal(factorisation_mask(np.arange(5)), np.tri(5, dtype=bool)))
    True

    See Also
    --------
    posenc.equations.attention.causal_mask : The mask of the reading order.

    References
    ----------
    Yang et al. *XLNet*. 2019, arXiv:1906.08237, Sections 2.2 and 2.3.
    """
    at = check_real("order", order, 1)
    if not np.array_equal(np.sort(at), np.arange(at.size)):
        raise ValueError(f"order must be a permutation of 0 .. n-1, got {np.asarray(order)}")
    turn = np.argsort(at)
    query = check_choice("stream", stream, ("content", "query")) == "query"
    return turn < turn[:, None] if query else turn <= turn[:, None]
