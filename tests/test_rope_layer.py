"""The layer of `rope`: equation, positions, precision, training, casts, errors."""

import copy
import io
import math
import pickle
import re
import shutil
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.equations.rope import rotate, rotate_pairs
from posenc.layers import rope
from posenc.layers.attention import Attention, doors
from posenc.layers.rope import Rope, apply_rotary, permute_layout

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
EPS = {torch.float64: 2e-12, torch.float32: 2**-24, torch.bfloat16: 2**-9, torch.float16: 2**-12}
LAYOUTS = ["interleaved", "halves"]
AT = [0, 1, 2, 77, 512, 10_000, -3]
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", EPS, ids=str)
by_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def near(got, want, dtype):
    """Within one rounding to `dtype`, after a float32 computation with few roundings."""
    size = want.abs().max().item()
    slack = 8 * size * 2**-24 if dtype != torch.float64 else 0
    same(got.double().cpu(), want.cpu(), EPS[dtype] * 2 * size + slack)


def equation(x, positions, **options):
    at = positions[:, None] if positions.ndim == 2 else positions
    return torch.tensor(rotate(x.double().detach().cpu().numpy(), at.cpu().numpy(), **options))


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@by_layout
@pytest.mark.parametrize(("d", "d_rotary"), [(64, None), (64, 16), (7, 6), (2, None)])
def test_the_layer_is_the_equation(d, d_rotary, layout, dtype, device):
    positions = torch.tensor(AT, device=device)
    x = torch.randn(2, 3, 7, d, dtype=dtype, device=device)
    got = Rope(d, layout=layout, d_rotary=d_rotary)(x, positions)
    assert got.dtype == dtype
    assert got.shape == x.shape
    near(got, equation(x, positions, layout=layout, d_rotary=d_rotary), dtype)


@by_dtype
@by_layout
@pytest.mark.parametrize("n", [1, 5, 700])  # few and many tokens are turned in different ways
@pytest.mark.parametrize("heads_first", [True, False])
def test_every_way_of_turning_is_the_equation(heads_first, n, layout, dtype):
    shape = (1, 8, n, 64) if heads_first else (1, n, 8, 64)
    x = torch.randn(shape, dtype=dtype)
    x = x if heads_first else x.transpose(1, 2)
    assert x.numel() > rope._BLOCK or n < 700
    near(Rope(64, layout=layout)(x), equation(x, torch.arange(n), layout=layout), dtype)


@by_layout
def test_what_does_not_turn_stays_bit_for_bit(layout):
    x = torch.randn(1, 2, 5, 10)
    got = Rope(10, layout=layout, d_rotary=4)(x)
    same(got[..., 4:], x[..., 4:])
    assert not torch.equal(got[:, :, 1:, :4], x[:, :, 1:, :4])


@by_dtype
@by_layout
def test_position_zero_changes_nothing(layout, dtype):
    x = torch.randn(1, 2, 1, 8, dtype=dtype)
    same(Rope(8, layout=layout)(x), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@by_layout
@pytest.mark.parametrize("n", [3, 4096])
def test_low_precision_is_rounded_once(n, layout, dtype):
    """As float32 rounded at the end, bit for bit: no product is rounded on the way."""
    x = torch.randn(1, 2, n, 64).to(dtype)
    layer = Rope(64, layout=layout)
    same(layer(x), layer(x.float()).to(dtype))


def test_few_queries_and_keys_turn_as_many_do(monkeypatch):
    layer, at = Rope(8), torch.arange(3)
    q, k = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 3, 8)
    together = layer.rotate(q, k, at, at)
    assert not torch.equal(together[0][:, :2], together[1])
    monkeypatch.setattr(rope, "_BLOCK", 0)
    apart = layer.rotate(q, k, at, at)
    for a, b in zip(together, apart, strict=True):
        same(a, b, 1e-6)
        assert a.shape == b.shape


def test_queries_and_keys_may_have_different_batches_and_dtypes():
    layer, at = Rope(8), torch.arange(3)
    q, k = torch.randn(1, 4, 3, 8), torch.randn(2, 2, 3, 8, dtype=torch.float64)
    got_q, got_k = layer.rotate(q, k, at, at)
    near(got_q, equation(q, at), torch.float32)
    near(got_k, equation(k, at), torch.float64)
    same(layer.rotate(q, k.float(), at, at)[1], layer(k.float(), at), 1e-6)


