"""The layer of `xlnet`: equation, transformers, positions, memory, training, errors."""

import copy
import math
import re
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_xlnet import (
    HEADS,
    D,
    attention,
    both_streams,
    encoding,
    heads,
    hf,
    largest,
    looped,
    moved,
    stack,
)

from posenc.equations.xlnet import shift_loop
from posenc.layers.attention import Attention, doors
from posenc.layers.xlnet import TransformerXL, from_xlnet, shift
from scripts import bench_xlnet

COMPILED = [*(["cpu"] if shutil.which("c++") else [])]  # needs a compiler
TOLERANCE = {torch.float64: 1e-12, torch.float32: 4e-6, torch.bfloat16: 8e-2, torch.float16: 8e-3}
PATHS = {"any": {}, "shift": {"consecutive": True}, "gather": {"clamp": 24}}
by_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
by_path = pytest.mark.parametrize("path", PATHS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# --- the equation ------------------------------------------------------------------------------


@by_dtype
@by_path
@pytest.mark.parametrize(("n_q", "n_k", "start"), [(5, 5, 0), (3, 8, 5), (1, 6, 5), (6, 2, -3)])
def test_the_layer_is_the_equation(n_q, n_k, start, path, dtype):
    layer = encoding(dtype, **PATHS[path])
    q, k = heads(n_q, n_k, dtype=dtype)
    q_at, k_at = start + torch.arange(n_q), torch.arange(n_k)
    got = layer.bias(q, k, q_at, k_at)
    assert got.dtype == dtype
    want = looped(layer, q, k, q_at, k_at)
    same(got.double(), want, TOLERANCE[dtype] * max(1, largest(want)))


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=5), st.integers(0, 99))
def test_any_positions_in_any_order(places, seed):
    torch.manual_seed(seed)
    layer, n = encoding(), len(places)
    q, k = heads(3, n, batch=1)
    q_at, k_at = torch.randint(-(10**7), 10**7, (3,)), torch.tensor(places)
    # angles of up to 2e7 radians lose 4e-9 in float64
    same(layer.bias(q, k, q_at, k_at), looped(layer, q, k, q_at, k_at), 1e-6)


@pytest.mark.parametrize("clamp", [1, 3, 100])
@pytest.mark.parametrize("consecutive", [False, True])
def test_offsets_beyond_the_limit_are_the_limit(clamp, consecutive):
    layer = encoding(clamp=clamp, consecutive=consecutive)
    q, k = heads(6, 9)
    q_at, k_at = 4 + torch.arange(6), torch.arange(9)
    got = layer.bias(q, k, q_at, k_at)
    same(got, looped(layer, q, k, q_at, k_at, clamp=clamp), 1e-12)


@pytest.mark.parametrize("base", [100.0, 10000.0])
@by_path
def test_the_base_is_that_of_the_frequencies(base, path):
    layer = encoding(base=base, **PATHS[path])
    q, k = heads(4, 4)
    at = torch.arange(4)
    same(layer.bias(q, k, at, at), looped(layer, q, k, at, at, base=base), 1e-12)


@by_path
def test_rows_of_a_batch_may_have_positions_of_their_own(path):
    layer = encoding(**PATHS[path])
    q, k = heads(3, 5)
    shared, own = torch.arange(5), torch.tensor([[2], [-7]]) + torch.arange(3)
    same(layer.bias(q, k, own, shared), looped(layer, q, k, own, shared), 1e-12)
    keys = torch.tensor([[0], [9]]) + torch.arange(5)
    same(layer.bias(q, k, own, keys), looped(layer, q, k, own, keys), 1e-12)
    same(layer.bias(q, k, own[0], keys), looped(layer, q, k, own[0], keys), 1e-12)


@by_path
def test_int32_positions_are_the_same_positions(path):
    layer = encoding(**PATHS[path])
    q, k = heads(2, 2)
    at, to = torch.tensor([2**31 - 2, 2**31 - 1]), torch.tensor([-(2**31), 1 - 2**31])
    same(layer.bias(q, k, at.int(), to.int()), layer.bias(q, k, at, to))


