r"""ALiBi: a penalty on the logits that grows linearly with the distance, one slope per head.

The offset is $t = j - i$, key position minus query position, in tokens. Everything is computed
in float64.
"""

import numpy as np

from posenc._checks import (
    check_above,
    check_count,
    check_integers,
    check_number,
    check_real,
    check_shape,
)

__all__ = ["head_slopes", "horizon", "linear_bias", "logit_lead", "mass_within"]


def head_slopes(n_heads: int, exponent: float = 8.0) -> np.ndarray:
    r"""Slope of every head, in logits per token.

    $$\begin{aligned}
    m_h &= 2^{-c h / P}, \quad h \le P \\
    m_{P + r} &= 2^{-c (2 r - 1) / (2 P)} \\
    r &\le H - P \\
    P &= 2^{\lfloor \log_2 H \rfloor}
    \end{aligned}$$

    $h$ and $r$ count from 1. $P$ is the largest power of two that is at most $H$, so that only the
    first line is left if $H$ is a power of two. Otherwise the second line takes every second slope
    of $2 P$ heads: those that $P$ heads do not have.

    Parameters
    ----------
    n_heads
        Number of heads $H \ge 1$.
    exponent
        Number $c$ above 0: the slopes of a power of two end at $2^{-c}$. The paper has 8.

    Returns
    -------
    np.ndarray
        Slopes of shape `(n_heads,)`, float64, in logits per token.

    Raises
    ------
    TypeError
        If `n_heads` is not an integer, or `exponent` not a real number.
    ValueError
        If `n_heads` is less than 1, or `exponent` not finite or not above 0.

    Examples
    --------
    >>> head_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])

    Six heads: the four above, then the first and the third of eight. The slopes do not fall
    from head to head.

    >>> head_slopes(6)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625, 0.5       ,
           0.125     ])

    One head has the flattest slope of all.

    >>> head_slopes(1)
    array([0.00390625])

    >>> head_slopes(0)
    Traceback (most recent call last):
        ...
    ValueError: n_heads must be at least 1, got 0

    See Also
    --------
    linear_bias : The penalty that they make.

    References
    ----------
    Press, Smith, Lewis. *Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation*. 2021, arXiv:2108.12409, Section 3. The rule for other numbers of heads is in
    the authors' code.
    """
    H, c = check_count("n_heads", n_heads), check_above("exponent", exponent, 0)
    P = 1 << (H.bit_length() - 1)
    h, odd = np.arange(1, P + 1), np.arange(1, 2 * (H - P), 2)
    return 2.0 ** -np.concatenate([c * h / P, c * odd / (2 * P)])


def linear_bias(
    slopes: np.ndarray, offsets: np.ndarray, after: np.ndarray | None = None
) -> np.ndarray:
    r"""Bias of every head at given offsets.

    $$\begin{aligned}
    b^{(h)}_t &= m_h \min(t, 0) \\
    &\quad - m_h' \max(t, 0) \\
    t &= j - i
    \end{aligned}$$

    $m_h'$ is the slope for keys after the query. Without it both sides have one slope, and the
    bias is $-m_h |t|$.

    Parameters
    ----------
    slopes
        Slopes $m_h \ge 0$ of shape `(n_heads,)`, in logits per token. A slope of 0 makes a head
        without position.
    offsets
        Offsets $t = j - i$, real numbers of any shape, in tokens.
    after
        Slopes $m_h' \ge 0$ of shape `(n_heads,)`; `None` is `slopes`.

    Returns
    -------
    np.ndarray
        Bias of shape `(n_heads, *offsets.shape)`, float64, in logits, never above 0.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, if slopes are negative, or if the two sets of
        slopes do not have the same shape `(n_heads,)`.

    Examples
    --------
    >>> linear_bias(np.array([0.5, 0.25]), np.array([-4, -1, 0]))
    array([[-2.  , -0.5 ,  0.  ],
           [-1.  , -0.25,  0.  ]])

    Without a causal mask the distance alone counts, unless the other side has a slope of its own.

    >>> t = np.array([-2, 0, 2])
    >>> linear_bias(np.array([0.5]), t)
    array([[-1.,  0., -1.]])
    >>> linear_bias(np.array([0.5]), t, after=np.array([4.0]))
    array([[-1.,  0., -8.]])

    The sign is not an argument: slopes that favour what is far are refused.

    >>> linear_bias(np.array([-0.5]), t)
    Traceback (most recent call last):
        ...
    ValueError: slopes must be at least 0, got -0.5

    See Also
    --------
    head_slopes : The slopes of the paper.
    posenc.layers.alibi.Alibi : The bias as a layer.

    References
    ----------
    Press, Smith, Lewis. *Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation*. 2021, arXiv:2108.12409, Section 3.
    """
    before, t = _slopes("slopes", slopes), check_real("offsets", offsets)
    other = before if after is None else _slopes("after", after)
    check_shape("after", other, before.shape)
    return np.multiply.outer(before, np.minimum(t, 0)) - np.multiply.outer(other, np.maximum(t, 0))


