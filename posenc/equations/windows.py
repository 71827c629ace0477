r"""Who may look at whom when not everybody looks at everybody: masks, their edges, their reach.

A mask is True where the query at position $i$ may look at the key at position $j$; its Trues are
called edges, as in a graph. Offsets are $t = i - j$, query minus key: a key before the query has
$t > 0$. All masks but BigBird's are made from positions, so that they also fit a cache of keys.
"""

import numpy as np

from posenc._checks import (
    check_count,
    check_integers,
    check_multiple,
    check_reach,
    check_shape,
)

__all__ = [
    "bigbird",
    "bigbird_edges",
    "chunk_edges",
    "chunks",
    "longformer",
    "random_links",
    "reach",
    "sliding_window",
    "streaming_window",
    "window_edges",
]

GLOBAL = 2  # blocks of BigBird that look at everything: the first and the last


def sliding_window(
    q_positions: np.ndarray,
    k_positions: np.ndarray,
    span: int | tuple[int, int],
    dilation: int = 1,
) -> np.ndarray:
    r"""Let every query look at the keys around it, or at every few of them.

    $$\begin{aligned}
    M_{ij} = \;& \left[-r \delta \le i - j \le l \delta\right] \\
    & \cdot \left[\delta \mid i - j\right]
    \end{aligned}$$

    Parameters
    ----------
    q_positions, k_positions
        Positions of queries and keys, integers of shape `(..., n_q)` and `(..., n_k)`.
    span
        How many keys $l$ before and $r$ after the query, beside the query's own; one number
        stands for both. A causal window of $w$ tokens, the query included, is `(w - 1, 0)`.
    dilation
        Distance $\delta \ge 1$ from one of these keys to the next.

    Returns
    -------
    np.ndarray
        Mask of shape `(..., n_q, n_k)`; True = may look.

    Raises
    ------
    TypeError
        If positions or numbers are not integers.
    ValueError
        If `span` is negative, or `dilation` less than 1.

    Examples
    --------
    A causal window of two tokens.

    >>> at = np.arange(4)
    >>> sliding_window(at, at, (1, 0)).astype(int)
    array([[1, 0, 0, 0],
           [1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])

    One new token behind a cache of three keys: what counts is where they stand.

    >>> sliding_window(np.array([103]), np.arange(100, 104), (1, 0)).astype(int)
    array([[0, 0, 1, 1]])

    Every second key, on both sides.

    >>> sliding_window(at, at, 1, dilation=2).astype(int)
    array([[1, 0, 1, 0],
           [0, 1, 0, 1],
           [1, 0, 1, 0],
           [0, 1, 0, 1]])

    See Also
    --------
    window_edges : How many Trues there are.
    posenc.layers.windows.Window : The window as a layer.

    References
    ----------
    Beltagy, Peters, Cohan. *Longformer: The Long-Document Transformer*. 2020, arXiv:2004.05150.
    """
    left, right = check_reach("span", span)
    step = check_count("dilation", dilation)
    i, j = _pair(q_positions, k_positions)
    t = i - j
    return (-right * step <= t) & (t <= left * step) & (t % step == 0)


