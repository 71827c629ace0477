"""Two tasks whose exact answer is known, and what a decoder without positions can know."""

import numpy as np

from posenc._checks import check_count, check_number, check_real, check_shape

__all__ = [
    "bos_weight",
    "chain",
    "counted_entropy",
    "divergence",
    "order_entropies",
    "pair_law",
]


def pair_law(law: np.ndarray) -> np.ndarray:
    r"""How often two symbols follow each other, far from the beginning of the chain.

    $$\begin{aligned}
    \pi_{bc} &= \sum_a \pi_{ab}\, P_{abc} \\
    \sum_{a,b} \pi_{ab} &= 1
    \end{aligned}$$

    $P_{abc}$ is the probability that $c$ follows the pair $a, b$. As all of them are above 0, there
    is one such law, and the chain that starts with it keeps it.

    Parameters
    ----------
    law
        Probabilities $P$ of shape `(S, S, S)`, above 0, that sum to 1 along the last axis.

    Returns
    -------
    np.ndarray
        Probabilities $\pi$ of shape `(S, S)`, float64.

    Raises
    ------
    TypeError
        If `law` is not real.
    ValueError
        If `law` has another shape, a number that is not above 0, or rows that do not sum to 1.

    Examples
    --------
    Whatever the last pair was, 1 follows with probability 3/4.

    >>> law = np.broadcast_to([0.25, 0.75], (2, 2, 2))
    >>> pair_law(law).round(4)
    array([[0.0625, 0.1875],
           [0.1875, 0.5625]])

    >>> pair_law(np.ones((1, 1, 1)))
    array([[1.]])

    See Also
    --------
    chain : Draws such sequences.
    order_entropies : What is left to guess.
    """
    P = _check_law(law)
    S = len(P)
    step = np.zeros((S, S, S, S))  # from the pair (a, b) to the pair (b, c)
    a, b, c = np.indices(P.shape)
    step[a, b, b, c] = P
    flow = step.reshape(S * S, S * S).T - np.eye(S * S)
    flow[0] = 1  # one of the equations follows from the others: in its place, the sum is 1
    return np.linalg.solve(flow, np.eye(S * S)[0]).reshape(S, S)


def order_entropies(law: np.ndarray) -> np.ndarray:
    r"""Entropy of the next symbol for whoever knows none, one or two of the last symbols.

    $$\begin{aligned}
    H_0 &= -\sum_c \pi_c \ln \pi_c \\
    H_1 &= -\sum_{b,c} \pi_{bc} \ln \frac{\pi_{bc}}{\pi_b} \\
    H_2 &= -\sum_{a,b,c} \pi_{ab}\, P_{abc} \ln P_{abc}
    \end{aligned}$$

    $H_2$ is the entropy of the chain per symbol: no model loses less on average. Here
    $\pi_c = \sum_b \pi_{bc}$.

    Parameters
    ----------
    law
        Probabilities $P$ of shape `(S, S, S)`, as in `pair_law`.

    Returns
    -------
    np.ndarray
        Entropies $H_0 \ge H_1 \ge H_2$, in nats, of shape `(3,)`, float64.

    Raises
    ------
    TypeError
        If `law` is not real.
    ValueError
        If `law` is no law, see `pair_law`.

    Examples
    --------
    The next symbol is that before last, with probability 3/4: the last one says nothing.

    >>> law = np.full((2, 2, 2), 0.25)
    >>> law[[0, 1], :, [0, 1]] = 0.75
    >>> order_entropies(law).round(4)
    array([0.6931, 0.6931, 0.5623])

    Where nothing depends on anything, all three are the same.

    >>> order_entropies(np.full((2, 2, 2), 0.5)).round(4)
    array([0.6931, 0.6931, 0.6931])

    See Also
    --------
    divergence : How far a model is from the law.
    """
    P = _check_law(law)
    triple = pair_law(P)[..., None] * P
    known = [triple.sum((0, 1)), triple.sum(0), triple]
    conditional = [p / p.sum(-1, keepdims=True) for p in known]
    return np.array([-np.sum(p * np.log(q)) for p, q in zip(known, conditional, strict=True)])


