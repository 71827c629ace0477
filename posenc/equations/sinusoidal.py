r"""The sinusoidal position encoding: a clock hand per frequency pair.

Positions are $k$, frequency pairs are $m = 0 \dots d/2 - 1$, never $i$. Everything is computed in
float64, the angles above all; a table for a model is rounded once, last.
"""

import numpy as np

from posenc._checks import (
    check_above,
    check_choice,
    check_count,
    check_multiple,
    check_number,
    check_real,
)

__all__ = [
    "column_order",
    "frequencies",
    "log_determinant",
    "separation",
    "shift_matrix",
    "sinusoidal",
    "wavelengths",
]


def frequencies(d_model: int, base: float = 10000.0, *, spacing: str = "paper") -> np.ndarray:
    r"""Angle per position of every frequency pair, from 1 downwards.

    $$\theta_m = b^{-2m/d}$$

    With `spacing="tensor2tensor"` the exponent is $-m / (d/2 - 1)$ instead, so that the last
    frequency is exactly $1/b$; the single frequency of $d = 2$ is 1 in both.

    Parameters
    ----------
    d_model
        Width $d \ge 1$. An odd width has $(d + 1) / 2$ frequencies, the last without a cosine;
        the spacing of tensor2tensor needs an even one.
    base
        Base $b > 1$.
    spacing
        `"paper"` or `"tensor2tensor"`.

    Returns
    -------
    np.ndarray
        Frequencies $\theta$ of shape `(ceil(d_model / 2),)`, float64, in radians per position.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `d_model` is less than 1, or odd with `spacing="tensor2tensor"`, if `base` is not
        finite or not above 1, or if `spacing` is neither of the two.

    Examples
    --------
    >>> frequencies(8, base=16)
    array([1.   , 0.5  , 0.25 , 0.125])
    >>> frequencies(8, base=8, spacing="tensor2tensor")
    array([1.   , 0.5  , 0.25 , 0.125])

    An odd width: the last frequency belongs to a sine without a cosine.

    >>> frequencies(3, base=8)
    array([1.  , 0.25])

    >>> frequencies(4, base=1)
    Traceback (most recent call last):
        ...
    ValueError: base must be above 1, got 1

    See Also
    --------
    wavelengths : The same as periods.
    sinusoidal : The encoding that turns with these frequencies.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.5. The other
    spacing is that of the paper's code.
    """
    d, b = check_count("d_model", d_model), check_above("base", base, 1)
    if check_choice("spacing", spacing, ("paper", "tensor2tensor")) == "tensor2tensor":
        check_multiple("d_model", d, 2)
        return b ** (-np.arange(d // 2) / max(d // 2 - 1, 1))
    return b ** (-2 * np.arange((d + 1) // 2) / d)


def wavelengths(d_model: int, base: float = 10000.0, *, spacing: str = "paper") -> np.ndarray:
    r"""Positions that every frequency pair needs for a full turn, from $2\pi$ upwards.

    $$\lambda_m = \frac{2\pi}{\theta_m}$$

    Parameters
    ----------
    d_model, base, spacing
        As in `frequencies`.

    Returns
    -------
    np.ndarray
        Wavelengths $\lambda$ of shape `(ceil(d_model / 2),)`, float64, in positions.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `d_model` is less than 1, or odd with `spacing="tensor2tensor"`, if `base` is not
        finite or not above 1, or if `spacing` is neither of the two.

    Examples
    --------
    >>> wavelengths(4, base=100).round(2)
    array([ 6.28, 62.83])

    The longest is $2\pi b^{(d-2)/d}$, short of $2\pi b$, which the other spacing reaches.

    >>> bool(wavelengths(512)[-1] < 2 * np.pi * 10000)
    True
    >>> bool(np.isclose(wavelengths(512, spacing="tensor2tensor")[-1], 2 * np.pi * 10000))
    True

    See Also
    --------
    frequencies : Angle per position.
    """
    return 2 * np.pi / frequencies(d_model, base, spacing=spacing)


def column_order(d_model: int, layout: str = "interleaved") -> np.ndarray:
    r"""Columns of the interleaved table, in the order of a layout.

    $$(0, 2, 4, \dots, 1, 3, 5, \dots) \quad\text{for the halves}$$

    Parameters
    ----------
    d_model
        Width $d \ge 1$.
    layout
        `"interleaved"`: sine and cosine of a pair are neighbours. `"halves"`: all sines, then
        all cosines.

    Returns
    -------
    np.ndarray
        Permutation of shape `(d_model,)`, integers.

    Raises
    ------
    TypeError
        If `d_model` is not an integer.
    ValueError
        If `d_model` is less than 1, or `layout` is neither of the two.

    Examples
    --------
    >>> column_order(6, "halves")
    array([0, 2, 4, 1, 3, 5])
    >>> column_order(3)
    array([0, 1, 2])

    See Also
    --------
    sinusoidal : The table in either layout.
    """
    columns = np.arange(check_count("d_model", d_model))
    if check_choice("layout", layout, ("interleaved", "halves")) == "halves":
        return np.concatenate([columns[::2], columns[1::2]])
    return columns


def sinusoidal(
    positions: np.ndarray | float,
    d_model: int,
    base: float = 10000.0,
    *,
    layout: str = "interleaved",
    spacing: str = "paper",
) -> np.ndarray:
    r"""Encode positions as sines and cosines of geometrically spaced frequencies.

    $$\begin{aligned}
    \mathrm{PE}_{k,\,2m} &= \sin(k\,\theta_m) \\
    \mathrm{PE}_{k,\,2m+1} &= \cos(k\,\theta_m)
    \end{aligned}$$

    Parameters
    ----------
    positions
        Positions $k$, real numbers of any shape, in tokens; negative and fractional ones too.
    d_model
        Width $d \ge 1$. An odd width ends with a sine.
    base
        Base $b > 1$ of the frequencies.
    layout
        `"interleaved"` as in the formula, or `"halves"`: all sines, then all cosines.
    spacing
        `"paper"` or `"tensor2tensor"`, see `frequencies`.

    Returns
    -------
    np.ndarray
        Position vectors of shape `positions.shape + (d_model,)`, float64, all within $[-1, 1]$.

    Raises
    ------
    TypeError
        If `positions` or `base` are not real numbers, or `d_model` is not an integer.
    ValueError
        If `positions` are empty or not finite, if `d_model` is less than 1, or odd with
        `spacing="tensor2tensor"`, if `base` is not finite or not above 1, or if `layout` or
        `spacing` is unknown.

    Examples
    --------
    >>> sinusoidal(np.arange(4), 4, base=100)
    array([[ 0.        ,  1.        ,  0.        ,  1.        ],
           [ 0.84147098,  0.54030231,  0.09983342,  0.99500417],
           [ 0.90929743, -0.41614684,  0.19866933,  0.98006658],
           [ 0.14112001, -0.9899925 ,  0.29552021,  0.95533649]])

    Position 0 is not zero: all cosines are 1.

    >>> sinusoidal(0, 5, layout="halves")
    array([0., 0., 0., 1., 1.])

    See Also
    --------
    frequencies : The angles per position.
    shift_matrix : Moves an encoding to another position.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.5.
    """
    order = column_order(d_model, layout)
    theta = frequencies(d_model, base, spacing=spacing)
    angle = check_real("positions", positions)[..., None] * theta
    pairs = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    return pairs.reshape(*angle.shape[:-1], -1)[..., order]


def shift_matrix(
    offset: float,
    d_model: int,
    base: float = 10000.0,
    *,
    layout: str = "interleaved",
    spacing: str = "paper",
) -> np.ndarray:
    r"""Matrix that moves every encoding by the same offset, wherever it stands.

    $$\begin{aligned}
    &\mathrm{PE}_{k+s} = \mathrm{PE}_k\, M_s \\
    &M_s = \bigoplus_m \begin{pmatrix} \cos s\theta_m & -\sin s\theta_m \\
    \sin s\theta_m & \cos s\theta_m \end{pmatrix}
    \end{aligned}$$

    Parameters
    ----------
    offset
        Offset $s$, a real number, in tokens.
    d_model
        Width $d$, even: a sine without its cosine cannot be moved.
    base, layout, spacing
        As in `sinusoidal`.

    Returns
    -------
    np.ndarray
        Orthogonal matrix of shape `(d_model, d_model)`, float64; it stands to the right of a row.

    Raises
    ------
    TypeError
        If `offset` or `base` is not a real number, or `d_model` is not an integer.
    ValueError
        If `offset` is not one finite number, if `d_model` is not a positive multiple of 2, if
        `base` is not finite or not above 1, or if `layout` or `spacing` is unknown.

    Examples
    --------
    >>> here, there = sinusoidal(np.array([3, 10]), 8)
    >>> bool(np.allclose(here @ shift_matrix(7, 8), there, rtol=0, atol=1e-15))
    True

    To stay is to do nothing, and there is no matrix for an odd width.

    >>> shift_matrix(0, 2) + 0.0
    array([[1., 0.],
           [0., 1.]])
    >>> shift_matrix(1, 3)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 2, got 3

    See Also
    --------
    sinusoidal : The encodings that it moves.
    log_determinant : Why there is no other such matrix.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.5.
    """
    check_multiple("d_model", d_model, 2)
    order = column_order(d_model, layout)
    angle = check_number("offset", offset) * frequencies(d_model, base, spacing=spacing)
    sin = np.arange(0, d_model, 2)
    cos = sin + 1
    M = np.zeros((d_model, d_model))
    M[sin, sin] = M[cos, cos] = np.cos(angle)
    M[cos, sin], M[sin, cos] = np.sin(angle), -np.sin(angle)
    return M[np.ix_(order, order)]


def separation(
    offset: np.ndarray | float, d_model: int, base: float = 10000.0, *, spacing: str = "paper"
) -> np.ndarray | np.float64:
    r"""Distance of two encodings that stand an offset apart, the same wherever they stand.

    $$\begin{aligned}
    &\lVert \mathrm{PE}_{k+s} - \mathrm{PE}_k \rVert \\
    &\quad = 2 \sqrt{\sum_m \sin^2 \frac{s\,\theta_m}{2}}
    \end{aligned}$$

    Unlike $\sqrt{d - 2\sum_m \cos s\theta_m}$, to which it is equal, the sum of squares loses no
    digits where the distance is small.

    Parameters
    ----------
    offset
        Offsets $s$, real numbers of any shape, in tokens.
    d_model
        Width $d$, even: for a sine without its cosine the distance depends on $k$.
    base, spacing
        As in `frequencies`.

    Returns
    -------
    np.ndarray
        Distances of the shape of `offset`, float64; a scalar for a scalar.

    Raises
    ------
    TypeError
        If `offset` or `base` is not real, or `d_model` is not an integer.
    ValueError
        If `offset` is empty or not finite, if `d_model` is not a positive multiple of 2, if
        `base` is not finite or not above 1, or if `spacing` is unknown.

    Examples
    --------
    One clock: half a turn away is opposite, a full turn away is the same point.

    >>> separation(np.array([0, np.pi, 2 * np.pi]), 2).round(12)
    array([0., 2., 0.])

    Tiny offsets keep all their digits.

    >>> bool(np.isclose(separation(1e-12, 2), 1e-12, rtol=1e-15, atol=0))
    True

    See Also
    --------
    sinusoidal : The encodings.
    """
    check_multiple("d_model", d_model, 2)
    theta = frequencies(d_model, base, spacing=spacing)
    return 2 * np.linalg.norm(np.sin(check_real("offset", offset)[..., None] * theta / 2), axis=-1)


def log_determinant(d_model: int, base: float = 10000.0, *, spacing: str = "paper") -> float:
    r"""Size of the determinant of the first $d$ encodings, as a logarithm.

    $$\begin{aligned}
    &\ln \left|\det\left(\mathrm{PE}_0, \dots, \mathrm{PE}_{d-1}\right)\right| \\
    &\quad = \sum_m \ln \sin\theta_m \\
    &\quad + 2 \sum_{m < l} \ln\left(2\cos\theta_l - 2\cos\theta_m\right)
    \end{aligned}$$

    As no term is zero, the first $d$ encodings are independent, and so are any $d$ in a row: the
    matrix that shifts them is unique. With $b = 10000$ the determinant itself is zero in float64
    from $d = 26$ on. Differences of cosines are computed as products of sines,
    $4 \sin\frac{\theta_m + \theta_l}{2} \sin\frac{\theta_m - \theta_l}{2}$.

    Parameters
    ----------
    d_model
        Width $d$, even.
    base, spacing
        As in `frequencies`.

    Returns
    -------
    float
        Natural logarithm; `-inf` if two frequencies are the same number in float64.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `d_model` is not a positive multiple of 2, if `base` is not finite or not above 1, or
        if `spacing` is unknown.

    Examples
    --------
    For $d = 2$ the rows are $(0, 1)$ and $(\sin 1, \cos 1)$.

    >>> bool(np.isclose(np.exp(log_determinant(2)), np.sin(1)))
    True

    >>> table = sinusoidal(np.arange(8), 8)
    >>> bool(np.isclose(np.linalg.slogdet(table).logabsdet, log_determinant(8)))
    True

    Never zero, but soon beyond float64: here it starts with 598 zeros.

    >>> int(log_determinant(32) / np.log(10))
    -598

    See Also
    --------
    shift_matrix : The matrix that is unique because of this.
    """
    check_multiple("d_model", d_model, 2)
    theta = frequencies(d_model, base, spacing=spacing)
    faster, slower = theta[np.stack(np.triu_indices(len(theta), k=1))]
    with np.errstate(divide="ignore"):
        gaps = np.log(2 * np.sin((faster + slower) / 2)) + np.log(2 * np.sin((faster - slower) / 2))
    return float(np.log(np.sin(theta)).sum() + 2 * gaps.sum())
