r"""Rotary encoding with several axes: pairs turn with time, height and width, or with a mixture.

A position is a row of numbers, one per axis, such as $(t, h, w)$; an offset is $j - i$, key minus
query. Pair $m$ has a wave vector $\kappa_m$ and turns by $p\,\kappa_m^\top$.
"""

from collections.abc import Sequence

import numpy as np

from posenc._checks import check_choice, check_count, check_real, check_shape, check_table
from posenc.equations.rope import rotate_pairs
from posenc.equations.sinusoidal import frequencies

__all__ = [
    "axis_map",
    "axis_string",
    "kernel_axes",
    "multimodal_positions",
    "rotate_axes",
    "wave_vectors",
]


def axis_map(sections: Sequence[int], *, arrangement: str = "chunked") -> np.ndarray:
    r"""Say of every frequency pair with which axis it turns.

    $$a(m) = \begin{cases}
    0, \dots, 0, 1, \dots, 1, 2, \dots & \texttt{chunked} \\
    0, 1, 2, 0, 1, 2, \dots & \texttt{interleaved}
    \end{cases}$$

    Axis $a$ occurs as often as its section says. Interleaved, the axes take turns, and one that
    has all its pairs drops out.

    Parameters
    ----------
    sections
        Number of pairs of every axis, each at least 1; together $d/2$.
    arrangement
        `"chunked"` or `"interleaved"`.

    Returns
    -------
    np.ndarray
        Axes $a(m)$ of shape `(d / 2,)`, int64.

    Raises
    ------
    TypeError
        If a section is not an integer.
    ValueError
        If there are no sections, if one is less than 1, or if `arrangement` is neither of the
        two.

    Examples
    --------
    >>> axis_map([2, 3, 3])
    array([0, 0, 1, 1, 1, 2, 2, 2])
    >>> axis_map([2, 3, 3], arrangement="interleaved")
    array([0, 1, 2, 0, 1, 2, 1, 2])

    One axis is plain RoPE.

    >>> axis_map([4])
    array([0, 0, 0, 0])

    See Also
    --------
    axis_string : The same as letters.
    wave_vectors : Which frequencies the axes get by it.
    """
    check_choice("arrangement", arrangement, ("chunked", "interleaved"))
    sizes = [check_count("section", size) for size in sections]
    if not sizes:
        raise ValueError(f"sections must not be empty, got {sections}")
    axes = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    turn = np.concatenate([np.arange(size) for size in sizes])
    return axes[np.lexsort((axes, turn))] if arrangement == "interleaved" else axes


def axis_string(
    sections: Sequence[int], *, arrangement: str = "chunked", names: str = "THW"
) -> str:
    r"""Write the axis of every pair as a letter.

    $$\begin{aligned}
    &a(0)\; a(1) \cdots a(d/2 - 1) \\
    &\qquad 0 \to \mathsf T, \quad 1 \to \mathsf H, \quad 2 \to \mathsf W
    \end{aligned}$$

    Parameters
    ----------
    sections, arrangement
        As in `axis_map`.
    names
        One letter for every axis.

    Returns
    -------
    str
        One letter for every pair, the fastest pair first if all share one ladder.

    Raises
    ------
    TypeError
        If a section is not an integer.
    ValueError
        If there are no sections, if one is less than 1, if `arrangement` is neither of the two,
        or if there are not as many `names` as sections.

    Examples
    --------
    >>> axis_string([2, 3, 3])
    'TTHHHWWW'
    >>> axis_string([2, 3, 3], arrangement="interleaved")
    'THWTHWHW'

    Two axes need two letters.

    >>> axis_string([2, 2], names="HW")
    'HHWW'
    >>> axis_string([2, 2])
    Traceback (most recent call last):
        ...
    ValueError: names must have one letter for each of 2 axes, got 'THW'

    See Also
    --------
    axis_map : The same as numbers.
    """
    axes = axis_map(sections, arrangement=arrangement)
    if len(names) != len(sections):
        wanted = f"one letter for each of {len(sections)} axes"
        raise ValueError(f"names must have {wanted}, got {names!r}")
    return "".join(names[axis] for axis in axes)


