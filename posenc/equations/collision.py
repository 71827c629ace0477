r"""Word plus position: what the sum keeps, and when two sums are equal.

Words are rows $e_a$ of one table, positions are rows $p_i$ of another, and the model sees the sums
$e_a + p_i$. Where a model scales its embeddings, $e_a$ is scaled already: it is what is added.
Everything is computed in float64; smaller number formats are imitated by rounding.
"""

import math

import numpy as np

from posenc._checks import (
    check_above,
    check_choice,
    check_count,
    check_integers,
    check_real,
    check_shape,
    check_table,
)

__all__ = [
    "add_positions",
    "count_collisions",
    "decode",
    "embed_concatenated",
    "energy_share",
    "gaps",
    "log10_expected_collisions",
    "margin",
    "match_probability",
    "nearest_sums",
    "round_to",
]

_FORMATS = {  # bits of the significand, the hidden one too; smallest exponent; largest number
    "float32": (24, -126, (2 - 2.0**-23) * 2.0**127),
    "float16": (11, -14, (2 - 2.0**-10) * 2.0**15),
    "bfloat16": (8, -126, (2 - 2.0**-7) * 2.0**127),
    "float8_e4m3": (4, -6, (2 - 2.0**-2) * 2.0**8),  # the next one would be 480: it is NaN
}


def add_positions(tokens: np.ndarray, position_vectors: np.ndarray) -> np.ndarray:
    r"""Add every position to every word.

    $$T_{a,i} = e_a + p_i$$

    A sequence of words $w_0, w_1, \dots$ picks $x_k = T_{w_k, k}$ from this table.

    Parameters
    ----------
    tokens
        Word vectors $e_a$ of shape `(n_tokens, d)`, scaled as the model scales them.
    position_vectors
        Position vectors $p_i$ of shape `(n_positions, d)`.

    Returns
    -------
    np.ndarray
        Sums of shape `(n_tokens, n_positions, d)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty, not finite or not of two axes, or if the widths differ.

    Examples
    --------
    >>> e, p = np.array([[1.0, 1.0], [4.0, 0.0]]), np.array([[0.0, 1.0], [0.5, 0.5]])
    >>> T = add_positions(e, p)
    >>> T[1]
    array([[4. , 1. ],
           [4.5, 0.5]])

    The sequence of words 1, 0:

    >>> T[[1, 0], [0, 1]]
    array([[4. , 1. ],
           [1.5, 1.5]])

    >>> add_positions(e, p[:, :1])
    Traceback (most recent call last):
        ...
    ValueError: position_vectors must have shape (2, 2), got (2, 1)

    See Also
    --------
    decode : The way back.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.5.
    """
    e, p = _two_tables(tokens, position_vectors)
    return e[:, None] + p


def embed_concatenated(
    tokens: np.ndarray, positions: np.ndarray, w_token: np.ndarray, w_position: np.ndarray
) -> np.ndarray:
    r"""Append the one-hot position to every word, then map linearly.

    $$\left[\, x_k \mid u_k \,\right] \begin{pmatrix} W_x \\ W_p \end{pmatrix}
    = x_k W_x + (W_p)_k$$

    The one-hot vector $u_k$ is 1 at $k$ and 0 elsewhere, so that $u_k W_p$ is row $k$ of $W_p$:
    the concatenation is a sum, and $W_p$ is a table of position vectors.

    Parameters
    ----------
    tokens
        Words $x$ of shape `(n, d_token)`.
    positions
        Positions $k$ of shape `(n,)`, integers from 0 to `n_positions - 1`.
    w_token
        Map $W_x$ of shape `(d_token, d)`.
    w_position
        Map $W_p$ of shape `(n_positions, d)`.

    Returns
    -------
    np.ndarray
        Embedded words of shape `(n, d)`, float64.

    Raises
    ------
    TypeError
        If `positions` are not integers, or another argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, if a position has no row in `w_position`, or if the
        shapes do not agree.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> W_x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> W_p = np.array([[0.25, 0.0], [0.5, 0.0], [0.0, 0.5]])
    >>> embed_concatenated(x, np.array([1, 2]), W_x, W_p)
    array([[1.5, 2. ],
           [3. , 4.5]])

    A table without a row for position 3 cannot place a word there.

    >>> embed_concatenated(x, np.array([1, 3]), W_x, W_p)
    Traceback (most recent call last):
        ...
    ValueError: positions must be from 0 to 2, got 3

    See Also
    --------
    add_positions : The sum that it amounts to.
    """
    x, W_x = check_table("tokens", tokens), check_table("w_token", w_token)
    W_p, k = check_table("w_position", w_position), check_integers("positions", positions)
    check_shape("w_token", W_x, (x.shape[1], W_x.shape[1]))
    check_shape("w_position", W_p, (len(W_p), W_x.shape[1]))
    check_shape("positions", k, (len(x),))
    outside = k[(k < 0) | (k >= len(W_p))]
    if outside.size:
        raise ValueError(f"positions must be from 0 to {len(W_p) - 1}, got {outside[0]}")
    one_hot = np.eye(len(W_p))[k]
    return np.hstack([x, one_hot]) @ np.vstack([W_x, W_p])


