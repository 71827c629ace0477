"""The length of the input: printed facts, properties, oracles and errors; the claims."""

import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModel,
    DeepseekV3Config,
    DynamicCache,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from posenc.equations.length import (
    Shape,
    cache_bytes,
    crossover,
    doubling,
    entropy,
    flops,
    key_weight,
    log_scale,
    logit_bytes,
    needed_logit,
    scale_limit,
)
from posenc.layers.attention import Attention
from scripts.bench import peak

WIDTH, HEADS = 4096, 32
WIDE = Shape(WIDTH, HEADS)

lengths = st.integers(1, 5000)


@st.composite
def shapes(draw):
    """Sizes of every kind, small enough to be counted one by one."""
    G = draw(st.integers(1, 4))
    return {
        "d_model": draw(st.integers(1, 12)),
        "n_heads": G * draw(st.integers(1, 4)),
        "n_kv_heads": G,
        "d_head": draw(st.integers(1, 6)),
        "d_ff": draw(st.integers(1, 12)),
        "gated": draw(st.booleans()),
        "n_layers": draw(st.integers(1, 3)),
    }


def shape_of(config, **more):
    """Sizes of a model of the Transformers library, from its configuration."""
    return Shape(
        config.hidden_size,
        config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        d_head=config.head_dim,
        d_ff=config.intermediate_size,
        gated=True,
        n_layers=config.num_hidden_layers,
        **more,
    )


def counted(call):
    """FLOPs of products with weights, and of products of activations, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    found = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    assert found.keys() <= {"aten.mm", "aten.bmm"}
    return found.get("aten.mm", 0), found.get("aten.bmm", 0)


class Layer(nn.Module):
    """The layer of the first Transformer, without norms."""

    def __init__(self, d, n_heads):
        super().__init__()
        self.attention = Attention(d, n_heads)
        self.ffn = nn.Sequential(
            nn.Linear(d, 4 * d, bias=False), nn.ReLU(), nn.Linear(4 * d, d, bias=False)
        )

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.ffn(x)


def classic(n, d=WIDTH, n_heads=HEADS):
    """Counts of that layer, on tensors without data."""
    with torch.device("meta"):
        layer, x = Layer(d, n_heads), torch.empty(1, n, d)
        return counted(lambda: layer(x))


def config_of(seed):
    """A LLaMA with sizes drawn by lot: heads that share keys, a width of their own, a gate."""
    rng = np.random.default_rng(seed)
    G, group, half, wide, f = (int(k) for k in rng.integers(1, (5, 5, 5, 4, 20)))
    return LlamaConfig(
        hidden_size=wide * G * group,
        num_attention_heads=G * group,
        num_key_value_heads=G,
        head_dim=2 * half,
        intermediate_size=f,
        num_hidden_layers=2,
        vocab_size=11,
        attn_implementation="eager",
    )


def run_layer(config, n, cached=0):
    """Counts of one layer of the library's LLaMA for n tokens after some in its cache."""
    with torch.device("meta"):
        layer, cache = LlamaDecoderLayer(config, 0), DynamicCache(config=config)
        if cached:
            kept = torch.empty(1, config.num_key_value_heads, cached, config.head_dim)
            cache.update(kept, kept, 0)
        x, turn = torch.empty(1, n, config.hidden_size), torch.empty(1, n, config.head_dim)
        return counted(lambda: layer(x, position_embeddings=(turn, turn), past_key_values=cache))


def bytes_of(*tensors):
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def cached(config, n=3):
    """Keys and values that a model of the library keeps of n tokens, on tensors without data."""
    with torch.device("meta"):
        model = AutoModel.from_config(config, dtype=torch.float16)
        ids = torch.zeros(1, n, dtype=torch.long)
        cache = model(ids, use_cache=True).past_key_values
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]


# The softmax of random logits, by quadrature over the Laplace transform of their exponentials

GRID = np.linspace(-13, 13, 521)
DENSITY = np.exp(-(GRID**2) / 2) / np.exp(-(GRID**2) / 2).sum()


def laplace(t, std, factor=1.0):
    """Mean of factor * exp(-t e^(std x)) over a normal x, for every t."""
    return (DENSITY * factor) @ np.exp(-np.multiply.outer(np.exp(std * GRID), t))


