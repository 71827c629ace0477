"""The layer of `alibi`: equation, positions, the shorter way, precision, casts, errors."""

import io
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from posenc.equations.alibi import head_slopes, linear_bias
from posenc.equations.relative import offsets
from posenc.layers.alibi import Alibi
from posenc.layers.attention import Attention, doors
from scripts import bench_alibi

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}
AHEAD = {"slopes": [0.5, 0.25, 0.0], "after": [4.0, 0.125, 2.0]}
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
both_masks = pytest.mark.parametrize("causal", [False, True])
both_kinds = pytest.mark.parametrize("options", [{}, AHEAD], ids=["one slope", "two slopes"])


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


def equation(t, options):
    m = options.get("slopes", head_slopes(3))
    return torch.from_numpy(linear_bias(m, t, options.get("after")))


def fused(encoding, **options):
    return Attention(12, 3, encoding, fused=True, **options)


def through_the_door(layer, x):
    """The same attention with the positions spelt out."""
    return layer(x, torch.arange(x.shape[1], device=x.device))


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@both_kinds
def test_the_bias_is_the_equation(options, dtype, device):
    layer, (q, k) = Alibi(3, **options), qk(4, 150, dtype, device)
    q_at, k_at = torch.arange(60, 64, device=device), torch.arange(150, device=device)
    got = layer.bias(q, k, q_at, k_at)
    assert got.dtype == torch.promote_types(dtype, torch.float32)
    assert got.device.type == device
    tolerance = 0 if dtype == torch.float64 else 2e-7
    want = equation(offsets(4, 150, 60), options)
    torch.testing.assert_close(got.double().cpu(), want, rtol=tolerance, atol=0)


@both_kinds
@pytest.mark.parametrize("start", [0, 5, 140])
def test_the_bias_by_offset_is_the_equation(options, start):
    got = Alibi(3, **options).by_offset(4, 150, start, dtype=torch.float64)
    same(got, equation(np.arange(1 - 4 - start, 150 - start), options))


def test_a_dyadic_slope_is_exact_as_long_as_the_distance_is():
    at = torch.tensor([0, 2**24 - 1, 2**24])
    got = Alibi(8).bias(torch.zeros(1), torch.zeros(1), at, at)
    same(got.double(), torch.from_numpy(linear_bias(head_slopes(8), at - at[:, None])))


def test_it_opens_the_logits_door_and_leaves_the_scale():
    assert doors(Alibi) == ("logits",)
    assert Alibi.scale is None
    assert not list(Alibi(12).buffers())


def test_slopes_are_those_of_the_equation():
    assert Alibi(12).slopes == Alibi(12).after == tuple(head_slopes(12).tolist())
    assert Alibi(12, exponent=4).slopes == tuple(head_slopes(12, 4).tolist())
    assert Alibi(2, slopes=np.array([1, 2])).slopes == (1.0, 2.0)
    assert Alibi(2, after=[3, 0]).after == (3.0, 0.0)


# --- positions ---------------------------------------------------------------------------------


@both_kinds
def test_only_differences_of_positions_count(options):
    layer, (q, k) = Alibi(3, **options), qk(6)
    at = torch.arange(6)
    want = layer.bias(q, k, at, at)
    same(layer.bias(q, k, at + 10**6, at + 10**6), want)
    same(layer.bias(q, k, at - 50, at - 50), want)
    same(layer.bias(q, k, at.int(), at.int()), want)
    same(layer.bias(q, k, at.expand(2, 6), at), want.expand(2, 3, 6, 6))


@both_kinds
def test_every_sequence_of_a_batch_may_have_positions_of_its_own(options):
    layer, (q, k) = Alibi(3, **options), qk(3)
    at = torch.tensor([[0, 1, 2], [7, 3, 200]])
    got = layer.bias(q, k, at, at)
    for row, positions in enumerate(at):
        same(got[row], layer.bias(q, k, positions, positions))