def chunks(
    q_positions: np.ndarray, k_positions: np.ndarray, size: int, overlap: int = 0
) -> np.ndarray:
    r"""Cut the text into chunks, and let every token look at the first chunk that holds it.

    $$\begin{aligned}
    M_{ij} &= \left[s_i \le j < s_i + w\right] \\
    s_i &= h \max\left(0, \left\lceil \frac{i + 1 - w}{h} \right\rceil\right) \\
    h &= w - o
    \end{aligned}$$

    Chunks have $w$ tokens; the next one starts $h$ tokens later and repeats the last $o$. Of those
    that it repeats it makes no output, they are only looked at.

    Parameters
    ----------
    q_positions, k_positions
        Positions of queries and keys, integers of shape `(..., n_q)` and `(..., n_k)`; those of
        queries at least 0, where the first chunk starts.
    size
        Number of tokens $w \ge 1$ in a chunk.
    overlap
        Number of tokens $o$, at least 0 and less than `size`, that two neighbours share.

    Returns
    -------
    np.ndarray
        Mask of shape `(..., n_q, n_k)`; True = may look.

    Raises
    ------
    TypeError
        If positions or numbers are not integers.
    ValueError
        If `size` is less than 1, `overlap` not from 0 to `size` - 1, or a query is below 0.

    Examples
    --------
    >>> at = np.arange(5)
    >>> chunks(at, at, 2).astype(int)
    array([[1, 1, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 1, 1, 0],
           [0, 0, 0, 0, 1]])

    Chunks of three that repeat one: 0 1 2 and 2 3 4, where token 2 belongs to the first.

    >>> chunks(at, at, 3, overlap=1).astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 1, 1, 0, 0],
           [0, 0, 1, 1, 1],
           [0, 0, 1, 1, 1]])

    See Also
    --------
    chunk_edges : How many Trues there are.
    """
    w, hop = _chunk(size, overlap)
    i, j = _pair(q_positions, k_positions)
    if i.size and i.min() < 0:
        raise ValueError(f"q_positions must be at least 0, got {i.min()}")
    start = hop * np.maximum(0, -((w - 1 - i) // hop))
    return (start <= j) & (j < start + w)


def streaming_window(
    q_positions: np.ndarray, k_positions: np.ndarray, size: int, sinks: int
) -> np.ndarray:
    r"""Keep the first few tokens in sight of a causal window, as attention sinks.

    $$\begin{aligned}
    M_{ij} = \;& \left[0 \le i - j < w\right] \\
    & \lor \left[0 \le j < s\right]\, \left[j \le i\right]
    \end{aligned}$$

    Parameters
    ----------
    q_positions, k_positions
        Positions of queries and keys, integers of shape `(..., n_q)` and `(..., n_k)`.
    size
        Number of tokens $w \ge 1$ in the window, the query included.
    sinks
        Number of tokens $s \ge 0$ at the start of the text that stay in sight.

    Returns
    -------
    np.ndarray
        Mask of shape `(..., n_q, n_k)`; True = may look.

    Raises
    ------
    TypeError
        If positions or numbers are not integers.
    ValueError
        If `size` is less than 1, or `sinks` less than 0.

    Examples
    --------
    >>> at = np.arange(5)
    >>> streaming_window(at, at, 2, sinks=1).astype(int)
    array([[1, 0, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 0, 1, 1, 0],
           [1, 0, 0, 1, 1]])

    Without sinks it is the causal window.

    >>> bool((streaming_window(at, at, 2, 0) == sliding_window(at, at, (1, 0))).all())
    True

    See Also
    --------
    posenc.layers.windows.Window : The same as a layer.

    References
    ----------
    Xiao et al. *Efficient Streaming Language Models with Attention Sinks*. 2023, arXiv:2309.17453.
    """
    near = sliding_window(q_positions, k_positions, (check_count("size", size) - 1, 0))
    i, j = _pair(q_positions, k_positions)
    return near | ((j >= 0) & (j < check_count("sinks", sinks, at_least=0)) & (j <= i))


def longformer(
    q_positions: np.ndarray,
    k_positions: np.ndarray,
    span: int | tuple[int, int],
    global_positions: np.ndarray,
) -> np.ndarray:
    r"""Add to a window some tokens that look at everything, and at which everything looks.

    $$\begin{aligned}
    M_{ij} = \;& \left[-r \le i - j \le l\right] \\
    & \lor \left[i \in G\right] \lor \left[j \in G\right]
    \end{aligned}$$

    Parameters
    ----------
    q_positions, k_positions
        Positions of queries and keys, integers of shape `(..., n_q)` and `(..., n_k)`.
    span
        How many keys $l$ before and $r$ after the query; one number stands for both. Longformer's
        own window of $w$ tokens, $w$ even, is `w // 2`, and has $w + 1$ keys.
    global_positions
        Positions $G$ of the global tokens, integers of shape `(g,)`.

    Returns
    -------
    np.ndarray
        Mask of shape `(..., n_q, n_k)`; True = may look.

    Raises
    ------
    TypeError
        If positions or numbers are not integers.
    ValueError
        If `span` is negative.

    Examples
    --------
    >>> at = np.arange(5)
    >>> longformer(at, at, 1, np.array([0])).astype(int)
    array([[1, 1, 1, 1, 1],
           [1, 1, 1, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 0, 1, 1, 1],
           [1, 0, 0, 1, 1]])

    Without global tokens it is the window.

    >>> none = np.array([], int)
    >>> bool((longformer(at, at, 1, none) == sliding_window(at, at, 1)).all())
    True

    See Also
    --------
    window_edges : How many Trues there are.

    References
    ----------
    Beltagy, Peters, Cohan. *Longformer: The Long-Document Transformer*. 2020, arXiv:2004.05150.
    """
    everywhere = check_integers("global_positions", global_positions)
    i, j = _pair(q_positions, k_positions)
    near = sliding_window(q_positions, k_positions, span)
    return near | np.isin(i, everywhere) | np.isin(j, everywhere)


def random_links(n_blocks: int, n_links: int, rng: "np.random.Generator") -> np.ndarray:
    r"""Draw the random blocks of BigBird: a few for every block but the first and the last.

    $$\begin{aligned}
    R_I &\subset \{0, \dots, B - 1\} \setminus N_I \\
    |R_I| &= r \\
    N_I &= \{0, I - 1, I, I + 1, B - 1\}
    \end{aligned}$$

    Parameters
    ----------
    n_blocks
        Number of blocks $B \ge 5$.
    n_links
        Number of random blocks $r$ for each, from 0 to $B - 5$.
    rng
        Source of randomness, such as `np.random.default_rng(0)`.

    Returns
    -------
    np.ndarray
        Numbers of blocks, int64, of shape `(n_blocks - 2, n_links)`: a row for the block 1 first.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n_blocks` is less than 5, or `n_links` not from 0 to `n_blocks` - 5.

    Examples
    --------
    With six blocks, the blocks in the middle have a single one to draw.

    >>> random_links(6, 1, np.random.default_rng(0))[1:-1].T
    array([[4, 1]])

    >>> random_links(5, 0, np.random.default_rng(0)).shape
    (3, 0)

    See Also
    --------
    bigbird : The mask with these links.
    """
    B = check_count("n_blocks", n_blocks, at_least=5)
    r = _at_most("n_links", n_links, B - 5)
    near = np.eye(B, dtype=bool) | np.eye(B, k=1, dtype=bool) | np.eye(B, k=-1, dtype=bool)
    near[:, [0, -1]] = True
    rows = [rng.permutation(np.flatnonzero(~row))[:r] for row in near[1:-1]]
    return np.array(rows, np.int64)


def bigbird(n: int, block: int, links: np.ndarray) -> np.ndarray:
    r"""Join blocks of tokens: neighbours, the first and the last with all, and random ones.

    $$\begin{aligned}
    M_{ij} = \;& \left[|I - J| \le 1\right] \\
    & \lor \left[J \in R_I\right] \\
    & \lor \left[I \in E\right] \lor \left[J \in E\right] \\
    I = \;& \lfloor i / b \rfloor \\
    J = \;& \lfloor j / b \rfloor \\
    E = \;& \{0, n / b - 1\}
    \end{aligned}$$

    Parameters
    ----------
    n
        Number of tokens, a multiple of `block` and at least five blocks.
    block
        Number of tokens $b \ge 1$ in a block.
    links
        Random blocks $R_I$ of every block but the first and the last, integers of shape
        `(n // block - 2, r)`, as `random_links` draws them.

    Returns
    -------
    np.ndarray
        Mask of shape `(n, n)`; True = may look.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n` is too small or not a multiple of `block`, or if `links` have the wrong shape or
        name a block that does not exist.

    Examples
    --------
    Six blocks of one token, one random link for the blocks 1 to 4.

    >>> bigbird(6, 1, np.array([[3], [4], [1], [2]])).astype(int)
    array([[1, 1, 1, 1, 1, 1],
           [1, 1, 1, 1, 0, 1],
           [1, 1, 1, 1, 1, 1],
           [1, 1, 1, 1, 1, 1],
           [1, 0, 1, 1, 1, 1],
           [1, 1, 1, 1, 1, 1]])

    Without links the mask is symmetric.

    >>> mask = bigbird(12, 2, np.zeros((4, 0), int))
    >>> bool((mask == mask.T).all())
    True

    See Also
    --------
    bigbird_edges : How many Trues there are.

    References
    ----------
    Zaheer et al. *Big Bird: Transformers for Longer Sequences*. 2020, arXiv:2007.14062.
    """
    B = _blocks(n, block)
    R = check_integers("links", links)
    check_shape("links", R, (B - GLOBAL, *R.shape[1:2]))
    if R.size and not (R.min() >= 0 and R.max() < B):
        raise ValueError(f"links must be from 0 to {B - 1}, got {R.min()} to {R.max()}")
    at = np.arange(B)
    joined = longformer(at, at, 1, np.array([0, B - 1]))
    joined[at[1:-1, None], R] = True
    return joined.repeat(block, axis=0).repeat(block, axis=1)


def window_edges(n: int, span: int | tuple[int, int], dilation: int = 1, n_global: int = 0) -> int:
    r"""Count the edges of a window over $n$ tokens, the first $g$ of them global.

    $$\begin{aligned}
    E(n) &= W(n - g) + 2 g n - g^2 \\
    W(m) &= m \\
    &\quad + \sum_{s \in \{l, r\}} \left(k m - \delta \tfrac{k (k + 1)}{2}\right) \\
    k &= \min\left(s, \left\lfloor \frac{m - 1}{\delta} \right\rfloor\right)
    \end{aligned}$$

    A side of $s$ keys has $k$ diagonals within the matrix, of $m - \delta, m - 2\delta, \dots$
    entries. Global tokens fill their rows and columns; what is left is a window over the others.

    Parameters
    ----------
    n
        Number of tokens, at least 1.
    span, dilation
        As in `sliding_window`.
    n_global
        Number $g$ of global tokens, from 0 to `n`; they stand first.

    Returns
    -------
    int
        The number of Trues in the mask, exactly.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n` or `dilation` is less than 1, `span` negative, or `n_global` not from 0 to `n`.

    Examples
    --------
    >>> at = np.arange(100)
    >>> window_edges(100, 4), int(sliding_window(at, at, 4).sum())
    (880, 880)
    >>> window_edges(100, 4, n_global=2), int(longformer(at, at, 4, at[:2]).sum())
    (1258, 1258)

    Twice as many tokens, twice as many edges, once the edge of the matrix no longer counts.

    >>> [window_edges(2**k, 256) for k in (12, 20, 21)]
    [2035456, 537853696, 1075773184]

    A span as long as the text leaves nothing out.

    >>> window_edges(10, 9)
    100

    See Also
    --------
    longformer : The mask.
    """
    left, right = check_reach("span", span)
    step, n = check_count("dilation", dilation), check_count("n", n)
    g = _at_most("n_global", n_global, n)
    m = n - g
    rows = (min(side, (m - 1) // step) for side in (left, right))
    return m + sum(k * m - step * k * (k + 1) // 2 for k in rows) + 2 * g * n - g**2


def chunk_edges(n: int, size: int, overlap: int = 0) -> int:
    r"""Count the edges of chunks over $n$ tokens.

    $$\begin{aligned}
    E(n) &= w^2 + (C - 2)\, h w \\
    &\quad + \left(n - w - (C - 2) h\right) \\
    &\qquad \cdot \left(n - (C - 1) h\right) \\
    C &= 1 + \left\lceil \frac{n - w}{h} \right\rceil \\
    h &= w - o, \quad n > w
    \end{aligned}$$

    The first of $C$ chunks has $w$ queries and $w$ keys, the others $h$ queries; the last has what
    is left of both. Up to $n = w$ there is one chunk, with $n^2$ edges.

    Parameters
    ----------
    n
        Number of tokens, at least 1.
    size, overlap
        As in `chunks`.

    Returns
    -------
    int
        The number of Trues in the mask, exactly.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n` or `size` is less than 1, or `overlap` not from 0 to `size` - 1.

    Examples
    --------
    >>> at = np.arange(100)
    >>> chunk_edges(100, 16, 4), int(chunks(at, at, 16, 4).sum())
    (1600, 1600)

    >>> chunk_edges(10, 16)
    100

    See Also
    --------
    chunks : The mask.
    """
    (w, hop), n = _chunk(size, overlap), check_count("n", n)
    if n <= w:
        return n**2
    full = -(-(n - w) // hop) - 1  # chunks between the first and the last
    return w**2 + full * hop * w + (n - w - full * hop) * (n - (full + 1) * hop)


def bigbird_edges(n: int, block: int, n_links: int) -> int:
    r"""Count the edges of BigBird over $n$ tokens.

    $$\begin{aligned}
    E(n) &= b^2 \bigl(2 B + 2 (4 + r) \\
    &\qquad + (B - 4) (5 + r)\bigr) \\
    B &= n / b
    \end{aligned}$$

    Two blocks look at all $B$; their neighbours at 4 and $r$ random ones, because a global block
    is in their window; the others at 5 and $r$.

    Parameters
    ----------
    n, block
        As in `bigbird`.
    n_links
        Number of random blocks $r$ for each, from 0 to $B - 5$, all distinct and new.

    Returns
    -------
    int
        The number of Trues in the mask, exactly.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n` is too small or not a multiple of `block`, or `n_links` not from 0 to $B - 5$.

    Examples
    --------
    >>> links = random_links(12, 3, np.random.default_rng(0))
    >>> bigbird_edges(48, 4, 3), int(bigbird(48, 4, links).sum())
    (1632, 1632)

    >>> bigbird_edges(5, 1, 0)
    23

    See Also
    --------
    bigbird : The mask.
    """
    B = _blocks(n, block)
    r = _at_most("n_links", n_links, B - 5)
    return block**2 * (2 * B + 2 * (4 + r) + (B - 4) * (5 + r))


def reach(mask: np.ndarray, layers: int) -> np.ndarray:
    r"""Whose content can have arrived where after some layers, residual connections included.

    $$R_{ij} = \left[\left((I \lor M)^L\right)_{ij} > 0\right]$$

    There is a path of at most $L$ edges from $j$ to $i$. What is False is certain: changing the
    token $j$ cannot change the output $i$. What is True is possible, and depends on the weights.

    Parameters
    ----------
    mask
        Boolean mask $M$ of shape `(n, n)`, the same in every layer.
    layers
        Number of layers $L \ge 0$.

    Returns
    -------
    np.ndarray
        Boolean of shape `(n, n)`; True = the output at $i$ may depend on the token at $j$.

    Raises
    ------
    TypeError
        If `mask` is not boolean, or `layers` not an integer.
    ValueError
        If `mask` is not square, or `layers` negative.

    Examples
    --------
    A causal window of two: every layer looks one token further back.

    >>> at = np.arange(5)
    >>> mask = sliding_window(at, at, (1, 0))
    >>> [int(reach(mask, layers)[4].sum()) for layers in range(6)]
    [1, 2, 3, 4, 5, 5]

    A global token passes everything on: two layers are enough.

    >>> mask = longformer(at, at, 1, np.array([0]))
    >>> bool(reach(mask, 1).all()), bool(reach(mask, 2).all())
    (False, True)

    See Also
    --------
    sliding_window : $L$ layers reach $L l$ tokens back.
    """
    M = np.asarray(mask)
    if M.dtype != np.bool:
        raise TypeError(f"mask must be boolean, got dtype {M.dtype}")
    n = M.shape[-1] if M.ndim else 0
    check_shape("mask", M, (n, n))
    step, seen = (M | np.eye(n, dtype=bool)).astype(np.float32), np.eye(n, dtype=bool)
    for _ in range(check_count("layers", layers, at_least=0)):
        seen = seen @ step > 0
    return seen


def _pair(q_positions: np.ndarray, k_positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions as a column of queries and a row of keys."""
    i = check_integers("q_positions", q_positions).astype(np.int64)
    j = check_integers("k_positions", k_positions).astype(np.int64)
    return i[..., :, None], j[..., None, :]


def _chunk(size: int, overlap: int) -> tuple[int, int]:
    """Size of a chunk, and how much later the next one starts."""
    w = check_count("size", size)
    return w, w - _at_most("overlap", overlap, w - 1)


def _blocks(n: int, block: int) -> int:
    b = check_count("block", block)
    return check_multiple("n", check_count("n", n, at_least=5 * b), b) // b


def _at_most(name: str, value: int, most: int) -> int:
    if check_count(name, value, at_least=0) > most:
        raise ValueError(f"{name} must be at most {most}, got {value}")
    return int(value)
