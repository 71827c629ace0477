"""The layer of `urpe`: factors and offsets, what it wraps, dtypes, copies, compilation, errors."""

import copy
import io
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.equations.urpe import urpe
from posenc.layers.attention import Attention, PositionEncoding, doors
from posenc.layers.learned import Learned
from posenc.layers.rope import Rope
from posenc.layers.rope_axes import RopeAxes
from posenc.layers.urpe import Urpe

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def random(inner=None, n_heads=2, reach=9, **options):
    """A layer with random factors."""
    layer = Urpe(inner, n_heads, reach, **options)
    nn.init.normal_(layer.weight)
    return layer


def by_loop(layer, weights, q_at, k_at):
    """Every weight with its factor, one by one."""
    out, K = torch.empty_like(weights), layer.max_distance
    for b, h, i, j in np.ndindex(*weights.shape):
        q, k = ((at if at.ndim == 1 else at[b])[row].item() for at, row in ((q_at, i), (k_at, j)))
        t = max(-K, min(K, q - k))
        out[b, h, i, j] = weights[b, h, i, j] * layer.weight[h, t + K]
    return out.detach()


class Everything(PositionEncoding):
    """Opens all doors, each in a way that shows."""

    scale = 0.5

    def embed(self, x, positions):
        return x + positions.unsqueeze(-1)

    def rotate(self, q, k, q_positions, k_positions):
        return 2 * q, 3 * k

    def bias(self, q, k, q_positions, k_positions):
        return (q_positions[:, None] * k_positions / 10).to(q.dtype)

    def reweight(self, weights, q_positions, k_positions):
        return weights + 0.25

    def combine(self, weights, v, q_positions, k_positions):
        return weights @ v + 1


INNER = {
    "everything": Everything,
    "rope": lambda: Rope(4),
    "learned": lambda: Learned(30, 8),
    "nope": lambda: None,
}


# --- factors and offsets -----------------------------------------------------------------------


@given(st.data())
def test_every_weight_meets_the_factor_of_its_head_and_offset(data):
    places = st.lists(st.integers(-30, 30), min_size=1, max_size=4)
    q_at, k_at = (torch.tensor(data.draw(places)) for _ in range(2))
    layer = random(None, 2, data.draw(st.integers(0, 12)))
    weights = torch.rand(2, 2, len(q_at), len(k_at))
    same(layer.reweight(weights, q_at, k_at), by_loop(layer, weights, q_at, k_at), 0)


def test_rows_of_a_batch_have_their_own_positions():
    layer, weights = random(), torch.rand(3, 2, 2, 4)
    q_at, k_at = torch.randint(-20, 20, (3, 2)), torch.randint(-20, 20, (3, 4))
    same(layer.reweight(weights, q_at, k_at), by_loop(layer, weights, q_at, k_at), 0)
    one = torch.randint(-20, 20, (4,))
    same(layer.reweight(weights, q_at, one), by_loop(layer, weights, q_at, one), 0)


def test_offsets_beyond_the_reach_share_the_outermost_factor():
    layer, weights = random(None, 1, 2), torch.ones(1, 1, 1, 7)
    got = layer.reweight(weights, torch.tensor([3]), torch.arange(7))
    g = layer.weight[0]
    same(got[0, 0, 0], torch.stack([g[4], g[4], g[3], g[2], g[1], g[0], g[0]]), 0)
    far = torch.tensor([10**9])
    same(layer.reweight(weights[..., :1], far, -far), g[4].expand(1, 1, 1, 1), 0)


