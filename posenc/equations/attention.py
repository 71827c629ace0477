r"""Attention without positions, and what it can and cannot know about order.

Rows are tokens: `x` has shape `(n, d)`, queries are `q = x @ W_Q`. Query positions are $i$, key
positions $j$. Everything is computed in float64; a number that it cannot hold is refused.
"""

import itertools
from collections.abc import Callable

import numpy as np

from posenc._checks import check_batches, check_count, check_mask, check_real, check_shape

__all__ = [
    "attention",
    "attention_logits",
    "attention_weights",
    "bos_weight",
    "causal_mask",
    "linear_recurrence",
    "mixed_difference",
    "second_order_terms",
    "softmax",
]


def softmax(logits: np.ndarray, *, mask: np.ndarray | None = None) -> np.ndarray:
    r"""Turn the logits of the last axis into positive weights that sum to one.

    $$\operatorname{softmax}_j(e) = \frac{\exp e_j}{\sum_l \exp e_l}$$

    With a mask the sum runs over the permitted $l$ only, and all other weights are zero. The
    largest logit is subtracted first, which changes nothing but the range of the exponentials.

    Parameters
    ----------
    logits
        Logits $e$ of shape `(..., n)`, finite real numbers.
    mask
        Boolean array that broadcasts to the shape of `logits`; True = may look.

    Returns
    -------
    np.ndarray
        Weights of the same shape, float64.

    Raises
    ------
    TypeError
        If `logits` are not real numbers, or `mask` is not boolean.
    ValueError
        If `logits` are empty or not finite, if `mask` does not broadcast to their shape, or if
        a row of `mask` is False throughout.

    Examples
    --------
    >>> softmax(np.array([0.0, 0.0, 0.0, 0.0]))
    array([0.25, 0.25, 0.25, 0.25])

    A logit that is larger by $\ln 3$ gets three times the weight.

    >>> softmax(np.array([0.0, np.log(3)])).round(12)
    array([0.25, 0.75])

    Large logits do not overflow.

    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])

    Masked logits get no weight, however large they are.

    >>> softmax(np.array([0.0, 0.0, 9.0]), mask=np.array([True, True, False]))
    array([0.5, 0.5, 0. ])

    See Also
    --------
    attention_weights : Softmax of the logits of queries and keys.
    """
    e = check_real("logits", logits, min_ndim=1)
    if mask is not None:
        e = np.where(check_mask("mask", mask, e.shape), e, -np.inf)
    w = np.exp(e - e.max(axis=-1, keepdims=True))
    return w / w.sum(axis=-1, keepdims=True)


def attention_logits(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    r"""Score every key for every query.

    $$e_{ij} = \frac{q_i k_j^\top}{\sqrt{d_k}}$$

    If the entries of $q_i$ and $k_j$ are independent with mean 0 and variance 1, then
    $q_i k_j^\top$ has variance $d_k$, and the scale brings it back to 1.

    Parameters
    ----------
    queries
        Queries $q$ of shape `(..., n_q, d_k)`.
    keys
        Keys $k$ of shape `(..., n_k, d_k)`.

    Returns
    -------
    np.ndarray
        Logits of shape `(..., n_q, n_k)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    Width $d_k = 4$, so the dot products are halved.

    >>> q = np.array([[1.0, 1.0, 1.0, 1.0]])
    >>> k = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    >>> attention_logits(q, k)
    array([[0.5, 2. ]])

    >>> attention_logits(q, k[:, :3])
    Traceback (most recent call last):
        ...
    ValueError: keys must have shape (2, 4), got (2, 3)

    See Also
    --------
    attention_weights : The softmax of these logits.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.2.1.
    """
    q = check_real("queries", queries, min_ndim=2)
    k = check_real("keys", keys, min_ndim=2)
    check_shape("keys", k, (*k.shape[:-1], q.shape[-1]))
    check_batches(queries=q, keys=k)
    return q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])