def times(n, high):
    u = np.linspace(-math.log(n) - 40 - max(0, 12 - high), high, 1500)
    return np.exp(u), u[1] - u[0]


def exact_entropy(n, std=1.0):
    """Mean entropy of the softmax of n logits: E ln Z - n E[x e^x / Z], by two integrals."""
    t, du = times(n, 12.0)
    phi, slope = laplace(t, std), laplace(t, std, std * GRID * np.exp(std * GRID))
    return float(((np.exp(-t) - phi**n) - n * slope * phi ** (n - 1) * t).sum() * du)


def exact_weight(a, n, std=1.0):
    """Mean weight of a key of logit a beside n - 1 others: E[e^a / (e^a + Z)], by an integral."""
    t, du = times(n, 12.0 - a)
    return float((np.exp(a - t * np.exp(a)) * laplace(t, std) ** (n - 1) * t).sum() * du)


def test_quadrature_agrees_with_throwing_dice():
    x = np.random.default_rng(0).normal(size=(20000, 50))
    weights = np.exp(x)
    weights /= weights.sum(axis=1, keepdims=True)
    found = -(weights * np.log(weights)).sum(axis=1)
    assert exact_entropy(50) == pytest.approx(found.mean(), abs=5 * found.std() / 20000**0.5)
    key = 1 / (1 + np.exp(x[:, 1:] - 2.0).sum(axis=1))
    assert exact_weight(2.0, 50) == pytest.approx(key.mean(), abs=5 * key.std() / 20000**0.5)


# What has no length


def parts_that_change(config, attribute):
    """Which weights a model has more or fewer of if it is made for twice the length."""
    sizes = []
    for factor in (1, 2):
        setattr(config, attribute, factor * getattr(config, attribute))
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        sizes.append({name: p.numel() for name, p in model.named_parameters()})
    assert sizes[0].keys() == sizes[1].keys()
    return {name: abs(sizes[1][name] - n) for name, n in sizes[0].items() if sizes[1][name] != n}


@claim("length.weights")
def test_no_weight_of_attention_or_feed_forward_has_a_length():
    """LLaMA built for 2048 and 4096 tokens; GPT-2, with a learned table, for 1024 and 2048."""
    learned = parts_that_change(GPT2Config(), "n_positions")
    assert learned == {"wpe.weight": 1024 * 768}
    layer = Layer(16, 2)
    before = {name: p.clone() for name, p in layer.state_dict().items()}
    for n in (1, 7, 300):
        assert layer(torch.zeros(1, n, 16)).shape == (1, n, 16)
    assert all(torch.equal(before[name], p) for name, p in layer.state_dict().items())
    return at_most(
        0.5,
        right=sum(parts_that_change(LlamaConfig(), "max_position_embeddings").values()),
        wrong=learned["wpe.weight"],
        learned=learned["wpe.weight"],
    )


# FLOPs


@claim("length.flops")
def test_flops_are_those_that_pytorch_counts_in_llama():
    """One layer of the library's LLaMA with sizes by lot: grouped heads, a gate, any width."""
    found, halved = [], []
    for seed in range(30):
        config = config_of(seed)
        n = 1 + 7 * seed
        shape = shape_of(config)
        counts = np.array(run_layer(config, n)) * config.num_hidden_layers
        want = np.array(flops(n, shape))
        found.append(np.abs(want / counts - 1).max())
        halved.append(np.abs(want / 2 / counts - 1).max())
    return at_most(1e-12, right=max(found), wrong=min(halved), settings=len(found))


@claim("length.classic")
def test_the_first_transformer_takes_24_n_d_squared_and_4_n_squared_d():
    found, without = [], []
    for n in (1, 100, 512, 24576, 10**6):
        total = sum(classic(n))
        found.append(abs((24 * n * WIDTH**2 + 4 * n**2 * WIDTH) / total - 1))
        without.append(abs((24 * n * WIDTH**2 + 2 * n**2 * WIDTH) / total - 1))
    return at_most(1e-12, right=max(found), wrong=max(without))