@by_path
def test_all_positions_may_move_together(path):
    layer = encoding(**PATHS[path])
    q, k = heads(3, 5)
    at, to = 2 + torch.arange(3), torch.arange(5)
    want = layer.bias(q, k, at, to)
    for start in (-77, 10**9):
        same(layer.bias(q, k, start + at, start + to), want)


@by_path
def test_float32_is_exact_at_great_offsets(path):
    layer = encoding(torch.float32, **(PATHS[path] | ({"clamp": 2000} if path == "gather" else {})))
    q, k = heads(2, 3, dtype=torch.float32)
    at, to = 1990 + torch.arange(2), torch.arange(3)
    want = looped(layer, q, k, at, to)
    same(layer.bias(q, k, at, to).double(), want, 2e-6 * largest(want))


def test_it_opens_the_logits_door_alone():
    assert doors(TransformerXL) == ("logits",)


def test_fused_attention_is_the_same():
    plain = attention(causal=True)
    fused = Attention(D, HEADS, plain.encoding, causal=True, fused=True, dtype=torch.float64)
    fused.load_state_dict(plain.state_dict())
    x = torch.randn(2, 7, D, dtype=torch.float64)
    same(fused(x), plain(x), 1e-13)


# --- the shift ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_q", "n_k"), [(1, 1), (1, 6), (4, 4), (3, 8), (5, 2)])
def test_the_view_is_the_loop(n_q, n_k):
    scores = torch.randn(2, 3, n_q, n_q + n_k, dtype=torch.float64)
    same(shift(scores), torch.tensor(shift_loop(scores.numpy())))
    same(shift(scores.mT.contiguous().mT), shift(scores))  # not in order in memory


def test_the_view_shares_memory():
    scores = torch.randn(2, 3, 4, 9)
    got = shift(scores)
    assert got.untyped_storage().data_ptr() == scores.untyped_storage().data_ptr()
    assert got.stride() == (108, 36, 8, 1)


def test_gradients_flow_through_the_view():
    scores = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 3, 4, dtype=torch.float64)
    (shift(scores) * weights).sum().backward()
    want = torch.zeros(2, 3, 7, dtype=torch.float64)
    for i in range(3):
        for j in range(4):
            want[:, i, 3 - i + j] = weights[:, i, j]
    same(scores.grad, want)


@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 4, 3)])
def test_a_shift_needs_more_columns_than_rows(shape):
    wanted = "scores must have shape (..., n_q, more than n_q), got " + str(shape)
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}$"):
        shift(torch.ones(shape))


# --- consecutive positions ---------------------------------------------------------------------


def test_a_broken_promise_is_nan_where_it_is_broken():
    layer = encoding(consecutive=True)
    q, k = heads(3, 4)
    good = layer.bias(q, k, torch.arange(3), torch.arange(4))
    for broken in ([0, 1, 3], [0, 0, 1], [5, 6, 4]):
        got = layer.bias(q, k, torch.tensor(broken), torch.arange(4))
        rows = torch.tensor(broken) != broken[0] + torch.arange(3)
        assert rows.any()
        assert got[:, :, rows].isnan().all()
        assert got[:, :, ~rows].isfinite().all()
    got = layer.bias(q, k, torch.arange(3), torch.tensor([0, 1, 2, 9]))
    assert got[..., 3].isnan().all()
    same(got[..., :3], good[..., :3])


def test_the_promise_is_held_row_by_row_of_a_batch():
    layer = encoding(consecutive=True)
    q, k = heads(3, 3)
    at = torch.tensor([[5, 6, 7], [0, 1, 3]])
    got = layer.bias(q, k, at, at)
    assert got[0].isfinite().all()
    assert got[1, :, :2, :2].isfinite().all()
    assert got[1, :, 2].isnan().all()
    assert got[1, :, :, 2].isnan().all()