def wave_vectors(
    sections: Sequence[int],
    base: float = 10000.0,
    *,
    arrangement: str = "chunked",
    ladder: str = "shared",
) -> np.ndarray:
    r"""Angle per unit of every axis, for every pair: one frequency, on one axis.

    $$\begin{aligned}
    \kappa_m &= \theta_m\, \mathbf e_{a(m)} \\
    \theta_m &= \begin{cases}
    b^{-2m/d} & \texttt{shared} \\
    b^{-r_m/n_{a(m)}} & \texttt{own}
    \end{cases}
    \end{aligned}$$

    Here $\mathbf e_a$ is the unit vector of axis $a$, which has $n_a$ pairs, and pair $m$ is its
    pair number $r_m$, counted from 0.

    Parameters
    ----------
    sections
        Number of pairs of every axis, each at least 1; together $d/2$.
    base
        Base $b > 1$ of the frequencies.
    arrangement
        `"chunked"` or `"interleaved"`, see `axis_map`.
    ladder
        `"shared"`: one ladder of frequencies for all pairs, from which each axis gets some
        (M-RoPE). `"own"`: each axis has a whole ladder, from 1 downwards (axial).

    Returns
    -------
    np.ndarray
        Wave vectors $\kappa$ of shape `(d / 2, n_axes)`, float64, in radians per unit.

    Raises
    ------
    TypeError
        If a section is not an integer, or `base` not a real number.
    ValueError
        If there are no sections, if one is less than 1, if `base` is not finite or not above 1,
        or if `arrangement` or `ladder` is unknown.

    Examples
    --------
    The ladder 1, ½, ¼, ⅛: the first axis gets the fast half of it, or every other rung.

    >>> wave_vectors([2, 2], base=16).T
    array([[1.   , 0.5  , 0.   , 0.   ],
           [0.   , 0.   , 0.25 , 0.125]])
    >>> wave_vectors([2, 2], base=16, arrangement="interleaved").T
    array([[1.   , 0.   , 0.25 , 0.   ],
           [0.   , 0.5  , 0.   , 0.125]])

    With ladders of their own both axes have 1 and ¼.

    >>> wave_vectors([2, 2], base=16, ladder="own").T
    array([[1.  , 0.25, 0.  , 0.  ],
           [0.  , 0.  , 1.  , 0.25]])

    See Also
    --------
    rotate_axes : Turns pairs by these angles.
    posenc.equations.sinusoidal.frequencies : One axis.

    References
    ----------
    Wang et al. *Qwen2-VL*. 2024, arXiv:2409.12191 (shared); Heo et al. *Rotary Position Embedding
    for Vision Transformer*. 2024, arXiv:2403.13298 (own).
    """
    axes = axis_map(sections, arrangement=arrangement)
    theta = frequencies(2 * len(axes), base)
    if check_choice("ladder", ladder, ("shared", "own")) == "own":
        for axis, size in enumerate(sections):
            theta[axes == axis] = frequencies(2 * size, base)
    return theta[:, None] * (axes[:, None] == np.arange(len(sections)))


def rotate_axes(
    x: np.ndarray, positions: np.ndarray, waves: np.ndarray, *, layout: str = "interleaved"
) -> np.ndarray:
    r"""Turn queries or keys by their positions on several axes.

    $$\begin{aligned}
    \operatorname{rotate}(x, p) &= x R_p^\top \\
    \varphi_m &= p\,\kappa_m^\top
    \end{aligned}$$

    Pair $m$ turns by the angle $\varphi_m$.

    Parameters
    ----------
    x
        Queries or keys of shape `(..., d)`, after their projection.
    positions
        Positions $p$ of shape `(..., n_axes)`, real numbers; leading axes broadcast with those
        of `x`.
    waves
        Wave vectors $\kappa$ of shape `(d / 2, n_axes)`, in radians per unit: those of
        `wave_vectors`, or any others.
    layout
        Which columns are a pair: `"interleaved"` or `"halves"`, see
        `posenc.equations.rope.rotate_pairs`.

    Returns
    -------
    np.ndarray
        Vectors of shape `(..., d)`, float64, as long as before.

    Raises
    ------
    TypeError
        If `x`, `positions` or `waves` are not real numbers.
    ValueError
        If an array is empty or not finite, if the shapes do not agree, or if `layout` is neither
        of the two.

    Examples
    --------
    One pair turns with the row, the other with the column: row 1 is a quarter turn.

    >>> waves = np.pi / 2 * np.eye(2)
    >>> rotate_axes(np.array([1, 2, 3, 4]), [1, 0], waves).round(9)
    array([-2.,  1.,  3.,  4.])

    An oblique wave: a step along either axis is an eighth of a turn.

    >>> rotate_axes(np.array([1, 0]), [[1, 0], [1, 1]], [[np.pi / 4, np.pi / 4]]).round(3) + 0.0
    array([[0.707, 0.707],
           [0.   , 1.   ]])

    >>> rotate_axes(np.ones(4), [0, 0, 0], waves)
    Traceback (most recent call last):
        ...
    ValueError: positions must have shape (2,), got (3,)

    See Also
    --------
    wave_vectors : Wave vectors along the axes.
    posenc.equations.rope.rotate : One axis.
    posenc.layers.rope_axes.RopeAxes : The layer that a model trains with.
    """
    return rotate_pairs(x, _angles("positions", positions, waves), layout=layout)


