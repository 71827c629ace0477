"""The layer of `t5`: equation, positions, precision, training, casts, the shorter way, errors."""

import io
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from posenc.equations.relative import offsets
from posenc.equations.t5 import buckets, position_bias
from posenc.layers import t5
from posenc.layers.attention import Attention, doors
from posenc.layers.t5 import T5, attend_by_offset
from scripts import bench_t5

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
both_masks = pytest.mark.parametrize("causal", [False, True])
both_ways = pytest.mark.parametrize("bidirectional", [False, True])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def qk(n_q, n_k=None, dtype=torch.float32, device="cpu"):
    shape = 2, 3, n_q, 4
    return (
        torch.randn(shape, dtype=dtype, device=device),
        torch.randn(2, 3, n_k or n_q, 4, dtype=dtype, device=device),
    )


def table(layer):
    return layer.weight.detach().double().cpu().numpy()


def fused(encoding, **options):
    return Attention(12, 3, encoding, fused=True, **options)


def through_the_door(layer, x):
    """The same attention with the positions spelt out."""
    return layer(x, torch.arange(x.shape[1], device=x.device))


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@both_ways
def test_the_bias_is_the_equation(bidirectional, dtype, device):
    layer = T5(3, bidirectional=bidirectional, std=1.0, device=device, dtype=dtype)
    q, k = qk(4, 150, dtype, device)
    q_at, k_at = torch.arange(140, 144, device=device), torch.arange(150, device=device)
    got = layer.bias(q, k, q_at, k_at)
    assert (got.dtype, got.device.type) == (dtype, device)
    want = position_bias(table(layer), offsets(4, 150, 140), bidirectional=bidirectional)
    same(got.double().cpu(), torch.from_numpy(want))


@both_ways
@pytest.mark.parametrize("start", [0, 5, 140])
def test_the_bias_by_offset_is_the_equation(bidirectional, start):
    layer = T5(3, bidirectional=bidirectional)
    want = position_bias(
        table(layer), np.arange(1 - 4 - start, 150 - start), bidirectional=bidirectional
    )
    same(layer.by_offset(4, 150, start).double(), torch.from_numpy(want))


@both_ways
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (6, 9), (320, 800)])
def test_buckets_are_those_of_the_equation(n_buckets, max_distance, bidirectional):
    t = torch.arange(-1000, 1001)
    layer = T5(1, n_buckets, max_distance, bidirectional)
    want = buckets(t.numpy(), n_buckets, max_distance, bidirectional=bidirectional)
    np.testing.assert_array_equal(layer.buckets(t).numpy(), want)
    np.testing.assert_array_equal(layer.buckets(t.int()).numpy(), want)


def test_it_opens_the_logits_door_and_sets_no_scale():
    assert doors(T5) == ("logits",)
    assert T5.scale == 1.0
    assert {n: tuple(w.shape) for n, w in T5(12).state_dict().items()} == {"weight": (32, 12)}


# --- positions ---------------------------------------------------------------------------------


def test_only_differences_of_positions_count():
    layer, (q, k) = T5(3), qk(6)
    at = torch.arange(6)
    want = layer.bias(q, k, at, at)
    same(layer.bias(q, k, at + 10**6, at + 10**6), want)
    same(layer.bias(q, k, at - 50, at - 50), want)
    same(layer.bias(q, k, at.int(), at.int()), want)
    same(layer.bias(q, k, at.expand(2, 6), at), want.expand(2, 3, 6, 6))


def test_every_sequence_of_a_batch_may_have_positions_of_its_own():
    layer, (q, k) = T5(3), qk(3)
    at = torch.tensor([[0, 1, 2], [7, 3, 200]])
    got = layer.bias(q, k, at, at)
    for row, positions in enumerate(at):
        same(got[row], layer.bias(q, k, positions, positions))


@both_masks
@torch.no_grad()
def test_left_padding_changes_nothing(causal):
    layer, x = fused(T5(3, std=1.0), causal=causal), torch.randn(1, 4, 12)
    padded = torch.cat([torch.randn(1, 3, 12), x], dim=1)
    real = torch.arange(7) >= 3
    got = layer(padded, torch.tensor([[0, 0, 0, 0, 1, 2, 3]]), mask=real & real[:, None])
    same(got[:, 3:], layer(x), 1e-5)