@claim("length.decode")
def test_a_new_token_takes_work_that_grows_with_the_cache_alone():
    """One token of the library's LLaMA after 100, 1000 and 10000 in its cache."""
    config = config_of(3)
    shape = shape_of(config)
    found, anew = [], []
    for cached in (100, 1000, 10000):
        one = sum(run_layer(config, 1, cached)) * config.num_hidden_layers
        whole = sum(run_layer(config, cached + 1)) * config.num_hidden_layers
        found.append(abs(sum(flops(1, shape, cached + 1)) / one - 1))
        anew.append(abs(whole / one - 1))
    return at_most(1e-12, right=max(found), wrong=min(anew), anew=1 + anew[-1])


@given(shapes(), st.integers(1, 9), st.integers(0, 9))
def test_causal_pairs_are_those_that_a_loop_counts(sizes, n, cached):
    shape = Shape(**sizes)
    seen = sum(j <= i for i in range(cached, cached + n) for j in range(cached + n))
    maps, pairs = flops(n, shape, cached + n, causal=True)
    assert maps == flops(n, shape)[0]
    assert isinstance(pairs, int)
    assert pairs == seen * shape.n_layers * shape.n_heads * shape.d_head * 4


@given(shapes(), st.integers(1, 9), st.integers(1, 9))
def test_step_by_step_decoding_takes_what_one_causal_pass_takes(sizes, first, steps):
    shape = Shape(**sizes)
    whole = flops(first + steps, shape, causal=True)
    parts = [flops(first, shape, causal=True)]
    parts += [flops(1, shape, n) for n in range(first + 1, first + steps + 1)]
    assert tuple(map(sum, zip(*parts, strict=True))) == whole


@given(shapes())
def test_weights_are_those_of_maps_made_one_by_one(sizes):
    d, H, G, f = (sizes[name] for name in ("d_model", "n_heads", "n_kv_heads", "d_ff"))
    maps = [(d, H * sizes["d_head"])] * 2 + [(d, G * sizes["d_head"])] * 2
    maps += [(d, f)] * (3 if sizes["gated"] else 2)
    with torch.device("meta"):
        layers = [nn.Linear(a, b, bias=False) for a, b in maps]
    assert Shape(**sizes).weights == sum(layer.weight.numel() for layer in layers)


def test_what_is_left_out_is_filled_in():
    shape = Shape(48, 6)
    assert (shape.n_kv_heads, shape.d_head, shape.d_ff, shape.n_layers) == (6, 8, 192, 1)
    assert shape.weights == 12 * 48**2
    assert Shape(48, 6, d_head=5).d_head == 5


def test_llama_has_the_weights_that_its_layers_have():
    config = LlamaConfig(num_hidden_layers=1)
    with torch.device("meta"):
        layer = LlamaDecoderLayer(config, 0)
    maps = [p.numel() for p in layer.parameters() if p.ndim == 2]
    assert shape_of(config).weights == sum(maps)