def attention_weights(
    queries: np.ndarray, keys: np.ndarray, *, mask: np.ndarray | None = None
) -> np.ndarray:
    r"""Share out the attention of every query among the keys.

    $$\alpha_{ij} = \operatorname{softmax}_j\left(e_{ij}\right)$$

    Parameters
    ----------
    queries
        Queries $q$ of shape `(..., n_q, d_k)`.
    keys
        Keys $k$ of shape `(..., n_k, d_k)`.
    mask
        Boolean array that broadcasts to `(..., n_q, n_k)`; True = may look.

    Returns
    -------
    np.ndarray
        Weights of shape `(..., n_q, n_k)`, float64; every row sums to one.

    Raises
    ------
    TypeError
        If `queries` or `keys` are not real numbers, or `mask` is not boolean.
    ValueError
        If an argument is empty or not finite, if the shapes do not agree, or if a row of `mask`
        is False throughout.

    Examples
    --------
    Equal keys share equally.

    >>> attention_weights(np.array([[3.0]]), np.array([[1.0], [1.0]]))
    array([[0.5, 0.5]])

    A causal mask lets the first query see the first key only.

    >>> zeros = np.zeros((2, 1))
    >>> attention_weights(zeros, zeros, mask=causal_mask(2))
    array([[1. , 0. ],
           [0.5, 0.5]])

    See Also
    --------
    attention_logits : The logits $e_{ij}$.
    attention : The values, averaged with these weights.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.2.1.
    """
    return softmax(attention_logits(queries, keys), mask=mask)


def attention(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, *, mask: np.ndarray | None = None
) -> np.ndarray:
    r"""Average the values with the weights that queries and keys agree on.

    $$\begin{aligned}
    z_i &= \sum_j \alpha_{ij} v_j \\
    Z &= \operatorname{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V
    \end{aligned}$$

    Parameters
    ----------
    queries
        Queries $q$ of shape `(..., n_q, d_k)`.
    keys
        Keys $k$ of shape `(..., n_k, d_k)`.
    values
        Values $v$ of shape `(..., n_k, d_v)`.
    mask
        Boolean array that broadcasts to `(..., n_q, n_k)`; True = may look.

    Returns
    -------
    np.ndarray
        Outputs $z$ of shape `(..., n_q, d_v)`, float64.

    Raises
    ------
    TypeError
        If `queries`, `keys` or `values` are not real numbers, or `mask` is not boolean.
    ValueError
        If an argument is empty or not finite, if the shapes do not agree, or if a row of `mask`
        is False throughout.

    Examples
    --------
    Equal keys: the output is the mean of the values.

    >>> q, k, v = np.array([[1.0]]), np.array([[2.0], [2.0]]), np.array([[0.0, 4.0], [1.0, 8.0]])
    >>> attention(q, k, v)
    array([[0.5, 6. ]])

    Shuffling keys and values together changes nothing: nobody looks at the order.

    >>> attention(q, k[::-1], v[::-1])
    array([[0.5, 6. ]])

    A single key gets all of the weight.

    >>> attention(q, k[:1], v[:1])
    array([[0., 4.]])

    See Also
    --------
    attention_weights : The weights $\alpha_{ij}$.
    posenc.layers.attention.Attention : The layer that a model trains with.

    References
    ----------
    Vaswani et al. *Attention Is All You Need*. 2017, arXiv:1706.03762, Section 3.2.1,
    equation (1).
    """
    w = attention_weights(queries, keys, mask=mask)
    v = check_real("values", values, min_ndim=2)
    check_shape("values", v, (*v.shape[:-2], w.shape[-1], v.shape[-1]))
    check_batches(queries_and_keys=w, values=v)
    return w @ v


def causal_mask(n_queries: int, n_keys: int | None = None) -> np.ndarray:
    r"""Let every query look at itself and at what came before it.

    $$M_{ij} \iff j \le i + n_k - n_q$$

    The queries are the last $n_q$ of the $n_k$ tokens, as when a decoder continues from a cache.

    Parameters
    ----------
    n_queries
        Number of queries $n_q \ge 1$.
    n_keys
        Number of keys $n_k \ge n_q$; `None` means $n_q$.

    Returns
    -------
    np.ndarray
        Boolean mask of shape `(n_queries, n_keys)`; True = may look.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n_queries` is less than 1, or `n_keys` is less than `n_queries`.

    Examples
    --------
    >>> causal_mask(3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])

    Two new tokens after a cache of two.

    >>> causal_mask(2, 4).astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 1]])

    >>> causal_mask(2, 1)
    Traceback (most recent call last):
        ...
    ValueError: n_keys must be at least 2, got 1

    See Also
    --------
    bos_weight : How a causal mask alone gives positions away.
    """
    n_q = check_count("n_queries", n_queries)
    n_k = n_q if n_keys is None else check_count("n_keys", n_keys, at_least=n_q)
    i, j = np.arange(n_q)[:, None], np.arange(n_k)
    return j <= i + n_k - n_q