def energy_share(tokens: np.ndarray, position_vectors: np.ndarray) -> float:
    r"""How much of the energy of the sums comes from the positions.

    $$\frac{\overline{\lVert p \rVert^2}}
    {\overline{\lVert e \rVert^2} + \overline{\lVert p \rVert^2}}$$

    The bar is the mean over the rows of a table.

    Parameters
    ----------
    tokens
        Word vectors $e_a$ of shape `(n_tokens, d)`, scaled as the model scales them.
    position_vectors
        Position vectors $p_i$ of shape `(n_positions, d)`.

    Returns
    -------
    float
        Share of energy in $[0, 1]$.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty, not finite or not of two axes, if the widths differ, or if all
        is zero.

    Examples
    --------
    >>> e, p = np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> energy_share(e, p)
    0.1

    Words of a tenth of the length leave the word to the position.

    >>> round(energy_share(e / 10, p), 3)
    0.917

    No positions, no share.

    >>> energy_share(e, 0 * p)
    0.0

    See Also
    --------
    add_positions : The sums.
    """
    e, p = (np.square(t).sum(axis=1).mean() for t in _two_tables(tokens, position_vectors))
    return float(p / check_above("energy of tokens and position_vectors", e + p, 0))


def round_to(values: np.ndarray | float, number_format: str) -> np.ndarray | np.float64:
    r"""Round numbers to what a smaller number format can hold.

    $$\begin{aligned}
    x &\mapsto \epsilon \operatorname{round}\left(\frac{x}{\epsilon}\right) \\
    \epsilon &= 2^{\,\max(\lfloor \log_2 |x| \rfloor,\; e_{\min}) \,-\, (t - 1)}
    \end{aligned}$$

    The spacing $\epsilon$ doubles from one power of two to the next. Ties go to the even multiple
    of $\epsilon$. Below $2^{e_{\min}}$ the numbers are subnormal: equally spaced, down to zero.

    The significand has $t$ bits, the hidden one included:

    - `"float32"`: $t = 24$, $e_{\min} = -126$, largest number 3.4e38;
    - `"float16"`: $t = 11$, $e_{\min} = -14$, largest number 65504;
    - `"bfloat16"`: $t = 8$, $e_{\min} = -126$, largest number 3.4e38;
    - `"float8_e4m3"`: $t = 4$, $e_{\min} = -6$, largest number 448.

    Parameters
    ----------
    values
        Real numbers of any shape.
    number_format
        One of these four formats.

    Returns
    -------
    np.ndarray or np.float64
        Rounded numbers of the same shape, float64.

    Raises
    ------
    TypeError
        If `values` are not real numbers.
    ValueError
        If `values` are empty or not finite, if one of them rounds to more than the largest number
        of the format, or if `number_format` is unknown.

    Examples
    --------
    >>> round_to(np.array([0.3, 1.0, 100.0, 257.0]), "bfloat16")
    array([  0.30078125,   1.        , 100.        , 256.        ])
    >>> round_to(np.array([0.3, 1.0, 100.0, 257.0]), "float8_e4m3")
    array([  0.3125,   1.    ,  96.    , 256.    ])

    Half of the smallest float8 is a tie between it and zero, which is even.

    >>> round_to(np.array([0.5, 0.75, 1.0]) / 512, "float8_e4m3") * 512
    array([0., 1., 1.])

    What is too large is refused, not turned into infinity or cut off.

    >>> round_to(500.0, "float8_e4m3")
    Traceback (most recent call last):
        ...
    ValueError: values must round to at most 448.0 in float8_e4m3, got 500.0

    See Also
    --------
    count_collisions : Sums that are equal after rounding.

    References
    ----------
    Micikevicius et al. *FP8 Formats for Deep Learning*. 2022, arXiv:2209.05433,
    Table 1.
    """
    x = check_real("values", values)
    check_choice("number_format", number_format, tuple(_FORMATS))
    bits, smallest, largest = _FORMATS[number_format]
    exponent = np.frexp(x)[1] - 1
    spacing = 2.0 ** (np.maximum(exponent, smallest) - (bits - 1))
    with np.errstate(over="ignore"):
        y = spacing * np.rint(x / spacing)
    outside = x[abs(y) > largest]
    if outside.size:
        allowed = f"at most {largest} in {number_format}"
        raise ValueError(f"values must round to {allowed}, got {outside[0]}")
    return y


