r"""Word times position: what an element-wise product keeps, and what it erases.

Tokens are rows $x_k$, and a position multiplies them by its factors $p_k$. Queries stand at
position $i$, keys at $j$, and the offset is $j - i$. The complex product is in
`posenc.equations.rope`. Everything is computed in float64.
"""

import numpy as np

from posenc._checks import (
    check_above,
    check_batches,
    check_between,
    check_multiple,
    check_number,
    check_real,
    check_shape,
)
from posenc.equations.sinusoidal import frequencies, sinusoidal

__all__ = ["damped_estimate", "damped_share", "factors", "multiply", "score_parts"]


def multiply(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    r"""Multiply tokens by the factors of their positions, number by number.

    $$x_k' = x_k \odot p_k = x_k \operatorname{diag}(p_k)$$

    Parameters
    ----------
    x
        Tokens of shape `(..., d)`.
    p
        Factors of shape `(..., d)`; all axes but the last broadcast against those of `x`.

    Returns
    -------
    np.ndarray
        Products of shape `(..., d)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is a scalar, empty or not finite, if the widths differ, or if the other
        axes do not broadcast.

    Examples
    --------
    >>> multiply(np.array([[2.0, 3.0], [2.0, 3.0]]), np.array([[0.0, 1.0], [0.5, -1.0]]))
    array([[ 0.,  3.],
           [ 1., -3.]])

    A token of zeros stays one: nothing tells its position.

    >>> multiply(np.zeros(2), np.array([0.5, 4.0]))
    array([0., 0.])

    Axes of 1 make a table of all words at all positions.

    >>> multiply(np.ones((3, 1, 2)), np.ones((5, 2))).shape
    (3, 5, 2)

    >>> multiply(np.ones(4), np.ones(1))
    Traceback (most recent call last):
        ...
    ValueError: p must have width 4, got shape (1,)

    See Also
    --------
    factors : Factors from a formula.
    posenc.equations.collision.add_positions : The sum in place of the product.

    References
    ----------
    Su. 让研究人员绞尽脑汁的 Transformer 位置编码. 2021, https://kexue.fm/archives/8130, which
    writes $x_k \otimes p_k$.
    """
    tokens, scales = check_real("x", x, min_ndim=1), check_real("p", p, min_ndim=1)
    if scales.shape[-1] != tokens.shape[-1]:
        raise ValueError(f"p must have width {tokens.shape[-1]}, got shape {scales.shape}")
    check_batches(x=tokens[..., None], p=scales[..., None])
    return tokens * scales


def factors(
    positions: np.ndarray | float,
    d_model: int,
    base: float = 10000.0,
    *,
    centre: float = 0.0,
    gain: float = 1.0,
    layout: str = "interleaved",
) -> np.ndarray:
    r"""Factors made of the sinusoidal encoding: a multiple of it around a centre.

    $$p_k = c + \eta\, \mathrm{PE}_k$$

    With the defaults $c = 0$ and $\eta = 1$ it is the sinusoid itself. All factors lie between
    $c - |\eta|$ and $c + |\eta|$, so that none is zero if $|\eta| < |c|$.

    Parameters
    ----------
    positions
        Positions $k$, real numbers of any shape, in tokens.
    d_model
        Width $d \ge 1$.
    base
        Base $b > 1$ of the frequencies.
    centre
        Centre $c$, a real number.
    gain
        Gain $\eta$, a real number.
    layout
        `"interleaved"` or `"halves"`, see `posenc.equations.sinusoidal.sinusoidal`.

    Returns
    -------
    np.ndarray
        Factors of shape `positions.shape + (d_model,)`, float64.

    Raises
    ------
    TypeError
        If `positions`, `base`, `centre` or `gain` are not real, or `d_model` is not an integer.
    ValueError
        If a number is not finite, `positions` are empty, `d_model` is less than 1, `base` is not
        above 1, or `layout` is unknown.

    Examples
    --------
    Position 0: half of the factors are zero, unless the centre is not.

    >>> factors(0, 4)
    array([0., 1., 0., 1.])
    >>> factors(0, 4, centre=1, gain=0.5)
    array([1. , 1.5, 1. , 1.5])

    Without gain there is no position.

    >>> factors(np.array([0, 7]), 2, centre=1, gain=0)
    array([[1., 1.],
           [1., 1.]])

    See Also
    --------
    multiply : What they are for.
    damped_share : How many of them are nearly zero.
    """
    c, g = check_number("centre", centre), check_number("gain", gain)
    return c + g * sinusoidal(positions, d_model, base, layout=layout)


def damped_share(p: np.ndarray, below: float = 0.1) -> np.ndarray | np.float64:
    r"""Share of the features that the factors of a position all but erase.

    $$\frac{1}{d}\, \#\left\{c : |p_{k,c}| < \varepsilon\right\}$$

    Parameters
    ----------
    p
        Factors of shape `(..., d)`.
    below
        Threshold $\varepsilon > 0$.

    Returns
    -------
    np.ndarray or np.float64
        Shares in $[0, 1]$ of shape `p.shape[:-1]`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If `p` is a scalar, empty or not finite, or if `below` is not finite or not above 0.

    Examples
    --------
    >>> damped_share(factors(np.array([0, 1, 100]), 512)).round(3)
    array([0.5  , 0.375, 0.15 ])

    A factor that equals the threshold is not below it.

    >>> damped_share(np.array([0.1, -0.1, 0.0, 2.0]))
    np.float64(0.25)

    See Also
    --------
    damped_estimate : The same without counting.
    """
    small, scales = check_above("below", below, 0), check_real("p", p, min_ndim=1)
    return (np.abs(scales) < small).mean(axis=-1)


def damped_estimate(
    positions: np.ndarray | float, base: float = 10000.0, below: float = 0.1
) -> np.ndarray | np.float64:
    r"""Share of the features that the raw sinusoid all but erases, for large widths.

    $$\begin{aligned}
    &\tfrac12 \left(1 - L(k / \alpha)\right) + \tfrac{2\alpha}{\pi}\, L(k / \varphi_0) \\
    &L(x) = \min\left(1,\; \max\left(0,\; \log_b x\right)\right)
    \end{aligned}$$

    Here $\alpha = \arcsin\varepsilon$. The first term counts the slow pairs, whose hand has turned
    by less than $\alpha$ since position 0: each loses its sine. The second counts the hands near a
    multiple of a quarter turn, where one of the two columns is small. On average they are as many
    as if every hand beyond the angle $\varphi_0 = \frac{\pi}{2} e^{-\gamma} = 0.88\dots$ pointed
    anywhere; $\gamma$ is Euler's constant.

    Parameters
    ----------
    positions
        Positions $k$, real numbers of any shape, in tokens; the sign does not matter.
    base
        Base $b > 1$.
    below
        Threshold $0 < \varepsilon \le 0.5$.

    Returns
    -------
    np.ndarray or np.float64
        Shares in $[0, 1]$ of the shape of `positions`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If `positions` are empty or not finite, if `base` is not finite or not above 1, or if
        `below` is not above 0 or is more than 0.5.

    Examples
    --------
    Half at position 0; from position 1 on, 0.11 less with every factor of ten.

    >>> damped_estimate(np.array([0, 1, 10, 100, 1000])).round(3)
    array([0.5  , 0.376, 0.267, 0.158, 0.049])

    Where all pairs are fast it no longer changes.

    >>> bool(damped_estimate(1e5) == damped_estimate(1e4))
    True

    >>> damped_estimate(1, below=1)
    Traceback (most recent call last):
        ...
    ValueError: below must be between 0 and 0.5, got 1.0

    See Also
    --------
    damped_share : The share that is counted.
    """
    k, b = np.abs(check_real("positions", positions)), check_above("base", base, 1)
    alpha = np.arcsin(check_between("below", check_above("below", below, 0), 0, 0.5))
    start = np.pi / 2 * np.exp(-np.euler_gamma)
    with np.errstate(divide="ignore"):  # the logarithm of position 0
        slow, fast = (np.clip(np.log(k / phi) / np.log(b), 0, 1) for phi in (alpha, start))
    return (1 - slow) / 2 + 2 / np.pi * alpha * fast


def score_parts(
    query: np.ndarray,
    key: np.ndarray,
    q_positions: np.ndarray | float,
    k_positions: np.ndarray | float,
    base: float = 10000.0,
) -> np.ndarray:
    r"""Inner product of two vectors times the sinusoid, split by what it knows of the positions.

    $$\begin{aligned}
    &\left(q \odot \mathrm{PE}_i\right) \left(k \odot \mathrm{PE}_j\right)^\top \\
    &\; = \sum_m \tfrac{C_m + S_m}{2} \cos\,(j - i)\theta_m \\
    &\;\; + \sum_m \tfrac{C_m - S_m}{2} \cos\,(i + j)\theta_m \\
    &S_m = q_{2m}\, k_{2m} \\
    &C_m = q_{2m+1}\, k_{2m+1}
    \end{aligned}$$

    The first sum knows the offset alone, the second where the two stand.

    Parameters
    ----------
    query, key
        Vectors $q$ and $k$ of shape `(d,)`, $d$ even, columns interleaved.
    q_positions, k_positions
        Positions $i$ and $j$, real numbers that broadcast together, in tokens.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray
        The two sums, of shape `(2, ...)`, float64; added together they are the inner product.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, if `query` and `key` are not rows of one even
        width, if the positions do not broadcast, or if `base` is not above 1.

    Examples
    --------
    One pair, sine and cosine alike: the sum of the positions drops out.

    >>> score_parts(np.ones(2), np.ones(2), np.array([0, 5]), np.array([2, 7])).round(3) + 0.0
    array([[-0.416, -0.416],
           [ 0.   ,  0.   ]])

    The same offsets with a sine alone.

    >>> sine = np.array([1.0, 0.0])
    >>> score_parts(sine, sine, np.array([0, 5]), np.array([2, 7])).sum(axis=0).round(3) + 0.0
    array([ 0.  , -0.63])

    See Also
    --------
    posenc.equations.rope.relative_score : The complex product, which has no second sum.
    posenc.equations.kernel.relative_part : The same split where positions are added.
    """
    q, k = check_real("query", query, min_ndim=1), check_real("key", key, min_ndim=1)
    theta = frequencies(check_multiple("width of query", q.shape[-1], 2), base)
    check_shape("query", q, q.shape[-1:])
    check_shape("key", k, q.shape)
    i, j = check_real("q_positions", q_positions), check_real("k_positions", k_positions)
    check_batches(q_positions=i[..., None, None], k_positions=j[..., None, None])
    S, C = (q * k).reshape(-1, 2).T
    relative = np.cos((j - i)[..., None] * theta) @ (C + S) / 2
    return np.stack([relative, np.cos((i + j)[..., None] * theta) @ (C - S) / 2])
