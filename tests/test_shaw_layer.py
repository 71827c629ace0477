"""The layer of `shaw`: equation, positions, precision, training, checkpoints, casts, errors."""

import copy
import io
import math
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from posenc.equations.relative import offsets
from posenc.equations.shaw import relative_logits, relative_values, sinusoidal_table
from posenc.equations.sinusoidal import sinusoidal
from posenc.layers.attention import Attention, doors
from posenc.layers.shaw import Shaw, ShawKeys

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
ROUNDING = {  # of the results, some of whose numbers lie between 2 and 8
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.bfloat16: 0.04,
    torch.float16: 0.005,
}
TABLES = ["learned", "sinusoidal", "nezha"]
REACHES = [0, 3, (5, 1), (0, 4), 20]
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", ROUNDING, ids=str)
by_table = pytest.mark.parametrize("table", TABLES)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def vectors(layer):
    """Tables of a layer in float64, from the equations where they are fixed."""
    reach = layer.left, layer.right
    if layer.table == "sinusoidal":
        return [sinusoidal_table(layer.d_head, reach)] * 2
    if layer.table == "nezha":
        return [sinusoidal(np.arange(sum(reach) + 1), layer.d_head)] * 2
    return [t.detach().double().cpu().numpy() for t in (layer.key_table, layer.value_table)]


def inputs(n_q=6, n_k=9, d=4, dtype=torch.float32, device="cpu", batch=2, heads=3):
    q, k, v = (torch.randn(batch, heads, n, d, device=device) for n in (n_q, n_k, n_k))
    weights = torch.randn(batch, heads, n_q, n_k, device=device).softmax(-1)
    return [x.to(dtype) for x in (q, k, v, weights)]


def spans(n_q, n_k, start=0, device="cpu"):
    return torch.arange(start, start + n_q, device=device), torch.arange(n_k, device=device)


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@by_table
@pytest.mark.parametrize("reach", REACHES, ids=str)
def test_both_terms_are_the_equations(reach, table, dtype, device):
    layer = Shaw(4, reach, table=table, std=1.0, device=device)
    q, k, v, weights = inputs(dtype=dtype, device=device)
    at = spans(6, 9, 2, device)
    t, (keys, values) = offsets(6, 9, 2), vectors(layer)
    q64, v64, w64 = (x.double().cpu().numpy() for x in (q, v, weights))
    bias, z = layer.bias(q, k, *at), layer.combine(weights, v, *at)
    assert bias.dtype == z.dtype == dtype
    own = max(ROUNDING[dtype], 2e-6)  # tables are float32
    same(bias.double().cpu(), torch.tensor(relative_logits(q64, keys, t, reach)), own)
    same(z.double().cpu(), torch.tensor(w64 @ v64 + relative_values(w64, values, t, reach)), own)


def test_a_layer_in_float64_has_all_digits():
    layer, (q, k, v, weights) = Shaw(4, 3, dtype=torch.float64), inputs(dtype=torch.float64)
    keys, values = vectors(layer)
    bias, z = layer.bias(q, k, *spans(6, 9)), layer.combine(weights, v, *spans(6, 9))
    want = relative_logits(q.numpy(), keys, offsets(6, 9), 3)
    same(bias, torch.tensor(want), 1e-15)
    want = (weights @ v).numpy() + relative_values(weights.numpy(), values, offsets(6, 9), 3)
    same(z, torch.tensor(want), 1e-14)


@settings(max_examples=20)
@given(st.integers(-(10**9), 10**9))
def test_only_the_difference_of_the_positions_counts(start):
    layer, (q, k, v, weights) = Shaw(4, 3, std=1.0), inputs()
    here, there = spans(6, 9), [at + start for at in spans(6, 9)]
    same(layer.bias(q, k, *there), layer.bias(q, k, *here))
    same(layer.combine(weights, v, *there), layer.combine(weights, v, *here))


