r"""Recursive position vectors: one rule that leads from every position to the next.

A vector is a row $p$; $A$ stands to its right. Times $t$ are real numbers, positions are the times
$0, 1, 2, \dots$. Everything is computed in float64.
"""

import math
from collections.abc import Callable

import numpy as np

from posenc._checks import (
    check_choice,
    check_count,
    check_multiple,
    check_number,
    check_real,
    check_shape,
    check_table,
)
from posenc.equations.sinusoidal import column_order, frequencies

__all__ = ["generator", "growth", "iterate", "solve", "step_matrix"]

ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4}  # the explicit methods


def generator(
    d_model: int, base: float = 10000.0, *, layout: str = "interleaved", spacing: str = "paper"
) -> np.ndarray:
    r"""Matrix of the differential equation whose solution is the sinusoidal encoding.

    $$A = \bigoplus_m \begin{pmatrix} 0 & -\theta_m \\ \theta_m & 0 \end{pmatrix}$$

    It is skew-symmetric: $p A$ is orthogonal to $p$, so that a solution of $p' = pA$ keeps its
    norm.

    Parameters
    ----------
    d_model
        Width $d$, even.
    base, layout, spacing
        As in `posenc.equations.sinusoidal.sinusoidal`.

    Returns
    -------
    np.ndarray
        Matrix of shape `(d_model, d_model)`, float64, in radians per position.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `d_model` is not a positive multiple of 2, if `base` is not finite or not above 1, or
        if `layout` or `spacing` is unknown.

    Examples
    --------
    >>> generator(4, base=16) + 0.0
    array([[ 0.  , -1.  ,  0.  ,  0.  ],
           [ 1.  ,  0.  ,  0.  ,  0.  ],
           [ 0.  ,  0.  ,  0.  , -0.25],
           [ 0.  ,  0.  ,  0.25,  0.  ]])

    Position 0 sets out along the sines; the cosines are at rest.

    >>> np.array([0.0, 1.0]) @ generator(2)
    array([1., 0.])

    >>> generator(3)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 2, got 3

    See Also
    --------
    posenc.equations.sinusoidal.shift_matrix : Its matrix exponential.
    step_matrix : What a method makes of it.
    """
    check_multiple("d_model", d_model, 2)
    order = column_order(d_model, layout)
    theta = frequencies(d_model, base, spacing=spacing)
    sin = np.arange(0, d_model, 2)
    A = np.zeros((d_model, d_model))
    A[sin + 1, sin], A[sin, sin + 1] = theta, -theta
    return A[np.ix_(order, order)]


def iterate(step: Callable[[np.ndarray], np.ndarray], first: np.ndarray, n: int) -> np.ndarray:
    r"""Position vectors of which each is made from the one before.

    $$p_{k+1} = f(p_k), \qquad k = 0 \dots n - 2$$

    Parameters
    ----------
    step
        The rule $f$, a function of a vector.
    first
        Vector $p_0$ of shape `(d,)`.
    n
        Number of positions $n \ge 1$.

    Returns
    -------
    np.ndarray
        Vectors of shape `(n, d)`, float64.

    Raises
    ------
    TypeError
        If `first` is not real, or `n` not an integer.
    ValueError
        If `n` is less than 1, or if `first`, or what `step` returns, is not a finite vector of
        one length.

    Examples
    --------
    >>> iterate(lambda p: p / 2, np.array([1.0, -4.0]), 4)
    array([[ 1.   , -4.   ],
           [ 0.5  , -2.   ],
           [ 0.25 , -1.   ],
           [ 0.125, -0.5  ]])

    One position needs no step.

    >>> iterate(lambda p: p / 0, np.array([1.0]), 1)
    array([[1.]])

    See Also
    --------
    solve : The rule that follows a differential equation.
    """
    p = check_real("first", first, min_ndim=1)
    check_shape("first", p, p.shape[-1:])
    rows = [p]
    for _ in range(check_count("n", n) - 1):
        rows.append(check_real("what step returns", step(rows[-1])))
        check_shape("what step returns", rows[-1], p.shape)
    return np.stack(rows)