@torch.no_grad()
def test_decoding_step_by_step_equals_the_full_pass():
    layer = fused(T5(3, bidirectional=False, std=1.0), causal=True)
    x = torch.randn(2, 6, 12)
    steps = [layer(x[:, t : t + 1], torch.tensor([t]), context=x[:, : t + 1]) for t in range(6)]
    same(torch.cat(steps, dim=1), layer(x), 1e-5)


# --- attention by offset -----------------------------------------------------------------------


def by_hand(q, k, v, bias, scale, causal, start):
    """One query, one head at a time, with the softmax spelt out."""
    out = torch.empty_like(q)
    n_q, n_k = q.shape[2], k.shape[2]
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(n_q):
                seen = range(min(start + i + 1, n_k) if causal else n_k)
                logits = [
                    scale * (q[b, h, i] @ k[b, h, j]) + bias[h, j - i + n_q - 1] for j in seen
                ]
                weights = torch.stack(logits).exp()
                out[b, h, i] = weights / weights.sum() @ v[b, h, : len(seen)]
    return out


@both_masks
@pytest.mark.parametrize(("n_q", "n_k", "start"), [(5, 5, 0), (2, 7, 5), (1, 4, 3), (3, 4, 9)])
def test_it_equals_the_sum_over_keys(n_q, n_k, start, causal):
    (q, k), v = qk(n_q, n_k, torch.float64), torch.randn(2, 3, n_k, 4, dtype=torch.float64)
    bias = torch.randn(3, n_q + n_k - 1, dtype=torch.float64)
    got = attend_by_offset(q, k, v, bias, scale=0.7, causal=causal, start=start)
    same(got, by_hand(q, k, v, bias, 0.7, causal, start), 1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("n_q", "n_k", "start"), [(5, 5, 0), (7, 7, 0), (5, 9, 4), (5, 6, 3)])
def test_causal_blocks_equal_the_sum_over_keys(monkeypatch, n_q, n_k, start, size):
    monkeypatch.setattr(t5, "BLOCK", size)
    (q, k), v = qk(n_q, n_k, torch.float64), torch.randn(2, 3, n_k, 4, dtype=torch.float64)
    bias = torch.randn(3, n_q + n_k - 1, dtype=torch.float64)
    got = attend_by_offset(q, k, v, bias, scale=0.7, causal=True, start=start)
    same(got, by_hand(q, k, v, bias, 0.7, True, start), 1e-12)


def test_gradients_of_causal_blocks_are_those_of_one():
    (q, k), v = qk(600, dtype=torch.float64), torch.randn(2, 3, 600, 4, dtype=torch.float64)
    bias = torch.randn(3, 1199, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (q, k, v, bias)]
    hidden = bias.where(torch.arange(1199) < 600, -torch.inf)
    one = attend_by_offset(q, k, v, hidden, scale=1.0)
    several = attend_by_offset(q, k, v, bias, scale=1.0, causal=True)
    same(several, one, 1e-12)
    g = torch.randn_like(q)
    found = (torch.autograd.grad(z, inputs, g) for z in (several, one))
    for a, b in zip(*found, strict=True):
        same(a, b, 1e-11)


@pytest.mark.parametrize(
    ("n", "want"), [(256, [256]), (600, [256, 512, 600]), (8192, list(range(512, 8193, 512)))]
)
def test_a_causal_block_reads_no_key_after_its_queries(monkeypatch, n, want):
    read = []

    def spy(q, k, v, mask, *, scale):
        read.append(k.shape[2])
        assert v.shape[2] == mask.shape[3] == k.shape[2]
        return q

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    q = torch.randn(1, 1, n, 1)
    same(attend_by_offset(q, q, q, torch.zeros(1, 2 * n - 1), scale=1.0, causal=True), q)
    assert read == want


