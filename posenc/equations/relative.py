r"""The chapter's tool, the four terms of a logit; untied positions; what padding gives away.

The offset is $t = j - i$, key position minus query position, in tokens. Everything but the offset
is computed in float64.
"""

from collections.abc import Callable

import numpy as np

from posenc._checks import (
    check_choice,
    check_count,
    check_real,
    check_shape,
    check_table,
)

__all__ = ["convolve", "dependence", "offsets", "score_terms", "tupe_logits"]


def offsets(n_queries: int, n_keys: int, start: int = 0) -> np.ndarray:
    r"""Offset from every query to every key, in tokens.

    $$t_{ij} = j - i$$

    Keys stand at $0 \dots n_k - 1$, queries at `start` and the positions after it: a decoder that
    continues from a cache has fewer queries than keys.

    Parameters
    ----------
    n_queries, n_keys
        Numbers of queries and keys, at least 1 each.
    start
        Position of the first query, at least 0.

    Returns
    -------
    np.ndarray
        Offsets of shape `(n_queries, n_keys)`, int64; negative where the key comes first.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If there are no queries or no keys, or if `start` is negative.

    Examples
    --------
    >>> offsets(3, 3)
    array([[ 0,  1,  2],
           [-1,  0,  1],
           [-2, -1,  0]])

    One new query behind three keys, itself among them.

    >>> offsets(1, 3, start=2)
    array([[-2, -1,  0]])

    >>> offsets(0, 3)
    Traceback (most recent call last):
        ...
    ValueError: n_queries must be at least 1, got 0

    See Also
    --------
    posenc.layers.relative.offsets : The same for positions in a tensor.
    """
    n_q, n_k = check_count("n_queries", n_queries), check_count("n_keys", n_keys)
    i = check_count("start", start, at_least=0) + np.arange(n_q, dtype=np.int64)
    return np.arange(n_k, dtype=np.int64) - i[:, None]


def score_terms(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], queries: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    r"""Split the logits of any scheme into four terms by taking content away.

    $$\begin{aligned}
    \mathrm{pp} &= e(0, 0) \\
    \mathrm{ep} &= e(q, 0) - e(0, 0) \\
    \mathrm{pe} &= e(0, k) - e(0, 0) \\
    \mathrm{ee} &= e(q, k) - e(q, 0) - e(0, k) + e(0, 0)
    \end{aligned}$$

    The first letter belongs to the query, the second to the key: e is content, p is position. The
    split says what its names promise if $e$ is affine in the queries and affine in the keys.

    Parameters
    ----------
    score
        Function of queries and keys that returns the logits $e$, `(n_q, n_k)`. The positions are
        fixed inside of it.
    queries, keys
        Content $q$ of shape `(n_q, d)` and $k$ of shape `(n_k, d)`: projected vectors, or tokens,
        whatever `score` takes.

    Returns
    -------
    np.ndarray
        Terms of shape `(4, n_q, n_k)`, float64, in the order ee, ep, pe, pp; their sum is $e$.

    Raises
    ------
    TypeError
        If `queries` or `keys` do not hold real numbers, or `score` does not return any.
    ValueError
        If one of them is empty, not finite or not a matrix, or if `score` returns another shape.

    Examples
    --------
    A bias of the offset is a term of positions alone.

    >>> def t5(q, k):
    ...     return q @ k.T + np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> q, k = np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]])
    >>> score_terms(t5, q, k)[[0, 3]]
    array([[[ 3.,  4.],
            [ 6.,  8.]],
    <BLANKLINE>
           [[ 0.,  1.],
            [-1.,  0.]]])
    >>> score_terms(t5, q, k)[1:3].any()
    np.False_

    Position added to the tokens is in three of them.

    >>> p = np.array([[10.0], [20.0]])
    >>> score_terms(lambda x, y: (x + p) @ (y + p).T, q, k)[1:]
    array([[[ 10.,  20.],
            [ 20.,  40.]],
    <BLANKLINE>
           [[ 30.,  40.],
            [ 60.,  80.]],
    <BLANKLINE>
           [[100., 200.],
            [200., 400.]]])

    See Also
    --------
    posenc.equations.kernel.four_terms : The same for token plus position, multiplied out.
    dependence : What each term depends on.
    posenc.layers.relative.score_terms : The same for layers.
    """
    q, k = check_table("queries", queries), check_table("keys", keys)
    no_q, no_k = np.zeros_like(q), np.zeros_like(k)
    pairs = ((q, k), (q, no_k), (no_q, k), (no_q, no_k))
    logits = [check_real("result of score", score(*pair)) for pair in pairs]
    check_shape("result of score", logits[0], (len(q), len(k)))
    both, query, key, none = logits
    return np.stack([both - query - key + none, query - none, key - none, none])