def test_tables_are_computed_once_for_the_same_positions(monkeypatch):
    calls = []
    original = Rope.angles
    monkeypatch.setattr(Rope, "angles", lambda *args: calls.append(1) or original(*args))
    layer, at, x = Rope(8), torch.arange(3), torch.randn(1, 2, 3, 8)
    big = torch.randn(1, 2, 2**14, 8)
    layer.rotate(x, x, at, at)
    layer.rotate(big, big, far := torch.arange(2**14), far)
    assert len(calls) == 2
    layer.rotate(x, x, at, at.clone())
    assert len(calls) == 4


def test_angles_are_all_that_another_scheme_overrides():
    class Interpolated(Rope):
        def angles(self, positions):
            return super().angles(positions) / 4

    x, at = torch.randn(1, 2, 5, 8), 4 * torch.arange(5)
    same(Interpolated(8)(x, at), Rope(8)(x))


# --- precision ---------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=4),
    st.integers(1, 20),
    st.floats(1.5, 1e6),
)
def test_tables_up_to_ten_million_have_their_float32_digits(positions, pairs, base):
    cos, sin = Rope(2 * pairs, base).tables(torch.tensor(positions))
    ones = np.tile([1.0, 0.0], (len(positions), pairs))
    want = rotate(ones, positions, base)
    np.testing.assert_allclose(cos[0].numpy(), want[:, ::2], rtol=0, atol=4e-8)
    np.testing.assert_allclose(sin[0].numpy(), want[:, 1::2], rtol=0, atol=4e-8)


def test_ten_million_equals_mpmath_and_float32_angles_do_not():
    with mpmath.workdps(50):
        angles = [10**7 / mpmath.mpf(10000) ** (mpmath.mpf(2 * m) / 128) for m in range(64)]
        want = np.array([[float(f(a)) for a in angles] for f in (mpmath.cos, mpmath.sin)])
    errors = {}
    for precision in ("float64", "float32"):
        tables = Rope(128, precision=precision).tables(torch.tensor([10**7]))
        got = torch.cat(tables)[:, 0].numpy()
        errors[precision] = abs(got - want).max()
    assert errors["float64"] <= 4e-8
    assert errors["float32"] > 0.1


def test_tables_are_rounded_to_what_is_asked_for():
    at = torch.tensor([3, 10**6])
    exact = Rope(16).tables(at, torch.float64)
    for dtype in (torch.float32, torch.bfloat16):
        for got, want in zip(Rope(16).tables(at, dtype), exact, strict=True):
            same(got, want.to(dtype))
    angles = Rope(16, precision="float32").angles(at)
    assert angles.dtype == torch.float32
    same(Rope(16, precision="float32").tables(at)[0][0], angles.cos())


@by_layout
def test_scores_at_a_million_depend_on_the_offset_alone(layout):
    q, k = torch.randn(1, 1, 8, 64), torch.randn(1, 1, 8, 64)
    layer, near_by, far = Rope(64, layout=layout), torch.arange(8), torch.arange(8) + 10**6
    here, there = (a @ b.mT for a, b in (layer.rotate(q, k, at, at) for at in (near_by, far)))
    same(here, there, 2e-5)
    coarse = Rope(64, layout=layout, precision="float32")
    a, b = coarse.rotate(q, k, far, far)
    assert (a @ b.mT - here).abs().max() > 1e-3


# --- positions ---------------------------------------------------------------------------------


def attention(d_head=8, heads=2, **options):
    return Attention(heads * d_head, heads, Rope(d_head, **options), causal=True)


@by_layout
def test_a_decoder_continues_at_its_own_position(layout):
    x, layer = torch.randn(2, 10, 16), attention(layout=layout)
    full = layer(x)
    for t in range(10):
        step = layer(x[:, t : t + 1], torch.tensor([t]), context=x[:, : t + 1])
        same(step, full[:, t : t + 1], 1e-6)


def test_a_cache_may_hold_keys_that_have_been_turned():
    layer, q, k = Rope(8), torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
    at = torch.arange(6)
    full_q, full_k = layer.rotate(q, k, at, at)
    cache = torch.cat([layer(k[:, :, t : t + 1], at[t : t + 1]) for t in range(6)], dim=2)
    same(cache, full_k, 1e-6)
    same(layer(q[:, :, 5:], at[5:]) @ cache.mT, full_q[:, :, 5:] @ full_k.mT, 1e-5)