def solve(
    field: Callable[[float, np.ndarray], np.ndarray],
    first: np.ndarray,
    n: int,
    *,
    method: str = "rk4",
    substeps: int = 1,
) -> np.ndarray:
    r"""Position vectors that follow a differential equation, at $0, 1, \dots, n - 1$.

    $$p(t) = p(0) + \int_0^t h\bigl(\tau, p(\tau)\bigr)\, d\tau$$

    The integral is approximated with a fixed step of $1 / \text{substeps}$.

    Parameters
    ----------
    field
        The velocity $h$, a function of the time and of a vector.
    first
        Vector $p(0)$ of shape `(d,)`.
    n
        Number of positions $n \ge 1$.
    method
        `"euler"`: the velocity at the start of a step. `"midpoint"`: that in its middle.
        `"rk4"`: the mean of four, due to Runge and Kutta.
    substeps
        Number of steps from one position to the next, at least 1.

    Returns
    -------
    np.ndarray
        Vectors of shape `(n, d)`, float64.

    Raises
    ------
    TypeError
        If `first` is not real, or a number not an integer.
    ValueError
        If `n` or `substeps` is less than 1, if `method` is unknown, or if `first` or a step of
        the solution is not a finite vector of one length.

    Examples
    --------
    Constant velocity is solved exactly.

    >>> solve(lambda t, p: np.array([0.5, -1.0]), np.zeros(2), 3)
    array([[ 0. ,  0. ],
           [ 0.5, -1. ],
           [ 1. , -2. ]])

    On a circle, Euler's steps leave along the tangent, and never return.

    >>> A = generator(2)
    >>> spiral = solve(lambda t, p: p @ A, np.array([0.0, 1.0]), 5, method="euler")
    >>> (spiral**2).sum(axis=1)
    array([ 1.,  2.,  4.,  8., 16.])

    See Also
    --------
    growth : How much a step lengthens a vector that should turn.
    """
    advance = {"euler": _euler, "midpoint": _midpoint, "rk4": _rk4}[_explicit(method)]
    per_position = check_count("substeps", substeps)
    n_steps = (check_count("n", n) - 1) * per_position
    times = iter(np.arange(n_steps) / per_position)
    rows = iterate(lambda p: advance(field, next(times), p, 1 / per_position), first, n_steps + 1)
    return rows[::per_position]


def _explicit(method: str) -> str:
    return check_choice("method", method, tuple(ORDERS))


def _euler(h, t, p, dt):
    return p + dt * h(t, p)


def _midpoint(h, t, p, dt):
    return p + dt * h(t + dt / 2, _euler(h, t, p, dt / 2))


def _rk4(h, t, p, dt):
    v_1 = h(t, p)
    v_2 = h(t + dt / 2, p + dt / 2 * v_1)
    v_3 = h(t + dt / 2, p + dt / 2 * v_2)
    v_4 = h(t + dt, p + dt * v_3)
    return p + dt / 6 * (v_1 + 2 * v_2 + 2 * v_3 + v_4)