def dependence(
    score: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    queries: np.ndarray,
    keys: np.ndarray,
) -> tuple[str, str, str, str]:
    r"""Say for each of the four terms which position it depends on, by moving positions.

    $$\begin{aligned}
    \text{query} &\iff T_{i, j+1} = T_{ij} \\
    \text{key} &\iff T_{i+1, j} = T_{ij} \\
    \text{offset} &\iff T_{i+1, j+1} = T_{ij}
    \end{aligned}$$

    The word is `"none"` if both of the first two hold, `"both"` if nothing does, and `"absent"`
    if the term is zero. Content stays; queries and keys start at position 1.

    Parameters
    ----------
    score
        Function of queries, keys, query positions and key positions that returns the logits,
        `(n_q, n_k)`; affine in the queries and in the keys.
    queries, keys
        Content of shape `(n_q, d)` and `(n_k, d)`, best drawn at random: it must not hide what a
        scheme can do.

    Returns
    -------
    tuple of str
        For ee, ep, pe and pp one of `"absent"`, `"none"`, `"query"`, `"key"`, `"offset"` and
        `"both"`. Equal means: up to $10^{-9}$ of the largest number in any term.

    Raises
    ------
    TypeError
        As in `score_terms`.
    ValueError
        As in `score_terms`.

    Examples
    --------
    >>> def t5(q, k, i, j):
    ...     return q @ k.T + (j - i[:, None])
    >>> q, k = np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]])
    >>> dependence(t5, q, k)
    ('none', 'absent', 'absent', 'offset')

    Position added to the tokens: content knows one place, never both.

    >>> def added(x, y, i, j):
    ...     return (x + i[:, None] ** 2) @ (y + j[:, None] ** 2).T
    >>> dependence(added, q, k)
    ('none', 'key', 'query', 'both')

    See Also
    --------
    score_terms : The terms themselves.
    """
    n_q, n_k = len(check_table("queries", queries)), len(check_table("keys", keys))

    def terms(query_step: int, key_step: int) -> np.ndarray:
        i, j = np.arange(n_q) + 1 + query_step, np.arange(n_k) + 1 + key_step
        return score_terms(lambda q, k: score(q, k, i, j), queries, keys)

    here, moved = terms(0, 0), {"query": (0, 1), "key": (1, 0), "offset": (1, 1)}
    steps = {name: terms(*step) for name, step in moved.items()}
    size = max(np.abs(part).max() for part in (here, *steps.values()))

    def same(a: np.ndarray, b: np.ndarray | float) -> bool:
        return bool(np.abs(a - b).max() <= 1e-9 * size)

    def word(term: int) -> str:
        if all(same(part[term], 0) for part in (here, *steps.values())):
            return "absent"
        kept = [name for name, part in steps.items() if same(part[term], here[term])]
        return "none" if len(kept) == 3 else (*kept, "both")[0]

    return word(0), word(1), word(2), word(3)


