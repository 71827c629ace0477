"""The layer of `rope_scaling`: equation, the Transformers library, lengths, casts, errors."""

import copy
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    DeepseekV3Config,
    Gemma3TextConfig,
    Gemma4TextConfig,
    GPTJConfig,
    LlamaConfig,
    Phi3Config,
    PhimoeConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import modeling_llama as llama

from posenc.equations.rope import rotate_pairs
from posenc.equations.rope_scaling import (
    DynamicNtk,
    Llama3,
    LongRope,
    NtkAware,
    NtkByParts,
    PositionInterpolation,
    Proportional,
    RopeScaling,
    Yarn,
)
from posenc.layers.attention import Attention, doors
from posenc.layers.rope import Rope
from posenc.layers.rope_scaling import ScaledRope, from_hf

D = 16
SHORT, LONG = tuple(1 + m / 8 for m in range(8)), tuple(1.0 + m for m in range(8))
SCALINGS = [
    RopeScaling(),
    PositionInterpolation(4),
    NtkAware(4),
    DynamicNtk(2, 64),
    NtkByParts(4, 4096),
    Llama3(8, 8192),
    Yarn(4, 4096),
    Yarn(4, 4096, ramp="index"),
    Yarn(4, 4096, ramp="truncated"),
    LongRope(SHORT, LONG, 64, 4),
    Proportional(0.5),
]
LENGTHS = [s for s in SCALINGS if s.by_length]
by_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: type(s).__name__)
by_length = pytest.mark.parametrize("scaling", LENGTHS, ids=lambda s: type(s).__name__)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def equation(x, positions, scaling, length, layout="interleaved"):
    """Queries or keys turned in NumPy by the object's own frequencies, row by row."""
    theta = scaling.frequencies(x.shape[-1], length=length)
    turned = rotate_pairs(x.double().numpy(), np.multiply.outer(positions, theta), layout=layout)
    return torch.tensor(turned * scaling.attention_factor)


# --- the equation ------------------------------------------------------------------------------


@by_scaling
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("last", [40, 63, 64, 500])
def test_the_layer_is_the_equation(scaling, layout, last):
    at = np.array([0, 3, last, 7, -2])
    x = torch.randn(2, 3, 5, D)
    got = ScaledRope(D, scaling, layout=layout)(x, torch.tensor(at))
    want = equation(x, at, scaling, last + 1, layout)
    same(got, want.float(), 2e-6 * want.abs().max().item())


@by_scaling
def test_every_row_of_a_batch_has_its_own_length(scaling):
    at = torch.stack([torch.arange(4), torch.arange(97, 101)])
    x = torch.randn(2, 2, 4, D)
    layer = ScaledRope(D, scaling)
    same(layer(x, at), torch.cat([layer(x[:1], at[0]), layer(x[1:], at[1])]))


@by_scaling
def test_queries_and_keys_share_the_larger_length(scaling):
    q, k = torch.randn(1, 2, 1, D), torch.randn(1, 2, 50, D)
    layer, fixed = ScaledRope(D, scaling), ScaledRope(D, scaling, length=101)
    q_at, k_at = torch.tensor([100]), torch.arange(50)
    for got, want in zip(layer.rotate(q, k, q_at, k_at), (fixed(q, q_at), fixed(k)), strict=True):
        same(got, want, 1e-6)
    k_at = k_at.expand(1, -1)
    same(layer.rotate(q, k, q_at, k_at)[1], fixed(k), 1e-6)


@by_scaling
def test_grouped_heads_int32_and_a_part_that_turns(scaling):
    """Fewer heads for the keys, positions by row as int32, 16 of 20 columns turning."""
    q, k = torch.randn(2, 4, 3, D + 4), torch.randn(2, 2, 70, D + 4)
    at = torch.stack([torch.arange(70), torch.arange(-60, 10)])
    layer = ScaledRope(D + 4, scaling, d_rotary=D)
    got = layer.rotate(q, k, at[:, -3:].int(), at.int())
    for turned, x, places in zip(got, (q, k), (at[:, -3:], at), strict=True):
        same(turned[..., D:], x[..., D:])
        rows = zip(x[..., :D], places.numpy(), (70, 10), strict=True)
        want = torch.stack([equation(row, p, scaling, n) for row, p, n in rows]).float()
        same(turned[..., :D], want, 2e-6 * want.abs().max().item())