def test_positions_may_have_gaps_and_any_order():
    layer, (q, k, v, weights) = Shaw(4, 3, std=1.0), inputs()
    q_at, k_at = torch.tensor([7, 0, 7, 2, -5, 100]), torch.tensor([1, 0, 8, 6, 5, 3, 99, -5, 7])
    keys, values = vectors(layer)
    t = k_at.numpy() - q_at.numpy()[:, None]
    got, z = layer.bias(q, k, q_at, k_at), layer.combine(weights, v, q_at, k_at)
    q, v, weights = (x.double().numpy() for x in (q, v, weights))
    same(got.double(), torch.tensor(relative_logits(q, keys, t, 3)), 1e-6)
    want = weights @ v + relative_values(weights, values, t, 3)
    same(z.double(), torch.tensor(want), 1e-6)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_every_row_of_a_batch_may_have_positions_of_its_own(dtype):
    layer, (q, k, v, weights) = Shaw(4, 3, std=1.0), inputs()
    q_at = torch.stack([torch.arange(6), 5 * torch.arange(6)]).to(dtype)
    k_at = torch.arange(9, dtype=dtype)
    for row in range(2):
        one = slice(row, row + 1)
        bias = layer.bias(q, k, q_at, k_at)[one]
        same(bias, layer.bias(q[one], k[one], q_at[row], k_at))
        z = layer.combine(weights, v, q_at, k_at)[one]
        same(z, layer.combine(weights[one], v[one], q_at[row], k_at), 1e-6)


def test_positions_are_left_alone():
    layer, (q, k, v, weights) = Shaw(4, 1), inputs(6, 6)
    at = torch.arange(6)
    layer.bias(q, k, at, at)
    layer.combine(weights, v, at, at)
    same(at, torch.arange(6))


@torch.no_grad()
def test_attention_opens_both_doors():
    layer, x = Attention(8, 2, Shaw(4, 3, std=1.0)), torch.randn(1, 15, 8)
    order = torch.randperm(15)
    same(layer(x[:, order], order), layer(x)[:, order], 1e-6)
    assert (layer(x[:, order]) - layer(x)[:, order]).abs().max() > 1e-3
    q, k, v = (layer._split_heads(f(x)) for f in (layer.query, layer.key, layer.value))
    keys, values = (torch.tensor(t).float() for t in vectors(layer.encoding))
    rows = (torch.arange(15) - torch.arange(15)[:, None]).clamp(-3, 3) + 3
    weights = (torch.einsum("bhid,bhijd->bhij", q, k[:, :, None] + keys[rows]) / 2).softmax(-1)
    z = torch.einsum("bhij,bhijd->bhid", weights, v[:, :, None] + values[rows])
    same(layer(x), layer.output(z.transpose(1, 2).flatten(2)), 1e-6)


@torch.no_grad()
def test_who_may_look_at_nothing_gets_no_vector_either():
    layer, x = Attention(8, 2, Shaw(4, 3, std=1.0)), torch.randn(1, 3, 8)
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    assert not layer(x, mask=mask)[0, 1].any()


@torch.no_grad()
def test_without_values_it_runs_through_the_fused_kernel():
    encoding = ShawKeys(4, 3, std=1.0)
    plain, x = Attention(8, 2, encoding), torch.randn(1, 15, 8)
    fused = Attention(8, 2, encoding, fused=True)
    fused.load_state_dict(plain.state_dict())
    same(fused(x), plain(x), 1e-6)


def test_the_key_term_is_the_same_with_and_without_values():
    both, keys, (q, k, *_) = Shaw(4, 3, std=1.0), ShawKeys(4, 3), inputs()
    keys.load_state_dict(both.state_dict(), strict=False)
    same(keys.bias(q, k, *spans(6, 9)), both.bias(q, k, *spans(6, 9)))


# --- precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_products_are_rounded_once(dtype):
    layer, (q, k, *_) = Shaw(48, 3, std=1.0).to(dtype), inputs(d=48, dtype=dtype)
    keys = layer.key_table.detach().double().numpy()
    want = relative_logits(q.double().numpy(), keys, offsets(6, 9), 3)
    got = layer.bias(q, k, *spans(6, 9)).detach().double().numpy()
    np.testing.assert_allclose(got, want, rtol=torch.finfo(dtype).eps / 2 + 1e-4, atol=1e-6)