def test_masked_padding_may_break_the_promise():
    """Padding at the end has whatever position it has; nobody looks at it."""
    layer = attention(consecutive=True)
    x = torch.randn(1, 5, D, dtype=torch.float64)
    at, real = torch.tensor([0, 1, 2, 0, 0]), torch.tensor([[True, True, True, False, False]])
    got = layer(x, at, mask=real[:, None] & real[:, :, None])
    same(got[:, :3], layer(x[:, :3]), 1e-13)
    assert not got[:, 3:].any()


# --- packed and padded -------------------------------------------------------------------------


@by_path
def test_packed_texts_are_the_texts_alone(path):
    layer = attention(**PATHS[path])
    a, b = torch.randn(1, 3, D, dtype=torch.float64), torch.randn(1, 4, D, dtype=torch.float64)
    text = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    mask = text[:, None] == text
    want = torch.cat([layer(a), layer(b)], dim=1)
    x = torch.cat([a, b], dim=1)
    same(layer(x, mask=mask), want, 1e-13)
    if path != "shift":
        same(layer(x, torch.tensor([0, 1, 2, 0, 1, 2, 3]), mask=mask), want, 1e-13)


@by_path
def test_left_padding_needs_a_mask_and_no_positions(path):
    layer = attention(causal=True, **PATHS[path])
    x = torch.randn(1, 3, D, dtype=torch.float64)
    padded = torch.cat([torch.randn(1, 2, D, dtype=torch.float64), x], dim=1)
    mask = torch.tensor([[[False, False, True, True, True]]])
    same(layer(padded, mask=mask)[:, 2:], layer(x), 1e-13)


def test_a_memory_with_gaps():
    """Keys 1 and 4 of seven were thrown away."""
    layer = attention()
    x = torch.randn(1, 7, D, dtype=torch.float64)
    kept = torch.tensor([0, 2, 3, 5, 6])
    mask = torch.zeros(7, dtype=torch.bool).index_fill(0, kept, True)
    got = layer(x[:, -1:], torch.tensor([6]), context=x[:, kept], context_positions=kept)
    same(got, layer(x, mask=mask[None])[:, -1:], 1e-13)


# --- transformers ------------------------------------------------------------------------------


@by_path
def test_weights_of_xlnet_give_its_outputs_in_both_streams(path):
    theirs = hf()[0]
    h, g, memory = (torch.randn(2, n, 64, dtype=torch.float64) for n in (5, 5, 3))
    ours = moved(theirs, **PATHS[path])
    want, got = both_streams(theirs, h, g, memory, [3, 0, 4, 1, 2], ours)
    for a, b in zip(got, want, strict=True):
        same(a, b, 1e-12)


def test_what_belongs_to_segments_is_left_out():
    state = from_xlnet(hf()[0].state_dict())
    wanted = {f"{name}.weight" for name in ("query", "key", "value", "output", "encoding.relative")}
    assert set(state) == wanted | {"encoding.u", "encoding.v"}


# --- memory ------------------------------------------------------------------------------------


def test_memory_gets_no_gradient_if_it_is_detached():
    layer = attention(causal=True)
    old, new = torch.randn(2, 1, 4, D, dtype=torch.float64, requires_grad=True)
    old, new = old.detach().requires_grad_(), new.detach().requires_grad_()
    at = 4 + torch.arange(4)
    context = torch.cat([old.detach(), new], dim=1)
    layer(new, at, context=context).sum().backward()
    assert old.grad is None
    assert new.grad.any()


def test_with_memory_enough_a_stack_is_the_whole_sequence():
    layers = [attention(causal=True, consecutive=True) for _ in range(3)]
    x = torch.randn(1, 12, D, dtype=torch.float64)
    whole = stack(layers, [x], 99)[0]
    same(torch.cat(stack(layers, x.split(4, dim=1), 99), dim=1), whole, 1e-12)


# --- training ----------------------------------------------------------------------------------