@both_masks
@both_kinds
@torch.no_grad()
def test_left_padding_changes_nothing(options, causal):
    layer, x = fused(Alibi(3, **options), causal=causal), torch.randn(1, 4, 12)
    padded = torch.cat([torch.randn(1, 3, 12), x], dim=1)
    real = torch.arange(7) >= 3
    got = layer(padded, torch.tensor([[0, 0, 0, 0, 1, 2, 3]]), mask=real & real[:, None])
    same(got[:, 3:], layer(x), 1e-5)


@torch.no_grad()
def test_decoding_step_by_step_equals_the_full_pass():
    layer, x = fused(Alibi(3), causal=True), torch.randn(2, 6, 12)
    steps = [layer(x[:, t : t + 1], torch.tensor([t]), context=x[:, : t + 1]) for t in range(6)]
    same(torch.cat(steps, dim=1), layer(x), 1e-5)


# --- the shorter way ---------------------------------------------------------------------------


@both_masks
@both_kinds
def test_the_shorter_way_gives_what_the_door_gives(options, causal):
    """Output and all gradients."""
    layer = fused(Alibi(3, **options), causal=causal, dtype=torch.float64)
    x = torch.randn(2, 600, 12, dtype=torch.float64, requires_grad=True)
    wanted = [x, *layer.parameters()]
    g = torch.randn(2, 600, 12, dtype=torch.float64)
    short, long = layer(x), through_the_door(layer, x)
    same(short, long, 1e-12)
    pairs = zip(*(torch.autograd.grad(z, wanted, g) for z in (short, long)), strict=True)
    for one, other in pairs:
        same(one, other, 1e-10)


def test_the_shorter_way_is_taken(monkeypatch):
    taken, real = [], Alibi.attend

    def spy(self, *args):
        taken.append(args[3:])
        return real(self, *args)

    monkeypatch.setattr(Alibi, "attend", spy)
    fused(Alibi(3), causal=True)(torch.randn(1, 4, 12))
    assert taken == [(0.5, True)]


def test_a_derived_bias_is_not_passed_over():
    class Stronger(Alibi):
        def bias(self, q, k, q_positions, k_positions):
            return 9 * super().bias(q, k, q_positions, k_positions)

    layer, x = fused(Stronger(3)), torch.randn(1, 6, 12)
    same(layer(x), through_the_door(layer, x))


@by_dtype
@both_kinds
@torch.no_grad()
def test_both_ways_agree_in_every_dtype(options, dtype):
    layer = fused(Alibi(3, **options), causal=True).to(dtype)
    reference = Attention(12, 3, Alibi(3, **options), causal=True).double()
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 40, 12).to(dtype)
    assert layer(x).dtype == dtype
    same(layer(x), through_the_door(layer, x), TOLERANCE[dtype])
    same(layer(x).double(), reference(x.double()), TOLERANCE[dtype])


@torch.no_grad()
def test_autocast_takes_what_it_casts():
    layer, x = fused(Alibi(3)), torch.randn(2, 5, 12)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
    assert got.dtype == torch.bfloat16
    same(got.float(), layer(x), 0.1)


# --- what happens to the slopes ----------------------------------------------------------------


def test_no_cast_and_no_move_touches_the_slopes():
    want = Alibi(3).by_offset(9, 200)
    for treated in (
        Alibi(3).bfloat16(),
        Alibi(3).half().float(),
        Alibi(3).to("meta").to_empty(device="cpu"),
    ):
        same(treated.by_offset(9, 200), want)


def test_weights_survive_a_round_trip():
    layer, file, x = fused(Alibi(3)), io.BytesIO(), torch.randn(1, 9, 12)
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = fused(Alibi(3))
    other.load_state_dict(torch.load(file))
    same(other(x), layer(x))
    assert not [name for name in layer.state_dict() if name.startswith("encoding")]


