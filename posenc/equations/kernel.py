r"""What two position vectors say to each other: the kernel of the sinusoidal encoding.

The offset is $k = i - j$, query position minus key position, in tokens. Columns are interleaved.
Everything is computed in float64; a number that it cannot hold is refused.
"""

import bisect
import math

import numpy as np

from posenc._checks import (
    check_above,
    check_count,
    check_multiple,
    check_real,
    check_shape,
    check_table,
)
from posenc.equations.attention import attention_logits
from posenc.equations.sinusoidal import frequencies

__all__ = [
    "first_negative",
    "four_terms",
    "kernel",
    "kernel_limit",
    "log_decay",
    "power_limit",
    "relative_part",
    "smallest_base",
    "toeplitz_share",
    "zero_crossing",
]


def four_terms(
    tokens: np.ndarray, position_vectors: np.ndarray, w_query: np.ndarray, w_key: np.ndarray
) -> np.ndarray:
    r"""Split the logits of token plus position into the four products that they are the sum of.

    $$\begin{aligned}
    e_{ij} = \frac{1}{\sqrt{d_k}} \big( & x_i W^Q (x_j W^K)^\top \\
    + & x_i W^Q (p_j W^K)^\top \\
    + & p_i W^Q (x_j W^K)^\top \\
    + & p_i W^Q (p_j W^K)^\top \big)
    \end{aligned}$$

    Parameters
    ----------
    tokens
        Token vectors $x$ of shape `(n, d)`.
    position_vectors
        Position vectors $p$ of shape `(n, d)`.
    w_query, w_key
        Maps $W^Q$ and $W^K$ of shape `(d, d_k)`.

    Returns
    -------
    np.ndarray
        Terms of shape `(4, n, n)`, float64, scale included, in the order of the formula: token
        and token, token and position, position and token, position and position.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    The first factor belongs to the query $i$, the second to the key $j$.

    >>> x, p, w = np.array([[1.0], [2.0]]), np.array([[10.0], [20.0]]), np.array([[1.0]])
    >>> four_terms(x, p, w, w)
    array([[[  1.,   2.],
            [  2.,   4.]],
    <BLANKLINE>
           [[ 10.,  20.],
            [ 20.,  40.]],
    <BLANKLINE>
           [[ 10.,  20.],
            [ 20.,  40.]],
    <BLANKLINE>
           [[100., 200.],
            [200., 400.]]])

    Together they are the logits of the sums.

    >>> four_terms(x, p, w, w).sum(axis=0)
    array([[121., 242.],
           [242., 484.]])

    See Also
    --------
    posenc.equations.attention.attention_logits : The sum of the four.
    relative_part : When the last one depends on the offset alone.
    """
    x, p = check_table("tokens", tokens), check_real("position_vectors", position_vectors)
    W_Q, W_K = check_real("w_query", w_query, min_ndim=2), check_real("w_key", w_key)
    check_shape("position_vectors", p, x.shape)
    check_shape("w_query", W_Q, (x.shape[1], W_Q.shape[-1]))
    check_shape("w_key", W_K, W_Q.shape)
    both = np.stack([x, p])
    return np.concatenate(attention_logits((both @ W_Q)[:, None], both @ W_K))