@by_path
def test_everything_gets_a_gradient(path):
    layer = encoding(**PATHS[path])
    q, k = (x.requires_grad_() for x in heads(3, 4))
    layer.bias(q, k, torch.arange(3), torch.arange(4)).pow(2).sum().backward()
    for x in (q, k, *layer.parameters()):
        assert x.grad.isfinite().all()
        assert x.grad.any()


@by_path
def test_gradients_are_those_of_finite_differences(path):
    layer = encoding(**PATHS[path])
    q, k = (x.requires_grad_() for x in heads(2, 2, batch=1))
    at, to = 1 + torch.arange(2), torch.arange(2)
    assert torch.autograd.gradcheck(lambda q, k: layer.bias(q, k, at, to), (q, k))


def test_first_values():
    layer = TransformerXL(512, 8)
    assert 0.017 < layer.u.std().item() < 0.023
    assert layer.u.shape == layer.v.shape == (8, 64)
    assert layer.relative.bias is None
    assert not torch.equal(layer.u, layer.v)
    assert TransformerXL(512, 8, std=2.0).v.std().item() > 1.7


def test_the_state_makes_a_round_trip():
    layer, other = attention(), attention()
    x = torch.randn(1, 4, D, dtype=torch.float64)
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    same(other(x), layer(x))
    assert set(layer.encoding.state_dict()) == {"u", "v", "relative.weight"}


