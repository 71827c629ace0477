r"""A table with one trained row per position: how to read it, and how to make it longer.

Rows are counted from 0. A table of $n$ rows knows the positions $0 \dots n - 1$ and no others.
Everything is computed in float64.
"""

import numpy as np

from posenc._checks import check_between, check_choice, check_count, check_real, check_table

__all__ = ["hierarchical", "interpolate", "padded_positions", "sampling_points"]


def interpolate(table: np.ndarray, positions: np.ndarray | float) -> np.ndarray:
    r"""Read a table at any real position between its first row and its last.

    $$\begin{aligned}
    P(t) &= (1 - f)\, P_r + f\, P_{r+1} \\
    r &= \lfloor t \rfloor, \quad f = t - r
    \end{aligned}$$

    At an integer this is the row itself. Past the last row there is nothing to read.

    Parameters
    ----------
    table
        Rows $P_0 \dots P_{n-1}$, shape `(..., n, d)`, real numbers.
    positions
        Positions $t$ from 0 to $n - 1$, real numbers of shape `(m,)`, or one number.

    Returns
    -------
    np.ndarray
        Vectors of shape `(..., m, d)`, or `(..., d)` for one number; float64.

    Raises
    ------
    TypeError
        If `table` or `positions` are not real numbers.
    ValueError
        If one of them is empty or not finite, if `table` has fewer than two axes or `positions`
        more than one, or if a position lies outside the table.

    Examples
    --------
    >>> table = np.array([[0.0, 8.0], [2.0, 4.0], [4.0, 4.0]])
    >>> interpolate(table, [1, 0.5, 1.75])
    array([[2. , 4. ],
           [1. , 6. ],
           [3.5, 4. ]])

    The first unseen position.

    >>> interpolate(table, 3)
    Traceback (most recent call last):
        ...
    ValueError: positions must be between 0 and 2, got 3

    See Also
    --------
    sampling_points : Positions at which to read so that the table gets another length.
    """
    rows, t = check_real("table", table, min_ndim=2), check_real("positions", positions)
    last = rows.shape[-2] - 1
    if t.ndim > 1:
        raise ValueError(f"positions must have at most 1 axis, got shape {t.shape}")
    for extreme in (t.min(), t.max()):
        check_between("positions", extreme if extreme % 1 else int(extreme), 0, last)
    low = np.floor(t).astype(int)
    share = (t - low)[..., None]
    high = np.minimum(low + 1, last)
    return (1 - share) * rows[..., low, :] + share * rows[..., high, :]


def sampling_points(n_rows: int, n_new: int, *, align: str = "ends") -> np.ndarray:
    r"""Positions in a table of $n$ rows at which the $N$ rows of another length are read.

    $$\begin{aligned}
    t_k &= k\, \frac{n - 1}{N - 1} && \text{ends} \\
    t_k &= \left(k + \tfrac12\right) \frac nN - \tfrac12 && \text{centres} \\
    k &= 0 \dots N - 1
    \end{aligned}$$

    `"ends"` puts the first row on the first and the last on the last. `"centres"` takes a row
    for the centre of a cell and lets the *edges* of the first and the last cell coincide, as
    image libraries do; points beyond the first or last row are moved onto it.

    Parameters
    ----------
    n_rows
        Number of rows $n \ge 1$ that there are.
    n_new
        Number of rows $N \ge 1$ that are wanted, larger or smaller.
    align
        `"ends"` or `"centres"`.

    Returns
    -------
    np.ndarray
        Positions of shape `(n_new,)`, from 0 to $n - 1$, float64. With `"ends"`, a single new
        row is read at 0.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is less than 1, or `align` is unknown.

    Examples
    --------
    >>> sampling_points(5, 9)
    array([0. , 0.5, 1. , 1.5, 2. , 2.5, 3. , 3.5, 4. ])

    The same step of a half, but a quarter to the side, and held at both edges.

    >>> sampling_points(4, 8, align="centres")
    array([0.  , 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.  ])

    >>> sampling_points(4, 8, align="corners")
    Traceback (most recent call last):
        ...
    ValueError: align must be 'ends' or 'centres', got 'corners'

    See Also
    --------
    interpolate : Reads a table at these positions.
    """
    n, k = check_count("n_rows", n_rows), np.arange(check_count("n_new", n_new))
    if check_choice("align", align, ("ends", "centres")) == "ends":
        return k * ((n - 1) / max(n_new - 1, 1))
    return np.clip((k + 0.5) * (n / n_new) - 0.5, 0, n - 1)