def relative_part(matrix: np.ndarray) -> np.ndarray:
    r"""Part of a bilinear form that sees the offset of two sinusoidal encodings and nothing else.

    $$\begin{aligned}
    A_\parallel &= \bigoplus_m \left( \alpha_m I + \beta_m J \right) \\
    J &= \begin{pmatrix} 0 & 1 \\ -1 & 0 \end{pmatrix} \\
    \alpha_m &= \tfrac12 \left( A_{2m,\,2m} + A_{2m+1,\,2m+1} \right) \\
    \beta_m &= \tfrac12 \left( A_{2m,\,2m+1} - A_{2m+1,\,2m} \right)
    \end{aligned}$$

    $p_i A p_j^\top$ depends on $i - j$ alone if and only if $A = A_\parallel$; it is then
    $\sum_m \alpha_m \cos \theta_m (i - j) + \beta_m \sin \theta_m (i - j)$.

    Parameters
    ----------
    matrix
        Matrix $A$ of shape `(d, d)`, for example $W^Q (W^K)^\top$; $d$ even, columns interleaved.

    Returns
    -------
    np.ndarray
        Matrix $A_\parallel$ of shape `(d, d)`, float64.

    Raises
    ------
    TypeError
        If `matrix` does not hold real numbers.
    ValueError
        If `matrix` is empty or not finite, not square, or of odd width.

    Examples
    --------
    >>> relative_part(np.array([[1.0, 2.0], [4.0, 7.0]]))
    array([[ 4., -1.],
           [ 1.,  4.]])

    Of what joins different frequencies nothing remains.

    >>> relative_part(np.ones((4, 4)))
    array([[1., 0., 0., 0.],
           [0., 1., 0., 0.],
           [0., 0., 1., 0.],
           [0., 0., 0., 1.]])

    >>> relative_part(np.ones((3, 3)))
    Traceback (most recent call last):
        ...
    ValueError: width of matrix must be a multiple of 2, got 3

    See Also
    --------
    toeplitz_share : How much of a matrix of products the offset explains.
    """
    A = check_real("matrix", matrix, min_ndim=2)
    d = check_multiple("width of matrix", A.shape[-1], 2)
    check_shape("matrix", A, (d, d))
    J = np.kron(np.eye(d // 2), [[0, 1], [-1, 0]])
    same_frequency = np.kron(np.eye(d // 2), np.ones((2, 2)))
    return same_frequency * (A + J @ A @ J.T) / 2


def toeplitz_share(products: np.ndarray) -> float:
    r"""Share of the variance of a matrix of products that the offset alone explains.

    $$1 - \frac{\sum_{ij} \left( E_{ij} - \bar E_{i-j} \right)^2}
    {\sum_{ij} \left( E_{ij} - \bar E \right)^2}$$

    $\bar E_k$ is the mean of the diagonal $i - j = k$, and $\bar E$ that of all entries.

    Parameters
    ----------
    products
        Products $E$ of query and key, of shape `(n_q, n_k)`, not all the same.

    Returns
    -------
    float
        Share in $[0, 1]$; 1 for a Toeplitz matrix.

    Raises
    ------
    TypeError
        If `products` do not hold real numbers.
    ValueError
        If `products` are empty or not finite, not a matrix, or all the same.

    Examples
    --------
    >>> toeplitz_share(np.array([[0.0, 1.0], [2.0, 0.0]]))
    1.0
    >>> toeplitz_share(np.array([[1.0, 0.0], [0.0, -1.0]]))
    0.0

    Where nothing varies there is nothing to explain.

    >>> toeplitz_share(np.ones((2, 2)))
    Traceback (most recent call last):
        ...
    ValueError: products must not all be the same, got 1.0

    See Also
    --------
    relative_part : The matrices for which the share is 1.
    """
    E = check_table("products", products)
    if (E[0, 0] == E).all():
        raise ValueError(f"products must not all be the same, got {E[0, 0]}")
    diagonal = np.add.outer(np.arange(len(E)), np.arange(E.shape[1])[::-1]).ravel()
    mean = np.bincount(diagonal, E.ravel()) / np.bincount(diagonal)
    return 1 - float(np.var(E.ravel() - mean[diagonal]) / np.var(E))


def kernel(
    offsets: np.ndarray | float, d_model: int, base: float = 10000.0, *, spacing: str = "paper"
) -> np.ndarray | np.float64:
    r"""Cosine similarity of two position vectors, given the offset between them.

    $$S(k) = \frac{2}{d} \sum_{m=0}^{d/2-1} \cos(k\,\theta_m)$$

    Every position vector has the squared length $d/2$, so that $p_i p_j^\top = \frac{d}{2} S(i-j)$.

    Parameters
    ----------
    offsets
        Offsets $k = i - j$, real numbers of any shape, in tokens; the sign does not matter.
    d_model
        Width $d$, even.
    base, spacing
        As in `posenc.equations.sinusoidal.frequencies`.

    Returns
    -------
    np.ndarray or np.float64
        Similarities in $[-1, 1]$, of the shape of `offsets`, float64.

    Raises
    ------
    TypeError
        If `offsets` or `base` are not real numbers, or `d_model` is not an integer.
    ValueError
        If `offsets` are empty or not finite, if `d_model` is not a positive multiple of 2, if
        `base` is not finite or not above 1, or if `spacing` is unknown.

    Examples
    --------
    >>> kernel(np.array([0, 1, -1, 512]), 512).round(4)
    array([1.    , 0.9731, 0.9731, 0.2763])

    One pair of columns is one cosine.

    >>> bool(kernel(2.0, 2) == np.cos(2))
    True

    >>> kernel(1.0, 3)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 2, got 3

    See Also
    --------
    posenc.equations.sinusoidal.sinusoidal : The position vectors.
    kernel_limit : What it tends to with growing width.
    """
    check_multiple("d_model", d_model, 2)
    theta = frequencies(d_model, base, spacing=spacing)
    return np.cos(check_real("offsets", offsets)[..., None] * theta).mean(axis=-1)


def kernel_limit(offsets: np.ndarray | float, base: float = 10000.0) -> np.ndarray | np.float64:
    r"""Integral that the kernel tends to when the width grows and the offset stays.

    $$\begin{aligned}
    F_b(k) &= \int_0^1 \cos\left(k\,b^{-t}\right) dt \\
    &= \frac{\operatorname{Ci}(k) - \operatorname{Ci}(k/b)}{\ln b}
    \end{aligned}$$

    The second line needs $k > 0$; the integral is even, and 1 at $k = 0$. Rounding leaves an error
    of about $10^{-15} / \ln b$.

    Parameters
    ----------
    offsets
        Offsets $k$, real numbers of any shape, in tokens; the sign does not matter.
    base
        Base $b > 1$.

    Returns
    -------
    np.ndarray or np.float64
        Values in $[-1, 1]$, of the shape of `offsets`, float64.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    TypeError
        If `offsets` or `base` are not real numbers.
    ValueError
        If `offsets` are empty or not finite, or if `base` is not finite or not above 1.

    Examples
    --------
    >>> kernel_limit(np.array([0, 1, -1, 512, 4096])).round(4)
    array([1.    , 0.974 , 0.974 , 0.2601, 0.0387])

    A smaller base decays sooner.

    >>> kernel_limit(512, base=1000).round(4)
    np.float64(0.0228)

    See Also
    --------
    kernel : The sum of which this is the integral.
    log_decay : What it looks like between 1 and $b$.
    zero_crossing : Where it changes sign.
    power_limit : The same for frequencies that are spaced otherwise.
    """
    k, b = abs(check_real("offsets", offsets)), check_above("base", base, 1)
    far = np.maximum(k, 1e-4)
    F = (_cosine_integral(far) - _cosine_integral(far / b)) / np.log(b)
    near = 1 - np.minimum(k, 1e-4) ** 2 * (1 - b**-2) / (4 * np.log(b))  # next term is below 1e-16
    return np.where(k < 1e-4, near, F)[()]


def _cosine_integral(x: np.ndarray) -> np.ndarray:
    """Ci(x) = -∫_x^∞ cos(t)/t dt for x > 0."""
    try:
        from scipy.special import sici
    except ImportError as error:
        text = "the cosine integral needs SciPy: pip install 'posenc[scipy]'"
        raise ImportError(text) from error
    return sici(x)[1]


def log_decay(offsets: np.ndarray | float, base: float = 10000.0) -> np.ndarray | np.float64:
    r"""Straight line over the logarithm of the offset, which the integral follows.

    $$F_b(k) \approx 1 - \frac{\ln |k| + \gamma}{\ln b}$$

    This holds for $1 \ll |k| \ll b$; $\gamma = 0.5772\dots$ is the constant of Euler and
    Mascheroni.

    Parameters
    ----------
    offsets
        Offsets $k \ne 0$, real numbers of any shape, in tokens; the sign does not matter.
    base
        Base $b > 1$.

    Returns
    -------
    np.ndarray or np.float64
        Values of the shape of `offsets`, float64.

    Raises
    ------
    TypeError
        If `offsets` or `base` are not real numbers.
    ValueError
        If `offsets` are empty, zero or not finite, or if `base` is not finite or not above 1.

    Examples
    --------
    A factor of ten costs a quarter if the base is $10^4$.

    >>> log_decay(np.array([10, 100, 1000])).round(4)
    array([0.6873, 0.4373, 0.1873])

    >>> log_decay(0)
    Traceback (most recent call last):
        ...
    ValueError: offsets must not be zero, got 0.0

    See Also
    --------
    kernel_limit : The integral itself.
    """
    k, b = abs(check_real("offsets", offsets)), check_above("base", base, 1)
    if (k == 0).any():
        raise ValueError(f"offsets must not be zero, got {k.min()}")
    return 1 - (np.log(k) + np.euler_gamma) / np.log(b)


def power_limit(offsets: np.ndarray | float, exponent: int) -> np.ndarray | np.float64:
    r"""Limit of the kernel for the frequencies $t^a$ in place of $b^{-t}$.

    $$\begin{aligned}
    G_a(k) &= \int_0^1 \cos\left(k\,t^a\right) dt \\
    &= \operatorname{Re} \left[ \Gamma\left(1 + \tfrac{1}{a}\right)
    \left(\frac{\mathrm{i}}{k}\right)^{1/a} \right. \\
    &\quad \left. - \frac{\mathrm{i}\,e^{\mathrm{i}k}}{a k} \int_0^\infty e^{-v}
    \left(1 + \frac{\mathrm{i}v}{k}\right)^{1/a - 1} dv \right]
    \end{aligned}$$

    The second form, used from $k = 20$ on, leaves the real axis at 0 and comes back to it at 1,
    along paths on which $e^{\mathrm{i}k t^a}$ decays and does not oscillate.

    Parameters
    ----------
    offsets
        Offsets $k$, real numbers of any shape, in tokens; the sign does not matter.
    exponent
        Exponent $a \ge 1$, an integer up to 40.

    Returns
    -------
    np.ndarray or np.float64
        Values in $[-1, 1]$, of the shape of `offsets`, float64.

    Raises
    ------
    TypeError
        If `offsets` are not real numbers, or `exponent` is not an integer.
    ValueError
        If `offsets` are empty or not finite, or if `exponent` is less than 1 or more than 40.

    Examples
    --------
    >>> [float(power_limit(512, a).round(4)) for a in (1, 3, 6)]
    [0.0002, 0.0967, 0.3168]

    Evenly spaced frequencies give $\sin(k) / k$.

    >>> k = np.array([1.0, 100.0])
    >>> bool(np.allclose(power_limit(k, 1), np.sin(k) / k, rtol=0, atol=1e-15))
    True

    See Also
    --------
    kernel_limit : The same for the frequencies of the paper.
    """
    k, a = abs(check_real("offsets", offsets)), check_count("exponent", exponent)
    if a > 40:
        raise ValueError(f"exponent must be at most 40, got {a}")
    t, t_weights = np.polynomial.legendre.leggauss(100)
    v, v_weights = np.polynomial.laguerre.laggauss(24)
    near, far = np.minimum(k, 20), np.maximum(k, 20)
    on_axis = np.cos(near[..., None] * ((1 + t) / 2) ** a) @ t_weights / 2
    from_0 = math.gamma(1 + 1 / a) * (1j / far) ** (1 / a)
    integral = (1 + 1j * v / far[..., None]) ** (1 / a - 1) @ v_weights
    from_1 = 1j * np.exp(1j * far) / a / far * integral
    return np.where(k < 20, on_axis, (from_0 - from_1).real)[()]


def zero_crossing(base: float = 10000.0) -> float:
    r"""Offset at which the integral changes sign for the first time.

    $$F_b(k_0) = 0, \qquad k_0 \to 0.6165\, b$$

    The factor is the first zero of the cosine integral. The integral falls in steps, and near
    $k_0$ it may rise a little before the next one: of several zeros the first is returned.

    Parameters
    ----------
    base
        Base $1 < b \le 10^{12}$.

    Returns
    -------
    float
        Zero $k_0$ in tokens.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    TypeError
        If `base` is not a real number.
    ValueError
        If `base` is not above 1, or above $10^{12}$.

    Examples
    --------
    >>> round(zero_crossing(), 2)
    6166.03

    A base near 1 leaves a single cosine.

    >>> round(zero_crossing(1.01) / (np.pi / 2), 2)
    1.0

    >>> zero_crossing(1e13)
    Traceback (most recent call last):
        ...
    ValueError: base must be at most 1e12, got 10000000000000.0

    See Also
    --------
    first_negative : The same for the sum, which changes sign earlier.
    """
    b = check_above("base", base, 1)
    if b > 1e12:
        raise ValueError(f"base must be at most 1e12, got {base}")
    valley = 2 * np.pi / (1 + 1 / b)  # F falls up to its multiples, and rises a little after
    waves = range(1, int(b / 4) + 1)
    m = 1 + bisect.bisect_left(waves, True, key=lambda m: kernel_limit(m * valley, b) < 0)
    from scipy.optimize import root_scalar

    return root_scalar(kernel_limit, args=(b,), bracket=(0, m * valley)).root


def first_negative(d_model: int, base: float = 10000.0) -> int:
    r"""First offset in whole tokens at which the kernel is negative.

    $$\min \left\{ k \in \mathbb{N} : S(k) < 0 \right\}$$

    It exists for every width and base, and the search takes time in proportion to it.

    Parameters
    ----------
    d_model
        Width $d$, even.
    base
        Base $b > 1$.

    Returns
    -------
    int
        Offset $k$ in tokens.

    Raises
    ------
    TypeError
        If `d_model` is not an integer, or `base` not a real number.
    ValueError
        If `d_model` is not a positive multiple of 2, or if `base` is not finite or not above 1.

    Examples
    --------
    >>> [first_negative(d, base=1000) for d in (128, 512, 768)]
    [361, 474, 526]

    A single cosine is negative beyond $\pi/2$, whatever the base.

    >>> first_negative(2)
    2

    See Also
    --------
    smallest_base : The base that an offset asks for.
    zero_crossing : The same for the integral.
    """
    start = 0
    while not (negative := kernel(np.arange(start, start + 1000), d_model, base) < 0).any():
        start += 1000
    return start + int(negative.argmax())


def smallest_base(length: int, d_model: int) -> float:
    r"""Smallest base for which the kernel is nowhere negative within a length.

    $$\min \left\{ b : S(k) \ge 0,\; 0 \le k < L \right\}$$

    The powers of 1.001 are tried from below, so that a narrower window of bases may be missed.

    Parameters
    ----------
    length
        Length $L \ge 1$ in tokens.
    d_model
        Width $d \ge 4$, even: no base makes a single cosine positive.

    Returns
    -------
    float
        Base $b$, a power of 1.001.

    Raises
    ------
    TypeError
        If an argument is not an integer.
    ValueError
        If `length` is less than 1, or if `d_model` is less than 4 or odd.

    Examples
    --------
    >>> round(smallest_base(512, 128))
    2068

    A larger base may fail again.

    >>> first_negative(128, base=2800) < 512
    True

    Two tokens are content with any base.

    >>> smallest_base(2, 128)
    1.001

    See Also
    --------
    first_negative : The length that a base is good for.

    References
    ----------
    Men et al. *Base of RoPE Bounds Context Length*. 2024, arXiv:2405.14591.
    """
    n, d = check_count("length", length), check_count("d_model", d_model, at_least=4)
    suspects, power = [n - 1], 1
    while True:
        while (kernel(np.array(suspects), d, 1.001**power) < 0).any():
            power += 1
        S = kernel(np.arange(n), d, 1.001**power)
        if S.min() >= 0:
            return 1.001**power
        suspects.append(int(S.argmin()))