def test_left_padding_does_not_move_the_words():
    x, layer = torch.randn(1, 3, 16), attention()
    padded = torch.cat([torch.randn(1, 2, 16), x], dim=1).expand(2, 5, 16)
    seen = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    got = layer(padded, positions, mask=seen.bool()[:, None])
    same(got[0, 2:], layer(x)[0], 1e-6)
    same(got[1], layer(padded)[1], 1e-6)


def test_scores_do_not_need_the_positions_to_start_at_zero():
    x, layer = torch.randn(1, 5, 16), attention()
    same(layer(x, torch.arange(5) + 1000), layer(x), 2e-6)


def test_packed_sequences_restart_at_zero():
    a, b, layer = torch.randn(1, 3, 16), torch.randn(1, 4, 16), attention()
    document = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    packed = layer(
        torch.cat([a, b], dim=1),
        torch.tensor([0, 1, 2, 0, 1, 2, 3]),
        mask=document[:, None] == document,
    )
    same(packed, torch.cat([layer(a), layer(b)], dim=1), 1e-6)


def test_int32_positions_are_the_same_positions():
    layer, far = Rope(8), torch.tensor([0, 5, 2**31 - 1, -(2**31)])
    for precision in ("float64", "float32"):
        layer = Rope(8, precision=precision)
        for a, b in zip(layer.tables(far.int()), layer.tables(far), strict=True):
            same(a, b)


def test_every_row_of_a_batch_may_have_positions_of_its_own():
    x, at = torch.randn(2, 3, 4, 8), torch.tensor([[0, 1, 2, 3], [9, 0, -1, 7]])
    got = Rope(8)(x, at)
    for row in range(2):
        same(got[row], Rope(8)(x[row : row + 1], at[row])[0], 1e-6)


def test_it_opens_the_query_key_door_alone():
    assert doors(Rope) == ("query/key",)


def test_attention_turns_queries_and_keys_but_no_values():
    x, layer = torch.randn(1, 5, 16), attention()
    heads = [part(x).view(1, 5, 2, 8).transpose(1, 2) for part in (layer.query, layer.key)]
    q, k = (equation(part, torch.arange(5)) for part in heads)
    v = layer.value(x).view(1, 5, 2, 8).transpose(1, 2).double()
    logits = q @ k.mT / math.sqrt(8) + torch.full((5, 5), -math.inf).double().triu(1)
    want = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    same(layer(x), layer.output(want.float()), 1e-6)
    fused = Attention(16, 2, Rope(8), causal=True, fused=True)
    fused.load_state_dict(layer.state_dict())
    same(fused(x), layer(x), 1e-6)


# --- shared tables -----------------------------------------------------------------------------


@by_layout
def test_shared_tables_turn_as_the_layer_does(layout):
    x, layer = torch.randn(2, 3, 5, 8), Rope(8, layout=layout)
    same(apply_rotary(x, *layer.tables(torch.arange(5)), layout=layout), layer(x))


@by_layout
def test_tables_may_have_more_leading_axes_than_what_turns(layout):
    x, angles = torch.randn(5, 7), torch.randn(3, 1, 5, 2)
    got = apply_rotary(x, angles.cos(), angles.sin(), layout=layout)
    want = rotate_pairs(x[:, :4].numpy(), angles.numpy(), layout=layout)
    np.testing.assert_allclose(got[..., :4].numpy(), want, rtol=0, atol=1e-6)
    same(got[..., 4:], x[:, 4:].expand(3, 1, 5, 3))


@by_layout
def test_tables_of_another_dtype_are_widened(layout):
    x, angles = torch.randn(1, 2, 5, 8), torch.randn(5, 4)
    coarse = [t.bfloat16() for t in (angles.cos(), angles.sin())]
    want = apply_rotary(x, *(t.float() for t in coarse), layout=layout)
    same(apply_rotary(x, *coarse, layout=layout), want)
    same(apply_rotary(x, coarse[0].float(), coarse[1], layout=layout), want)
    same(
        apply_rotary(x.bfloat16(), *coarse, layout=layout),
        apply_rotary(x.bfloat16().float(), *coarse, layout=layout).bfloat16(),
    )