def growth(angle: np.ndarray | float, method: str) -> np.ndarray | np.complex128:
    r"""Complex number that one step makes of a turn, which is $e^{\mathrm{i}\omega}$.

    $$\begin{aligned}
    R_s(\mathrm{i}\omega) &= \sum_{j=0}^{s} \frac{(\mathrm{i}\omega)^j}{j!} \\
    R_{\mathrm{T}}(\mathrm{i}\omega) &= \frac{1 + \mathrm{i}\omega/2}{1 - \mathrm{i}\omega/2}
    \end{aligned}$$

    A pair $(\sin, \cos)$ is read as $\cos + \mathrm{i}\sin$. The modulus says how much a step
    lengthens the pair, the argument how far it turns it. Explicit methods of order
    $s = 1, 2, 4$ have $R_s$, the trapezoid rule has $R_{\mathrm{T}}$, whose modulus is 1.

    Parameters
    ----------
    angle
        Angle $\omega = \theta_m \Delta t$ that the pair should turn in a step, real numbers of
        any shape, in radians.
    method
        `"euler"`, `"midpoint"`, `"rk4"` or `"trapezoid"`.

    Returns
    -------
    np.ndarray
        Factors of the shape of `angle`, complex128; a scalar for a scalar.

    Raises
    ------
    TypeError
        If `angle` is not real.
    ValueError
        If `angle` is empty or not finite, or `method` is unknown.

    Examples
    --------
    >>> growth(1, "euler"), growth(1, "midpoint")
    (np.complex128(1+1j), np.complex128(0.5+1j))

    The trapezoid rule turns a pair by a right angle where it should turn by 2.

    >>> growth(2, "trapezoid")
    np.complex128(1j)

    Far too large a step: Runge and Kutta's method grows from $\sqrt 8$ on.

    >>> abs(growth(np.array([0.0, 1.0, 2.8, 2.9]), "rk4")).round(4)
    array([1.    , 0.9939, 0.9307, 1.1931])

    See Also
    --------
    step_matrix : The same for all pairs at once.
    """
    z = 1j * check_real("angle", angle)
    if check_choice("method", method, (*ORDERS, "trapezoid")) == "trapezoid":
        return (1 + z / 2) / (1 - z / 2)
    return sum((z**j / math.factorial(j) for j in range(1, ORDERS[method] + 1)), 1 + 0 * z)


def step_matrix(A: np.ndarray, step: float, method: str) -> np.ndarray:
    r"""Matrix by which one step of a method multiplies a solution of $p' = pA$.

    $$\begin{aligned}
    R_s &= \sum_{j=0}^{s} \frac{(\Delta t\, A)^j}{j!} \\
    R_{\mathrm{T}} &= \left(I + \tfrac{\Delta t}{2} A\right)
    \left(I - \tfrac{\Delta t}{2} A\right)^{-1}
    \end{aligned}$$

    The exact one is the matrix exponential $e^{\Delta t\, A}$, whose series the explicit methods
    cut off after the term of their order $s$. The trapezoid rule makes an orthogonal matrix of a
    skew-symmetric one (Cayley).

    Parameters
    ----------
    A
        Square matrix of shape `(d, d)`, real.
    step
        Length $\Delta t$ of the step, in positions; negative ones go back.
    method
        `"euler"`, `"midpoint"`, `"rk4"` or `"trapezoid"`.

    Returns
    -------
    np.ndarray
        Matrix of shape `(d, d)`, float64; it stands to the right of a row.

    Raises
    ------
    TypeError
        If `A` or `step` is not real.
    ValueError
        If `A` is not a finite square matrix, if `step` is not one finite number, or if `method`
        is unknown.

    Examples
    --------
    >>> step_matrix(generator(2), 0.5, "euler")
    array([[ 1. , -0.5],
           [ 0.5,  1. ]])

    It need not be a rotation that is solved: a decay, to second order.

    >>> step_matrix(np.array([[-1.0]]), 0.5, "midpoint")
    array([[0.625]])

    >>> step_matrix(generator(2), 2, "trapezoid")
    array([[ 0., -1.],
           [ 1.,  0.]])

    See Also
    --------
    growth : Its eigenvalues, where $A$ is a `generator`.
    """
    A = check_table("A", A)
    check_shape("A", A, (len(A), len(A)))
    hA, identity = check_number("step", step) * A, np.eye(len(A))
    if check_choice("method", method, (*ORDERS, "trapezoid")) == "trapezoid":
        return np.linalg.solve(identity - hA / 2, identity + hA / 2)
    powers = (np.linalg.matrix_power(hA, j) / math.factorial(j) for j in range(ORDERS[method] + 1))
    return sum(powers, np.zeros_like(hA))