def test_no_scaling_is_rope():
    q, k, at = torch.randn(1, 2, 9, D), torch.randn(1, 2, 9, D), torch.arange(9)
    for got, want in zip(
        ScaledRope(D, RopeScaling()).rotate(q, k, at, at), Rope(D).rotate(q, k, at, at), strict=True
    ):
        same(got, want, 1e-6)


def test_only_columns_that_turn_get_the_factor():
    x = torch.randn(1, 1, 3, D)
    got = ScaledRope(D, Yarn(8, 64), d_rotary=4)(x)
    same(got[..., 4:], x[..., 4:])
    same(got[..., 0, :4], x[..., 0, :4] * Yarn(8, 64).attention_factor, 1e-6)


def test_a_long_length_is_a_fixed_choice():
    scaling = LongRope(SHORT, LONG, 64, 4)
    at = torch.arange(10)
    short, long = (ScaledRope(D, scaling, length=n).angles(at) for n in (64, 65))
    np.testing.assert_allclose(short[1], scaling.frequencies(D, length=64), rtol=1e-15)
    np.testing.assert_allclose(long[1], scaling.frequencies(D, length=65), rtol=1e-15)


# --- as a module -------------------------------------------------------------------------------


def test_it_is_the_query_key_door_and_holds_nothing():
    assert doors(ScaledRope) == ("query/key",)
    for scaling in SCALINGS:
        layer = ScaledRope(D, scaling)
        assert not layer.state_dict()
        assert not list(layer.buffers())


def test_it_takes_the_place_of_rope_in_a_trained_model():
    model = Attention(32, n_heads=2, encoding=Rope(D), causal=True)
    scaled = Attention(32, n_heads=2, encoding=ScaledRope(D, NtkAware(4)), causal=True)
    scaled.load_state_dict(model.state_dict())
    x = torch.randn(1, 9, 32)
    assert not torch.allclose(scaled(x), model(x), atol=1e-4)
    model.encoding = scaled.encoding
    same(scaled(x), model(x))


@by_scaling
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_casts_change_nothing_but_the_last_rounding(scaling, dtype):
    layer, x = ScaledRope(D, scaling), torch.randn(1, 2, 99, D).to(dtype)
    cast = copy.deepcopy(layer).to(dtype)
    assert cast(x).dtype == dtype
    same(cast(x), layer(x))
    if dtype != torch.float64:
        same(cast(x), layer(x.float()).to(dtype))
        q, k = layer.rotate(x, x, torch.arange(99), torch.arange(99))
        same(q, layer(x))
        same(k, layer(x))


@by_scaling
def test_it_is_one_graph_for_any_length(scaling):
    torch.compiler.reset()
    layer = ScaledRope(D, scaling)
    compiled = torch.compile(layer.rotate, fullgraph=True, dynamic=True, backend="eager")
    for last in (5, 63, 64, 400):
        q, k, at = (
            torch.randn(2, 2, 6, D),
            torch.randn(2, 2, 6, D),
            torch.arange(last - 5, last + 1),
        )
        for got, want in zip(compiled(q, k, at, at), layer.rotate(q, k, at, at), strict=True):
            same(got, want, 2e-6)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layers = [ScaledRope(D, scaling) for scaling in (Yarn(4, 64), *LENGTHS)]
    q, k = torch.randn(2, 2, 2, 3, D, device=device)

    def every(q, k, at):
        return [layer.rotate(q, k, at, at) for layer in layers]

    compiled = torch.compile(every, fullgraph=True)
    for last in (63, 64, 400):
        at = torch.tensor([0, 7, last], device=device)
        for got, want in zip(compiled(q, k, at), every(q, k, at), strict=True):
            for a, b in zip(got, want, strict=True):
                same(a, b, 1e-5)


