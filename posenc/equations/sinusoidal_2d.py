r"""The sinusoidal encoding of an image: half of the columns for the height, half for the width.

A patch stands at $(h, w)$, in row $h$ and column $w$, both counted from 0, the height first.
Positions may be any real numbers. Everything is computed in float64.
"""

import numpy as np

from posenc._checks import check_choice, check_count, check_multiple, check_real, check_shape
from posenc.equations.kernel import kernel
from posenc.equations.sinusoidal import sinusoidal

__all__ = ["grid", "kernel_2d", "sinusoidal_2d"]


def grid(height: int, width: int) -> np.ndarray:
    r"""Positions of the patches of an image, row by row.

    $$\begin{aligned}
    (h_p, w_p) &= \left(\lfloor p / W \rfloor,\; p \operatorname{mod} W\right) \\
    p &= 0 \dots HW - 1
    \end{aligned}$$

    Parameters
    ----------
    height
        Number of rows $H \ge 1$, in patches.
    width
        Number of columns $W \ge 1$, in patches.

    Returns
    -------
    np.ndarray
        Positions $(h, w)$ of shape `(height * width, 2)`, int64.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is less than 1.

    Examples
    --------
    >>> grid(2, 3).T
    array([[0, 0, 0, 1, 1, 1],
           [0, 1, 2, 0, 1, 2]])

    The same six numbers on an image of the other shape.

    >>> grid(3, 2).T
    array([[0, 0, 1, 1, 2, 2],
           [0, 1, 0, 1, 0, 1]])

    >>> grid(0, 3)
    Traceback (most recent call last):
        ...
    ValueError: height must be at least 1, got 0

    See Also
    --------
    sinusoidal_2d : The encoding of these positions.
    """
    n_rows, n_columns = check_count("height", height), check_count("width", width)
    patch = np.arange(n_rows * n_columns, dtype=np.int64)
    return np.stack(np.divmod(patch, n_columns), axis=-1)


def sinusoidal_2d(
    positions: np.ndarray,
    d_model: int,
    base: float = 10000.0,
    *,
    order: str = "hw",
    layout: str = "interleaved",
) -> np.ndarray:
    r"""Encode both coordinates of a position, each in half of the columns.

    $$\begin{aligned}
    \mathrm{PE}_{(h, w)} &= \left[\,p_h \;\middle|\; p_w\,\right] \\
    p_{k,\,2m} &= \sin\left(k\, b^{-4m/d}\right) \\
    p_{k,\,2m+1} &= \cos\left(k\, b^{-4m/d}\right) \\
    m &= 0 \dots d/4 - 1
    \end{aligned}$$

    Each half is the encoding of one axis at width $d/2$, so its exponent is $2m / (d/2)$.

    Parameters
    ----------
    positions
        Positions $(h, w)$ of shape `(..., 2)`, real numbers, in patches; the height first
        whatever the `order`.
    d_model
        Width $d$, a positive multiple of 4.
    base
        Base $b > 1$ of the frequencies.
    order
        Which axis has the first half of the columns: `"hw"` or `"wh"`.
    layout
        Within each half: `"interleaved"` as in the formula, or `"halves"`: all sines, then all
        cosines.

    Returns
    -------
    np.ndarray
        Position vectors of shape `(..., d_model)`, float64; all have length $\sqrt{d/2}$.

    Raises
    ------
    TypeError
        If `positions` or `base` are not real numbers, or `d_model` is not an integer.
    ValueError
        If `positions` are empty, not finite or not pairs, if `d_model` is not a positive
        multiple of 4, if `base` is not finite or not above 1, or if `order` or `layout` is
        unknown.

    Examples
    --------
    Width 4: a sine and a cosine of the height, then of the width.

    >>> sinusoidal_2d([[0, 0], [0, 1], [1, 0]], 4)
    array([[0.        , 1.        , 0.        , 1.        ],
           [0.        , 1.        , 0.84147098, 0.54030231],
           [0.84147098, 0.54030231, 0.        , 1.        ]])

    The other order swaps the halves, not the positions.

    >>> sinusoidal_2d([0, 1], 4, order="wh")
    array([0.84147098, 0.54030231, 0.        , 1.        ])

    >>> sinusoidal_2d([0, 1], 6)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 4, got 6

    See Also
    --------
    grid : Positions of all patches of an image.
    kernel_2d : Inner products of these vectors.
    posenc.equations.sinusoidal.sinusoidal : One axis.

    References
    ----------
    He et al. *Masked Autoencoders Are Scalable Vision Learners*. 2021, arXiv:2111.06377; the
    authors' code has `order="wh"` and `layout="halves"`.
    """
    d, hw = check_multiple("d_model", d_model, 4), check_real("positions", positions, min_ndim=1)
    check_shape("positions", hw, (*hw.shape[:-1], 2))
    wide_first = check_choice("order", order, ("hw", "wh")) == "wh"
    axes = hw[..., ::-1] if wide_first else hw
    return sinusoidal(axes, d // 2, base, layout=layout).reshape(*hw.shape[:-1], d)


def kernel_2d(
    dh: np.ndarray | float, dw: np.ndarray | float, d_model: int, base: float = 10000.0
) -> np.ndarray | np.float64:
    r"""Inner product of two positions as a function of their offsets along both axes.

    $$\begin{aligned}
    &K(\Delta h, \Delta w) \\
    &\qquad = \frac{2}{d}\, \mathrm{PE}_{(h, w)}\,
    \mathrm{PE}_{(h + \Delta h,\, w + \Delta w)}^\top \\
    &\qquad = \frac{S(\Delta h) + S(\Delta w)}{2}
    \end{aligned}$$

    Here $S$ is the kernel of one axis at width $d/2$. Like it, $K$ is 1 at offset zero.

    Parameters
    ----------
    dh
        Offsets $\Delta h$ along the height, real numbers, in patches.
    dw
        Offsets $\Delta w$ along the width, likewise; the two broadcast together.
    d_model
        Width $d$, a positive multiple of 4.
    base
        Base $b > 1$ of the frequencies.

    Returns
    -------
    np.ndarray or np.float64
        Kernel, of the shape of the offsets, float64, within $[-1, 1]$.

    Raises
    ------
    TypeError
        If an offset or `base` is not a real number, or `d_model` is not an integer.
    ValueError
        If offsets are empty or not finite or do not broadcast, if `d_model` is not a positive
        multiple of 4, or if `base` is not finite or not above 1.

    Examples
    --------
    Ten patches apart, but in the same row: half of the vector is the same.

    >>> kernel_2d(0, 10, 512).round(3)
    np.float64(0.838)

    As far away, but on the diagonal.

    >>> kernel_2d(50**0.5, 50**0.5, 512).round(3)
    np.float64(0.733)

    Offsets as columns and rows give a table.

    >>> kernel_2d(np.array([[0], [1]]), np.arange(3), 4).round(3)
    array([[1.   , 0.77 , 0.292],
           [0.77 , 0.54 , 0.062]])

    See Also
    --------
    posenc.equations.kernel.kernel : One axis.
    """
    half = check_multiple("d_model", d_model, 4) // 2
    h, w = check_real("dh", dh), check_real("dw", dw)
    try:
        np.broadcast_shapes(h.shape, w.shape)
    except ValueError:
        raise ValueError(f"dh and dw must broadcast, got {h.shape} and {w.shape}") from None
    return (kernel(h, half, base) + kernel(w, half, base)) / 2