def tupe_logits(
    tokens: np.ndarray,
    position_vectors: np.ndarray,
    w_query: np.ndarray,
    w_key: np.ndarray,
    u_query: np.ndarray,
    u_key: np.ndarray,
    *,
    theta: np.ndarray | None = None,
) -> np.ndarray:
    r"""Logits of one head with untied positions (TUPE): content and position never multiply.

    $$e_{ij} = \frac{x_i W^Q (x_j W^K)^\top}{\sqrt{2 d_k}} + v_{ij}, \qquad
    v_{ij} = \frac{p_i U^Q (p_j U^K)^\top}{\sqrt{2 d_k}}$$

    With `theta`, row 0 belongs to a class token that has no place in the sentence: $v_{0j}$
    becomes $\vartheta_1$ for all $j$, and $v_{i0}$ becomes $\vartheta_2$ for $i > 0$.

    Parameters
    ----------
    tokens
        Token vectors $x$ of shape `(n, d)`.
    position_vectors
        Position vectors $p$ of shape `(n, d)`.
    w_query, w_key
        Maps $W^Q$ and $W^K$ of the tokens, `(d, d_k)`.
    u_query, u_key
        Maps $U^Q$ and $U^K$ of the positions, `(d, d_k)`.
    theta
        $(\vartheta_1, \vartheta_2)$, two numbers; `None` is no class token.

    Returns
    -------
    np.ndarray
        Logits of shape `(n, n)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    >>> x, p, w = np.array([[2.0], [4.0]]), np.array([[6.0], [8.0]]), np.array([[1.0]])
    >>> tupe_logits(x, p, w, w, w, w / 2).round(2)
    array([[15.56, 22.63],
           [22.63, 33.94]])

    Without content only the positions are left, and the class token has none.

    >>> tupe_logits(0 * x, p, w, w, w, w / 2, theta=[1, 2]).round(2)
    array([[ 1.  ,  1.  ],
           [ 2.  , 22.63]])

    See Also
    --------
    posenc.equations.kernel.four_terms : What it takes apart.
    posenc.layers.relative.Tupe : The layer.

    References
    ----------
    Ke, He, Liu. *Rethinking Positional Encoding in Language Pre-training*. 2020,
    arXiv:2006.15595, Equations 7, 9 and 10.
    """
    x, p = check_table("tokens", tokens), check_table("position_vectors", position_vectors)
    check_shape("position_vectors", p, x.shape)
    names = ("w_query", "w_key", "u_query", "u_key")
    maps = [check_table(n, m) for n, m in zip(names, (w_query, w_key, u_query, u_key), strict=True)]
    for name, matrix in zip(names, maps, strict=True):
        check_shape(name, matrix, (x.shape[1], maps[0].shape[1]))
    W_Q, W_K, U_Q, U_K = maps
    v = p @ U_Q @ (p @ U_K).T / np.sqrt(2 * W_Q.shape[1])
    if theta is not None:
        resets = check_real("theta", theta)
        check_shape("theta", resets, (2,))
        v[:, 0], v[0] = resets[1], resets[0]
    return x @ W_Q @ (x @ W_K).T / np.sqrt(2 * W_Q.shape[1]) + v


def convolve(
    signal: np.ndarray, kernel: np.ndarray, *, padding: str = "zeros", layers: int = 1
) -> np.ndarray:
    r"""Convolve a sequence with a kernel of odd width, once or several times, at equal length.

    $$y_i = \sum_{t=-r}^{r} w_t\, x_{i+t}$$

    The kernel has the width $2r + 1$. Beyond the ends, `"zeros"` reads 0, and `"circular"` reads
    on at the other end.

    Parameters
    ----------
    signal
        Sequence $x$, real numbers of shape `(n,)`.
    kernel
        Weights $w_{-r} \dots w_r$, real numbers of shape `(2 r + 1,)` with $r < n$; one weight per
        offset, and not mirrored.
    padding
        `"zeros"` or `"circular"`.
    layers
        How often, at least 1.

    Returns
    -------
    np.ndarray
        Sequence of shape `(n,)`, float64.

    Raises
    ------
    TypeError
        If `signal` or `kernel` do not hold real numbers, or `layers` is not an integer.
    ValueError
        If one of them is empty, not finite or has not exactly one axis, if the kernel has an even
        width or reaches over the whole signal, if `padding` is unknown or `layers` below 1.

    Examples
    --------
    All inputs are the same; at the ends something is missing, unless there are no ends.

    >>> convolve(np.ones(5), np.full(3, 0.25))
    array([0.5 , 0.75, 0.75, 0.75, 0.5 ])
    >>> convolve(np.ones(5), np.full(3, 0.25), padding="circular")
    array([0.75, 0.75, 0.75, 0.75, 0.75])

    The next layer sees one step further.

    >>> convolve(np.ones(7), np.array([0.5, 0.0, 0.5]), layers=3)
    array([0.375, 0.75 , 0.875, 1.   , 0.875, 0.75 , 0.375])

    >>> convolve(np.ones(5), np.ones(2))
    Traceback (most recent call last):
        ...
    ValueError: width of kernel must be odd, got 2
    """
    x, w = check_real("signal", signal), check_real("kernel", kernel)
    check_shape("signal", x, (x.size,))
    check_shape("kernel", w, (w.size,))
    check_choice("padding", padding, ("zeros", "circular"))
    r = w.size // 2
    if w.size % 2 == 0:
        raise ValueError(f"width of kernel must be odd, got {w.size}")
    if r >= x.size:
        raise ValueError(f"width of kernel must be below {2 * x.size}, got {w.size}")
    for _ in range(check_count("layers", layers)):
        ends = np.zeros((2, r)) if padding == "zeros" else (x[x.size - r :], x[:r])
        x = np.convolve(np.concatenate([ends[0], x, ends[1]]), w[::-1], mode="valid")
    return x