@by_dtype
@pytest.mark.parametrize("learned", [False, True])
def test_a_query_that_sees_no_key_gets_zeros(learned, dtype):
    """The last query may only look at keys after it; all gradients are finite numbers."""
    (q, k), v = qk(9, dtype=dtype), torch.randn(2, 3, 9, 4).to(dtype)
    bias = torch.zeros(3, 17).index_fill(1, torch.arange(9), -torch.inf)
    inputs = [x.requires_grad_() for x in (q, k, v, *([bias] if learned else []))]
    z = attend_by_offset(q, k, v, bias, scale=1.0)
    assert not z[:, :, -1].any()
    assert z[:, :, :-1].all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(z, inputs, torch.ones_like(z)))


@torch.no_grad()
def test_the_shorter_way_gives_zeros_where_the_door_does():
    layer = fused(T5(3, bidirectional=False, std=1.0), causal=True)
    layer.encoding.weight[0] = -torch.inf  # the first token may only look at itself, and must not
    x = torch.randn(1, 9, 12)
    same(layer(x), through_the_door(layer, x), 1e-6)
    assert not layer(x)[0, 0].any()


@by_dtype
def test_it_follows_float64(dtype):
    (q, k), v = qk(40, dtype=dtype), torch.randn(2, 3, 40, 4).to(dtype)
    bias = torch.randn(3, 79)
    got = attend_by_offset(q, k, v, bias, scale=1.0, causal=True)
    assert got.dtype == dtype
    wide = [x.double() for x in (q, k, v, bias)]
    same(got.double(), attend_by_offset(*wide, scale=1.0, causal=True), TOLERANCE[dtype])


def test_a_forbidden_offset_is_not_seen():
    (q, k), v = qk(4), torch.randn(2, 3, 4, 4)
    alone = torch.full((3, 7), -torch.inf)
    alone[:, 3] = 0
    same(attend_by_offset(q, k, v, alone, scale=1.0), v, 1e-6)


def test_the_bias_is_handed_over_without_a_copy(monkeypatch):
    seen = []

    def spy(q, k, v, mask, *, scale):
        seen.append(mask)
        return v

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    (q, k), bias = qk(50, 60), torch.randn(3, 109)
    attend_by_offset(q, k, k[:, :, :50], bias, scale=1.0)
    (mask,) = seen
    assert mask.shape == (1, 3, 50, 60)
    assert mask.stride()[-2:] == (1, 1)
    assert mask.untyped_storage().data_ptr() == bias.untyped_storage().data_ptr()


# --- the shorter way ---------------------------------------------------------------------------


@both_masks
@both_ways
@pytest.mark.parametrize("frozen", [False, True])
def test_the_shorter_way_gives_what_the_door_gives(frozen, bidirectional, causal):
    """Output and all gradients, that of the table among them."""
    layer = fused(T5(3, bidirectional=bidirectional, std=1.0), causal=causal, dtype=torch.float64)
    layer.encoding.double().requires_grad_(not frozen)
    x = torch.randn(2, 150, 12, dtype=torch.float64, requires_grad=True)
    wanted = [x, *(p for p in layer.parameters() if p.requires_grad)]
    g = torch.randn(2, 150, 12, dtype=torch.float64)
    short, long = layer(x), through_the_door(layer, x)
    same(short, long, 1e-12)
    pairs = zip(*(torch.autograd.grad(z, wanted, g) for z in (short, long)), strict=True)
    for one, other in pairs:
        same(one, other, 1e-11)
    assert len(wanted) == (5 if frozen else 6)


def test_the_table_gets_its_gradient_in_training():
    layer = fused(T5(3))
    layer(torch.randn(1, 30, 12)).square().sum().backward()
    assert layer.encoding.weight.grad.abs().sum() > 0


def test_the_shorter_way_is_taken(monkeypatch):
    taken, real = [], T5.attend

    def spy(self, *args):
        taken.append(args[3:])
        return real(self, *args)

    monkeypatch.setattr(T5, "attend", spy)
    fused(T5(3), causal=True)(torch.randn(1, 4, 12))
    assert taken == [(1.0, True)]