@claim("length.training")
def test_training_takes_three_times_the_flops():
    """Both passes, with a gradient for the input as every later layer needs it; then fused."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    shape, totals = Shape(32, 4), []
    with torch.device("meta"):
        layer, x = Layer(32, 4), torch.empty(1, 90, 32, requires_grad=True)
        q = torch.empty(1, 4, 90, 8, requires_grad=True)
        for call in (lambda: layer(x), lambda: kernel(q, q, q)[0]):
            with FlopCounterMode(display=False) as counter:
                call().sum().backward()
            totals.append(counter.get_total_flops())
    ratio, fused = totals[0] / sum(flops(90, shape)), totals[1] / flops(90, shape)[1]
    return at_most(
        1e-12,
        right=max(abs(ratio - 3), abs(fused - 3.5)),
        wrong=abs(ratio - 2),
        ratio=ratio,
        fused=fused,
    )


@claim("length.crossover")
def test_pairs_and_maps_are_even_at_six_times_the_width():
    found, early = [], []
    for d, H in ((64, 4), (768, 12), (4096, 32)):
        assert crossover(Shape(d, H)) == 6 * d
        maps, pairs = classic(6 * d, d, H)
        found.append(abs(pairs / maps - 1))
        maps, pairs = classic(d, d, H)
        early.append(abs(pairs / maps - 1))
    values = {"llama": LlamaConfig(), "mistral": MistralConfig(), "gemma": GemmaConfig()}
    marks = {name: crossover(shape_of(config)) for name, config in values.items()}
    return at_most(1e-12, right=max(found), wrong=min(early), **marks, wide=crossover(WIDE))


@given(shapes())
def test_crossover_is_where_exact_fractions_meet(sizes):
    shape = Shape(**sizes)
    H, k = shape.n_heads, shape.d_head
    both = Fraction(2 * shape.weights, 4 * H * k)
    assert crossover(shape) == float(both)
    # causal: 2 n W = 4 H k n (n + 1) / 2
    assert crossover(shape, causal=True) == pytest.approx(float(2 * both - 1), rel=1e-15, abs=1e-15)


@claim("length.doubling")
def test_doubling_costs_two_and_twice_the_share_of_the_pairs():
    """d = 4096, counted by PyTorch at six lengths from 512 to 1 048 576."""
    found, four, values = [], [], {}
    for n in (512, 2048, 8192, 24576, 131072, 1048576):
        ratio = sum(classic(2 * n)) / sum(classic(n))
        found.append(abs(doubling(n, WIDE) - ratio))
        four.append(abs(4 - ratio))
        values[f"at_{n}"] = ratio
    return at_most(1e-12, right=max(found), wrong=min(four), **values)


@given(shapes(), lengths)
def test_doubling_lies_between_two_and_four_and_grows(sizes, n):
    shape = Shape(**sizes)
    factor = doubling(n, shape)
    assert 2 < factor < 4
    assert factor <= doubling(n + 1, shape)
    whole = Fraction(sum(flops(2 * n, shape)), sum(flops(n, shape)))
    assert factor == pytest.approx(float(whole), rel=1e-14)


# Memory


@claim("length.logits")
def test_logits_take_h_n_squared_and_what_is_kept_of_them_h_n():
    """Bytes of the logits as a tensor, and of the second result of PyTorch's fused kernel."""
    found, all_of_them = [], []
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    for n, H in ((1, 3), (64, 2), (130, 5), (1000, 4)):
        shape = Shape(16 * H, H)
        q = torch.zeros(1, H, n, 16)
        logits, (_, sums) = q @ q.mT, kernel(q, q, q)
        found.append(abs(logit_bytes(n, shape, 4) - bytes_of(logits)))
        found.append(abs(logit_bytes(n, shape, fused=True) - bytes_of(sums)))
        all_of_them.append(abs(logit_bytes(n, shape, 4) - bytes_of(sums)))
    head, million = Shape(128, 1), 2**20
    llama = shape_of(LlamaConfig())
    return at_most(
        0.5,
        right=max(found),
        wrong=max(all_of_them),
        tib_head=logit_bytes(million, head) / 2**40,
        mib_head=logit_bytes(million, head, fused=True) / 2**20,
        tib_layer=logit_bytes(million, llama) / 2**40,
        mib_layer=logit_bytes(million, llama, fused=True) / 2**20,
        mib_2048=logit_bytes(2048, llama) / 2**20,
    )