def count_collisions(vectors: np.ndarray) -> int:
    r"""Count the vectors that are lost because another one is the same.

    $$\#\{\text{vectors}\} - \#\{\text{distinct vectors}\}$$

    Parameters
    ----------
    vectors
        Vectors of shape `(..., d)`, for instance rounded sums.

    Returns
    -------
    int
        Number of vectors that could be left out.

    Raises
    ------
    TypeError
        If `vectors` are not real numbers.
    ValueError
        If `vectors` are empty, not finite or have less than two axes.

    Examples
    --------
    Word $a$ at position 1 and word $b$ at position 0 have one and the same sum.

    >>> e, p = np.array([[1.0], [1.5]]), np.array([[0.5], [1.0]])
    >>> count_collisions(add_positions(e, p))
    1

    Words that differ by less than the spacing of the format are one word after rounding.

    >>> T = add_positions(np.array([[64.0], [64.01]]), p)
    >>> count_collisions(T), count_collisions(round_to(T, "bfloat16"))
    (0, 2)

    See Also
    --------
    log10_expected_collisions : How many to expect.
    """
    s = check_real("vectors", vectors, min_ndim=2)
    rows = s.reshape(-1, s.shape[-1])
    rows = rows[np.lexsort(rows.T)]  # equal rows are neighbours now
    return int((rows[1:] == rows[:-1]).all(axis=1).sum())


def match_probability(values: np.ndarray, number_format: str) -> float:
    r"""Chance that two numbers are the same after rounding.

    $$q = \frac{\#\{r < s : \operatorname{round}(v_r) = \operatorname{round}(v_s)\}}{n(n-1)/2}$$

    For independent draws of one coordinate of the sums this estimates, without bias, the chance
    that two sums agree in that coordinate.

    Parameters
    ----------
    values
        Numbers $v_1, \dots, v_n$ with $n \ge 2$, in an array of any shape.
    number_format
        A format of `round_to`.

    Returns
    -------
    float
        Share of the pairs that match, in $[0, 1]$.

    Raises
    ------
    TypeError
        If `values` are not real numbers.
    ValueError
        If `values` are less than two, not finite or too large for the format, or if
        `number_format` is unknown.

    Examples
    --------
    One of three pairs matches: to bfloat16, 257 is 256.

    >>> round(match_probability(np.array([256.0, 257.0, 258.0]), "bfloat16"), 3)
    0.333
    >>> match_probability(np.array([256.0, 257.0, 258.0]), "float16")
    0.0
    >>> match_probability(np.array([1.0]), "float16")
    Traceback (most recent call last):
        ...
    ValueError: number of values must be at least 2, got 1

    See Also
    --------
    log10_expected_collisions : What follows for all coordinates together.
    """
    rounded = round_to(values, number_format)
    n = check_count("number of values", rounded.size, at_least=2)
    times = np.unique(rounded, return_counts=True)[1]
    return float((times * (times - 1)).sum() / (n * (n - 1)))