VIEWS = {
    "transposed heads": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "every second column": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "an odd place": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
    "odd rows": lambda x: nn.functional.pad(x, (0, 1))[..., :-1],
    "part of one map": lambda x: torch.cat([x, x, x], -1)[..., x.shape[-1] : 2 * x.shape[-1]],
    "expanded": lambda x: x[:, :1].expand_as(x),
}


@by_layout
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("n", [5, 4200])
def test_any_memory_layout_will_do_and_stays_as_it_was(n, view, layout):
    x = VIEWS[view](torch.randn(2, 4, n, 8))
    before = x.clone()
    same(Rope(8, layout=layout)(x), Rope(8, layout=layout)(x.contiguous()), 1e-6)
    same(x, before)


def test_there_may_be_no_batch():
    assert Rope(8)(torch.zeros(0, 2, 3, 8, dtype=torch.bfloat16)).shape == (0, 2, 3, 8)


# --- weights of the other layout ---------------------------------------------------------------


@pytest.mark.parametrize("d_rotary", [None, 4])
def test_converted_weights_give_the_same_output(d_rotary):
    x, old = torch.randn(2, 5, 16), Attention(16, 2, Rope(8, d_rotary=d_rotary), bias=True)
    new = Attention(16, 2, Rope(8, layout="halves", d_rotary=d_rotary), bias=True)
    weights = dict(old.state_dict())
    new.load_state_dict(weights)
    assert (new(x) - old(x)).abs().max() > 1e-3
    for name in ("query.weight", "query.bias", "key.weight", "key.bias"):
        weights[name] = permute_layout(weights[name], 2, to="halves", d_rotary=d_rotary)
    new.load_state_dict(weights)
    same(new(x), old(x), 1e-6)


@by_dtype
def test_conversion_keeps_dtype_and_values(dtype):
    W = torch.randn(12, 3).to(dtype)
    there = permute_layout(W, 2, to="halves")
    assert there.dtype == dtype
    same(there[:6], W[[0, 2, 4, 1, 3, 5]])
    same(permute_layout(there, 2, to="interleaved"), W)
    assert permute_layout(W.to("meta"), 2, to="halves").device.type == "meta"


# --- training ----------------------------------------------------------------------------------


def test_it_has_nothing_to_train_and_nothing_to_save():
    layer = Rope(8)
    assert list(layer.parameters()) == []
    assert list(layer.buffers()) == []
    assert layer.state_dict() == {}
    layer.load_state_dict({})


@by_layout
@pytest.mark.parametrize("n", [3, 4200])
def test_the_gradient_turns_back(n, layout):
    x = torch.randn(1, 8, n, 8, dtype=torch.float64, requires_grad=True)
    g = torch.randn_like(x)
    layer = Rope(8, layout=layout)
    layer(x).backward(g)
    same(x.grad, layer(g, -torch.arange(n)), 1e-12)