def test_a_derived_bias_is_not_passed_over():
    class Stronger(T5):
        def bias(self, q, k, q_positions, k_positions):
            return 9 * super().bias(q, k, q_positions, k_positions)

    layer, x = fused(Stronger(3, std=1.0)), torch.randn(1, 6, 12)
    same(layer(x), through_the_door(layer, x))


def test_a_rotation_before_it_is_kept():
    class Turned(T5):
        def rotate(self, q, k, q_positions, k_positions):
            return q * (1 + q_positions[:, None]), k

    layer, x = fused(Turned(3, std=1.0)), torch.randn(1, 6, 12)
    same(layer(x), through_the_door(layer, x), 1e-5)


@by_dtype
@torch.no_grad()
def test_both_ways_agree_in_every_dtype(dtype):
    layer = fused(T5(3, std=1.0), causal=True).to(dtype)
    x = torch.randn(2, 40, 12).to(dtype)
    assert layer(x).dtype == dtype
    same(layer(x), through_the_door(layer, x), TOLERANCE[dtype])


@torch.no_grad()
def test_autocast_takes_what_it_casts():
    layer, x = fused(T5(3, std=1.0)), torch.randn(2, 5, 12)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
    assert got.dtype == torch.bfloat16
    same(got.float(), layer(x), 0.1)


def test_one_table_shared_by_layers_collects_all_gradients():
    shared = T5(3, std=1.0)
    layers = nn.Sequential(fused(shared), Attention(12, 3, shared))
    assert sum(p.numel() for p in layers.parameters()) == 2 * 4 * 144 + 32 * 3
    x = torch.randn(1, 9, 12)
    layers(x).square().sum().backward()
    total = shared.weight.grad.clone()
    shared.weight.grad = None
    apart = nn.Sequential(fused(T5(3)), Attention(12, 3, T5(3)))
    apart[0].load_state_dict(layers[0].state_dict())
    apart[1].load_state_dict(layers[1].state_dict())
    apart(x).square().sum().backward()
    same(apart[0].encoding.weight.grad + apart[1].encoding.weight.grad, total, 1e-4)


# --- what happens to the table -----------------------------------------------------------------


def test_the_first_values_have_the_standard_deviation_asked_for():
    for std in (0.02, 0.7):
        weight = T5(2000, std=std).weight.detach()
        assert float(weight.std()) == pytest.approx(std, rel=0.02)
        assert abs(float(weight.mean())) < std / 50


def test_weights_survive_a_round_trip():
    layer, file = T5(3, 8, 20, bidirectional=False), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = T5(3, 8, 20, bidirectional=False)
    other.load_state_dict(torch.load(file))
    same(other.by_offset(5, 40), layer.by_offset(5, 40))


def test_buckets_survive_a_cast_and_a_move():
    want = T5(1).buckets(torch.arange(-300, 300))
    for treated in (
        T5(1).bfloat16(),
        T5(1).half().float(),
        T5(1).to("meta").to_empty(device="cpu"),
        T5(1, device="meta").to_empty(device="cpu"),
    ):
        same(treated.buckets(torch.arange(-300, 300)), want)


def test_a_cast_rounds_each_number_of_the_table_once():
    layer = T5(3, std=1.0)
    want = layer.by_offset(9, 200).bfloat16()
    same(layer.bfloat16().by_offset(9, 200), want)


def test_everything_is_made_on_the_device_and_in_the_dtype_of_the_layer():
    layer = T5(3, device="meta", dtype=torch.float16)
    assert (layer.weight.device.type, layer.weight.dtype) == ("meta", torch.float16)
    assert layer.by_offset(4, 5).shape == (3, 8)
    at = torch.arange(4, device="meta")
    q = torch.empty(1, 3, 4, 4, device="meta", dtype=torch.float16)
    assert layer.bias(q, q, at, at).device.type == "meta"
    assert layer.attend(q, q, q, 1.0, True).shape == q.shape


# --- compilation -------------------------------------------------------------------------------