def test_only_offsets_count():
    layer, weights, at = random(), torch.rand(1, 2, 5, 5), torch.arange(5)
    moved = layer.reweight(weights, at + 1000, at + 1000)
    same(moved, layer.reweight(weights, at, at), 0)
    same(layer.reweight(weights, at.int(), at.int()), layer.reweight(weights, at, at), 0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_product_is_rounded_once(dtype, device):
    layer, at = random(device=device), torch.arange(6, device=device)
    weights = torch.rand(2, 2, 6, 6, device=device).to(dtype)
    got, want = layer.reweight(weights, at, at), layer.double().reweight(weights.double(), at, at)
    assert got.dtype == dtype
    unit = torch.finfo(dtype).eps / 2 + 2.0**-24
    torch.testing.assert_close(got.double(), want, rtol=unit, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_layer_may_be_cast(dtype):
    layer = Urpe(Rope(4), 2, 9).to(dtype)
    assert layer.weight.dtype == Urpe(None, 2, 9, dtype=dtype).weight.dtype == dtype
    attention = Attention(8, 2, layer, dtype=dtype)
    assert attention(torch.randn(1, 5, 8, dtype=dtype)).dtype == dtype


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_attention_with_two_heads_is_the_equation_twice(causal):
    layer = Attention(8, 2, random(reach=4), causal=causal).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    q, k, v = (
        part(x)[0].unflatten(-1, (2, 4)).transpose(0, 1).numpy()
        for part in (layer.query, layer.key, layer.value)
    )
    mask = np.tril(np.ones((5, 5), bool)) if causal else None
    z = np.concatenate(urpe(q, k, v, layer.encoding.weight.numpy(), mask=mask), axis=-1)
    same(layer(x)[0], torch.from_numpy(z) @ layer.output.weight.T, 1e-12)


@torch.no_grad()
def test_a_cache_and_left_padding_give_the_same_rows():
    layer, x = Attention(8, 2, random(Rope(4)), causal=True), torch.randn(1, 6, 8)
    want = layer(x)
    same(layer(x[:, -1:], torch.tensor([5]), context=x), want[:, -1:])
    padded = torch.cat([torch.randn(1, 2, 8), x], dim=1)
    looks = torch.tensor([False] * 2 + [True] * 6)
    same(layer(padded, torch.arange(-2, 6), mask=looks.expand(8, 8))[:, 2:], want)


# --- what it wraps -----------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("inner", INNER)
def test_with_factors_of_one_it_is_what_it_wraps(inner):
    layer, x = Attention(8, 2, Urpe(INNER[inner](), 2, 4)), torch.randn(2, 5, 8)
    want = layer(x)
    layer.encoding = layer.encoding.encoding
    same(layer(x), want, 0)


def test_what_it_wraps_changes_the_weights_first():
    layer, at = random(Everything()), torch.arange(5)
    weights = torch.rand(1, 2, 5, 5)
    same(layer.reweight(weights, at, at), by_loop(layer, weights + 0.25, at, at), 0)


def test_factors_of_factors_multiply():
    inner, at = random(), torch.arange(5)
    outer, weights = random(inner), torch.rand(1, 2, 5, 5)
    want = by_loop(outer, by_loop(inner, weights, at, at), at, at)
    same(outer.reweight(weights, at, at), want, 0)


def test_the_class_opens_the_weights_door_alone():
    assert doors(Urpe) == ("weights",)
    assert Urpe(Rope(4), 2, 9).encoding.__class__ is Rope


def test_scale_is_that_of_what_it_wraps():
    assert Urpe(Everything(), 2, 9).scale == 0.5
    assert Urpe(None, 2, 9).scale is None


def test_what_it_wraps_may_be_replaced():
    layer, q = Urpe(Everything(), 2, 9), torch.randn(1, 2, 5, 4)
    at = torch.arange(5)
    layer.encoding = Rope(4)
    assert layer.scale is None
    same(layer.rotate(q, q, at, at)[0], Rope(4).rotate(q, q, at, at)[0], 0)
    assert layer.bias(q, q, at, at) is None
    assert [name for name, _ in layer.named_children()] == ["encoding"]


def test_what_changes_inside_is_followed():
    layer = Urpe(Urpe(Everything(), 2, 9), 2, 9)
    layer.encoding.encoding = inside = Rope(4)
    assert layer.scale is None
    inside.scale = 0.25
    assert layer.scale == 0.25


def test_one_number_per_token_is_needed_even_around_several_axes():
    layer, x = Attention(8, 2, Urpe(RopeAxes(4, [1, 1], ladder="own"), 2, 9)), torch.randn(1, 5, 8)
    assert layer(x).shape == (1, 5, 8)
    with pytest.raises(ValueError, match=r"^positions must have shape \(5,\) or \(1, 5\), got"):
        layer(x, torch.zeros(5, 2, dtype=torch.int64))


def test_the_fused_kernel_has_no_such_door():
    with pytest.raises(ValueError, match=r"^fused must be False for Urpe, which opens weights"):
        Attention(8, 2, Urpe(None, 2, 9), fused=True)


# --- the module --------------------------------------------------------------------------------


def test_factors_start_as_ones_and_every_head_has_its_own():
    layer = Urpe(None, 3, 4)
    assert layer.weight.shape == (3, 9)
    assert (layer.weight == 1).all()
    assert layer.weight.requires_grad


def test_gradients_are_the_weights_summed_along_diagonals():
    layer, at = random(None, 1, 1), torch.arange(3)
    weights = torch.rand(2, 1, 3, 3, requires_grad=True)
    layer.reweight(weights, at, at).sum().backward()
    w = weights.detach().sum(0)[0]
    want = [
        w.triu(1).sum(),
        w.trace(),
        w.tril(-1).sum(),
    ]
    same(layer.weight.grad[0], torch.stack(want))
    same(weights.grad[0, 0], weights.grad[1, 0], 0)


def test_a_checkpoint_holds_factors_and_what_is_wrapped():
    layer, other = random(Learned(5, 8)), random(Learned(5, 8))
    assert list(layer.state_dict()) == ["weight", "encoding.weight"]
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 5, 8)
    attention = Attention(8, 2, layer)
    want = attention(x)
    attention.encoding = other
    same(attention(x), want, 0)


def through_a_file(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "file": through_a_file,
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_calls_the_doors_of_its_own_encoding(way):
    layer = random(Learned(5, 8))
    other = COPIES[way](layer)
    same(other.weight, layer.weight, 0)
    with torch.no_grad():
        layer.encoding.weight.zero_()
    x, at = torch.zeros(1, 5, 8), torch.arange(5)
    assert not layer.embed(x, at).any()
    same(other.embed(x, at)[0], other.encoding.weight, 0)


def test_a_layer_is_built_without_memory_and_filled_later():
    layer = Urpe(None, 2, 4, device="meta")
    at, weights = torch.arange(3, device="meta"), torch.ones(1, 2, 3, 3, device="meta")
    assert layer.reweight(weights, at, at).shape == (1, 2, 3, 3)
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert (layer.weight == 1).all()


def test_under_autocast_the_weights_keep_their_dtype():
    layer, x = Attention(8, 2, random()), torch.randn(1, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


# --- compilation -------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["rope", "learned", "nope"])
def test_a_compiled_layer_is_one_graph(inner):
    torch.compiler.reset()
    layer = Attention(8, 2, random(INNER[inner]()), causal=True)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, positions = torch.randn(2, 5, 8), torch.tensor([[0, 1, 2, 3, 4], [9, 10, 11, 20, 21]])
    same(compiled(x), layer(x))
    same(compiled(x, positions), layer(x, positions))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer, at = random(device=device), torch.tensor([0, 1, 2, 50], device=device)
    weights = torch.rand(1, 2, 4, 4, device=device)
    compiled = torch.compile(layer.reweight, fullgraph=True)
    same(compiled(weights, at, at), layer.reweight(weights, at, at))


def test_it_can_be_exported():
    layer, x = Attention(8, 2, random(Rope(4))), torch.randn(1, 3, 8)
    same(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.urpe", "posenc.layers.urpe"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- errors ------------------------------------------------------------------------------------

W, AT = torch.ones(2, 3, 4, 5), (torch.arange(4), torch.arange(5))


def door(weights=W, q_at=AT[0], k_at=AT[1]):
    return Urpe(None, 3, 9).reweight(weights, q_at, k_at)


TYPE_ERRORS = {
    "n_heads must be an integer, got 3.0": lambda: Urpe(None, 3.0, 9),
    "max_distance must be an integer, got True": lambda: Urpe(None, 3, True),
    "encoding must be a PositionEncoding, got 'rope'": lambda: Urpe("rope", 3, 9),
    "weights must have a floating dtype, got torch.int64": lambda: door(W.long()),
    "q_positions must be int64 or int32, got torch.float32": lambda: door(q_at=AT[0].float()),
    "k_positions must be int64 or int32, got torch.bool": lambda: door(k_at=AT[1] > 2),
}

VALUE_ERRORS = {
    "n_heads must be at least 1, got 0": lambda: Urpe(None, 0, 9),
    "max_distance must be at least 0, got -1": lambda: Urpe(None, 3, -1),
    "weights must have shape (batch, 3, n_q, n_k), got (3, 4, 5)": lambda: door(W[0]),
    "weights must have shape (batch, 3, n_q, n_k), got (2, 2, 4, 5)": lambda: door(W[:, :2]),
    "weights must be on device cpu, got meta": lambda: door(W.to("meta")),
    "q_positions must have shape (4,) or (2, 4), got (5,)": lambda: door(q_at=AT[1]),
    "k_positions must have shape (5,) or (2, 5), got (4,)": lambda: door(k_at=AT[0]),
    "q_positions must be on device cpu, got meta": lambda: door(q_at=AT[0].to("meta")),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


def test_an_encoding_cannot_be_replaced_by_anything_else():
    with pytest.raises(TypeError, match=r"^encoding must be a PositionEncoding, got 7$"):
        Urpe(None, 3, 9).encoding = 7