def chain(law: np.ndarray, u: np.ndarray) -> np.ndarray:
    r"""Turn uniform random numbers into sequences that follow the law from the first symbol on.

    $$x_t = \min \left\{ c : u_t < \sum_{c' \le c} P(c' \mid x_{t-2}, x_{t-1}) \right\}$$

    The first two symbols follow `pair_law`, so that no stretch of a sequence differs from another.

    Parameters
    ----------
    law
        Probabilities $P$ of shape `(S, S, S)`, as in `pair_law`.
    u
        Numbers in $[0, 1)$ of shape `(..., n)`, with $n \ge 2$ symbols a sequence.

    Returns
    -------
    np.ndarray
        Symbols $0 \dots S - 1$ of the shape of `u`, int64.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If `law` is no law, see `pair_law`; or if `u` has fewer than two symbols a sequence, or a
        number outside $[0, 1)$.

    Examples
    --------
    >>> law = np.full((2, 2, 2), 0.25)
    >>> law[[0, 1], :, [0, 1]] = 0.75
    >>> chain(law, np.array([0.1, 0.9, 0.5, 0.5, 0.8, 0.5])).tolist()
    [0, 1, 0, 1, 1, 1]

    Several at once.

    >>> chain(law, np.array([[0.1, 0.1], [0.9, 0.9]])).tolist()
    [[0, 0], [1, 1]]

    >>> chain(law, np.array([0.5, 1.0]))
    Traceback (most recent call last):
        ...
    ValueError: u must be in [0, 1), got 1.0

    See Also
    --------
    pair_law : Where the first two come from.
    """
    P, u = _check_law(law), check_real("u", u, min_ndim=1)
    check_count("number of symbols of u", u.shape[-1], at_least=2)
    if np.any(outside := (u < 0) | (u >= 1)):
        raise ValueError(f"u must be in [0, 1), got {u[outside][0]}")
    pairs = pair_law(P)
    first = _invert(pairs.sum(1), u[..., 0])
    drawn = [first, _invert((pairs / pairs.sum(1, keepdims=True))[first], u[..., 1])]
    for t in range(2, u.shape[-1]):
        drawn.append(_invert(P[drawn[-2], drawn[-1]], u[..., t]))
    return np.stack(drawn, axis=-1)


def divergence(p: np.ndarray, log_q: np.ndarray) -> np.ndarray | np.float64:
    r"""Kullback–Leibler divergence of what a model says from the law.

    $$D(p \,\|\, q) = \sum_c p_c\, (\ln p_c - \ln q_c)$$

    It is the model's average loss minus the least possible one, and needs no drawn symbol.

    Parameters
    ----------
    p
        Probabilities above 0 of shape `(..., S)`.
    log_q
        Logarithms of the model's probabilities, of the same shape.

    Returns
    -------
    np.ndarray or np.float64
        Divergences of shape `(...)`, in nats, float64; 0 if and only if both are the same.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If the shapes differ, or a number of `p` is not above 0.

    Examples
    --------
    >>> divergence(np.array([0.5, 0.5]), np.log([0.25, 0.75])).round(4)
    np.float64(0.1438)

    >>> divergence(np.array([[0.5, 0.5]]), np.log([[0.5, 0.5]]))
    array([0.])

    See Also
    --------
    order_entropies : The divergence of a model that knows too little.
    """
    p, log_q = check_real("p", p, min_ndim=1), check_real("log_q", log_q, min_ndim=1)
    check_shape("log_q", log_q, p.shape)
    if not np.all(p > 0):
        raise ValueError(f"p must be above 0, got {p.min()}")
    return np.sum(p * (np.log(p) - log_q), axis=-1)


