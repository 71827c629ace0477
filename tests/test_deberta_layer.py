"""The layer of `deberta`: equation, positions, training, casts, compilation, errors."""

import copy
import io
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.equations.deberta import disentangled, log_bucket, row, scale
from posenc.layers.attention import Attention, doors
from posenc.layers.deberta import Deberta
from scripts import bench_deberta

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 0.06, torch.float16: 8e-3}
D, HEADS, K = 8, 2, 4
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
by_index = pytest.mark.parametrize("p2c", ["code", "paper"])
KINDS = {
    "plain": {},
    "buckets": {"max_distance": 16, "n_buckets": 6},
    "normalised": {"normalize": True},
}
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def made(kind="plain", **options):
    """A layer with a table of order 1."""
    layer = Deberta(D, HEADS, **{"max_distance": K, **KINDS[kind], **options})
    nn.init.normal_(layer.table.weight)
    return layer


def vectors(n_q=6, n_k=7, batch=2, **options):
    return (torch.randn(batch, HEADS, n, D // HEADS, **options) for n in (n_q, n_k))


def by_equation(layer, q, k, q_at, k_at):
    """Sequence by sequence and head by head, in float64."""
    layer = copy.deepcopy(layer).double().cpu()
    p = layer.norm(layer.table.weight)
    tables = [
        f(p).detach().numpy().reshape(-1, HEADS, D // HEADS) for f in (layer.key, layer.query)
    ]
    q, k = q.detach().double().cpu().numpy(), k.detach().double().cpu().numpy()
    q_at, k_at = (at.cpu().numpy() * np.ones((len(q), 1), int) for at in (q_at, k_at))
    out = np.empty((*q.shape[:-1], k.shape[-2]))
    for b, h in np.ndindex(*q.shape[:2]):
        t = q_at[b][:, None] - k_at[b]
        if layer._rows is not None:
            t = log_bucket(t, 6, 16)
        head = q[b, h], k[b, h], tables[0][:, h], tables[1][:, h]
        out[b, h] = disentangled(*head, t, p2c=layer.p2c)[1:].sum(0) * scale(D // HEADS)
    return torch.tensor(out)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


FAR = torch.tensor([0, 3, 9, -20, 10**6, 2**31 - 1])
BATCH = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [9, 0, 5, 20, -3, 7, 7]])


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@by_index
@by_kind
def test_the_bias_is_the_equation(kind, p2c, dtype, device):
    layer = made(kind, p2c=p2c, dtype=dtype, device=device)
    q, k = vectors(dtype=dtype, device=device)
    q_at, k_at = torch.arange(6, device=device), BATCH.to(device)
    got = layer.bias(q, k, q_at, k_at)
    assert got.dtype == dtype
    same(got.detach().double().cpu(), by_equation(layer, q, k, q_at, k_at), TOLERANCE[dtype])


@by_index
@by_kind
def test_without_gradients_it_is_the_same(kind, p2c):
    layer, (q, k) = made(kind, p2c=p2c), vectors()
    want = layer.bias(q, k, FAR, BATCH)
    with torch.no_grad():
        same(layer.bias(q, k, FAR, BATCH), want.detach(), 5e-7)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=6, max_size=6))
def test_positions_of_any_offset(at):
    layer, (q, k) = made().double(), vectors(n_k=6, batch=1, dtype=torch.float64)
    at = torch.tensor(at)
    same(layer.bias(q, k, at, at).detach(), by_equation(layer, q, k, at, at), 1e-12)


@given(st.integers(-40, 40), st.integers(-40, 40))
def test_rows_equal_the_equation(i, j):
    plain, buckets = made(), made("buckets")
    at = torch.tensor([i]), torch.tensor([j])
    assert plain.rows(*at).item() == row(i - j, K)
    assert buckets.rows(*at).item() == row(log_bucket(i - j, 6, 16), 6)


def test_it_opens_the_logits_door_alone():
    assert doors(Deberta) == ("logits",)