def bos_weight(
    position: np.ndarray | float, bos_logit: np.ndarray | float, other_logit: np.ndarray | float
) -> np.ndarray | np.float64:
    r"""Weight that a causal query gives to the first token, if all others look alike to it.

    $$\alpha_{t0} = \frac{e^{s}}{e^{s} + t\,e^{s'}}$$

    The query at position $t$ sees the first token (BOS, logit $s$) and $t$ others (logit $s'$
    each, its own among them). The weight falls like $1/t$: a mask alone tells the position.

    Parameters
    ----------
    position
        Position $t \ge 0$ of the query in tokens, real; BOS itself is at 0.
    bos_logit
        Logit $s$ of BOS.
    other_logit
        Logit $s'$ of each other token; at most 700 away from $s$, so that nothing overflows.

    Returns
    -------
    np.ndarray or np.float64
        Weights in $(0, 1]$, of the shape that the arguments broadcast to.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is not finite, a position is negative, or the logits are too far apart.

    Examples
    --------
    Equal logits: $1/(t+1)$.

    >>> bos_weight(np.array([0.0, 1.0, 3.0, 7.0]), 0.0, 0.0)
    array([1.   , 0.5  , 0.25 , 0.125])

    Only the difference of the logits counts.

    >>> bos_weight(3.0, 5.0, 5.0) == bos_weight(3.0, -5.0, -5.0)
    np.True_

    >>> bos_weight(-1.0, 0.0, 0.0)
    Traceback (most recent call last):
        ...
    ValueError: position must be at least 0, got -1.0

    See Also
    --------
    causal_mask : The mask that this weight comes from.

    References
    ----------
    Haviv et al. *Transformer Language Models without Positional Encodings Still Learn Positional
    Information*. 2022, arXiv:2203.16634.
    """
    t, s = check_real("position", position), check_real("bos_logit", bos_logit)
    gap = s - check_real("other_logit", other_logit)
    if (t < 0).any():
        raise ValueError(f"position must be at least 0, got {t.min()}")
    if (abs(gap) > 700).any():
        raise ValueError(f"bos_logit must be within 700 of other_logit, got {abs(gap).max()}")
    r = np.exp(gap)  # numerator and denominator divided by exp(s')
    return r / (r + t)