def hierarchical(table: np.ndarray, n_new: int, *, alpha: float = 0.4) -> np.ndarray:
    r"""Make up to $n^2$ rows of $n$ and keep the first $n$ as they are.

    $$\begin{aligned}
    q_{rn + s} &= \alpha\, u_r + (1 - \alpha)\, u_s \\
    u_s &= \frac{p_s - \alpha\, p_0}{1 - \alpha} \\
    r, s &= 0 \dots n - 1
    \end{aligned}$$

    A new position $rn + s$ is the place $s$ in block $r$, as tens and units make a number. With
    $\alpha = 0$ the block is forgotten, and the table is copied end to end; with
    $\alpha = \tfrac12$ block and place are exchangeable, and vectors coincide.

    Parameters
    ----------
    table
        Rows $p_0 \dots p_{n-1}$, shape `(n, d)`, real numbers.
    n_new
        Number of rows wanted, from 1 to $n^2$.
    alpha
        Share $\alpha$ of the block, from 0 to below 1; the source has 0.4.

    Returns
    -------
    np.ndarray
        Rows $q_0 \dots$ of shape `(n_new, d)`, float64.

    Raises
    ------
    TypeError
        If `table` or `alpha` are not real numbers, or `n_new` is not an integer.
    ValueError
        If `table` is empty, not finite or not of shape `(n, d)`, if `n_new` is not from 1 to
        $n^2$, or if `alpha` is not from 0 to below 1.

    Examples
    --------
    Two rows make four, with $u = (p_0, 2 p_1 - p_0)$ if $\alpha = \tfrac12$.

    >>> hierarchical(np.array([[1.0], [4.0]]), 4, alpha=0.5).T
    array([[1., 4., 4., 7.]])

    Another share tells the second row from the third.

    >>> hierarchical(np.array([[1.0], [4.0]]), 4, alpha=0.25).T
    array([[1., 4., 2., 5.]])

    >>> hierarchical(np.array([[1.0], [4.0]]), 5)
    Traceback (most recent call last):
        ...
    ValueError: n_new must be at most 2 ** 2 = 4, got 5

    See Also
    --------
    interpolate : Stretches the table instead.

    References
    ----------
    Su. *层次分解位置编码，让BERT可以处理超长文本*. 2020, kexue.fm/archives/7947.
    """
    p, k = check_table("table", table), np.arange(check_count("n_new", n_new))
    n = len(p)
    if n_new > n * n:
        raise ValueError(f"n_new must be at most {n} ** 2 = {n * n}, got {n_new}")
    a = check_between("alpha", alpha, 0, 1)
    if a == 1:
        raise ValueError(f"alpha must be below 1, got {alpha}")
    u = (p - a * p[0]) / (1 - a)
    return a * u[k // n] + (1 - a) * u[k % n]


def padded_positions(real: np.ndarray) -> np.ndarray:
    r"""Count the real tokens of every sequence from 0, and give padding the position $-1$.

    $$i_k = m_k \sum_{l \le k} m_l \; - 1$$

    Here $m_k$ is 1 for a token and 0 for padding, on whichever side that is. A library that
    names its padding row $c$ and starts at $c + 1$ has the rows $i_k + c + 1$.

    Parameters
    ----------
    real
        Boolean array of shape `(..., n)`; True = a token, False = padding.

    Returns
    -------
    np.ndarray
        Positions of the same shape, int64, from -1.

    Raises
    ------
    TypeError
        If `real` is not boolean.
    ValueError
        If `real` has no axis or is empty.

    Examples
    --------
    Padding on the left, and on the right.

    >>> padded_positions(np.array([[False, False, True, True], [True, True, True, False]]))
    array([[-1, -1,  0,  1],
           [ 0,  1,  2, -1]])

    From token ids, with 1 for padding, to the rows of a table whose padding row is 1.

    >>> ids = np.array([0, 31414, 2, 1, 1])
    >>> padded_positions(ids != 1) + 1 + 1
    array([2, 3, 4, 1, 1])

    >>> padded_positions(ids)
    Traceback (most recent call last):
        ...
    TypeError: real must be boolean, got dtype int64

    See Also
    --------
    posenc.layers.learned.Learned : Takes these positions if it has a padding row.
    """
    m = np.asarray(real)
    if m.dtype != np.bool:
        raise TypeError(f"real must be boolean, got dtype {m.dtype}")
    if m.ndim == 0 or m.size == 0:
        raise ValueError(f"real must have an axis and not be empty, got shape {m.shape}")
    return m * np.cumsum(m, axis=-1, dtype=np.int64) - 1