def log10_expected_collisions(n_tokens: int, n_positions: int, d_model: int, match: float) -> float:
    r"""Order of magnitude of the number of pairs of equal sums.

    $$\log_{10} \left( \binom{VN}{2}\, q^d \right)$$

    This takes the pairs of $V$ words at $N$ positions to agree in each of $d$ coordinates with
    the chance $q$, independently. The logarithm survives where $q^d$ is zero in float64.

    Parameters
    ----------
    n_tokens
        Number of words $V \ge 1$.
    n_positions
        Number of positions $N \ge 1$; there are $VN \ge 2$ sums.
    d_model
        Width $d \ge 1$.
    match
        Chance $q$ that two sums agree in one coordinate, $0 < q \le 1$.

    Returns
    -------
    float
        Logarithm of the expected number, to the base 10.

    Raises
    ------
    TypeError
        If a number is not an integer, or `match` not a real number.
    ValueError
        If a number is less than 1, if there is only one sum, or if `match` is not in $(0, 1]$.

    Examples
    --------
    Five sums are ten pairs, and with $q = 1$ all of them collide.

    >>> log10_expected_collisions(5, 1, d_model=8, match=1.0)
    1.0

    A chance of 0.1 in each of 400 coordinates: the product is too small for a float64.

    >>> log10_expected_collisions(5, 1, d_model=400, match=0.1)
    -399.0
    >>> 10 * 0.1**400
    0.0

    >>> log10_expected_collisions(5, 1, d_model=8, match=0.0)
    Traceback (most recent call last):
        ...
    ValueError: match must be above 0, got 0.0

    See Also
    --------
    match_probability : The chance $q$ in a number format.
    """
    V, N = check_count("n_tokens", n_tokens), check_count("n_positions", n_positions)
    n = check_count("n_tokens * n_positions", V * N, at_least=2)
    d, q = check_count("d_model", d_model), check_above("match", match, 0)
    if q > 1:
        raise ValueError(f"match must be at most 1, got {match}")
    return math.log10(n * (n - 1) // 2) + d * math.log10(q)


def gaps(rows: np.ndarray) -> tuple[float, float]:
    r"""Smallest and largest distance between two rows of a table.

    $$\min_{i \ne j} \lVert r_i - r_j \rVert, \qquad \max_{i \ne j} \lVert r_i - r_j \rVert$$

    Parameters
    ----------
    rows
        Vectors $r_i$ of shape `(n, d)` with $n \ge 2$.

    Returns
    -------
    tuple of float
        Smallest and largest Euclidean distance.

    Raises
    ------
    TypeError
        If `rows` are not real numbers.
    ValueError
        If `rows` are not finite, not of two axes, or less than two.

    Examples
    --------
    >>> gaps(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    (1.0, 5.0)

    Two equal rows cannot be told apart.

    >>> gaps(np.array([[1.0], [7.0], [1.0]]))
    (0.0, 6.0)

    See Also
    --------
    margin : What the gaps of both tables guarantee.
    nearest_sums : Smallest distance between two sums.
    """
    r = check_table("rows", rows)
    check_count("number of rows", len(r), at_least=2)
    distances = [np.linalg.norm(r[i + 1 :] - r[i], axis=1) for i in range(len(r) - 1)]
    return float(min(d.min() for d in distances)), float(max(d.max() for d in distances))


def margin(tokens: np.ndarray, position_vectors: np.ndarray) -> float:
    r"""Distance that sums at different positions are sure to keep.

    $$\begin{aligned}
    &\lVert (e_a + p_i) - (e_b + p_j) \rVert \\
    &\quad \ge \lVert p_i - p_j \rVert - \lVert e_a - e_b \rVert \\
    &\quad \ge \min_{i \ne j} \lVert p_i - p_j \rVert \\
    &\qquad - \max_{a \ne b} \lVert e_a - e_b \rVert
    \end{aligned}$$

    If this is positive, no two sums at different positions are equal, whatever the words. With
    the arguments exchanged it is the words that are kept apart, whatever the positions.

    Parameters
    ----------
    tokens
        Word vectors $e_a$ of shape `(n_tokens, d)`, at least two.
    position_vectors
        Position vectors $p_i$ of shape `(n_positions, d)`, at least two.

    Returns
    -------
    float
        Margin; zero or less promises nothing.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument has less than two rows, is not finite or not of two axes, or if the widths
        differ.

    Examples
    --------
    Words close together, positions far apart:

    >>> e, p = np.array([[0.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> margin(e, p)
    3.0

    The other way round there is no promise, though here nothing collides.

    >>> margin(p, e), count_collisions(add_positions(p, e))
    (-3.0, 0)

    See Also
    --------
    gaps : The two distances.
    nearest_sums : The true distance.
    """
    e, p = _two_tables(tokens, position_vectors)
    return gaps(p)[0] - gaps(e)[1]


def nearest_sums(tokens: np.ndarray, position_vectors: np.ndarray) -> float:
    r"""Smallest distance between a word at a position and another word at another position.

    $$\begin{aligned}
    &\min_{a \ne b,\; i \ne j} \lVert (e_a + p_i) - (e_b + p_j) \rVert \\
    &\lVert (e_a + p_i) - (e_b + p_j) \rVert^2 \\
    &\quad = \lVert e_a - e_b \rVert^2 + \lVert p_i - p_j \rVert^2 \\
    &\qquad + 2\,(e_a - e_b)(p_i - p_j)^\top
    \end{aligned}$$

    The mixed term is $2\,(c_{ai} - c_{aj} - c_{bi} + c_{bj})$, four entries of one table of inner
    products $c_{ai} = e_a p_i^\top$.

    With the same word, or at the same position, the distance is one between two rows of a table,
    see `gaps`. The square is a difference of larger numbers, so distances below some 1e-7 of the
    lengths are noise. Time grows with the square of the number of sums; memory is one array of
    shape `(n_tokens, n_positions, n_positions)`.

    Parameters
    ----------
    tokens
        Word vectors $e_a$ of shape `(n_tokens, d)`, at least two.
    position_vectors
        Position vectors $p_i$ of shape `(n_positions, d)`, at least two.

    Returns
    -------
    float
        Smallest distance.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument has less than two rows, is not finite or not of two axes, or if the widths
        differ.

    Examples
    --------
    >>> e, p = np.array([[0.0, 0.0], [0.0, 3.0]]), np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> nearest_sums(e, p)
    5.0

    Steps of the same length in the same direction: word 1 at position 0 is word 0 at position 1.

    >>> nearest_sums(np.array([[0.0], [1.0]]), np.array([[3.0], [4.0]]))
    0.0

    See Also
    --------
    margin : A bound that needs the two tables only.
    decode : Finds the nearest sum.
    """
    e, p = _two_tables(tokens, position_vectors)
    check_count("number of tokens", len(e), at_least=2)
    check_count("number of position_vectors", len(p), at_least=2)
    c = e @ p.T
    c_ij = c[:, :, None] - c[:, None, :]
    p_ij = np.square(p[:, None] - p).sum(axis=-1)
    np.fill_diagonal(p_ij, np.inf)  # another position only
    e_ab = [np.square(e[a + 1 :] - e[a]).sum(axis=-1) for a in range(len(e) - 1)]
    squares = [
        (e_b[:, None, None] + p_ij + 2 * (c_ij[a] - c_ij[a + 1 :])).min()
        for a, e_b in enumerate(e_ab)
    ]
    return math.sqrt(max(min(squares), 0.0))


def decode(
    vectors: np.ndarray, tokens: np.ndarray, position_vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Read word and position off a sum: the nearest one wins.

    $$\begin{aligned}
    &\operatorname*{arg\,min}_{a,\, i} \lVert s - e_a - p_i \rVert^2 \\
    &\quad = \operatorname*{arg\,min}_{a,\, i} \bigl( \lVert e_a + p_i \rVert^2 \\
    &\qquad - 2\, s e_a^\top - 2\, s p_i^\top \bigr)
    \end{aligned}$$

    Parameters
    ----------
    vectors
        Sums $s$, possibly rounded or noisy, of shape `(..., d)`.
    tokens
        Word vectors $e_a$ of shape `(n_tokens, d)`.
    position_vectors
        Position vectors $p_i$ of shape `(n_positions, d)`.

    Returns
    -------
    tuple of np.ndarray
        Words $a$ and positions $i$, integers, each of shape `vectors.shape[:-1]`.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    >>> e, p = np.array([[0.0, 0.0], [8.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    >>> words, positions = decode(np.array([[8.0, 3.0], [0.5, 1.75]]), e, p)
    >>> words, positions
    (array([1, 0]), array([2, 1]))

    Where two sums are equal, the first one is found.

    >>> words, positions = decode(add_positions(p, p), p, p)
    >>> words.tolist()
    [[0, 0, 0], [0, 0, 1], [0, 1, 2]]

    See Also
    --------
    add_positions : The sums.
    """
    e, p = _two_tables(tokens, position_vectors)
    s = check_real("vectors", vectors, min_ndim=1)
    check_shape("vectors", s, (*s.shape[:-1], e.shape[1]))
    size = np.square(e).sum(axis=1)[:, None] + np.square(p).sum(axis=1) + 2 * e @ p.T
    best = [
        (size - 2 * (row @ e.T)[:, None] - 2 * (row @ p.T)).argmin()
        for row in s.reshape(-1, s.shape[-1])
    ]
    a, i = np.unravel_index(best, size.shape)
    return a.reshape(s.shape[:-1]), i.reshape(s.shape[:-1])


def _two_tables(tokens: np.ndarray, position_vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both in float64 if they are tables of the same width."""
    e, p = check_table("tokens", tokens), check_table("position_vectors", position_vectors)
    check_shape("position_vectors", p, (len(p), e.shape[1]))
    return e, p