def test_a_cast_does_not_touch_the_angles():
    """The vectors of offsets are computed anew, in float64, and rounded once."""
    layer = encoding(torch.float32).to(torch.bfloat16)
    with torch.no_grad():
        layer.u.zero_()
        layer.v.zero_()
        layer.relative.weight.copy_(torch.eye(D))
    q = torch.zeros(1, HEADS, 1, D // HEADS, dtype=torch.bfloat16)
    q[0, 0, 0, 0] = math.sqrt(D // HEADS)  # reads the fastest sine
    got = layer.bias(q, q, torch.tensor([100_003]), torch.tensor([0]))[0, 0, 0, 0].item()
    assert got == pytest.approx(math.sin(100_003), abs=0.02)


def test_a_layer_made_on_the_meta_device_works_on_another():
    with torch.device("meta"):
        layer = TransformerXL(D, HEADS)
    assert layer.u.device.type == layer.relative.weight.device.type == "meta"
    layer = layer.to_empty(device="cpu")
    layer.load_state_dict(encoding(torch.float32).state_dict())
    q, k = heads(2, 2, dtype=torch.float32)
    assert layer.bias(q, k, torch.arange(2), torch.arange(2)).isfinite().all()


@by_path
def test_shapes_are_known_without_numbers(path):
    layer = TransformerXL(D, HEADS, device="meta", dtype=torch.float16, **PATHS[path])
    q, k = (x.to("meta") for x in heads(3, 5, dtype=torch.float16))
    at, to = torch.arange(3, device="meta"), torch.arange(5, device="meta")
    got = layer.bias(q, k, at, to)
    assert (got.shape, got.dtype, got.device.type) == ((2, HEADS, 3, 5), torch.float16, "meta")


@by_path
def test_autocast_computes_in_low_precision(path):
    layer = Attention(D, HEADS, encoding(torch.float32, **PATHS[path]))
    x = torch.randn(2, 5, D)
    want = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
    assert got.dtype == torch.bfloat16
    same(got.float(), want, 0.05)


# --- compilation -------------------------------------------------------------------------------


@by_path
def test_a_compiled_layer_is_one_graph(path):
    torch.compiler.reset()
    layer = attention(torch.float32, causal=True, **PATHS[path])
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 5, D)
    same(compiled(x), layer(x), 1e-5)
    new, at = x[:, 3:], torch.tensor([3, 4])
    same(compiled(new, at, context=x), layer(new, at, context=x), 1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = attention(torch.float32, consecutive=True)
    x = torch.randn(2, 5, D, device=device)
    same(torch.compile(layer, fullgraph=True)(x), layer(x), 1e-5)


# --- benchmarks --------------------------------------------------------------------------------


def test_peers_compute_alike_before_they_are_timed(monkeypatch):
    monkeypatch.setattr(bench_xlnet, "N", 8)
    monkeypatch.setattr(bench_xlnet, "ROUNDS", 1)
    with torch.no_grad():
        for group in bench_xlnet.groups():
            assert len(group["rows"]) in (4, 6)
            assert len(group["targets"]) == 1
        monkeypatch.setattr(bench_xlnet, "shift", lambda scores: scores[..., :8])
        with pytest.raises(AssertionError, match="not equal"):
            bench_xlnet.shift_group()


# --- errors ------------------------------------------------------------------------------------

Q, KEY = torch.zeros(2, HEADS, 3, 8), torch.zeros(2, HEADS, 4, 8)
AT, TO = torch.arange(3), torch.arange(4)


def bias(q=Q, k=KEY, at=AT, to=TO):
    return TransformerXL(D, HEADS).bias(q, k, at, to)


def weights(**more):
    return {**hf()[0].state_dict(), **more}


TYPE_ERRORS = {
    "n_heads must be an integer, got 2.0": lambda: TransformerXL(D, 2.0),
    "d_model must be an integer, got 16.0": lambda: TransformerXL(16.0, 2),
    "clamp must be an integer, got 1.5": lambda: TransformerXL(D, 2, clamp=1.5),
    "base must hold real numbers, got dtype <U3": lambda: TransformerXL(D, 2, "100"),
    "std must hold real numbers, got dtype object": lambda: TransformerXL(D, 2, std=None),
    "q must have the layer's dtype torch.float32, got torch.float64": lambda: bias(Q.double()),
    "k must have the layer's dtype torch.float32, got torch.float16": lambda: bias(k=KEY.half()),
    "q must have a floating dtype, got torch.int64": lambda: bias(Q.long()),
    "q_positions must be int64 or int32, got torch.float32": lambda: bias(at=AT.float()),
    "k_positions must be int64 or int32, got torch.bool": lambda: bias(to=TO > 1),
}

VALUE_ERRORS = {
    "n_heads must be at least 1, got 0": lambda: TransformerXL(D, 0),
    "d_model must be a multiple of 2, got 9": lambda: TransformerXL(9, 3),
    "d_model must be a multiple of 3, got 16": lambda: TransformerXL(16, 3),
    "clamp must be at least 1, got 0": lambda: TransformerXL(D, 2, clamp=0),
    "base must be above 1, got 1.0": lambda: TransformerXL(D, 2, 1.0),
    "std must be above 0, got 0": lambda: TransformerXL(D, 2, std=0),
    "q must have shape (batch, heads, n >= 1, 8), got (2, 2, 3, 7)": lambda: bias(Q[..., :7]),
    "k must have shape (batch, heads, n >= 1, 8), got (2, 4, 8)": lambda: bias(k=KEY[0]),
    "q must have (batch, heads) = (2, 2), got (2, 1)": lambda: bias(Q[:, :1]),
    "k must have (batch, heads) = (2, 2), got (1, 2)": lambda: bias(k=KEY[:1]),
    "q_positions must have shape (3,) or (2, 3), got (4,)": lambda: bias(at=TO),
    "k_positions must have shape (4,) or (2, 4), got (1, 4)": lambda: bias(to=TO[None]),
    "k_positions must be on device cpu, got meta": lambda: bias(to=TO.to("meta")),
    "weights must hold q with 3 axes, got none": lambda: from_xlnet({}),
    "weights must hold o with 3 axes, got shape (64, 64)": lambda: from_xlnet(
        weights(o=torch.ones(64, 64))
    ),
    "weights must hold r_r_bias with 2 axes, got shape (64,)": lambda: from_xlnet(
        weights(r_r_bias=torch.ones(64))
    ),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
