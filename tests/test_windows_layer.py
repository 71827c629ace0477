"""The layer of `windows`: masks, positions, what it wraps, blocks, dtypes, compilation, errors."""

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
from torch.nn.functional import scaled_dot_product_attention

from posenc.equations.windows import (
    bigbird,
    chunks,
    longformer,
    random_links,
    sliding_window,
    streaming_window,
)
from posenc.layers.attention import Attention, PositionEncoding, doors
from posenc.layers.learned import Learned
from posenc.layers.rope import Rope
from posenc.layers.rope_axes import RopeAxes
from posenc.layers.shaw import Shaw
from posenc.layers.t5 import T5
from posenc.layers.urpe import Urpe
from posenc.layers.windows import Window, attend_in_window, mask_tensor
from scripts import bench_windows
from scripts.bench import peak

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}
AT = torch.arange(6)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def qkv(n, dtype=torch.float32, batch=2):
    return torch.randn(3, batch, 2, n, 4, dtype=torch.float64).to(dtype)


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
    "learned": lambda: Learned(400, 8),
    "t5": lambda: T5(2),
    "nope": lambda: None,
}
FUSABLE = ["rope", "learned", "t5", "nope"]


# --- masks for PyTorch -------------------------------------------------------------------------

MASKS = {
    "chunks": chunks(np.arange(24), np.arange(24), 8, 4),
    "window": sliding_window(np.arange(24), np.arange(24), 3),
    "dilated": sliding_window(np.arange(24), np.arange(24), 3, 2),
    "longformer": longformer(np.arange(24), np.arange(24), 2, np.array([0, 9])),
    "bigbird": bigbird(24, 4, random_links(6, 1, np.random.default_rng(0))),
    "streaming": streaming_window(np.arange(24), np.arange(24), 5, 2),
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", MASKS)
@torch.no_grad()
def test_attention_takes_every_mask(name, fused):
    layer, x = Attention(8, 2, Rope(4), fused=fused), torch.randn(2, 24, 8)
    got = layer(x, mask=mask_tensor(MASKS[name]))
    for i, row in enumerate(MASKS[name]):
        seen = torch.from_numpy(np.flatnonzero(row))
        one = layer(x[:, i : i + 1], torch.tensor([i]), context=x[:, seen], context_positions=seen)
        same(one, got[:, i : i + 1])


@pytest.mark.parametrize("name", MASKS)
def test_the_fused_kernel_takes_every_mask(name):
    q, k, v = qkv(24)
    masks = np.stack([MASKS[name], MASKS["window"]])
    got = scaled_dot_product_attention(q, k, v, mask_tensor(masks)[:, None])
    for row, mask in enumerate(masks):
        logits = q[row] @ k[row].mT / 2
        weights = logits.masked_fill(~torch.from_numpy(mask), -torch.inf).softmax(-1)
        same(got[row], weights @ v[row])


def test_a_mask_is_copied_even_if_it_cannot_be_written_to():
    mask = np.broadcast_to(np.array([True, False]), (3, 2))
    got = mask_tensor(mask)
    got[0, 0] = False
    assert mask[0, 0]
    assert (got.dtype, got.shape, mask_tensor(mask, "meta").device.type) == (
        torch.bool,
        (3, 2),
        "meta",
    )


# --- positions ---------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=5),
    st.lists(st.integers(-9, 9), min_size=1, max_size=5),
    st.integers(1, 6),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_the_bias_is_a_loop_over_pairs(q_at, k_at, size, after, sinks):
    q, k = torch.zeros(1, 1, len(q_at), 2), torch.zeros(1, 1, len(k_at), 2)
    layer = Window(size, after=after, sinks=sinks)
    got = layer.bias(q, k, torch.tensor(q_at), torch.tensor(k_at))
    for r, i in enumerate(q_at):
        for c, j in enumerate(k_at):
            sees = j in range(i - size + 1, i + after + 1) or (j in range(sinks) and j <= i + after)
            assert got[0, r, c] == (0 if sees else -torch.inf)


def test_the_bias_is_the_equation_with_sinks():
    q, at = torch.zeros(1, 1, 20, 2), torch.arange(20)
    for size, sinks in ((1, 0), (4, 0), (4, 3)):
        got = Window(size, sinks=sinks).bias(q, q, at, at)[0] == 0
        np.testing.assert_array_equal(got, streaming_window(at.numpy(), at.numpy(), size, sinks))


def test_every_sequence_of_a_batch_may_have_positions_of_its_own():
    q, at = torch.zeros(2, 1, 3, 2), torch.tensor([[0, 1, 2], [7, 3, 6]])
    got = Window(2, sinks=1).bias(q, q, at, at.int())
    assert got.shape == (2, 1, 3, 3)
    for row, own in enumerate(at):
        same(got[row], Window(2, sinks=1).bias(q[:1], q[:1], own, own))


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("sinks", [0, 2])
def test_left_padding_changes_nothing(fused, sinks):
    layer = Attention(8, 2, Window(3, Rope(4), sinks=sinks), causal=True, fused=fused)
    x = torch.randn(1, 9, 8)
    padded = torch.cat([torch.randn(1, 4, 8), x], dim=1)
    real = torch.arange(13) >= 4
    at = (torch.arange(13) - 4).clamp(min=0)[None]
    same(layer(padded, at, mask=real & real[:, None])[:, 4:], layer(x), 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("sinks", [0, 2])
def test_a_rolling_cache_gives_the_full_pass(sinks):
    layer = Attention(8, 2, Window(4, Rope(4), sinks=sinks), causal=True, fused=True)
    x, at = torch.randn(2, 60, 8), torch.arange(60)
    rows = []
    for t in at.tolist():
        kept = torch.cat([at[: min(sinks, max(0, t - 3))], at[max(0, t - 3) : t + 1]])
        assert len(kept) <= 4 + sinks
        rows.append(
            layer(x[:, t : t + 1], at[t : t + 1], context=x[:, kept], context_positions=kept)
        )
    same(torch.cat(rows, dim=1), layer(x), 1e-5)


# --- what it wraps -----------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("inner", INNER)
def test_a_window_as_large_as_the_text_is_what_it_wraps(inner):
    layer, x = Attention(8, 2, Window(5, INNER[inner](), after=4)), torch.randn(2, 5, 8)
    want = layer(x)
    layer.encoding = layer.encoding.encoding
    same(layer(x), want, 0)


@torch.no_grad()
@pytest.mark.parametrize("inner", INNER)
def test_a_window_is_a_mask_on_what_it_wraps(inner):
    layer, x = Attention(8, 2, INNER[inner]()), torch.randn(2, 9, 8)
    at = np.arange(9)
    want = layer(x, mask=mask_tensor(sliding_window(at, at, (2, 1))))
    layer.encoding = Window(3, layer.encoding, after=1)
    same(layer(x), want, 1e-5)


def test_two_windows_are_the_smaller_one():
    q, at = torch.zeros(1, 1, 20, 2), torch.arange(20)
    both = Window(7, Window(3, after=5), after=1).bias(q, q, at, at)
    same(both, Window(3, after=1).bias(q, q, at, at), 0)


def test_the_class_opens_the_logits_door_alone():
    assert doors(Window) == ("logits",)
    assert Window(3, Rope(4)).encoding.__class__ is Rope


def test_scale_is_that_of_what_it_wraps_and_changes_with_it():
    layer = Window(3, T5(2))
    assert layer.scale == 1.0
    layer.encoding = Rope(4)
    assert layer.scale is None
    layer.encoding.scale = 0.25
    assert layer.scale == 0.25
    assert [name for name, _ in layer.named_children()] == ["encoding"]


def test_what_is_wrapped_twice_can_be_replaced():
    layer, new = Window(3, Window(5, Learned(6, 8))), Learned(6, 8)
    layer.encoding.encoding = new
    same(layer.embed(torch.zeros(1, 6, 8), AT)[0], new.weight, 0)


def test_a_bias_that_comes_later_is_not_passed_over():
    layer = Window(3, Rope(4))
    assert layer.attend(*qkv(6), 0.5, True) is not None
    layer.encoding = T5(2)
    assert layer.attend(*qkv(6), 0.5, True) is None


def test_one_number_per_token_is_needed_even_around_several_axes():
    layer = Attention(8, 2, Window(3, RopeAxes(4, [1, 1], ladder="own")))
    x = torch.randn(1, 5, 8)
    assert layer(x).shape == (1, 5, 8)
    with pytest.raises(ValueError, match=r"^positions must have shape \(5,\) or \(1, 5\), got"):
        layer(x, torch.zeros(5, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("inner", "door"),
    [
        (lambda: Urpe(None, 2, 3), "weights"),
        (lambda: Shaw(4, 3), "values"),
        (Everything, "values and weights"),
        (lambda: Window(9, Urpe(None, 2, 3)), "weights"),
    ],
)
def test_a_door_that_the_fused_kernel_lacks_is_not_hidden_by_the_window(inner, door):
    with pytest.raises(
        ValueError, match=f"^fused must be False for Window, which opens {door}, got True$"
    ):
        Attention(8, 2, Window(3, inner()), fused=True)


# --- the shorter way ---------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("inner", FUSABLE)
def test_both_ways_agree(inner, causal):
    encoding = Window(20, INNER[inner](), after=7, sinks=3)
    layer, x = Attention(8, 2, encoding, causal=causal, fused=True), torch.randn(2, 300, 8)
    same(layer(x), layer(x, torch.arange(300)), 1e-5)


def through_the_kernel(monkeypatch, layer, x):
    """Numbers of queries and keys that the kernel gets."""
    sizes = []

    def spy(q, k, v, mask, *, scale):
        sizes.append((q.shape[2], k.shape[2]))
        return q

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    layer(x)
    return sizes


def test_no_matrix_of_the_whole_text_is_made(monkeypatch):
    layer = Attention(8, 2, Window(64, Rope(4)), causal=True, fused=True)
    sizes = through_the_kernel(monkeypatch, layer, torch.randn(1, 1000, 8))
    assert sizes == [(32, 95), (64, 64), (8, 71)]


def test_an_encoding_with_a_bias_goes_through_the_doors(monkeypatch):
    layer = Attention(8, 2, Window(64, T5(2)), causal=True, fused=True)
    assert through_the_kernel(monkeypatch, layer, torch.randn(1, 300, 8)) == [(300, 300)]


def test_a_derived_bias_is_not_passed_over(monkeypatch):
    class Half(Window):
        def bias(self, *args):
            return super().bias(*args) / 2

    layer = Attention(8, 2, Half(64), causal=True, fused=True)
    assert through_the_kernel(monkeypatch, layer, torch.randn(1, 300, 8)) == [(300, 300)]


@given(
    st.integers(1, 200), st.integers(1, 90), st.integers(0, 40), st.integers(0, 40), st.booleans()
)
def test_blocks_equal_the_mask(n, size, after, sinks, one):
    q, k, v = qkv(n, torch.float64, batch=1 if one else 3)
    i = torch.arange(n)
    t = i[:, None] - i
    mask = ((t < size) | (i < sinks)) & (t >= -after)
    want = scaled_dot_product_attention(q, k, v, mask, scale=0.7)
    got = attend_in_window(q, k, v, size, scale=0.7, after=after, sinks=sinks)
    same(got, want, 1e-12)


@pytest.mark.parametrize(("n", "size"), [(96, 1), (100, 1), (128, 33), (130, 33)])
def test_a_text_of_whole_blocks_and_a_window_of_one_are_no_exception(n, size):
    q, k, v = qkv(n, torch.float64)
    at = np.arange(n)
    mask = mask_tensor(sliding_window(at, at, (size - 1, 0)))
    want = scaled_dot_product_attention(q, k, v, mask, scale=0.7)
    same(attend_in_window(q, k, v, size, scale=0.7), want, 1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_blocks_follow_float64(dtype):
    q, k, v = qkv(200, dtype)
    got = attend_in_window(q, k, v, 30, scale=0.5, sinks=4)
    assert got.dtype == dtype
    want = attend_in_window(q.double(), k.double(), v.double(), 30, scale=0.5, sinks=4)
    same(got.double(), want, TOLERANCE[dtype])


@torch.no_grad()
def test_nothing_is_copied_but_the_output():
    q, k, v = qkv(2000)
    held = peak(lambda: attend_in_window(q, k, v, 64, scale=0.5))
    assert held < 2.7 * q.nbytes  # parts and whole, and a number per query and head of four


def test_heads_first_needs_no_memory_order():
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in qkv(200))
    want = attend_in_window(*(x.contiguous() for x in (q, k, v)), 30, scale=0.5)
    same(attend_in_window(q, k, v, 30, scale=0.5), want)


# --- the module --------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_is_wrapped():
    layer, other = Window(3, Learned(5, 8)), Window(3, Learned(5, 8))
    assert list(layer.state_dict()) == ["encoding.weight"]
    assert list(Window(3).state_dict()) == []
    other.load_state_dict(layer.state_dict())
    same(other.encoding.weight, layer.encoding.weight, 0)


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
    layer = Window(3, Learned(5, 8))
    other = COPIES[way](layer)
    with torch.no_grad():
        layer.encoding.weight.zero_()
    x, at = torch.zeros(1, 5, 8), torch.arange(5)
    assert not layer.embed(x, at).any()
    same(other.embed(x, at)[0], other.encoding.weight, 0)


def test_gradients_reach_what_is_wrapped():
    layer, x = Attention(8, 2, Window(9, T5(2)), causal=True), torch.randn(1, 30, 8)
    layer(x).sum().backward()
    assert layer.encoding.encoding.weight.grad.any()
    same(layer.encoding.encoding.weight.grad[9:], torch.zeros(23, 2), 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fused", [False, True])
def test_attention_keeps_its_dtype(fused, dtype):
    layer = Attention(8, 2, Window(9, Rope(4)), causal=True, fused=fused, dtype=dtype)
    assert layer(torch.randn(1, 99, 8, dtype=dtype)).dtype == dtype


def test_autocast_takes_what_it_casts():
    layer, x = Attention(8, 2, Window(9, Rope(4)), causal=True, fused=True), torch.randn(1, 99, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_it_is_shown_with_its_numbers():
    assert repr(Window(4, sinks=2)).startswith("Window(\n  4, after=0, sinks=2\n  (encoding): ")


# --- compilation -------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", FUSABLE)
@pytest.mark.parametrize("fused", [False, True])
def test_a_compiled_layer_is_one_graph(fused, inner):
    torch.compiler.reset()
    encoding = Window(9, INNER[inner](), sinks=2)
    layer = Attention(8, 2, encoding, causal=True, fused=fused)
    compiled = torch.compile(layer, fullgraph=True, backend="eager", dynamic=True)
    for n in (5, 120, 333):
        x = torch.randn(2, n, 8)
        same(compiled(x), layer(x), 1e-5)
        same(compiled(x, torch.arange(n)), layer(x), 1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    q, k, v = (x.to(device) for x in qkv(200))
    compiled = torch.compile(attend_in_window, fullgraph=True)
    want = attend_in_window(q, k, v, 20, scale=0.5, sinks=1)
    same(compiled(q, k, v, 20, scale=0.5, sinks=1), want, 1e-5)


def test_it_can_be_exported():
    layer, x = Attention(8, 2, Window(9, Rope(4)), causal=True, fused=True), torch.randn(1, 99, 8)
    same(torch.export.export(layer, (x,)).module()(x), layer(x), 1e-5)


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.windows", "posenc.layers.windows"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the bench ---------------------------------------------------------------------------------


def test_peers_compute_alike_before_they_are_timed(monkeypatch):
    made = [bench_windows.forward_group(600, 1, 50), bench_windows.gradient_group(600, 1, 50)]
    assert [len(group["rows"]) for group in made] == [5, 3]
    assert all(len(group["targets"]) == 1 for group in made)
    monkeypatch.setattr(
        bench_windows, "attend_in_window", lambda q, k, v, *args, **more: q + 0 * (k + v)
    )
    for group in (bench_windows.forward_group, bench_windows.gradient_group):
        with pytest.raises(AssertionError, match="not close"):
            group(600, 1, 50)


# --- errors ------------------------------------------------------------------------------------

Q = torch.zeros(2, 3, 6, 4)


def bias(q=Q, k=Q, q_at=AT, k_at=AT):
    return Window(3).bias(q, k, q_at, k_at)


TYPE_ERRORS = {
    "size must be an integer, got 3.0": lambda: Window(3.0),
    "after must be an integer, got True": lambda: Window(3, after=True),
    "sinks must be an integer, got None": lambda: attend_in_window(
        Q, Q, Q, 3, scale=1.0, sinks=None
    ),
    "encoding must be a PositionEncoding, got 'rope'": lambda: Window(3, "rope"),
    "q must have a floating dtype, got torch.int64": lambda: attend_in_window(
        Q.long(), Q, Q, 3, scale=1.0
    ),
    "mask must be boolean, got dtype int64": lambda: mask_tensor(np.eye(3, dtype=int)),
    "q_positions must be int64 or int32, got torch.float32": lambda: bias(q_at=AT.float()),
    "k_positions must be int64 or int32, got torch.bool": lambda: bias(k_at=AT > 2),
}

VALUE_ERRORS = {
    "size must be at least 1, got 0": lambda: Window(0),
    "after must be at least 0, got -1": lambda: Window(3, after=-1),
    "sinks must be at least 0, got -1": lambda: attend_in_window(Q, Q, Q, 3, scale=1.0, sinks=-1),
    "k must have shape (2, 3, 6, 4), got (2, 3, 7, 4)": lambda: attend_in_window(
        Q, torch.zeros(2, 3, 7, 4), Q, 3, scale=1.0
    ),
    "v must have shape (2, 3, 6, 4), got (2, 1, 6, 4)": lambda: attend_in_window(
        Q, Q, Q[:, :1], 3, scale=1.0
    ),
    "q_positions must have shape (6,) or (2, 6), got (5,)": lambda: bias(q_at=AT[1:]),
    "k_positions must have shape (6,) or (2, 6), got (5,)": lambda: bias(k_at=AT[1:]),
    "q_positions must be on device cpu, got meta": lambda: bias(q_at=AT.to("meta")),
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
        Window(3).encoding = 7
