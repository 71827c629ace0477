r"""What the length of the input costs, and what it does to the softmax.

Lengths are in tokens, sizes in bytes. A FLOP is one multiplication or one addition, so that a
product of an $a \times b$ and a $b \times c$ matrix takes $2 a b c$ of them; softmax, norms and
other work on single numbers is left out. Counts are exact integers, everything else is float64.
"""

import math

from posenc._checks import check_above, check_count, check_multiple, check_number

__all__ = [
    "Shape",
    "cache_bytes",
    "crossover",
    "doubling",
    "entropy",
    "flops",
    "key_weight",
    "log_scale",
    "logit_bytes",
    "needed_logit",
    "scale_limit",
]


class Shape:
    r"""Sizes of a stack of Transformer layers, and how many weights one layer has.

    $$W = 2 (H + G)\, d\, d_k + c\, d f$$

    Queries and output have $H$ heads each, keys and values $G$ heads each; $c$ is 2, or 3 if the
    feed-forward network has a gate. There is no length in $W$. Biases, norms, and the embedding
    are left out.

    Parameters
    ----------
    d_model
        Width of a token $d$, at least 1.
    n_heads
        Heads of the queries $H$, at least 1.
    n_kv_heads
        Heads of the keys and of the values $G$, which divides $H$; `None` is $H$.
    d_head
        Width of a head $d_k$, at least 1; `None` is $d / H$.
    d_ff
        Width $f$ within the feed-forward network, at least 1; `None` is $4 d$. With experts, the
        sum over those that a token passes through.
    gated
        Whether the feed-forward network has a gate, and so three maps for two.
    n_layers
        Number of layers $L$, at least 1.

    Attributes
    ----------
    weights : int
        Weights $W$ of one layer.

    Raises
    ------
    TypeError
        If a size is not an integer.
    ValueError
        If a size is less than 1, if `n_heads` is no multiple of `n_kv_heads`, or if `d_head` is
        left out and `d_model` is no multiple of `n_heads`.

    Examples
    --------
    The layer of the first Transformer has $12 d^2$ weights.

    >>> Shape(512, n_heads=8).weights == 12 * 512**2
    True

    Heads of the keys that are shared by four of the queries make it smaller.

    >>> Shape(512, n_heads=8, n_kv_heads=2).weights / 512**2
    10.5

    >>> Shape(512, n_heads=7)
    Traceback (most recent call last):
        ...
    ValueError: d_model must be a multiple of 7, got 512

    See Also
    --------
    flops : What such layers compute.
    cache_bytes : What they keep of every token.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        d_ff: int | None = None,
        gated: bool = False,
        n_layers: int = 1,
    ) -> None:
        d, H = check_count("d_model", d_model), check_count("n_heads", n_heads)
        G = H if n_kv_heads is None else check_count("n_kv_heads", n_kv_heads)
        self.n_heads, self.n_kv_heads = check_multiple("n_heads", H, G), G
        if d_head is None:
            d_head = check_multiple("d_model", d, H) // H
        self.d_model, self.d_head = d, check_count("d_head", d_head)
        self.d_ff = 4 * d if d_ff is None else check_count("d_ff", d_ff)
        self.n_layers = check_count("n_layers", n_layers)
        self.weights = 2 * (H + G) * d * self.d_head + (3 if gated else 2) * d * self.d_ff


def flops(
    n_queries: int, shape: Shape, n_keys: int | None = None, *, causal: bool = False
) -> tuple[int, int]:
    r"""FLOPs of the maps and of the pairs, in all layers.

    $$\begin{aligned}
    F_{maps} &= 2 L\, n_q W \\
    F_{pairs} &= 4 L H d_k\, P \\
    P &= n_q n_k \\
    P_{causal} &= n_q n_k - \tfrac12\, n_q (n_q - 1)
    \end{aligned}$$

    The maps make queries, keys, values and outputs and are the feed-forward network; the pairs
    are $q k^\top$ and the sum of the values, $2 d_k$ FLOPs each per head for every of the $P$
    pairs that are looked at. Training takes three times as many of both: gradients take two
    products for every one. Fused attention takes three and a half times as many for the pairs,
    because it computes the logits again.

    Parameters
    ----------
    n_queries
        Tokens that are computed $n_q$, at least 1.
    shape
        Sizes of the layers.
    n_keys
        Tokens that are looked at $n_k$, these and those in the cache: at least $n_q$; `None` is
        $n_q$.
    causal
        Leave out the pairs whose key comes after the query. Code that computes all pairs and
        hides some saves nothing by it.

    Returns
    -------
    tuple of int
        $F_{maps}$ and $F_{pairs}$.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n_queries` is less than 1, or `n_keys` less than `n_queries`.

    Examples
    --------
    At $n = 6 d$ both are the same.

    >>> flops(6 * 512, Shape(512, n_heads=8))
    (19327352832, 19327352832)

    One token more, after a thousand in the cache: work that grows with the cache, but not with
    its square.

    >>> flops(1, Shape(512, n_heads=8), 1001)
    (6291456, 2050048)

    Three queries look at 1, 2 and 3 keys.

    >>> flops(3, Shape(1, n_heads=1), causal=True)
    (72, 24)

    See Also
    --------
    crossover : Where both are the same.
    doubling : What twice the length costs.
    """
    n_q = check_count("n_queries", n_queries)
    n_k = n_q if n_keys is None else check_count("n_keys", n_keys, at_least=n_q)
    pairs = n_q * n_k - (n_q * (n_q - 1) // 2 if causal else 0)
    L = shape.n_layers
    return 2 * L * n_q * shape.weights, 4 * L * shape.n_heads * shape.d_head * pairs


def crossover(shape: Shape, *, causal: bool = False) -> float:
    r"""Length at which the pairs take as many FLOPs as the maps.

    $$\begin{aligned}
    n^* &= \frac{W}{2 H d_k} \\
    n^*_{causal} &= \frac{W}{H d_k} - 1
    \end{aligned}$$

    For the layer of the first Transformer, $W = 12 d^2$ and $H d_k = d$, this is $6 d$.

    Parameters
    ----------
    shape
        Sizes of the layers; their number does not matter.
    causal
        Whether only pairs are computed whose key does not come after the query.

    Returns
    -------
    float
        The length $n^*$, in tokens; not always a whole number.

    Examples
    --------
    >>> crossover(Shape(4096, n_heads=32)) / 4096
    6.0

    >>> crossover(Shape(4096, n_heads=32), causal=True)
    49151.0

    See Also
    --------
    flops : The two parts.
    """
    ratio = shape.weights / (shape.n_heads * shape.d_head)
    return ratio - 1 if causal else ratio / 2


def doubling(n_tokens: int, shape: Shape) -> float:
    r"""How many times as many FLOPs twice the length takes.

    $$\frac{F(2 n)}{F(n)} = 2 + \frac{2 n}{n + n^*}$$

    Two for the maps, and twice the share that the pairs have in $F(n)$: never four.

    Parameters
    ----------
    n_tokens
        Length $n$ before it is doubled, at least 1.
    shape
        Sizes of the layers; their number does not matter.

    Returns
    -------
    float
        A factor between 2 and 4.

    Raises
    ------
    TypeError
        If `n_tokens` is not an integer.
    ValueError
        If `n_tokens` is less than 1.

    Examples
    --------
    Three times at $n = 6 d$, and near four only far beyond.

    >>> doubling(6 * 4096, Shape(4096, n_heads=32))
    3.0
    >>> doubling(6 * 4096 * 63, Shape(4096, n_heads=32))
    3.96875

    See Also
    --------
    crossover : The length $n^*$.
    """
    n = check_count("n_tokens", n_tokens)
    return 2 + 2 * n / (n + crossover(shape))


def logit_bytes(n_tokens: int, shape: Shape, itemsize: int = 2, *, fused: bool = False) -> int:
    r"""Bytes that one layer keeps of its logits: all of them, or their sums.

    $$\begin{aligned}
    M &= H n^2 w \\
    M_{fused} &= 4 H n
    \end{aligned}$$

    Fused attention computes the logits block by block and keeps one number for each query: the
    logarithm of the sum of the exponentials, in float32.

    Parameters
    ----------
    n_tokens
        Length $n$, at least 1.
    shape
        Sizes of the layers.
    itemsize
        Bytes $w$ of a logit, at least 1; 2 in half precision.
    fused
        Whether attention is fused.

    Returns
    -------
    int
        Bytes for one sequence and one layer.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is less than 1.

    Examples
    --------
    A single head that looks from a million tokens at a million: two TiB.

    >>> logit_bytes(2**20, Shape(128, n_heads=1)) / 2**40
    2.0

    >>> logit_bytes(2**20, Shape(128, n_heads=1), fused=True) / 2**20
    4.0

    References
    ----------
    Dao et al. *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*. 2022,
    arXiv:2205.14135.
    """
    n, w = check_count("n_tokens", n_tokens), check_count("itemsize", itemsize)
    return shape.n_heads * n * (4 if fused else n * w)


def cache_bytes(
    n_tokens: int, shape: Shape, itemsize: int = 2, *, latent: int | None = None
) -> int:
    r"""Bytes of the KV cache of one sequence, in all layers.

    $$\begin{aligned}
    M &= 2 L\, n\, G\, d_k\, w \\
    M_{latent} &= L\, n\, \ell\, w
    \end{aligned}$$

    Parameters
    ----------
    n_tokens
        Tokens in the cache $n$, at least 1.
    shape
        Sizes of the layers.
    itemsize
        Bytes $w$ of a number, at least 1; 2 in half precision.
    latent
        How many numbers $\ell$ a layer keeps of a token from which it makes all keys and values,
        at least 1; `None` is keys and values themselves.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If a number is less than 1.

    Examples
    --------
    The 7B model of LLaMA keeps half a MiB of every token; with 8 heads for the keys and values it
    would be a quarter of that.

    >>> cache_bytes(1, Shape(4096, 32, n_layers=32)) / 2**10
    512.0
    >>> cache_bytes(1, Shape(4096, 32, n_kv_heads=8, n_layers=32)) / 2**10
    128.0

    DeepSeek-V3 keeps 512 numbers of a token, and 64 that are rotated.

    >>> cache_bytes(1, Shape(7168, 128, d_head=128, n_layers=61), latent=512 + 64) / 2**10
    68.625

    References
    ----------
    Ainslie et al. *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
    Checkpoints*. 2023, arXiv:2305.13245, and DeepSeek-AI. *DeepSeek-V2: A Strong, Economical, and
    Efficient Mixture-of-Experts Language Model*. 2024, arXiv:2405.04434.
    """
    n, w = check_count("n_tokens", n_tokens), check_count("itemsize", itemsize)
    kept = 2 * shape.n_kv_heads * shape.d_head
    if latent is not None:
        kept = check_count("latent", latent)
    return shape.n_layers * n * kept * w


def entropy(n_keys: int, std: float = 1.0) -> float:
    r"""Entropy of the weights of a query whose logits are independent and normal.

    $$\mathcal{H} \approx \max \left( \ln n - \frac{\sigma^2}{2},\ 0 \right)$$

    As long as $\sigma$ is well below $\sqrt{2 \ln n}$, what is left out vanishes as $n$ grows.
    From there on a few keys share all of the weight, and the formula says only that the entropy
    is far from $\ln n$.

    Parameters
    ----------
    n_keys
        Number of keys $n$, at least 1.
    std
        Standard deviation $\sigma$ of the logits, at least 0.

    Returns
    -------
    float
        Entropy in nats.

    Raises
    ------
    TypeError
        If `n_keys` is not an integer, or `std` not a number.
    ValueError
        If `n_keys` is less than 1, or `std` negative or not finite.

    Examples
    --------
    Equal logits: all the keys in equal parts.

    >>> round(entropy(64, 0.0), 3)
    4.159

    >>> round(entropy(64), 3)
    3.659

    Beyond $\sigma = \sqrt{2 \ln n}$, here 2.9; the mean entropy of such weights is 1.8.

    >>> entropy(64, 3.0)
    0.0

    See Also
    --------
    key_weight : The weight of a key that stands out.
    """
    n, s = check_count("n_keys", n_keys), _std(std)
    return max(math.log(n) - s * s / 2, 0.0)


def key_weight(logit: float, n_keys: int, std: float = 1.0) -> float:
    r"""Weight of one key, if the logits of all others are independent and normal with mean zero.

    $$\alpha \approx \frac{1}{1 + (n - 1)\, e^{\sigma^2 / 2 - a}}$$

    The exponential of a normal number has mean $e^{\sigma^2 / 2}$, and the sum over many keys is
    near its mean as long as $\sigma$ is well below $\sqrt{2 \ln n}$.

    Parameters
    ----------
    logit
        How far the logit $a$ of the key lies above the mean of the others.
    n_keys
        Number of keys $n$, this one included, at least 1.
    std
        Standard deviation $\sigma$ of the others, at least 0.

    Returns
    -------
    float
        The weight, between 0 and 1.

    Raises
    ------
    TypeError
        If `n_keys` is not an integer, or another argument not a number.
    ValueError
        If `n_keys` is less than 1, if `std` is negative, or if a number is not finite.

    Examples
    --------
    The same logit means less and less as there are more keys.

    >>> [round(key_weight(5.0, n), 4) for n in (64, 512, 4096, 32768)]
    [0.5883, 0.1498, 0.0215, 0.0027]

    Without others the logit does not matter.

    >>> key_weight(-900.0, 1)
    1.0

    See Also
    --------
    needed_logit : Which logit a weight takes.
    """
    n, s = check_count("n_keys", n_keys), _std(std)
    if n == 1:
        return 1.0
    x = math.log(n - 1) + s * s / 2 - check_number("logit", logit)
    return math.exp(-max(x, 0.0)) / (1 + math.exp(-abs(x)))


def needed_logit(weight: float, n_keys: int, std: float = 1.0) -> float:
    r"""Logit that one key must have to get a given weight: it grows as $\ln n$.

    $$a \approx \ln \frac{\alpha}{1 - \alpha} + \ln (n - 1) + \frac{\sigma^2}{2}$$

    Parameters
    ----------
    weight
        Weight $\alpha$ of the key, between 0 and 1, both excluded.
    n_keys
        Number of keys $n$, this one included, at least 2.
    std
        Standard deviation $\sigma$ of the others, at least 0.

    Returns
    -------
    float
        The logit $a$, above the mean of the others.

    Raises
    ------
    TypeError
        If `n_keys` is not an integer, or another argument not a number.
    ValueError
        If `weight` is not between 0 and 1, if `n_keys` is less than 2, or `std` is negative.

    Examples
    --------
    Half of the weight, and what twice as many others take.

    >>> round(needed_logit(0.5, 1001, 0.0), 3)
    6.908
    >>> round(needed_logit(0.5, 2001, 0.0) - needed_logit(0.5, 1001, 0.0), 3)
    0.693

    >>> needed_logit(0.25, 4, 0.0)
    0.0

    See Also
    --------
    key_weight : The other way round.
    """
    n, s = check_count("n_keys", n_keys, at_least=2), _std(std)
    alpha = check_number("weight", weight)
    if not 0 < alpha < 1:
        raise ValueError(f"weight must be between 0 and 1, both excluded, got {weight}")
    return math.log(alpha / (1 - alpha)) + math.log(n - 1) + s * s / 2


def log_scale(n_keys: int, n_trained: int) -> float:
    r"""Factor for all logits that makes up for more keys: the ratio of two logarithms.

    $$\lambda = \frac{\ln n}{\ln n_0}$$

    Parameters
    ----------
    n_keys
        Number of keys $n$, at least 1.
    n_trained
        Number of keys $n_0$ at which the model was trained, at least 2.

    Returns
    -------
    float
        The factor $\lambda$; 1 at $n = n_0$.

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If `n_keys` is less than 1 or `n_trained` less than 2.

    Examples
    --------
    >>> log_scale(4096, 64)
    2.0

    A single key needs no scale.

    >>> log_scale(1, 64)
    0.0

    References
    ----------
    Chiang and Cholak. *Overcoming a Theoretical Limitation of Self-Attention*. 2022,
    arXiv:2202.12172, and Nakanishi. *Scalable-Softmax Is Superior for Attention*. 2025,
    arXiv:2501.19399.
    """
    n = check_count("n_keys", n_keys)
    return math.log(n) / math.log(check_count("n_trained", n_trained, at_least=2))


def scale_limit(logit: float, std: float = 1.0) -> float:
    r"""Number of keys at which an even chance is left that one key has the largest logit.

    $$n = 1 + \frac{\ln \frac12}{\ln \Phi(a / \sigma)}$$

    No scale can help beyond: a factor does not change which logit is the largest. $\Phi(a /
    \sigma)$ is the chance that one of the others lies below $a$.

    Parameters
    ----------
    logit
        How far the logit $a$ of the key lies above the mean of the others, which are independent
        and normal; positive.
    std
        Standard deviation $\sigma$ of the others, positive.

    Returns
    -------
    float
        The number of keys; infinite if it is beyond the range of float64.

    Raises
    ------
    TypeError
        If an argument is not a number.
    ValueError
        If a number is not positive or not finite.

    Examples
    --------
    >>> round(scale_limit(5.0))
    2418083

    >>> scale_limit(100.0)
    inf
    """
    a, s = check_above("logit", logit, 0), check_above("std", std, 0)
    above = math.erfc(a / s / math.sqrt(2)) / 2  # chance that one of the others lies above
    return 1 - math.log(2) / math.log1p(-above) if above else math.inf


def _std(std: float) -> float:
    s = check_number("std", std)
    if s < 0:
        raise ValueError(f"std must be at least 0, got {std}")
    return s