def linear_recurrence(transition: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    r"""Read the tokens one after the other, as the simplest recurrent network does.

    $$\begin{aligned}
    h_t &= h_{t-1} A + x_t, \quad h_0 = 0 \\
    \Longrightarrow\quad h_n &= \sum_{t=1}^{n} x_t A^{n-t}
    \end{aligned}$$

    The power of $A$ counts how long ago a token was read: order is built in, unless $A = I$.

    Parameters
    ----------
    transition
        Transition $A$ of shape `(d, d)`.
    inputs
        Tokens $x_1, \dots, x_n$ of shape `(n, d)`.

    Returns
    -------
    np.ndarray
        States $h_1, \dots, h_n$ of shape `(n, d)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    A state that is halved at every step.

    >>> linear_recurrence(np.array([[0.5]]), np.array([[1.0], [0.0], [4.0]]))
    array([[1.  ],
           [0.5 ],
           [4.25]])

    The same tokens in another order end elsewhere ...

    >>> linear_recurrence(np.array([[0.5]]), np.array([[4.0], [0.0], [1.0]]))[-1]
    array([2.])

    ... but not if $A = I$: then the state is a bag of words.

    >>> linear_recurrence(np.array([[1.0]]), np.array([[4.0], [0.0], [1.0]]))[-1]
    array([5.])

    See Also
    --------
    attention : Sees the same tokens without an order.
    """
    A, x = check_real("transition", transition), check_real("inputs", inputs, min_ndim=2)
    check_shape("inputs", x, x.shape[-2:])
    check_shape("transition", A, (x.shape[1], x.shape[1]))
    return np.array(list(itertools.accumulate(x, lambda h, x_t: h @ A + x_t)))


def mixed_difference(
    function: Callable[[np.ndarray], np.ndarray | float], x: np.ndarray, shifts: np.ndarray
) -> np.ndarray | np.float64:
    r"""Part of a change that several shifts cause only together.

    $$\begin{aligned}
    \Delta_{1 \dots k} f(x) = &\sum_{S \subseteq \{1, \dots, k\}} (-1)^{k - |S|} \\
    &\quad f\Big(x + \sum_{s \in S} \delta_s\Big)
    \end{aligned}$$

    It vanishes if $f$ is a sum of functions that each miss at least one of the shifts: with one
    shifted token per $\delta_s$, it is zero for a bag of words, $f(x) = \sum_j g(x_j)$, from
    $k = 2$ on, and for sums over pairs of tokens from $k = 3$ on.

    Parameters
    ----------
    function
        Function $f$ of an array like `x`.
    x
        Point $x$, for tokens of shape `(n, d)`.
    shifts
        Shifts $\delta_1, \dots, \delta_k$ of shape `(k, *x.shape)`.

    Returns
    -------
    np.ndarray or np.float64
        Mixed difference, shaped like `function(x)`.

    Raises
    ------
    TypeError
        If `x` or `shifts` do not hold real numbers.
    ValueError
        If `x` or `shifts` are empty or not finite, or if their shapes do not agree.

    Examples
    --------
    A product needs both factors, a sum does not.

    >>> shifts = np.array([[2.0, 0.0], [0.0, 3.0]])
    >>> mixed_difference(np.prod, np.array([1.0, 1.0]), shifts)
    np.float64(6.0)
    >>> mixed_difference(np.sum, np.array([1.0, 1.0]), shifts)
    np.float64(0.0)

    A single shift gives the plain difference.

    >>> mixed_difference(np.prod, np.array([1.0, 1.0]), shifts[:1])
    np.float64(2.0)

    See Also
    --------
    second_order_terms : To second order, the mixed difference is the last of these terms.
    """
    x = check_real("x", x)
    delta = check_real("shifts", shifts, min_ndim=1)
    check_shape("shifts", delta, (len(delta), *x.shape))
    terms = [
        (-1) ** (len(delta) - sum(chosen)) * function(x + np.tensordot(chosen, delta, axes=1))
        for chosen in itertools.product([0, 1], repeat=len(delta))
    ]
    return np.sum(terms, axis=0)


def second_order_terms(
    value: float, gradient: np.ndarray, hessian: np.ndarray, p_m: np.ndarray, p_n: np.ndarray
) -> np.ndarray:
    r"""Six terms of what adding positions to two tokens does to a function of them.

    $$\begin{aligned}
    f(x_m & + p_m, x_n + p_n) \approx f \\
    & + p_m \nabla_m f + p_n \nabla_n f \\
    & + \tfrac12\, p_m H_{mm} p_m^\top \\
    & + \tfrac12\, p_n H_{nn} p_n^\top \\
    & + p_m H_{mn} p_n^\top
    \end{aligned}$$

    The first term knows no position, the next four know one each, and only the sixth knows both
    $p_m$ and $p_n$. What is left out is of third order in the positions.

    Parameters
    ----------
    value
        Value $f(x_m, x_n)$.
    gradient
        Gradient of shape `(2 * d,)`: $\nabla_m f$, then $\nabla_n f$.
    hessian
        Hessian of shape `(2 * d, 2 * d)`: the blocks $H_{mm}, H_{mn}$ above $H_{nm}, H_{nn}$.
    p_m, p_n
        Positions, rows of shape `(d,)` each.

    Returns
    -------
    np.ndarray
        The six terms in the order of the formula, shape `(6,)`, float64.

    Raises
    ------
    TypeError
        If an argument does not hold real numbers.
    ValueError
        If an argument is empty or not finite, or if the shapes do not agree.

    Examples
    --------
    $f(x_m, x_n) = (x_m + x_n)^2$ at $x_m = x_n = 1$, where both terms with a half are needed:

    >>> g, H = np.array([4.0, 4.0]), np.array([[2.0, 2.0], [2.0, 2.0]])
    >>> terms = second_order_terms(4.0, g, H, np.array([0.5]), np.array([0.25]))
    >>> terms
    array([4.    , 2.    , 1.    , 0.25  , 0.0625, 0.25  ])

    A quadratic has no third order: the sum is exact.

    >>> terms.sum() == (1.5 + 1.25) ** 2
    np.True_

    Without positions only the value is left.

    >>> second_order_terms(4.0, g, H, np.array([0.0]), np.array([0.0]))
    array([4., 0., 0., 0., 0., 0.])

    See Also
    --------
    mixed_difference : Measures the sixth term without derivatives.
    """
    f, g = check_real("value", value), check_real("gradient", gradient)
    H, p, q = check_real("hessian", hessian), check_real("p_m", p_m, 1), check_real("p_n", p_n, 1)
    d = p.size
    for name, array, wanted in [
        ("value", f, ()),
        ("p_m", p, (d,)),
        ("p_n", q, (d,)),
        ("gradient", g, (2 * d,)),
        ("hessian", H, (2 * d, 2 * d)),
    ]:
        check_shape(name, array, wanted)
    m, n = slice(d), slice(d, None)
    return np.array(
        [f, p @ g[m], q @ g[n], p @ H[m, m] @ p / 2, q @ H[n, n] @ q / 2, p @ H[m, n] @ q]
    )