def test_everything_is_made_where_the_queries_are():
    layer, at = Alibi(3), torch.arange(4, device="meta")
    q = torch.empty(1, 3, 4, 4, device="meta", dtype=torch.float16)
    assert layer.bias(q, q, at, at).device.type == "meta"
    assert layer.attend(q, q, q, 1.0, True).shape == q.shape
    assert layer.by_offset(4, 5, device="meta", dtype=torch.float16).dtype == torch.float16


# --- compilation -------------------------------------------------------------------------------


@both_masks
@both_kinds
def test_a_compiled_layer_is_one_graph(options, causal):
    torch.compiler.reset()
    layer = fused(Alibi(3, **options), causal=causal)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, at = torch.randn(2, 5, 12), torch.tensor([[0, 1, 2, 3, 4], [9, 9, -1, 300, 1]])
    same(compiled(x), layer(x))
    same(compiled(x, at), layer(x, at))


@by_dtype
def test_a_compiled_reference_is_one_graph(dtype):
    torch.compiler.reset()
    layer = Attention(12, 3, Alibi(3)).to(dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 5, 12).to(dtype)
    same(compiled(x), layer(x))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
@torch.no_grad()
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = fused(Alibi(3), causal=True).to(device)
    x = torch.randn(2, 40, 12, device=device)
    same(torch.compile(layer, fullgraph=True)(x), layer(x), 1e-5)


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.alibi", "posenc.layers.alibi"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- benchmarks --------------------------------------------------------------------------------


def test_peers_compute_alike_before_they_are_timed(monkeypatch):
    made = [bench_alibi.forward_group(8, 1), bench_alibi.gradient_group(8, 1)]
    assert [len(group["rows"]) for group in made] == [5, 4]
    assert all(len(group["targets"]) == 1 for group in made)
    monkeypatch.setattr(Alibi, "by_offset", lambda self, n, _, **to: torch.zeros(8, 2 * n - 1))
    for group in (bench_alibi.forward_group, bench_alibi.gradient_group):
        with pytest.raises(AssertionError, match="not close"):
            group(8, 1)


# --- errors ------------------------------------------------------------------------------------

Q = torch.zeros(1, 2, 3, 4)
AT = torch.arange(3)

TYPE_ERRORS = {
    "n_heads must be an integer, got 2.0": lambda: Alibi(2.0),
    "exponent must hold real numbers, got dtype <U1": lambda: Alibi(2, exponent="a"),
    "slopes must hold real numbers, got dtype bool": lambda: Alibi(1, slopes=[True]),
    "after must hold real numbers, got dtype <U1": lambda: Alibi(1, after=["a"]),
    "q_positions must be int64 or int32, got torch.float32": lambda: Alibi(2).bias(
        Q, Q, AT.float(), AT
    ),
    "k_positions must be int64 or int32, got torch.bool": lambda: Alibi(2).bias(Q, Q, AT, AT > 1),
    "q must have a floating dtype, got torch.int64": lambda: Alibi(2).attend(
        Q.long(), Q, Q, 1.0, True
    ),
}

VALUE_ERRORS = {
    "n_heads must be at least 1, got 0": lambda: Alibi(0, slopes=[]),
    "exponent must be above 0, got -8": lambda: Alibi(2, exponent=-8),
    "slopes must have shape (2,), got (3,)": lambda: Alibi(2, slopes=[1, 2, 3]),
    "slopes must have shape (2,), got ()": lambda: Alibi(2, slopes=1.0),
    "slopes must be at least 0, got -1.0": lambda: Alibi(2, slopes=[1, -1]),
    "slopes must be finite, got inf": lambda: Alibi(2, slopes=[1, float("inf")]),
    "after must have shape (2,), got (1,)": lambda: Alibi(2, after=[1]),
    "after must be at least 0, got -2.0": lambda: Alibi(2, after=[1, -2]),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