@both_masks
@pytest.mark.parametrize("frozen", [False, True])
def test_a_compiled_layer_is_one_graph(frozen, causal):
    torch.compiler.reset()
    layer = fused(T5(3, std=1.0).requires_grad_(not frozen), causal=causal)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, at = torch.randn(2, 5, 12), torch.tensor([[0, 1, 2, 3, 4], [9, 9, -1, 300, 1]])
    same(compiled(x), layer(x))
    same(compiled(x, at), layer(x, at))


@by_dtype
def test_a_compiled_reference_is_one_graph(dtype):
    torch.compiler.reset()
    layer = Attention(12, 3, T5(3, std=1.0)).to(dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 5, 12).to(dtype)
    same(compiled(x), layer(x))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
@torch.no_grad()
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = fused(T5(3, std=1.0), causal=True).to(device)
    x = torch.randn(2, 40, 12, device=device)
    same(torch.compile(layer, fullgraph=True)(x), layer(x), 1e-5)


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.t5", "posenc.layers.t5"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- benchmarks --------------------------------------------------------------------------------


def test_peers_compute_alike_before_they_are_timed(monkeypatch):
    made = [
        bench_t5.forward_group(8, 1),
        bench_t5.causal_group(8, 1),
        bench_t5.gradient_group(8, 1),
    ]
    assert [len(group["rows"]) for group in made] == [6, 3, 4]
    assert all(len(group["targets"]) == 1 for group in made)
    monkeypatch.setattr(
        T5, "by_offset", lambda self, n, _: self.weight.new_zeros(bench_t5.HEADS, 15)
    )
    for group in (bench_t5.forward_group, bench_t5.causal_group):
        with pytest.raises(AssertionError, match="not close"):
            group(8, 1)


# --- errors ------------------------------------------------------------------------------------

Q = torch.zeros(1, 2, 3, 4)
BIAS = torch.zeros(2, 5)
AT = torch.arange(3)


def attend(q=Q, bias=BIAS, **options):
    return attend_by_offset(q, Q, Q, bias, scale=1.0, **options)


TYPE_ERRORS = {
    "n_heads must be an integer, got 2.0": lambda: T5(2.0),
    "n_buckets must be an integer, got 32.0": lambda: T5(2, 32.0),
    "max_distance must be an integer, got True": lambda: T5(2, max_distance=True),
    "std must hold real numbers, got dtype <U1": lambda: T5(2, std="a"),
    "offsets must be int64 or int32, got torch.float32": lambda: T5(2).buckets(torch.ones(2)),
    "offsets must be int64 or int32, got torch.int8": lambda: T5(2).buckets(torch.ones(2).char()),
    "q_positions must be int64 or int32, got torch.float32": lambda: T5(2).bias(
        Q, Q, AT.float(), AT
    ),
    "k_positions must be int64 or int32, got torch.bool": lambda: T5(2).bias(Q, Q, AT, AT > 1),
    "q must have a floating dtype, got torch.int64": lambda: attend(Q.long()),
    "bias must have a floating dtype, got torch.bool": lambda: attend(bias=BIAS > 0),
    "start must be an integer, got 0.0": lambda: attend(start=0.0),
}

VALUE_ERRORS = {
    "n_heads must be at least 1, got 0": lambda: T5(0),
    "n_buckets must be at least 4, got 3": lambda: T5(2, 3),
    "n_buckets must be a multiple of 2, got 33": lambda: T5(2, 33),
    "n_buckets must be at least 2, got 1": lambda: T5(2, 1, bidirectional=False),
    "max_distance must be at least 17, got 16": lambda: T5(2, 32, 16, bidirectional=False),
    "std must be above 0, got 0": lambda: T5(2, std=0),
    "std must be finite, got nan": lambda: T5(2, std=float("nan")),
    "bias must have shape (2, 5), got (5,)": lambda: attend(bias=BIAS[0]),
    "bias must have shape (2, 5), got (2, 4)": lambda: attend(bias=BIAS[:, 1:]),
    "bias must have shape (2, 5), got (1, 2, 5)": lambda: attend(bias=BIAS[None]),
    "bias must have shape (2, 3), got (2, 5)": lambda: attend(Q[:, :, :1]),
    "start must be at least 0, got -1": lambda: attend(start=-1, causal=True),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