@by_table
def test_fixed_tables_survive_a_cast(table):
    layer = Shaw(4, 3, table=table, std=1.0)
    cast, (q, k, v, weights) = copy.deepcopy(layer).to(torch.bfloat16), inputs()
    if table != "learned":
        same(cast.bias(q, k, *spans(6, 9)), layer.bias(q, k, *spans(6, 9)))
        same(cast.combine(weights, v, *spans(6, 9)), layer.combine(weights, v, *spans(6, 9)))
    else:
        assert cast.key_table.dtype == torch.bfloat16


def test_under_autocast_the_outputs_have_the_low_dtype():
    layer, x = Attention(8, 2, Shaw(4, 3)), torch.randn(1, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


# --- training ----------------------------------------------------------------------------------


def test_gradients_equal_those_of_a_vector_for_every_pair():
    layer = Shaw(4, 2, dtype=torch.float64, std=1.0)
    q, k, v, weights = (x.requires_grad_() for x in inputs(dtype=torch.float64))
    at = spans(6, 9)
    (layer.bias(q, k, *at).sin().sum() + layer.combine(weights, v, *at).sin().sum()).backward()
    got = [x.grad.clone() for x in (q, v, weights, layer.key_table, layer.value_table)]
    for x in (q, v, weights, layer.key_table, layer.value_table):
        x.grad = None
    rows = (at[1] - at[0][:, None]).clamp(-2, 2) + 2
    bias = torch.einsum("bhid,ijd->bhij", q, layer.key_table[rows]) / 2
    z = weights @ v + torch.einsum("bhij,ijd->bhid", weights, layer.value_table[rows])
    (bias.sin().sum() + z.sin().sum()).backward()
    for x, grad in zip((q, v, weights, layer.key_table, layer.value_table), got, strict=True):
        same(grad, x.grad, 1e-12)
    assert k.grad is None


def test_an_offset_that_does_not_occur_gets_no_gradient():
    layer, x = Shaw(4, 9), torch.randn(1, 5, 8)
    Attention(8, 2, layer)(x).sum().backward()
    reached = torch.arange(19).sub(9).abs() <= 4
    for table in (layer.key_table, layer.value_table):
        assert table.grad[reached].any(-1).all()
        assert not table.grad[~reached].any()


def test_fixed_tables_have_nothing_to_train():
    for table in TABLES[1:]:
        assert not list(Shaw(4, 3, table=table).parameters())


def test_first_values_are_small_and_normal():
    layer = Shaw(64, 256)
    for table in (layer.key_table, layer.value_table):
        assert table.std().item() == pytest.approx(0.02, rel=0.02)
        assert abs(table.mean().item()) < 1e-3
    assert Shaw(64, 256, std=1.0).key_table.std().item() == pytest.approx(1, rel=0.02)
    assert (layer.key_table != layer.value_table).any()


# --- checkpoints -------------------------------------------------------------------------------


@torch.no_grad()
def test_a_whole_layer_of_wav2vec2_bert_computes_the_same_here():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    config = Wav2Vec2BertConfig(
        hidden_size=32,
        num_attention_heads=4,
        left_max_position_embeddings=6,
        right_max_position_embeddings=2,
        attn_implementation="eager",
    )
    peer = Wav2Vec2BertSelfAttention(config).eval()
    nn.init.normal_(peer.distance_embedding.weight)
    ours = Attention(32, 4, ShawKeys(8, (6, 2)), bias=True)
    names = {"query": "linear_q", "key": "linear_k", "value": "linear_v", "output": "linear_out"}
    theirs = peer.state_dict()
    state = {
        f"{name}.{part}": theirs[f"{other}.{part}"]
        for name, other in names.items()
        for part in ("weight", "bias")
    }
    state["encoding.key_table"] = theirs["distance_embedding.weight"]
    ours.load_state_dict(state)
    x = torch.randn(2, 20, 32)
    same(ours(x), peer(x)[0], 1e-5)


@torch.no_grad()
def test_a_whole_layer_of_speecht5_computes_the_same_here():
    from transformers.models.speecht5 import modeling_speecht5 as hf

    positions = hf.SpeechT5RelativePositionalEncoding(8, 5)
    peer = hf.SpeechT5Attention(32, 4).eval()
    ours = Attention(32, 4, ShawKeys(8, (4, 5)), bias=True)
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    theirs = peer.state_dict()
    state = {
        f"{name}.{part}": theirs[f"{other}.{part}"]
        for name, other in names.items()
        for part in ("weight", "bias")
    }
    state["encoding.key_table"] = positions.pe_k.weight.flip(0)
    ours.load_state_dict(state)
    x = torch.randn(2, 20, 32)
    same(ours(x), peer(x, position_bias=positions(x))[0], 1e-5)


def test_a_checkpoint_holds_the_tables_and_nothing_else():
    layer, other = Shaw(4, 3), Shaw(4, 3)
    assert list(layer.state_dict()) == ["key_table", "value_table"]
    assert list(ShawKeys(4, 3).state_dict()) == ["key_table"]
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    other.load_state_dict(torch.load(saved))
    q, k, v, weights = inputs()
    same(other.bias(q, k, *spans(6, 9)), layer.bias(q, k, *spans(6, 9)))
    same(other.combine(weights, v, *spans(6, 9)), layer.combine(weights, v, *spans(6, 9)))


def test_a_checkpoint_of_another_reach_is_refused():
    with pytest.raises(RuntimeError, match=r"size mismatch for key_table.*\[7, 4\].*\[9, 4\]"):
        Shaw(4, 4).load_state_dict(Shaw(4, 3).state_dict())


# --- the module --------------------------------------------------------------------------------


def test_the_logits_door_and_the_values_door_are_open():
    assert doors(ShawKeys) == ("logits",)
    assert doors(Shaw) == ("logits", "values")


def test_settings_can_be_read():
    layer = Shaw(4, (5, 1), table="sinusoidal", std=0.5)
    assert (layer.d_head, layer.left, layer.right) == (4, 5, 1)
    assert (layer.table, layer.std) == ("sinusoidal", 0.5)
    assert (Shaw(4, 3).left, Shaw(4, 3).right) == (3, 3)


@by_dtype
def test_the_layer_may_be_cast(dtype):
    layer, (q, k, v, weights) = Shaw(4, 3).to(dtype), inputs(dtype=dtype)
    assert layer.key_table.dtype == layer.value_table.dtype == dtype
    assert layer.bias(q, k, *spans(6, 9)).dtype == dtype
    assert layer.combine(weights, v, *spans(6, 9)).dtype == dtype
    assert Shaw(4, 3, dtype=dtype).key_table.dtype == dtype


@by_table
def test_a_layer_is_built_without_memory_and_filled_later(table):
    layer = Shaw(4, 3, table=table, device="meta")
    q, k, v, weights = inputs(device="meta")
    at = spans(6, 9, device="meta")
    assert layer.bias(q, k, *at).shape == (2, 3, 6, 9)
    assert layer.combine(weights, v, *at).device.type == "meta"
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert all(parameter.abs().max() < 0.2 for parameter in layer.parameters())
    assert layer.bias(*inputs()[:2], *spans(6, 9)).isfinite().all()


@by_table
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_compiled_layer_is_one_graph(dtype, table):
    torch.compiler.reset()
    layer = Attention(8, 2, Shaw(4, (2, 3), table=table, std=1.0), dtype=dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 7, 8, dtype=dtype)
    same(compiled(x), layer(x))
    positions = torch.tensor([[0, 1, 2, 3, 4, 9, 10], [9, 9, -1, 0, 1, 2, 5]])
    same(compiled(x, positions), layer(x, positions))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer, (q, k, v, weights) = Shaw(4, (2, 3), std=1.0, device=device), inputs(device=device)

    @torch.no_grad()
    def both(q_at, k_at):
        return layer.bias(q, k, q_at, k_at), layer.combine(weights, v, q_at, k_at)

    at = torch.arange(6, device=device) * 2, torch.arange(9, device=device)
    for got, want in zip(torch.compile(both, fullgraph=True)(*at), both(*at), strict=True):
        same(got, want, 1e-5)


# --- errors ------------------------------------------------------------------------------------

QKVW, AT = inputs(6, 6), torch.arange(6)


def bias(q=QKVW[0], k=QKVW[1], q_at=AT, k_at=AT):
    return Shaw(4, 3).bias(q, k, q_at, k_at)


def combine(weights=QKVW[3], v=QKVW[2], q_at=AT, k_at=AT):
    return Shaw(4, 3).combine(weights, v, q_at, k_at)


TYPE_ERRORS = {
    "d_head must be an integer, got 4.0": lambda: Shaw(4.0, 3),
    "max_distance must be an integer, got 3.0": lambda: Shaw(4, 3.0),
    "max_distance must be an integer, got True": lambda: Shaw(4, (3, True)),
    "max_distance must be one integer or two, got (3,)": lambda: Shaw(4, (3,)),
    "std must hold real numbers, got dtype <U1": lambda: Shaw(4, 3, std="a"),
    "q must have a floating dtype, got torch.int64": lambda: bias(q=QKVW[0].long()),
    "k must have a floating dtype, got torch.int64": lambda: bias(k=QKVW[1].long()),
    "v must have a floating dtype, got torch.int32": lambda: combine(
        QKVW[3].int(), v=QKVW[2].int()
    ),
    "q_positions must be int64 or int32, got torch.float32": lambda: bias(q_at=AT.float()),
    "k_positions must be int64 or int32, got torch.float32": lambda: combine(k_at=AT.float()),
}
VALUE_ERRORS = {
    "d_head must be at least 1, got 0": lambda: Shaw(0, 3),
    "max_distance must be at least 0, got -1": lambda: Shaw(4, -1),
    "max_distance must be at least 0, got -2": lambda: Shaw(4, (3, -2)),
    "std must be above 0, got 0": lambda: Shaw(4, 3, std=0),
    "table must be 'learned' or 'sinusoidal' or 'nezha', got 'fixed'": lambda: Shaw(
        4, 3, table="fixed"
    ),
    "q must have shape (batch, heads, n >= 1, 4), got (3, 6, 4)": lambda: bias(q=QKVW[0][0]),
    "k must have shape (batch, heads, n >= 1, 4), got (2, 3, 6, 3)": lambda: bias(
        k=QKVW[1][..., :3]
    ),
    "v must have shape (batch, heads, n >= 1, 4), got (2, 3, 6, 3)": lambda: combine(
        v=QKVW[2][..., :3]
    ),
    "q_positions must have shape (6,) or (2, 6), got (5,)": lambda: bias(q_at=AT[:5]),
    "k_positions must have shape (6,) or (2, 6), got (5,)": lambda: bias(k_at=AT[:5]),
    "q_positions must have shape (6,) or (2, 6), got (7,)": lambda: combine(q_at=torch.arange(7)),
    "k_positions must have shape (6,) or (2, 6), got (3, 6)": lambda: combine(k_at=AT.expand(3, 6)),
    "q_positions must be on device cpu, got meta": lambda: bias(q_at=AT.to("meta")),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_size_or_device_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


def test_a_compiled_layer_refuses_the_same_input():
    torch.compiler.reset()
    compiled = torch.compile(Shaw(4, 3).bias, backend="eager")
    with pytest.raises(ValueError, match=r"^q_positions must have shape .*, got \(5,\)$"):
        compiled(QKVW[0], QKVW[1], AT[:5], AT)


def test_the_scale_is_that_of_the_dot_product():
    layer = Shaw(9, 0)
    layer.key_table = nn.Parameter(torch.ones(1, 9))
    q = torch.ones(1, 1, 1, 9)
    assert layer.bias(q, q, AT[:1], AT[:1]).item() == pytest.approx(9 / math.sqrt(9))