@by_scaling
def test_gradients_flow(scaling):
    q = torch.randn(1, 1, 5, D, dtype=torch.float64, requires_grad=True)
    k = torch.randn(1, 1, 5, D, dtype=torch.float64, requires_grad=True)
    layer, at = ScaledRope(D, scaling), torch.arange(60, 65)
    assert torch.autograd.gradcheck(lambda q, k: layer.rotate(q, k, at, at), (q, k))


# --- the Transformers library ------------------------------------------------------------------


def config(**rope):
    return LlamaConfig(
        hidden_size=4 * D,
        num_attention_heads=4,
        max_position_embeddings=256,
        rope_parameters={"rope_theta": 10_000.0, **rope},
    )


ORIGINAL = {"original_max_position_embeddings": 64, "factor": 4.0}
LIBRARY = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": ORIGINAL,
    "longrope": {**ORIGINAL, "short_factor": [*SHORT], "long_factor": [*LONG]},
    "llama3": {**ORIGINAL, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"factor": 2.0, "partial_rotary_factor": 0.5},
}


@pytest.mark.parametrize("kind", LIBRARY)
@pytest.mark.parametrize("n", [5, 64, 65, 256, 257, 700])
def test_tables_are_those_of_the_library(kind, n):
    given = config(rope_type=kind, **copy.deepcopy(LIBRARY[kind]))
    at = torch.arange(n)[None]
    library = llama.LlamaRotaryEmbedding(given)(torch.zeros(1), at)
    for got, want in zip(from_hf(given).tables(at), library, strict=True):
        same(got[:, 0], want[..., : D // 2], 1.5e-7 * n + 1e-6)


@pytest.mark.parametrize("kind", LIBRARY)
def test_the_dictionary_in_both_forms_reads_as_the_object_does(kind):
    given = config(rope_type=kind, **copy.deepcopy(LIBRARY[kind]))
    new = given.to_dict()
    old = {k: v for k, v in new.items() if k != "rope_parameters"} | {"rope_theta": 10_000.0}
    rope = {"type": kind, **LIBRARY[kind]}
    if "partial_rotary_factor" in rope:
        old["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    old["rope_scaling"] = rope
    layers = [from_hf(form) for form in (given, new, old)]
    assert layers[0].scaling == layers[1].scaling == layers[2].scaling
    assert len({(layer.base, layer.d_head, layer.d_rotary, layer.layout) for layer in layers}) == 1


def test_a_config_without_parameters_is_plain_rope():
    layer = from_hf({"head_dim": 8, "rope_theta": 5e4, "rope_scaling": None})
    assert (layer.scaling, layer.base, layer.layout) == (RopeScaling(), 5e4, "halves")
    given = {"hidden_size": 64, "num_attention_heads": 4, "rope_theta": 1e4}
    layer = from_hf(given, layout="interleaved")
    assert (layer.d_head, layer.layout) == (D, "interleaved")


def test_a_part_of_the_head_may_turn():
    layer = from_hf({"head_dim": 8, "partial_rotary_factor": 0.5, "rope_theta": 1e4})
    assert (layer.d_head, layer.d_rotary) == (8, 4)


def test_phi_keeps_the_original_length_beside_the_parameters():
    """The library prefers it to the one within; the factor is then the ratio of both."""
    lists = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    given = Phi3Config(
        hidden_size=32,
        num_attention_heads=4,
        max_position_embeddings=1024,
        original_max_position_embeddings=128,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10_000.0, **lists},
        pad_token_id=0,
    )
    want = LongRope((1.0,) * 4, (2.0,) * 4, 128, 8.0)
    assert from_hf(given).scaling == want
    old = {"head_dim": 8, "max_position_embeddings": 1024, "rope_theta": 1e4}
    old |= {"original_max_position_embeddings": 128}
    old |= {"rope_scaling": {"type": "su", **lists, "original_max_position_embeddings": 5}}
    assert from_hf(old).scaling == want


def test_parameters_by_type_of_layer():
    kinds = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    given = {"head_dim": 8, "rope_parameters": kinds}
    far = from_hf(given, layer_type="full_attention")
    assert (far.scaling, far.base) == (PositionInterpolation(8.0), 1e6)
    assert from_hf(given, layer_type="sliding_attention").scaling == RopeScaling()
    with pytest.raises(ValueError, match=r"layer_type must be 'full_attention' or .*None"):
        from_hf(given)


def test_the_old_form_of_gemma_3_has_two_kinds_of_layers():
    rope = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_theta": 1e6}
    old = {"head_dim": 256, "rope_local_base_freq": 2e4, **rope}
    new = Gemma3TextConfig(head_dim=256, rope_local_base_freq=2e4, **copy.deepcopy(rope))
    for kind, want in {
        "full_attention": (PositionInterpolation(8.0), 1e6),
        "sliding_attention": (RopeScaling(), 2e4),
    }.items():
        for given in (old, new):
            layer = from_hf(given, layer_type=kind)
            assert (layer.scaling, layer.base) == want
    with pytest.raises(ValueError, match="layer_type must be 'full_attention' or 'sliding_att"):
        from_hf(old)


def test_latent_attention_turns_columns_of_their_own():
    """A file of DeepSeek has no head_dim, and hidden_size / num_attention_heads is no width."""
    rope = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}
    rope |= {"mscale": 1.0, "mscale_all_dim": 1.0}
    size = {"hidden_size": 7168, "num_attention_heads": 128, "qk_rope_head_dim": 64}
    size |= {"max_position_embeddings": 163_840}
    old = from_hf({**size, "rope_scaling": rope, "rope_theta": 1e4})
    new = from_hf(DeepseekV3Config(**size, rope_scaling=dict(rope), rope_theta=1e4))
    assert (old.d_head, old.d_rotary, old.scaling) == (64, 64, new.scaling)
    assert new.d_head == 64
    whole = {"head_dim": 192, "qk_rope_head_dim": 64, "partial_rotary_factor": 1 / 3}
    layer = from_hf({**whole, "rope_theta": 1e4})  # as Mistral 4 has it
    assert (layer.d_head, layer.d_rotary) == (192, 64)


def test_two_mscales_make_a_ratio():
    rope = {"mscale": 1.0, "mscale_all_dim": 0.5, **ORIGINAL}
    given = config(rope_type="yarn", **rope)
    _, want = ROPE_INIT_FUNCTIONS["yarn"](given, "cpu")
    assert from_hf(given).attention_factor == pytest.approx(want, abs=1e-12)
    assert want > 1.05


def test_equal_ends_of_the_ramp_are_a_step():
    """As in Kimi K2, where fast pairs too start at 1 turn."""
    rope = {**ORIGINAL, "factor": 32.0, "beta_fast": 1.0, "beta_slow": 1.0}
    for truncate in (True, False):
        given = config(rope_type="yarn", truncate=truncate, **rope)
        theta, _ = ROPE_INIT_FUNCTIONS["yarn"](given, "cpu")
        same(from_hf(given).angles(torch.tensor([1]))[0], theta.double(), 1e-7)


def test_layers_of_different_widths_are_read_one_by_one():
    given = Gemma4TextConfig()
    kinds = given.layer_types
    layers = [from_hf(given.per_layer_config[i], layer_type=kinds[i]) for i in (0, 5)]
    assert [(x.d_head, x.scaling) for x in layers] == [
        (256, RopeScaling()),
        (512, Proportional(0.25)),
    ]
    with pytest.raises(ValueError, match="config must be that of one layer"):
        from_hf(given.to_dict(), layer_type=kinds[0])


YARN = {"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("given", "scaling"),
    [
        ({}, Yarn(40, 4096, ramp="truncated")),
        ({"truncate": False}, Yarn(40, 4096, ramp="index")),
        ({"beta_fast": 128, "beta_slow": 2}, Yarn(40, 4096, 2, 128, "truncated")),
        ({"attention_factor": 1.5}, Yarn(40, 4096, ramp="truncated", attention=1.5)),
        ({"mscale": 0.707}, Yarn(40, 4096, ramp="truncated")),  # alone it counts for nothing
        ({"mscale": 0.707, "mscale_all_dim": 0.707}, Yarn(40, 4096, ramp="truncated", attention=1)),
        ({"factor": None}, Yarn(4.0, 4096, ramp="truncated")),
    ],
)
def test_the_options_of_yarn(given, scaling):
    config = {"head_dim": 64, "max_position_embeddings": 16384, "rope_theta": 1e4}
    assert from_hf(config | {"rope_scaling": {**YARN, **given}}).scaling == scaling


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"rope_scaling": {"type": "mrope"}}, "rope_type must be 'default' or .*got 'mrope'"),
        (
            {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
            r"rope_parameters of type 'default' must be among .*got \['mrope_section'\]",
        ),
        ({"rope_scaling": {"type": "linear"}}, "type 'linear' must have 'factor', got"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "type 'dynamic' must have 'max_position_embeddings', got",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor must be between 1 and inf"),
    ],
)
def test_what_is_unknown_or_missing_is_named(config, error):
    with pytest.raises(ValueError, match=error):
        from_hf({"head_dim": 8, "rope_theta": 1e4, **config})