@by_layout
@pytest.mark.parametrize("d_rotary", [4, 6])
def test_gradients_are_those_of_finite_differences(layout, d_rotary):
    x = torch.randn(1, 2, 3, 6, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(3, d_rotary // 2, dtype=torch.float64, requires_grad=True)

    def turned(x, angles):
        return apply_rotary(x, angles.cos(), angles.sin(), layout=layout)

    assert torch.autograd.gradcheck(turned, (x, angles))
    assert torch.autograd.gradgradcheck(turned, (x, angles))


@by_layout
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_many_tokens_reach_queries_and_keys(dtype, layout):
    q = torch.randn(1, 8, 600, 64).to(dtype).requires_grad_()
    k = torch.randn(1, 2, 600, 64).to(dtype).requires_grad_()
    at, layer = torch.arange(600), Rope(64, layout=layout)
    a, b = layer.rotate(q, k, at, at)
    (a.float().sum() + 2 * b.float().sum()).backward()
    near(q.grad, equation(torch.ones_like(q), -at, layout=layout), dtype)
    near(k.grad, 2 * equation(torch.ones_like(k), -at, layout=layout), dtype)


# --- casts and copies --------------------------------------------------------------------------

TREATMENTS = {
    "nothing": lambda layer: layer,
    "bfloat16": lambda layer: layer.to(torch.bfloat16),
    "half and back": lambda layer: layer.half().double(),
    "cast inside a model": lambda layer: nn.Sequential(layer).half()[0],
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "meta and empty": lambda layer: layer.to("meta").to_empty(device="cpu"),
    "share_memory": lambda layer: layer.share_memory(),
}


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_frequencies_survive(treatment, precision):
    at = torch.tensor([1, 4097, 10**7])
    want = Rope(64, precision=precision).tables(at)
    got = TREATMENTS[treatment](Rope(64, precision=precision)).tables(at)
    same(got[0], want[0])
    same(got[1], want[1])


def test_frequencies_survive_a_file():
    file, at = io.BytesIO(), torch.tensor([10**7])
    torch.save(Rope(64), file)
    file.seek(0)
    same(torch.load(file, weights_only=False).tables(at)[0], Rope(64).tables(at)[0])


def test_a_layer_made_on_the_meta_device_works_on_another():
    with torch.device("meta"):
        layer = Rope(8)
    x = torch.randn(1, 2, 3, 8)
    same(layer(x), Rope(8)(x))


@by_layout
@pytest.mark.parametrize("n", [3, 2**17])
def test_shapes_are_known_without_numbers(n, layout):
    out = Rope(8, layout=layout)(torch.zeros(2, 3, n, 8, device="meta", dtype=torch.float16))
    assert (out.shape, out.dtype, out.device.type) == ((2, 3, n, 8), torch.float16, "meta")


@by_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(device, dtype):
    x, layer = torch.randn(2, 2, 5, 8, dtype=dtype, device=device), Rope(8)
    with torch.autocast(device, torch.bfloat16):
        got = layer(x)
    same(got, layer(x))
    with torch.autocast(device, torch.bfloat16):
        assert attention().to(device)(torch.randn(1, 5, 16, device=device)).dtype == torch.bfloat16


def test_the_default_dtype_does_not_matter():
    want = Rope(16).tables(at := torch.tensor([10**6]))
    torch.set_default_dtype(torch.float16)
    try:
        same(Rope(16).tables(at)[0], want[0])
    finally:
        torch.set_default_dtype(torch.float32)


# --- compilation -------------------------------------------------------------------------------


@by_dtype
@by_layout
@pytest.mark.parametrize("d_rotary", [None, 4])
def test_a_compiled_layer_is_one_graph(d_rotary, layout, dtype):
    torch.compiler.reset()
    layer = Rope(8, layout=layout, d_rotary=d_rotary)
    compiled = torch.compile(layer.rotate, fullgraph=True, backend="eager")
    q, k = torch.randn(2, 4, 5, 8, dtype=dtype), torch.randn(2, 2, 5, 8, dtype=dtype)
    own = torch.tensor([[0, 1, 2, 3, 4], [9, 9, -1, 0, 1]])
    for at in (torch.arange(5), own):
        for got, x in zip(compiled(q, k, at, at), (q, k), strict=True):
            near(got, equation(x, at, layout=layout, d_rotary=d_rotary), dtype)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    at = torch.tensor([0, 1, 4096, 10**7, -5], device=device)
    layers = [Rope(16, layout=layout) for layout in LAYOUTS]
    x = torch.randn(2, 3, 5, 16, device=device)

    def both(x, low, at):
        return [(layer(x, at), layer(low, at)) for layer in layers]

    compiled = torch.compile(both, fullgraph=True)
    for layout, turned in zip(LAYOUTS, compiled(x, x.bfloat16(), at), strict=True):
        for got in turned:
            near(got, equation(x.to(got.dtype), at, layout=layout), got.dtype)


@by_layout
def test_it_can_be_exported(layout):
    layer, x = Rope(8, layout=layout), torch.randn(1, 2, 3, 8)
    same(torch.export.export(layer, (x,)).module()(x), layer(x), 1e-6)


def test_it_can_be_mapped_over_an_axis():
    x = torch.randn(3, 1, 2, 5, 8)
    cos, sin = Rope(8).tables(torch.arange(5))
    for layout in LAYOUTS:
        mapped = torch.vmap(lambda part, layout=layout: apply_rotary(part, cos, sin, layout=layout))
        same(mapped(x), apply_rotary(x, cos, sin, layout=layout), 1e-6)


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.rope", "posenc.layers.rope"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- errors ------------------------------------------------------------------------------------

X, AT3, T = torch.zeros(2, 1, 3, 4), torch.arange(3), torch.zeros(3, 2)


def layer(*args):
    return Rope(4)(*args)


def turn(q=X, k=X, q_at=AT3, k_at=AT3):
    return Rope(4).rotate(q, k, q_at, k_at)


TYPE_ERRORS = {
    "d_head must be an integer, got 4.0": lambda: Rope(4.0),
    "d_head must be an integer, got True": lambda: Rope(True),
    "d_head must be an integer, got 8.0": lambda: Rope(8.0, d_rotary=4),
    "d_rotary must be an integer, got 2.0": lambda: Rope(4, d_rotary=2.0),
    "base must hold real numbers, got dtype <U5": lambda: Rope(4, "10000"),
    "x must have a floating dtype, got torch.int64": lambda: layer(X.long()),
    "q must have a floating dtype, got torch.complex64": lambda: turn(q=X.cfloat()),
    "k must have a floating dtype, got torch.bool": lambda: turn(k=X > 0),
    "q_positions must be int64 or int32, got torch.float32": lambda: turn(q_at=AT3.float()),
    "k_positions must be int64 or int32, got torch.bool": lambda: turn(k_at=AT3 > 1),
    "positions must be int64 or int32, got torch.uint8": lambda: layer(X, AT3.byte()),
    "positions must be int64 or int32, got torch.float64": lambda: Rope(4).tables(AT3.double()),
    "x must have a floating dtype, got torch.int32": lambda: apply_rotary(X.int(), T, T),
    "cos must have a floating dtype, got torch.int64": lambda: apply_rotary(X, T.long(), T),
    "sin must have a floating dtype, got torch.int64": lambda: apply_rotary(X, T, T.long()),
    "n_heads must be an integer, got 2.0": lambda: permute_layout(X[0, 0], 2.0, to="halves"),
}

VALUE_ERRORS = {
    "d_head must be at least 1, got 0": lambda: Rope(0),
    "d_head must be at least 1, got -4": lambda: Rope(-4, d_rotary=2),
    "d_head must be a multiple of 2, got 5": lambda: Rope(5),
    "d_rotary must be a multiple of 2, got 3": lambda: Rope(8, d_rotary=3),
    "d_rotary must be at least 1, got 0": lambda: Rope(8, d_rotary=0),
    "d_rotary must be between 2 and 8, got 10": lambda: Rope(8, d_rotary=10),
    "base must be above 1, got 1.0": lambda: Rope(4, 1.0),
    "base must be finite, got inf": lambda: Rope(4, math.inf),
    "layout must be 'interleaved' or 'halves', got 'half'": lambda: Rope(4, layout="half"),
    "precision must be 'float64' or 'float32', got 'exact'": lambda: Rope(4, precision="exact"),
    "x must have shape (batch, heads, n >= 1, 4), got (1, 3, 4)": lambda: layer(X[0]),
    "q must have shape (batch, heads, n >= 1, 4), got (2, 1, 0, 4)": lambda: turn(q=X[:, :, :0]),
    "k must have shape (batch, heads, n >= 1, 4), got (2, 1, 3, 2)": lambda: turn(k=X[..., :2]),
    "q_positions must have shape (3,) or (2, 3), got (2,)": lambda: turn(q_at=AT3[:2]),
    "k_positions must have shape (3,) or (2, 3), got (1, 3)": lambda: turn(k_at=AT3[None]),
    "positions must be on device cpu, got meta": lambda: layer(X, AT3.to("meta")),
    "layout must be 'interleaved' or 'halves', got None": lambda: apply_rotary(
        X, T, T, layout=None
    ),
    "x must have shape (..., n, d), got (4,)": lambda: apply_rotary(X[0, 0, 0], T, T),
    "cos must have shape (..., 3, r / 2) with r <= 4, got (2, 2)": lambda: apply_rotary(
        X, T[:2], T
    ),
    "cos must have shape (..., 3, r / 2) with r <= 4, got (2,)": lambda: apply_rotary(X, T[0], T),
    "cos must have shape (..., 3, r / 2) with r <= 4, got (3, 3)": lambda: apply_rotary(
        X, torch.zeros(3, 3), T
    ),
    "cos must have shape (..., 3, r / 2) with r <= 4, got (3, 0)": lambda: apply_rotary(
        X, T[:, :0], T
    ),
    "sin must have shape (3, 2), got (3, 1)": lambda: apply_rotary(X, T, T[:, :1]),
    "weight must have at least 1 axes, got shape ()": lambda: permute_layout(
        torch.tensor(1.0), 1, to="halves"
    ),
    "to must be 'interleaved' or 'halves', got 'llama'": lambda: permute_layout(
        torch.zeros(4, 2), 1, to="llama"
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