def mass_within(
    slope: np.ndarray | float, n_tokens: np.ndarray | int, n_keys: int | None = None
) -> np.ndarray:
    r"""Share of the attention that the last tokens get if all contents are equal.

    $$\mu(L) = \frac{\sum_{d = 0}^{L - 1} e^{-m d}}{\sum_{d = 0}^{n - 1} e^{-m d}}
    = \frac{1 - e^{-m L}}{1 - e^{-m n}}$$

    Equal contents make equal scaled dot products, which the softmax ignores; what is left of
    the weight of a key at distance $d = i - j$ is $e^{-m d}$. For ever more keys the denominator
    goes to 1.

    Parameters
    ----------
    slope
        Slopes $m > 0$ of any shape, in logits per token.
    n_tokens
        Numbers $L \ge 0$ of tokens, the query's own among them; they broadcast with `slope`.
    n_keys
        Number $n \ge 1$ of keys in sight; `None` is without end.

    Returns
    -------
    np.ndarray
        Shares between 0 and 1, float64.

    Raises
    ------
    TypeError
        If `slope` is not real, or a number of tokens or keys not an integer.
    ValueError
        If slopes are empty, not finite or not above 0, or a number is too small.

    Examples
    --------
    The steepest of eight heads gives its own token 39 % and its last ten 99 %.

    >>> mass_within(0.5, np.array([1, 10])).round(2)
    array([0.39, 0.99])

    Ten keys in all, and no more than all of them.

    >>> mass_within(0.5, np.array([0, 10, 99]), n_keys=10)
    array([0., 1., 1.])

    See Also
    --------
    horizon : How many tokens get a given share.
    """
    m, L = _positive_slope(slope), check_integers("n_tokens", n_tokens)
    check_count("n_tokens", int(L.min()), at_least=0)
    n = np.inf if n_keys is None else check_count("n_keys", n_keys)
    return np.asarray(np.expm1(-m * np.minimum(L, n)) / np.expm1(-m * n))


def horizon(slope: np.ndarray | float, share: float = 0.99, content: float = 0.0) -> np.ndarray:
    r"""Fewest tokens, the last ones, that are sure to get a given share of the attention.

    $$L = \left\lceil \frac{2 C - \ln (1 - \mu)}{m} \right\rceil$$

    $C$ is how far the scaled dot products may lie from 0. With $C = 0$, equal contents, no
    smaller number would do if there is no end of keys.

    Parameters
    ----------
    slope
        Slopes $m > 0$ of any shape, in logits per token.
    share
        Share $\mu$, from 0 to below 1.
    content
        Bound $C \ge 0$ of the scaled dot products, in logits.

    Returns
    -------
    np.ndarray
        Numbers of tokens of the shape of `slope`, int64.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If slopes are empty, not finite or not above 0, if `share` is negative or not below 1, or
        if `content` is negative or not finite.

    Examples
    --------
    >>> horizon(head_slopes(8))
    array([  10,   19,   37,   74,  148,  295,  590, 1179])

    Contents between -3 and 3 can push every horizon back.

    >>> int(horizon(0.5, content=3.0))
    22

    >>> int(horizon(0.5, share=0.0))
    0

    See Also
    --------
    mass_within : The share.
    logit_lead : What one key needs to be seen from afar.
    """
    m, mu = _positive_slope(slope), _share(share)
    C = _not_negative("content", check_number("content", content))
    return np.asarray(np.ceil((2 * C - np.log1p(-mu)) / m), np.int64)


def logit_lead(slope: float, distance: int, n_keys: int, share: float = 0.5) -> float:
    r"""Lead in content that gives one far key a share of the attention, all others being equal.

    $$\begin{aligned}
    g &= m D + \ln \frac{\mu}{1 - \mu} \\
    &\quad + \ln \sum_{d \ne D} e^{-m d}, \quad d < n
    \end{aligned}$$

    $g$ is how much larger the scaled dot product of the key at the distance $D$ is than those of
    the others. The first term makes up for the penalty, the last for the crowd.

    Parameters
    ----------
    slope
        Slope $m > 0$, in logits per token.
    distance
        Distance $D = i - j$ of the key, at least 0 and less than `n_keys`.
    n_keys
        Number $n \ge 2$ of keys in sight.
    share
        Share $\mu$, above 0 and below 1.

    Returns
    -------
    float
        The lead $g$ in logits.

    Raises
    ------
    TypeError
        If `distance` or `n_keys` is not an integer, or another argument not a real number.
    ValueError
        If an argument is out of its range.

    Examples
    --------
    A key 1000 tokens back gets half of the attention of the flattest of eight heads.

    >>> round(logit_lead(2**-8, 1000, 2048), 2)
    9.45

    The steepest would need a lead that no trained head has.

    >>> round(logit_lead(2**-1, 1000, 2048), 2)
    500.93

    Two keys, and the query's own token gets half: the other is at a disadvantage of $m$.

    >>> logit_lead(0.5, 0, 2)
    -0.5

    See Also
    --------
    horizon : How far a head sees without a lead.
    """
    m, mu = check_above("slope", slope, 0), check_above("share", _share(share), 0)
    n = check_count("n_keys", n_keys, at_least=2)
    D = check_count("distance", distance, at_least=0)
    if n <= D:
        raise ValueError(f"distance must be below {n}, the number of keys, got {D}")
    nearer = np.expm1(-m * D)
    farther = np.exp(-m * (D + 1)) * np.expm1(-m * (n - 1 - D))
    crowd = np.log((nearer + farther) / np.expm1(-m))
    return float(m * D + np.log(mu) - np.log1p(-mu) + crowd)


def _slopes(name: str, value: np.ndarray) -> np.ndarray:
    """Return slopes in float64 if there is one for each head and none is negative."""
    m = check_real(name, value, min_ndim=1)
    check_shape(name, m, m.shape[:1])
    return _not_negative(name, m)


def _not_negative(name: str, value):
    if np.min(value) < 0:
        raise ValueError(f"{name} must be at least 0, got {np.min(value)}")
    return value


def _share(value: float) -> float:
    share = _not_negative("share", check_number("share", value))
    if share >= 1:
        raise ValueError(f"share must be below 1, got {value}")
    return share


def _positive_slope(value: np.ndarray | float) -> np.ndarray:
    m = check_real("slope", value)
    check_above("slope", m.min(), 0)
    return m