def _angles(name: str, positions: np.ndarray, waves: np.ndarray) -> np.ndarray:
    p, kappa = check_real(name, positions, min_ndim=1), check_table("waves", waves)
    check_shape(name, p, (*p.shape[:-1], kappa.shape[1]))
    return p @ kappa.T


def kernel_axes(offsets: np.ndarray, waves: np.ndarray) -> np.ndarray | np.float64:
    r"""Score of a query and an equal key as a function of their offset, 1 at offset zero.

    $$K(\Delta) = \frac2d \sum_{m=0}^{d/2-1} \cos\left(\Delta\, \kappa_m^\top\right)$$

    All pairs of the query are equally long; otherwise they would have unequal weights.

    Parameters
    ----------
    offsets
        Offsets $\Delta$ of shape `(..., n_axes)`, real numbers.
    waves
        Wave vectors $\kappa$ of shape `(d / 2, n_axes)`.

    Returns
    -------
    np.ndarray or np.float64
        Kernel of shape `(...)`, float64, within $[-1, 1]$.

    Raises
    ------
    TypeError
        If `offsets` or `waves` are not real numbers.
    ValueError
        If an array is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    Two waves, one along each axis, of four patches each.

    >>> waves = np.pi / 2 * np.eye(2)
    >>> kernel_axes([[0, 0], [0, 1], [0, 2], [2, 2]], waves).round(9)
    array([ 1. ,  0.5,  0. , -1. ])

    A single offset gives a number.

    >>> kernel_axes([0, 4], waves)
    np.float64(1.0)

    See Also
    --------
    posenc.equations.sinusoidal_2d.kernel_2d : The same function of another encoding.
    """
    return np.cos(_angles("offsets", offsets, waves)).mean(axis=-1)


def multimodal_positions(parts: Sequence[int | Sequence[int]]) -> np.ndarray:
    r"""Positions $(t, h, w)$ of a sequence of text, images and videos.

    $$\begin{aligned}
    (t, h, w) &= s + (k, k, k) \\
    (t, h, w) &= s + (f, y, x)
    \end{aligned}$$

    The first line is for token $k$ of a text, the second for frame $f$, row $y$ and column $x$ of
    a grid. The start $s$ of a part is 0 at first, then the largest number so far plus 1.

    Parameters
    ----------
    parts
        For a text its number of tokens; for an image or video its numbers of frames, rows and
        columns, in tokens.

    Returns
    -------
    np.ndarray
        Positions of shape `(n, 3)`, int64, the tokens of a grid frame by frame, row by row.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If there are no parts, if a grid has not three sizes, or if a size is less than 1.

    Examples
    --------
    Two words, an image of two rows and three columns, one word.

    >>> multimodal_positions([2, (1, 2, 3), 1]).T
    array([[0, 1, 2, 2, 2, 2, 2, 2, 5],
           [0, 1, 2, 2, 2, 3, 3, 3, 5],
           [0, 1, 2, 3, 4, 2, 3, 4, 5]])

    A video of three frames, one patch each: only the time goes on.

    >>> multimodal_positions([(3, 1, 1), 1]).tolist()
    [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 3, 3]]

    >>> multimodal_positions([2, (2, 3)])
    Traceback (most recent call last):
        ...
    ValueError: grid must have 3 sizes, got (2, 3)

    See Also
    --------
    posenc.equations.sinusoidal_2d.grid : Rows and columns of one image.

    References
    ----------
    Wang et al. *Qwen2-VL*. 2024, arXiv:2409.12191.
    """
    blocks, start = [], 0
    for part in parts:
        blocks.append(start + _block(part))
        start = blocks[-1].max() + 1
    if not blocks:
        raise ValueError(f"parts must not be empty, got {parts}")
    return np.concatenate(blocks)


def _block(part: int | Sequence[int]) -> np.ndarray:
    if not isinstance(part, Sequence | np.ndarray):
        n = check_count("number of tokens", part)
        return np.repeat(np.arange(n, dtype=np.int64)[:, None], 3, axis=1)
    sizes = [check_count("size of a grid", size) for size in part]
    if len(sizes) != 3:
        raise ValueError(f"grid must have 3 sizes, got {part}")
    return np.moveaxis(np.indices(sizes, dtype=np.int64), 0, -1).reshape(-1, 3)
