r"""URPE: a Toeplitz factor on the attention weights, after the softmax.

The offset is $t = i - j$, query minus key, throughout; a token before the query has $t > 0$.
"""

import numpy as np

from posenc._checks import check_real, check_shape
from posenc.equations.attention import attention_logits, causal_mask, softmax

__all__ = ["factors_with_means", "nearest_factors", "row_means", "spread", "toeplitz", "urpe"]


def toeplitz(factors: np.ndarray) -> np.ndarray:
    r"""Lay one number per offset out as a matrix, the same along every diagonal.

    $$C_{ij} = g(i - j), \qquad 0 \le i, j < n$$

    Parameters
    ----------
    factors
        Numbers $g(-n+1), \dots, g(n-1)$ of shape `(..., 2n - 1)`.

    Returns
    -------
    np.ndarray
        Matrix $C$ of shape `(..., n, n)`, float64.

    Raises
    ------
    TypeError
        If `factors` do not hold real numbers.
    ValueError
        If `factors` are empty or not finite, or if their number is even.

    Examples
    --------
    The middle number, $g(0)$, is the diagonal; what follows it lies below.

    >>> toeplitz(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    array([[3., 2., 1.],
           [4., 3., 2.],
           [5., 4., 3.]])

    A sequence of one token has one offset.

    >>> toeplitz(np.array([7.0]))
    array([[7.]])

    >>> toeplitz(np.array([1.0, 2.0]))
    Traceback (most recent call last):
        ...
    ValueError: factors must have shape (..., 2 n - 1), got (2,)

    See Also
    --------
    row_means : What equal tokens see of it.
    """
    g = check_real("factors", factors, min_ndim=1)
    if g.shape[-1] % 2 == 0:
        raise ValueError(f"factors must have shape (..., 2 n - 1), got {g.shape}")
    i = np.arange((g.shape[-1] + 1) // 2)
    return g[..., i[:, None] - i + i[-1]]


def urpe(
    queries: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    factors: np.ndarray,
    *,
    bias: np.ndarray | float = 0.0,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    r"""Attend as usual, and multiply every weight by the factor of its offset.

    $$\begin{aligned}
    \alpha_{ij} &= \operatorname{softmax}_j\left(\frac{q_i k_j^\top}{\sqrt{d_k}} + b_{ij}\right) \\
    z_i &= \sum_j \alpha_{ij}\, g(i - j)\, v_j
    \end{aligned}$$

    Parameters
    ----------
    queries, keys, values
        $q$ and $k$ of shape `(..., n, d_k)`, $v$ of shape `(..., n, d_v)`.
    factors
        Numbers $g(-n+1), \dots, g(n-1)$ of shape `(..., 2n - 1)`.
    bias
        What another encoding adds to the logits, $b$; broadcasts to `(..., n, n)`.
    mask
        Boolean array that broadcasts to `(..., n, n)`; True = may look.

    Returns
    -------
    np.ndarray
        Outputs $z$ of shape `(..., n, d_v)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers, or `mask` is not boolean.
    ValueError
        If an argument is empty or not finite, if the shapes do not agree, or if a row of `mask`
        is False throughout.

    Examples
    --------
    Equal keys, so that every weight is a half; the factors drop what comes after the query.

    >>> q = k = np.zeros((2, 1))
    >>> v = np.array([[2.0], [8.0]])
    >>> urpe(q, k, v, np.array([0.0, 1.0, 1.0]))
    array([[1.],
           [5.]])

    Factors of one leave attention as it is.

    >>> urpe(q, k, v, np.ones(3))
    array([[5.],
           [5.]])

    See Also
    --------
    toeplitz : The factors as a matrix.
    posenc.layers.urpe.Urpe : The layer.

    References
    ----------
    Luo et al. *Your Transformer May Not be as Powerful as You Expect*. 2022, arXiv:2205.13401.
    """
    logits = attention_logits(queries, keys) + check_real("bias", bias)
    n, g = logits.shape[-2], check_real("factors", factors, min_ndim=1)
    k, v = check_real("keys", keys), check_real("values", values, min_ndim=2)
    for name, array in (("keys", k), ("values", v)):
        check_shape(name, array, (*array.shape[:-2], n, array.shape[-1]))
    check_shape("factors", g, (*g.shape[:-1], 2 * n - 1))
    return softmax(logits, mask=mask) * toeplitz(g) @ v


def row_means(factors: np.ndarray, *, causal: bool = False) -> np.ndarray:
    r"""Mean of the factors that every query meets, all weights being equal.

    $$\begin{aligned}
    y_i &= \frac1n \sum_{j=0}^{n-1} g(i - j) \\
    y_i &= \frac1{i+1} \sum_{j=0}^{i} g(i - j) \; \text{if causal}
    \end{aligned}$$

    Parameters
    ----------
    factors
        Numbers $g(-n+1), \dots, g(n-1)$ of shape `(..., 2n - 1)`.
    causal
        Let queries look only at keys up to themselves.

    Returns
    -------
    np.ndarray
        Means $y$ of shape `(..., n)`, float64.

    Raises
    ------
    TypeError
        If `factors` do not hold real numbers.
    ValueError
        If `factors` are empty or not finite, or if their number is even.

    Examples
    --------
    >>> row_means(np.array([0.0, 0.0, 3.0, 3.0, 6.0]))
    array([1., 2., 4.])

    The first query of a causal layer meets $g(0)$ alone.

    >>> row_means(np.array([0.0, 0.0, 3.0, 3.0, 6.0]), causal=True)
    array([3., 3., 4.])

    Factors that repeat after $n$ offsets have one mean: they tell no position.

    >>> row_means(np.array([1.0, 5.0, 0.0, 1.0, 5.0]))
    array([2., 2., 2.])

    See Also
    --------
    factors_with_means : Goes the other way.
    """
    C = toeplitz(factors)
    n = C.shape[-1]
    looks = causal_mask(n) if causal else np.ones((n, n))
    return (C * looks).sum(axis=-1) / looks.sum(axis=-1)


def factors_with_means(means: np.ndarray, *, causal: bool = False) -> np.ndarray:
    r"""Find factors with given row means; those of keys after the query are zero.

    $$\begin{aligned}
    g(0) &= c_0\, y_0 \\
    g(t) &= c_t\, y_t - c_{t-1}\, y_{t-1} \\
    g(-t) &= 0, \quad 0 < t < n
    \end{aligned}$$

    All $c_t$ are $n$; if causal, $c_t = t + 1$.

    Parameters
    ----------
    means
        Wanted means $y_0, \dots, y_{n-1}$ of shape `(..., n)`.
    causal
        Let queries look only at keys up to themselves.

    Returns
    -------
    np.ndarray
        Factors $g(-n+1), \dots, g(n-1)$ of shape `(..., 2n - 1)`, float64.

    Raises
    ------
    TypeError
        If `means` do not hold real numbers.
    ValueError
        If `means` are empty or not finite.

    Examples
    --------
    The position itself, $y_i = i$.

    >>> factors_with_means(np.arange(4))
    array([0., 0., 0., 0., 4., 4., 4.])
    >>> row_means(factors_with_means(np.arange(4)))
    array([0., 1., 2., 3.])

    With a causal mask, $g(t) = 2t$.

    >>> factors_with_means(np.arange(4), causal=True)
    array([0., 0., 0., 0., 2., 4., 6.])

    See Also
    --------
    nearest_factors : Others with the same means, nearer to one.
    """
    y = check_real("means", means, min_ndim=1)
    n = y.shape[-1]
    sums = y * (np.arange(1, n + 1) if causal else n)
    after = np.zeros((*y.shape[:-1], n - 1))
    return np.concatenate([after, sums[..., :1], np.diff(sums)], axis=-1)


def nearest_factors(means: np.ndarray) -> np.ndarray:
    r"""Of all factors with given row means, find those that are nearest to one.

    $$\begin{aligned}
    s_i &= n\,(y_i - 1) \\
    c &= (s_0 + s_{n-1}) / (n + 1) \\
    g(0) &= 1 + c \\
    g(t) &= 1 + \tfrac12 \left(c + s_t - s_{t-1}\right) \\
    g(t - n) &= 1 + \tfrac12 \left(c - s_t + s_{t-1}\right), \\
    &\qquad 0 < t < n
    \end{aligned}$$

    Here $s_i$ is what the sum of row $i$ lacks while all factors are one.

    Gradient descent that begins with factors of one, and trains nothing else, ends here.

    Parameters
    ----------
    means
        Wanted means $y_0, \dots, y_{n-1}$ of shape `(..., n)`.

    Returns
    -------
    np.ndarray
        Factors $g(-n+1), \dots, g(n-1)$ of shape `(..., 2n - 1)`, float64.

    Raises
    ------
    TypeError
        If `means` do not hold real numbers.
    ValueError
        If `means` are empty or not finite.

    Examples
    --------
    A ramp needs two levels, one for each side.

    >>> nearest_factors(np.arange(3) / 2)
    array([-0.125, -0.125,  0.25 ,  1.375,  1.375])
    >>> row_means(nearest_factors(np.arange(3) / 2))
    array([0. , 0.5, 1. ])

    If the means are one, nothing has to change.

    >>> nearest_factors(np.ones(3))
    array([1., 1., 1., 1., 1.])

    See Also
    --------
    factors_with_means : The simplest factors with these means.
    """
    y = check_real("means", means, min_ndim=1)
    n = y.shape[-1]
    s = n * (y - 1)
    c, steps = (s[..., :1] + s[..., -1:]) / (n + 1), np.diff(s)
    return 1 + np.concatenate([(c - steps) / 2, c, (c + steps) / 2], axis=-1)


def spread(outputs: np.ndarray) -> np.float64:
    r"""Measure how far the outputs at different positions lie apart.

    $$\max_c\, \bigl(\max_i z_{ic} - \min_i z_{ic}\bigr)$$

    If all tokens are the same and the spread is zero, no position can be told from another.

    Parameters
    ----------
    outputs
        Outputs $z$ of shape `(..., n, d)`, one row per position.

    Returns
    -------
    np.float64
        Largest difference of a number between two positions, in all sequences.

    Raises
    ------
    TypeError
        If `outputs` do not hold real numbers.
    ValueError
        If `outputs` are empty or not finite, or have fewer than two axes.

    Examples
    --------
    >>> spread(np.array([[1.0, 5.0], [1.5, 5.0], [0.5, 5.0]]))
    np.float64(1.0)

    One position differs from no other.

    >>> spread(np.array([[1.0, 5.0]]))
    np.float64(0.0)

    See Also
    --------
    urpe : Its outputs differ for equal tokens.
    """
    return np.ptp(check_real("outputs", outputs, min_ndim=2), axis=-2).max()