@claim("length.peak")
def test_fused_attention_takes_twice_the_memory_at_twice_the_length():
    """Growth of the greatest memory of `Attention` on the CPU, 1024 to 2048 and to 4096 tokens."""
    torch.manual_seed(0)
    growth = {}
    for fused in (True, False):
        layer = Attention(16, 1, fused=fused)
        sizes = []
        for n in (1024, 2048, 4096):
            x = torch.randn(1, n, 16)
            with torch.no_grad():
                layer(x)
                sizes.append(peak(lambda x=x, layer=layer: layer(x)))
        growth[fused] = (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
    return at_most(
        0.1,
        right=abs(growth[True] - 2),
        wrong=abs(growth[False] - 2),
        fused=growth[True],
        plain=growth[False],
    )


def deepseek(layers):
    """DeepSeek-V3 with fewer experts, which hold nothing of a token."""
    return DeepseekV3Config(num_hidden_layers=layers, n_routed_experts=8, n_group=4, topk_group=2)


@claim("length.cache")
def test_the_cache_holds_what_the_library_holds():
    """Two layers each of models of the Transformers library; then all layers by the formula."""
    found, values = [], {}
    configs = {"llama": LlamaConfig, "mistral": MistralConfig, "gemma": GemmaConfig}
    for name, config in configs.items():
        two = config(num_hidden_layers=2)
        found.append(abs(cache_bytes(3, shape_of(two)) / bytes_of(*cached(two)) - 1))
        values[name] = cache_bytes(1, shape_of(config())) / 2**10
    two = MistralConfig(num_hidden_layers=2)
    all_heads = shape_of(MistralConfig(num_hidden_layers=2, num_key_value_heads=32))
    factor = cache_bytes(3, all_heads) / bytes_of(*cached(two))
    llama = shape_of(LlamaConfig())
    for n, name in ((2048, "gib_2048"), (2**20, "gib_million")):
        values[name] = cache_bytes(n, llama) / 2**30
    values["window"] = cache_bytes(two.sliding_window, shape_of(MistralConfig())) / 2**20
    two.sliding_window = 8  # the next token is the eighth, so that seven are kept
    assert [{part.shape[2] for part in cached(two, n)} for n in (5, 8, 20)] == [{5}, {7}, {7}]
    return at_most(1e-12, right=max(found), wrong=factor - 1, factor=factor, **values)


@claim("length.latent")
def test_deepseek_keeps_a_latent_vector_and_the_rotated_part():
    """The library's DeepSeek-V3 with two of its layers; then all 61 by the formula."""
    config = deepseek(2)
    width = (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim) // 2
    shape = Shape(7168, 128, d_head=width, n_layers=2)
    latent = config.kv_lora_rank + config.qk_rope_head_dim
    held = bytes_of(*cached(config))
    whole = Shape(7168, 128, d_head=width, n_layers=61)  # keys and values of 160 on average
    assert DeepseekV3Config().num_hidden_layers == whole.n_layers
    kib = cache_bytes(1, whole, latent=latent) / 2**10
    return at_most(
        0.5,
        right=abs(cache_bytes(3, shape, latent=latent) - held),
        wrong=abs(cache_bytes(3, shape) - held),
        latent=latent,
        kib=kib,
        expanded=cache_bytes(1, whole) / 2**10,
        ratio=cache_bytes(1, whole) / 2**10 / kib,
    )


def test_half_precision_and_no_fusion_are_the_defaults():
    shape = Shape(24, 6, n_layers=3)
    assert logit_bytes(5, shape) == logit_bytes(5, shape, 2) == 6 * 25 * 2
    assert logit_bytes(5, shape, 8, fused=True) == logit_bytes(5, shape, fused=True) == 6 * 5 * 4
    assert cache_bytes(5, shape) == cache_bytes(5, shape, 2)


def test_a_cache_grows_by_the_same_bytes_with_every_token():
    shape = Shape(24, 6, n_kv_heads=2, n_layers=3)
    held = torch.zeros(3, 2, 2, 50, 4, dtype=torch.bfloat16)  # layers, keys and values, heads
    assert cache_bytes(50, shape) == bytes_of(held)
    assert cache_bytes(50, shape, 4) == 2 * bytes_of(held)
    assert cache_bytes(51, shape) - cache_bytes(50, shape) == cache_bytes(1, shape)
    assert cache_bytes(50, shape, latent=5) == 3 * 50 * 5 * 2


# The softmax

NS = (64, 512, 4096, 32768)


@claim("length.entropy")
def test_entropy_grows_with_the_logarithm_of_the_length():
    exact = [exact_entropy(n) for n in NS]
    values = {f"at_{n}": found for n, found in zip(NS, exact, strict=True)}
    return at_most(
        0.03,
        right=max(abs(entropy(n) - found) for n, found in zip(NS, exact, strict=True)),
        wrong=min(abs(math.log(n) - found) for n, found in zip(NS, exact, strict=True)),
        **values,
        frozen=exact_entropy(64, 3.0),
    )


def test_entropy_nears_the_formula_as_the_keys_multiply():
    gaps = [abs(exact_entropy(n) - entropy(n)) for n in NS]
    assert all(4 * later < earlier for earlier, later in pairwise(gaps))
    assert entropy(1) == entropy(1, 0.0) == 0
    assert entropy(50, 0.0) == pytest.approx(math.log(50))
    assert entropy(10**300, 1e200) == 0


@claim("length.dilution")
def test_a_key_that_stands_out_is_diluted():
    exact = [exact_weight(5.0, n) for n in NS]
    ignored = [1 / (1 + (n - 1) * math.exp(-5.0)) for n in NS]
    values = {f"at_{n}": found for n, found in zip(NS, exact, strict=True)}
    return at_most(
        0.01,
        right=max(abs(key_weight(5.0, n) / found - 1) for n, found in zip(NS, exact, strict=True)),
        wrong=min(abs(w / found - 1) for w, found in zip(ignored, exact, strict=True)),
        **values,
    )


@claim("length.needed")
def test_twice_the_keys_take_ln_two_more():
    """The logit that gets half of the weight, found by bisection on the exact mean weight."""

    def found(n):
        low, high = 0.0, 30.0
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (middle, high) if exact_weight(middle, n) < 0.5 else (low, middle)
        return low

    at = {n: found(n) for n in (1000, 2000, 128000)}
    gap = at[2000] - at[1000]
    return at_most(
        0.01,
        right=max(abs(gap - math.log(2)), *(abs(a - needed_logit(0.5, n)) for n, a in at.items())),
        wrong=gap,
        at_1000=at[1000],
        at_128000=at[128000],
        gap=gap,
    )


@claim("length.rescaled")
def test_a_scale_by_the_logarithm_slows_the_dilution():
    """Weight at 32 768 keys of a logit of 5 learned at 64, all logits times ln n / ln 64."""
    scaled = {n: exact_weight(5.0 * log_scale(n, 64), n, log_scale(n, 64)) for n in NS}
    formula = {n: key_weight(5.0 * log_scale(n, 64), n, log_scale(n, 64)) for n in NS}
    plain = exact_weight(5.0, 32768)
    return at_most(
        0.02,
        right=max(abs(formula[n] / scaled[n] - 1) for n in NS),
        wrong=abs(plain / scaled[32768] - 1),
        **{f"at_{n}": found for n, found in scaled.items()},
        plain=plain,
        ratio=scaled[32768] / plain,
    )


@claim("length.odds")
def test_without_noise_the_scaled_odds_are_a_power_of_the_length():
    """Softmax with one logit of a and n - 1 zeros, times ln n / ln 64, against the power."""
    found, plain = [], []
    for a in (3.0, math.log(64), 5.0):
        for n in (64, 4096, 2**18):
            z = np.zeros(n)
            z[0] = a
            for factor, into in ((log_scale(n, 64), found), (1.0, plain)):
                e = np.exp(factor * z)
                odds = e[0] / e[1:].sum()
                want = n ** (a / math.log(64)) / (n - 1)
                into.append(abs(odds / want - 1))
    return at_most(1e-9, right=max(found), wrong=max(plain))


@claim("length.limit")
def test_no_scale_helps_once_another_key_is_larger():
    """How often the largest of n - 1 normal numbers lies below 3, for the n of the formula."""
    n = round(scale_limit(3.0))
    draws = np.random.default_rng(1).standard_normal((20000, n - 1), np.float32).max(axis=1)
    rule = round(math.exp(4.5))  # where the square root of 2 ln n reaches 3
    return at_most(
        0.01,
        right=abs((draws < 3.0).mean() - 0.5),
        wrong=abs(0.99865010196837 ** (rule - 1) - 0.5),
        keys=n,
        five=scale_limit(5.0),
        six=scale_limit(6.0),
    )


@pytest.mark.parametrize(("a", "std"), [(0.01, 1.0), (3.0, 1.0), (5.0, 2.0), (30.0, 1.0)])
def test_limit_is_that_of_fifty_digits(a, std):
    with mpmath.workdps(400):
        want = 1 + mpmath.log(mpmath.mpf(1) / 2) / mpmath.log(mpmath.ncdf(mpmath.mpf(a) / std))
    assert scale_limit(a, std) == pytest.approx(float(want), rel=1e-12)


@given(st.floats(1e-6, 1 - 1e-6), st.integers(2, 10**9), st.floats(0, 4))
def test_needed_logit_gets_its_weight(weight, n, std):
    assert key_weight(needed_logit(weight, n, std), n, std) == pytest.approx(weight, rel=1e-9)


def test_weights_stay_within_bounds_at_the_ends():
    assert key_weight(800.0, 10) == 1.0
    assert key_weight(-800.0, 10) == 0.0
    assert key_weight(0.0, 4, 0.0) == 0.25
    assert key_weight(0.0, 10, 1e200) == 0.0
    assert key_weight(-900.0, 1) == 1.0


def test_a_limit_beyond_all_numbers_is_infinite():
    assert scale_limit(30.0) < math.inf
    assert scale_limit(38.5) == scale_limit(1e300, 1e-300) == math.inf


def test_log_scale_is_one_where_training_ended():
    assert log_scale(64, 64) == 1
    assert log_scale(2, 4) == 0.5


# Errors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Shape(0, 1), ValueError, "d_model must be at least 1, got 0"),
        (lambda: Shape(4.0, 1), TypeError, "d_model must be an integer, got 4.0"),
        (lambda: Shape(4, 0), ValueError, "n_heads must be at least 1, got 0"),
        (lambda: Shape(4, 3), ValueError, "d_model must be a multiple of 3, got 4"),
        (lambda: Shape(8, 4, n_kv_heads=0), ValueError, "n_kv_heads must be at least 1, got 0"),
        (lambda: Shape(8, 4, n_kv_heads=3), ValueError, "n_heads must be a multiple of 3, got 4"),
        (lambda: Shape(8, 4, d_head=0), ValueError, "d_head must be at least 1, got 0"),
        (lambda: Shape(8, 4, d_ff=0), ValueError, "d_ff must be at least 1, got 0"),
        (lambda: Shape(8, 4, n_layers=0), ValueError, "n_layers must be at least 1, got 0"),
        (lambda: flops(0, WIDE), ValueError, "n_queries must be at least 1, got 0"),
        (lambda: flops(3, WIDE, 2), ValueError, "n_keys must be at least 3, got 2"),
        (lambda: doubling(0, WIDE), ValueError, "n_tokens must be at least 1, got 0"),
        (lambda: logit_bytes(0, WIDE), ValueError, "n_tokens must be at least 1, got 0"),
        (lambda: logit_bytes(1, WIDE, 0), ValueError, "itemsize must be at least 1, got 0"),
        (lambda: cache_bytes(0, WIDE), ValueError, "n_tokens must be at least 1, got 0"),
        (lambda: cache_bytes(1, WIDE, 0), ValueError, "itemsize must be at least 1, got 0"),
        (lambda: cache_bytes(1, WIDE, latent=0), ValueError, "latent must be at least 1, got 0"),
        (lambda: entropy(0), ValueError, "n_keys must be at least 1, got 0"),
        (lambda: entropy(1, -0.5), ValueError, "std must be at least 0, got -0.5"),
        (lambda: key_weight(1.0, 0), ValueError, "n_keys must be at least 1, got 0"),
        (lambda: key_weight(math.nan, 2), ValueError, "logit must be finite, got nan"),
        (lambda: key_weight(1.0, 2, -1.0), ValueError, "std must be at least 0, got -1.0"),
        (lambda: key_weight(1.0, 2, math.inf), ValueError, "std must be finite, got inf"),
        (lambda: needed_logit(math.nan, 2), ValueError, "weight must be finite, got nan"),
        (lambda: needed_logit(0.5, 1), ValueError, "n_keys must be at least 2, got 1"),
        (lambda: needed_logit(0.5, 2, -1.0), ValueError, "std must be at least 0, got -1.0"),
        (
            lambda: needed_logit(0.0, 2),
            ValueError,
            "weight must be between 0 and 1, both excluded, got 0.0",
        ),
        (
            lambda: needed_logit(1.0, 2),
            ValueError,
            "weight must be between 0 and 1, both excluded, got 1.0",
        ),
        (lambda: log_scale(0, 2), ValueError, "n_keys must be at least 1, got 0"),
        (lambda: log_scale(2, 1), ValueError, "n_trained must be at least 2, got 1"),
        (lambda: scale_limit(0.0), ValueError, "logit must be above 0, got 0.0"),
        (lambda: scale_limit(1.0, 0.0), ValueError, "std must be above 0, got 0.0"),
    ],
)
def test_errors_name_argument_and_value(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