def counted_entropy(n: int, n_symbols: int) -> float:
    r"""Entropy of the key for whoever only counts symbols: the key, and noise of the same kind.

    $$\begin{aligned}
    H_n &= -\sum_{k=0}^{n-1} p_k \ln \frac{1 + k}{n} \\
    p_k &= \binom{n - 1}{k} \frac{(S - 1)^{n-1-k}}{S^{n-1}}
    \end{aligned}$$

    Of $n$ symbols one is the key and the others are drawn uniformly. Who sees the counts $n_c$ and
    not the places knows the key with the probabilities $n_c / n$; $p_k$ is the probability that the
    key occurs $k$ times in the noise.

    Parameters
    ----------
    n
        Number of symbols $n \ge 1$ seen so far, the key among them.
    n_symbols
        Number $S \ge 1$ of different symbols.

    Returns
    -------
    float
        Entropy, in nats: 0 for one symbol, and $\ln S$ in the limit.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is less than 1.

    Examples
    --------
    Two coins, one of them the key: half of the time they differ, which leaves ln 2 = 0.6931.

    >>> round(counted_entropy(2, 2), 4)
    0.3466

    >>> counted_entropy(1, 8), counted_entropy(9, 1)
    (0.0, 0.0)

    See Also
    --------
    order_entropies : The same question about the other task.
    """
    check_count("n", n)
    S = check_count("n_symbols", n_symbols)
    p = np.ones(1)  # law of the number of hits, one symbol of noise after the other
    for _ in range(n - 1):
        p = (np.append(p * (S - 1), 0) + np.append(0, p)) / S
    return float(p @ -np.log(np.arange(1, n + 1) / n)) + 0.0


def bos_weight(t: np.ndarray | float, bos: float, other: float) -> np.ndarray | np.float64:
    r"""Weight that a causal head without positions puts on the first token.

    $$\alpha_t = \frac{e^s}{e^s + t\, e^{s'}}$$

    The query at position $t$ sees the first token, with logit $s$, and $t$ others, all with logit
    $s'$. The weight falls with $t$: it tells the position.

    Parameters
    ----------
    t
        Positions, at least 0, of any shape.
    bos, other
        Logits $s$ of the first token and $s'$ of the others.

    Returns
    -------
    np.ndarray or np.float64
        Weights in $(0, 1]$, of the shape of `t`, float64.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is not finite, or a position negative.

    Examples
    --------
    >>> bos_weight(np.array([0, 1, 3]), 0.0, 0.0)
    array([1.  , 0.5 , 0.25])

    >>> bos_weight(7, np.log(7), 0.0).round(4)
    np.float64(0.5)

    >>> bos_weight(-1, 0.0, 0.0)
    Traceback (most recent call last):
        ...
    ValueError: t must be at least 0, got -1.0

    References
    ----------
    Haviv, Ram, Press, Izsak, Levy. *Transformer Language Models without Positional Encodings Still
    Learn Positional Information*. 2022, arXiv:2203.16634.
    """
    t = check_real("t", t)
    if np.any(t < 0):
        raise ValueError(f"t must be at least 0, got {t.min()}")
    return 1 / (1 + t * np.exp(check_number("other", other) - check_number("bos", bos)))


def _invert(law: np.ndarray, u: np.ndarray | np.float64) -> np.ndarray | np.int64:
    """Symbol whose share of the unit interval holds `u`."""
    return np.sum(law.cumsum(-1)[..., :-1] <= np.asarray(u)[..., None], axis=-1)


def _check_law(law: np.ndarray) -> np.ndarray:
    P = check_real("law", law, min_ndim=3)
    check_shape("law", P, (len(P),) * 3)
    if not (np.all(P > 0) and np.allclose(P.sum(-1), 1, rtol=0, atol=1e-12)):
        raise ValueError("law must be above 0 and sum to 1 along its last axis, got "
                         f"{P.min()} and sums up to {P.sum(-1).max()}")  # fmt: skip
    return P
