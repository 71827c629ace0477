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
    P = _check_law(law)
    S = len(P)
    step = np.zeros((S, S, S, S))  # from the pair (a, b) to the pair (b, c)
    a, b, c = np.indices(P.shape)
    step[a, b, b, c] = P
    flow = step.reshape(S * S, S * S).T - np.eye(S * S)
    flow[0] = 1  # one equation of the flow follows from the others: let the sum be 1
    return np.linalg.solve(flow, np.eye(S * S)[0]).reshape(S, S)


def order_entropies(law: np.ndarray) -> np.ndarray:
    P = _check_law(law)
    triple = pair_law(P)[..., None] * P
    known = [triple.sum((0, 1)), triple.sum(0), triple]
    conditional = [p / p.sum(-1, keepdims=True) for p in known]
    return np.array([-np.sum(p * np.log(q)) for p, q in zip(known, conditional, strict=True)])


def chain(law: np.ndarray, u: np.ndarray) -> np.ndarray:
    P, u = _check_law(law), check_real("u", u, min_ndim=1)
    pairs = pair_law(P)
    first = _invert(pairs.sum(1), u[..., 0])
    drawn = [first, _invert((pairs / pairs.sum(1, keepdims=True))[first], u[..., 1])]
    for t in range(2, u.shape[-1]):
        drawn.append(_invert(P[drawn[-2], drawn[-1]], u[..., t]))
    return np.stack(drawn[: u.shape[-1]], axis=-1)


def divergence(p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    p, log_q = check_real("p", p, min_ndim=1), check_real("log_q", log_q, min_ndim=1)
    return np.sum(p * (np.log(p) - log_q), axis=-1)


def counted_entropy(n: int, n_symbols: int) -> float:
    check_count("n", n)
    S = check_count("n_symbols", n_symbols)
    total, chance = 0.0, (1 - 1 / S) ** (n - 1)
    for k in range(n):
        total -= chance * np.log((1 + k) / n)
        chance *= (n - 1 - k) / (k + 1) / max(S - 1, 1)
    return total


def bos_weight(t: np.ndarray, bos: float, other: float) -> np.ndarray:
    t = check_real("t", t)
    gap = check_number("other", other) - check_number("bos", bos)
    return 1 / (1 + t * np.exp(gap))


def _invert(law: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Symbol whose share of the unit interval holds `u`."""
    return np.sum(law.cumsum(-1)[..., :-1] <= u[..., None], axis=-1)


def _check_law(law: np.ndarray) -> np.ndarray:
    P = check_real("law", law, min_ndim=3)
    check_shape("law", P, (len(P),) * 3)
    if not (np.all(P > 0) and np.allclose(P.sum(-1), 1)):
        raise ValueError("law must be above 0 and sum to 1 along the last axis")
    return P