@pytest.mark.parametrize("config", [{"head_dim": 8}, None, BertConfig(), GPTJConfig()])
def test_a_base_is_never_guessed(config):
    with pytest.raises(ValueError, match="type 'default' must have 'rope_theta'"):
        from_hf(config)


def test_two_factors_are_refused_by_both_names():
    """Phi-3.5-MoE has one for short and one for long texts."""
    scales = {"short_mscale": 1.2, "long_mscale": 1.3}
    lists = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 4096, **lists, **scales}
    with pytest.raises(ValueError, match=r"got \['long_mscale', 'short_mscale'\]"):
        from_hf(PhimoeConfig(max_position_embeddings=131_072, rope_parameters=rope))


def test_a_width_must_be_known():
    with pytest.raises(ValueError, match="must have 'hidden_size'"):
        from_hf({"rope_theta": 1e4})


def test_a_type_of_layer_that_there_is_not():
    with pytest.raises(ValueError, match="layer_type must be None for these parameters, got 'far'"):
        from_hf({"head_dim": 8, "rope_theta": 1e4}, layer_type="far")


@dataclass(frozen=True)
class Own(RopeScaling):
    """A scaling of one's own that depends on the length."""

    by_length = True

    def _scaled(self, theta, base, length):
        return theta / length


def test_a_scaling_of_ones_own_that_asks_for_the_length_must_be_told():
    same(ScaledRope(D, Own(), length=4).angles(torch.tensor([4]))[0, 0], torch.tensor(1.0).double())
    with pytest.raises(TypeError, match="length must be given for Own, got None"):
        ScaledRope(D, Own())


def test_the_scaling_must_be_one():
    with pytest.raises(TypeError, match="scaling must be a RopeScaling, got 4"):
        ScaledRope(8, 4)  # ty: ignore


@pytest.mark.parametrize(
    ("scaling", "error"),
    [
        (LongRope((1.0,), (1.0,), 64, 4), r"short must have shape \(4,\), got \(1,\)"),
        (LongRope((1.0,) * 4, (1.0,) * 3, 64, 4), r"long must have shape \(4,\), got \(3,\)"),
        (Yarn(4, 64, ramp="steps"), "ramp must be 'turns' or 'index' or 'truncated', got 'steps'"),
        (Yarn(4, 64, slow=5, fast=4), "fast must be above 5, got 4"),
    ],
)
def test_a_scaling_that_does_not_fit_is_refused_at_once(scaling, error):
    with pytest.raises(ValueError, match=error):
        ScaledRope(8, scaling)


def test_lengths_and_positions_are_checked():
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        ScaledRope(8, RopeScaling(), length=0)
    with pytest.raises(TypeError, match=r"positions must be int64 or int32, got torch.float32"):
        ScaledRope(8, RopeScaling()).tables(torch.tensor([0.5]))
