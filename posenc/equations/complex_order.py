r"""The complex-order embedding: every word is a set of clocks with its own size, speed and start.

Words are $j$, positions $k$, complex dimensions $m = 0 \dots D - 1$: each is a pair of real
columns. $\mathrm{i}$ is the imaginary unit. Everything is computed in complex128.
"""

import numpy as np

from posenc._checks import check_choice, check_count, check_real

__all__ = ["best_step", "complex_order", "geometric", "offset_factor", "real_product", "real_view"]


def complex_order(
    positions: np.ndarray | float,
    amplitude: np.ndarray,
    frequency: np.ndarray,
    phase: np.ndarray | float = 0.0,
) -> np.ndarray:
    r"""Embed words at positions: one complex number per dimension, turned by the position.

    $$f(j, k) = r_j \odot e^{\mathrm{i}\,(\omega_j k + \theta_j)}$$

    Parameters
    ----------
    positions
        Positions $k$, real numbers of any shape, in tokens; negative and fractional ones too.
    amplitude
        Amplitudes $r$ of shape `(..., D)`, real; the leading axes broadcast with `positions`.
    frequency
        Frequencies $\omega$, in radians per token, likewise.
    phase
        Phases $\theta$ at position 0, in radians, likewise.

    Returns
    -------
    np.ndarray
        Embeddings, complex128, of the broadcast shape `(..., D)`.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is empty or not finite, if `amplitude` has no axis, or if the arguments do
        not broadcast.

    Examples
    --------
    A quarter turn per token, and a dimension whose clock stands still.

    >>> complex_order(np.arange(3), [2.0, 0.5], [np.pi / 2, 0.0]).round(12) + 0.0
    array([[ 2. +0.j,  0.5+0.j],
           [ 0. +2.j,  0.5+0.j],
           [-2. +0.j,  0.5+0.j]])

    A sentence of two words, each with a frequency of its own.

    >>> complex_order([0, 1], [[1.0], [3.0]], [[0.5], [np.pi]]).round(12) + 0.0
    array([[ 1.+0.j],
           [-3.+0.j]])

    >>> complex_order([0, 1, 2], [[1.0], [3.0]], 0.5)
    Traceback (most recent call last):
        ...
    ValueError: arguments must broadcast, got (3, 1), (2, 1), (), ()

    See Also
    --------
    offset_factor : Moves an embedding to another position.
    real_view : The same as real numbers.

    References
    ----------
    Wang et al. *Encoding word order in complex embeddings*. 2019, arXiv:1912.12333, Equation 5.
    """
    k, r = check_real("positions", positions)[..., None], check_real("amplitude", amplitude, 1)
    omega, theta = check_real("frequency", frequency), check_real("phase", phase)
    shapes = [array.shape for array in (k, r, omega, theta)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        named = ", ".join(map(str, shapes))
        raise ValueError(f"arguments must broadcast, got {named}") from None
    angle = omega * k + theta
    return r * np.cos(angle) + 1j * (r * np.sin(angle))


def offset_factor(offset: np.ndarray | float, frequency: np.ndarray) -> np.ndarray:
    r"""Numbers that move an embedding by an offset, wherever it stands.

    $$\begin{aligned}
    &f(j, k + s) = f(j, k) \odot T_s \\
    &T_s = e^{\mathrm{i}\,\omega_j s}
    \end{aligned}$$

    Parameters
    ----------
    offset
        Offsets $s$, real numbers of any shape, in tokens.
    frequency
        Frequencies $\omega$ of shape `(..., D)`; the leading axes broadcast with `offset`.

    Returns
    -------
    np.ndarray
        Factors of modulus 1, complex128, one per dimension.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is empty or not finite, or if they do not broadcast.

    Examples
    --------
    >>> here, there = complex_order([5, 7], [2.0, 1.0], [0.1, 3.0], [0.5, 0.25])
    >>> bool(np.allclose(here * offset_factor(2, [0.1, 3.0]), there, rtol=0, atol=1e-15))
    True

    To stay is to multiply by one; to go back is the conjugate of going on.

    >>> offset_factor(0, [0.1, 3.0])
    array([1.+0.j, 1.+0.j])
    >>> bool(offset_factor(-2, 0.1) == offset_factor(2, 0.1).conj())
    True

    See Also
    --------
    complex_order : What it moves.
    best_step : Whether some other sequence can be moved like this.

    References
    ----------
    Wang et al. *Encoding word order in complex embeddings*. 2019, arXiv:1912.12333, Property 1.
    """
    return complex_order(offset, np.ones(1), frequency)


def geometric(start: complex, ratio: complex, n: int) -> np.ndarray:
    r"""The sequences that one constant factor moves on, from position 0.

    $$g(k) = z_2\, z_1^k, \qquad k = 0 \dots n - 1$$

    Parameters
    ----------
    start
        $z_2 = g(0)$, one complex number.
    ratio
        $z_1$, the factor of one step, one complex number; $0^0 = 1$.
    n
        Number of positions, at least 1.

    Returns
    -------
    np.ndarray
        $g$ of shape `(n,)`, complex128.

    Raises
    ------
    TypeError
        If `start` or `ratio` is not a number, or `n` not an integer.
    ValueError
        If `start` or `ratio` is not one finite number, or `n` is less than 1.

    Examples
    --------
    >>> geometric(3.0, 1j, 4).round(12) + 0.0
    array([ 3.+0.j,  0.+3.j, -3.+0.j,  0.-3.j])

    A factor beyond the unit circle runs away; the factor 0 forgets all but the first position.

    >>> geometric(1.0, 2.0, 5).real
    array([ 1.,  2.,  4.,  8., 16.])
    >>> geometric(1.0, 0.0, 3).real
    array([1., 0., 0.])

    See Also
    --------
    best_step : Goes the other way, from a sequence to the factor.

    References
    ----------
    Wang et al. *Encoding word order in complex embeddings*. 2019, arXiv:1912.12333, Claim 1.
    """
    z2, z1 = _complex("start", start, 0), _complex("ratio", ratio, 0)
    return z2 * z1 ** np.arange(check_count("n", n))


def best_step(sequence: np.ndarray) -> tuple[complex, float]:
    r"""The constant factor that comes nearest to moving a sequence on, and how far it misses.

    $$\begin{aligned}
    &w = \frac{\sum_k \overline{g(k)}\, g(k+1)}{\sum_k \left|g(k)\right|^2} \\
    &\max_k \left|g(k+1) - w\, g(k)\right|
    \end{aligned}$$

    The factor minimises $\sum_k |g(k+1) - w\, g(k)|^2$. It misses by nothing exactly for the
    sequences of `geometric`.

    Parameters
    ----------
    sequence
        $g(0), g(1), \dots$, complex or real, of shape `(n,)` with $n \ge 2$, and not zero all
        the way up to the last but one.

    Returns
    -------
    tuple of complex and float
        The factor $w$ and the largest miss.

    Raises
    ------
    TypeError
        If `sequence` does not hold numbers.
    ValueError
        If `sequence` is not finite, has not one axis of at least 2, or is zero all the way up to
        the last but one.

    Examples
    --------
    >>> best_step(geometric(3.0, 0.5j, 6))
    (0.5j, 0.0)

    The squares turn faster at every step: no constant factor follows.

    >>> k = np.arange(50)
    >>> miss = best_step(np.exp(1j * k**2))[1]
    >>> bool(miss > 1)
    True

    See Also
    --------
    geometric : The sequences that it reproduces.
    """
    g = _complex("sequence", sequence, 1)
    if len(g) < 2:
        raise ValueError(f"sequence must have at least 2 entries, got {len(g)}")
    before, after = g[:-1], g[1:]
    energy = np.real(np.vdot(before, before))
    if not energy:
        raise ValueError("sequence must not be zero up to the last but one, got zeros")
    w = complex(np.vdot(before, after) / energy)
    return w, float(np.abs(after - w * before).max())


def real_view(z: np.ndarray, *, layout: str = "interleaved") -> np.ndarray:
    r"""Write complex vectors as real ones of twice the width.

    $$z \mapsto \left(\operatorname{Re} z_0,\, \operatorname{Im} z_0,\,
    \operatorname{Re} z_1,\, \dots\right)$$

    Parameters
    ----------
    z
        Complex vectors of shape `(..., D)`; real ones have zeros as imaginary parts.
    layout
        `"interleaved"` as in the formula, or `"halves"`: all real parts, then all imaginary ones.

    Returns
    -------
    np.ndarray
        Real vectors of shape `(..., 2 * D)`, float64.

    Raises
    ------
    TypeError
        If `z` does not hold numbers.
    ValueError
        If `z` is empty or not finite or has no axis, or if `layout` is neither of the two.

    Examples
    --------
    >>> real_view([1 + 2j, 3 + 4j])
    array([1., 2., 3., 4.])
    >>> real_view([1 + 2j, 3 + 4j], layout="halves")
    array([1., 3., 2., 4.])

    See Also
    --------
    real_product : The inner product of two such vectors.
    """
    parts = _complex("z", z)
    interleaved = check_choice("layout", layout, ("interleaved", "halves")) == "interleaved"
    pairs = np.stack([np.real(parts), np.imag(parts)], axis=-1 if interleaved else -2)
    return pairs.reshape(*parts.shape[:-1], -1)


def real_product(a: np.ndarray, b: np.ndarray) -> np.ndarray | np.float64:
    r"""Inner product of two complex vectors, seen as real ones of twice the width.

    $$\langle a, b \rangle = \operatorname{Re} \sum_m \overline{a_m}\, b_m$$

    The conjugate makes phases subtract: what counts is the cosine of their difference.

    Parameters
    ----------
    a, b
        Complex vectors of shape `(..., D)`; the leading axes broadcast.

    Returns
    -------
    np.ndarray or np.float64
        Inner products, float64, of the broadcast leading shape.

    Raises
    ------
    TypeError
        If `a` or `b` does not hold numbers.
    ValueError
        If `a` or `b` is empty or not finite or has no axis, or if they do not broadcast.

    Examples
    --------
    >>> real_product([1 + 2j, 3j], [2 - 1j, 1j])
    np.float64(3.0)

    It is the inner product of the real views, in either layout.

    >>> a, b = np.array([1 + 2j, 3j]), np.array([2 - 1j, 1j])
    >>> float(real_view(a, layout="halves") @ real_view(b, layout="halves"))
    3.0

    See Also
    --------
    real_view : The vectors of twice the width.
    """
    left, right = _complex("a", a), _complex("b", b)
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        raise ValueError(f"a and b must broadcast, got {left.shape} and {right.shape}") from None
    return np.real(left.conj() * right).sum(axis=-1)


def _complex(name: str, value: np.ndarray | complex, ndim: int | None = None) -> np.ndarray:
    """Return `value` in complex128 if it holds finite numbers and has the wanted axes."""
    array = np.asarray(value)
    if array.dtype.kind not in {"i", "u", "f", "c"}:
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if (array.ndim < 1 if ndim is None else array.ndim != ndim) or 0 in array.shape:
        axes = "at least 1" if ndim is None else ndim
        raise ValueError(f"{name} must have {axes} axes, none empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return array.astype(np.complex128)