def test_attention_scales_contents_as_the_layer_scales_positions():
    layer = made()
    assert layer.scale == pytest.approx((3 * D // HEADS) ** -0.5)
    attention, x = Attention(D, HEADS, layer).double(), torch.randn(1, 5, D).double()
    parts = [
        part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in (attention.query, attention.key)
    ]
    at = torch.arange(5)
    logits = layer.scale * parts[0] @ parts[1].mT + layer.bias(*parts, at, at)
    v = attention.value(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    want = attention.output((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
    same(attention(x), want, 1e-12)


# --- positions ---------------------------------------------------------------------------------


@by_kind
@torch.no_grad()
def test_a_decoder_continues_from_its_cache(kind):
    layer, x = Attention(D, HEADS, made(kind), causal=True), torch.randn(2, 9, D)
    steps = [layer(x[:, i : i + 1], torch.tensor([i]), context=x[:, : i + 1]) for i in range(9)]
    same(torch.cat(steps, 1), layer(x), 1e-6)


@torch.no_grad()
def test_left_padding_does_not_move_the_words():
    layer, x = Attention(D, HEADS, made()), torch.randn(1, 4, D)
    padded = torch.cat([torch.randn(1, 2, D), x], 1)
    mask = torch.tensor([[[False] * 2 + [True] * 4]])
    got = layer(padded, torch.tensor([[0, 0, 0, 1, 2, 3]]), mask=mask)
    same(got[:, 2:], layer(x), 1e-6)


def test_int32_positions_are_the_same():
    layer, (q, k) = made(), vectors()
    far = torch.tensor([0, 1, 2, 3, -(2**31), 2**31 - 1])
    keys = torch.tensor([0, 1, 2, 3, 4, 2**31 - 1, -(2**31)])
    same(layer.bias(q, k, far.int(), keys.int()), layer.bias(q, k, far, keys))


@torch.no_grad()
def test_the_fused_kernel_gives_the_same():
    layer, x = Attention(D, HEADS, made(), causal=True), torch.randn(2, 6, D)
    fused = Attention(D, HEADS, made(), causal=True, fused=True)
    fused.load_state_dict(layer.state_dict())
    same(fused(x), layer(x), 1e-6)


# --- training ----------------------------------------------------------------------------------


@by_index
@by_kind
def test_gradients_equal_finite_differences(kind, p2c):
    layer = made(kind, p2c=p2c).double()
    parameters = dict(layer.named_parameters())
    q, k = (x.requires_grad_() for x in vectors(2, 3, 1, dtype=torch.float64))
    q_at, k_at = torch.tensor([0, 5]), torch.tensor([[1, 2, -9]])

    def out(q, k, *values):
        changed = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(
            _Bias(layer), {f"layer.{n}": v for n, v in changed.items()}, (q, k, q_at, k_at)
        )

    values = [p.detach().clone().requires_grad_() for p in parameters.values()]
    assert torch.autograd.gradcheck(out, (q, k, *values))


class _Bias(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *args):
        return self.layer.bias(*args)


def test_rows_that_no_pair_reads_get_no_gradient():
    layer, (q, k) = made(), vectors(2, 2)
    layer.bias(q, k, torch.arange(2), torch.arange(2)).square().sum().backward()
    read = layer.table.weight.grad.abs().sum(1) > 0
    assert read.nonzero().flatten().tolist() == [K - 1, K, K + 1]


def test_layers_can_share_one_table_and_the_projections_of_contents():
    first, second = (Attention(D, HEADS, made("normalised")) for _ in range(2))
    second.encoding.table, second.encoding.norm = first.encoding.table, first.encoding.norm
    for layer in (first, second):
        layer.encoding.key, layer.encoding.query = layer.key, layer.query
    x = torch.randn(1, 5, D)
    second(first(x)).square().sum().backward()
    names = {id(p) for layer in (first, second) for p in layer.parameters()}
    assert len(names) == 3 + 2 * 4
    assert first.encoding.table.weight.grad is second.encoding.table.weight.grad


@pytest.mark.parametrize(
    ("kind", "rows"), [("plain", 2 * K), ("buckets", 12), ("normalised", 2 * K)]
)
def test_what_is_trained_and_saved(kind, rows):
    layer, linear = made(kind), {"weight": (D, D), "bias": (D,)}
    want = {"table.weight": (rows, D)}
    want |= {f"{part}.{n}": shape for part in ("key", "query") for n, shape in linear.items()}
    if kind == "normalised":
        want |= {"norm.weight": (D,), "norm.bias": (D,)}
    assert {n: tuple(p.shape) for n, p in layer.named_parameters()} == want
    assert {n: tuple(p.shape) for n, p in layer.state_dict().items()} == want


def test_the_table_starts_small():
    weight = Deberta(64, 2, 512).table.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(weight.mean().item()) < 5e-4


def test_the_normalisation_is_that_of_released_models():
    assert made("normalised").norm.eps == 1e-7
    assert made("normalised", eps=1e-5).norm.eps == 1e-5


# --- casts and copies --------------------------------------------------------------------------


@by_kind
def test_a_checkpoint_restores_the_layer(kind):
    layer, other, (q, k) = made(kind), made(kind), vectors()
    at = torch.arange(6), torch.arange(7)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    assert not torch.equal(other.bias(q, k, *at), layer.bias(q, k, *at))
    other.load_state_dict(torch.load(file))
    same(other.bias(q, k, *at), layer.bias(q, k, *at))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@by_kind
def test_copies_are_equal(kind, copied):
    layer, (q, k) = made(kind), vectors()
    at = torch.arange(6), torch.arange(7)
    same(copied(layer).bias(q, k, *at), layer.bias(q, k, *at))


@by_kind
def test_bfloat16_does_not_touch_the_rows(kind):
    layer, at = made(kind), torch.arange(-50, 50)
    want = layer.rows(at, at)
    low = layer.to(torch.bfloat16)
    same(low.rows(at, at), want)
    assert low.table.weight.dtype == torch.bfloat16


@by_kind
def test_a_layer_made_on_the_meta_device_can_be_filled(kind):
    with torch.device("meta"):
        empty = Deberta(D, HEADS, **{"max_distance": K, **KINDS[kind]})
    layer, (q, k) = made(kind), vectors()
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    at = torch.arange(6), torch.arange(7)
    same(empty.bias(q, k, *at), layer.bias(q, k, *at))


@by_kind
def test_shapes_are_known_without_numbers(kind):
    layer, (q, k) = made(kind).to("meta"), vectors(device="meta", dtype=torch.float32)
    at = (torch.arange(n, device="meta") for n in (6, 7))
    out = layer.bias(q, k, *at)
    assert (out.shape, out.device.type) == ((2, HEADS, 6, 7), "meta")


@by_device
def test_autocast_works(device):
    layer, x = Attention(D, HEADS, made()).to(device), torch.randn(1, 6, D, device=device)
    with torch.autocast(device, torch.bfloat16):
        got = layer(x)
    same(got.float(), layer(x), 0.05)


# --- compilation -------------------------------------------------------------------------------


@by_index
@by_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_compiled_layer_is_one_graph(dtype, kind, p2c):
    torch.compiler.reset()
    layer = Attention(D, HEADS, made(kind, p2c=p2c)).to(dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 6, D, dtype=dtype)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 0.02}[dtype]
    same(compiled(x), layer(x), tolerance)
    same(compiled(x, BATCH[:, 1:]), layer(x, BATCH[:, 1:]), tolerance)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
@torch.no_grad()
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = Attention(D, HEADS, made("buckets")).to(device)
    x = torch.randn(2, 6, D, device=device)
    same(torch.compile(layer, fullgraph=True)(x), layer(x), 2e-6)


# --- the benchmark -----------------------------------------------------------------------------


@torch.no_grad()
def test_both_sides_of_the_benchmark_compute_the_same(monkeypatch):
    monkeypatch.setattr(bench_deberta, "N", 12)
    monkeypatch.setattr(bench_deberta, "ROUNDS", 1)
    for group in bench_deberta.groups():
        assert [row["ours"] for row in group["rows"]] == [False, False, True, False, True]
        assert len(group["targets"]) == 2
    calls = bench_deberta.deberta_calls(None)
    with pytest.raises(AssertionError, match="not close"):
        bench_deberta.check({**calls, "posenc": lambda: calls["posenc"]() + 1})


# --- errors ------------------------------------------------------------------------------------

Q, AT = torch.zeros(2, HEADS, 3, D // HEADS), torch.arange(3)


def bias(q=Q, k=Q, q_at=AT, k_at=AT):
    return Deberta(D, HEADS, K).bias(q, k, q_at, k_at)


TYPE_ERRORS = {
    "d_model must be an integer, got 8.0": lambda: Deberta(8.0, 2, 4),
    "n_heads must be an integer, got '2'": lambda: Deberta(8, "2", 4),
    "max_distance must be an integer, got True": lambda: Deberta(8, 2, True),
    "n_buckets must be an integer, got 4.0": lambda: Deberta(8, 2, 16, n_buckets=4.0),
    "q must have a floating dtype, got torch.int64": lambda: bias(q=Q.long()),
    "k must have a floating dtype, got torch.bool": lambda: bias(k=Q > 0),
    "q_positions must be int64 or int32, got torch.float32": lambda: bias(q_at=AT.float()),
    "k_positions must be int64 or int32, got torch.int16": lambda: bias(k_at=AT.short()),
    "q_positions must be int64 or int32, got torch.bool": lambda: made().rows(AT > 1, AT),
    "k_positions must be int64 or int32, got torch.uint8": lambda: made().rows(AT, AT.byte()),
}

VALUE_ERRORS = {
    "d_model must be at least 1, got 0": lambda: Deberta(0, 1, 4),
    "d_model must be a multiple of 3, got 8": lambda: Deberta(8, 3, 4),
    "n_heads must be at least 1, got 0": lambda: Deberta(8, 0, 4),
    "max_distance must be at least 1, got 0": lambda: Deberta(8, 2, 0),
    "n_buckets must be a multiple of 2, got 3": lambda: Deberta(8, 2, 16, n_buckets=3),
    "max_distance must be at least 10, got 9": lambda: Deberta(8, 2, 9, n_buckets=16),
    "p2c must be 'code' or 'paper', got 'c2p'": lambda: Deberta(8, 2, 4, p2c="c2p"),
    "q must have shape (batch, heads, n >= 1, 4), got (2, 3, 4)": lambda: bias(q=Q[:, 0]),
    "k must have shape (batch, heads, n >= 1, 4), got (2, 2, 3, 2)": lambda: bias(k=Q[..., :2]),
    "q must have n_heads = 2 heads, got 1": lambda: bias(q=Q[:, :1]),
    "k must have n_heads = 2 heads, got 1": lambda: bias(k=Q[:, :1]),
    "q_positions must have shape (3,) or (2, 3), got (4,)": lambda: bias(q_at=torch.arange(4)),
    "k_positions must have shape (3,) or (2, 3), got (3, 2)": lambda: bias(
        k_at=AT[:, None].repeat(1, 2)
    ),
    "k_positions must be on device cpu, got meta": lambda: bias(k_at=AT.to("meta")),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
