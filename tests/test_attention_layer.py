"""The layer of `attention`: five doors, masks and positions, oracles, errors, compilation."""

import copy
import re
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.layers.attention import Attention, PositionEncoding, doors
from posenc.layers.rope import Rope

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
both_paths = pytest.mark.parametrize("fused", [False, True])
integer_seeds = st.integers(0, 2**16)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Count(PositionEncoding):
    """Input door: the position is added to every coordinate."""

    def embed(self, x, positions):
        return x + 0.1 * positions.unsqueeze(-1).to(x.dtype)


class Turn(PositionEncoding):
    """Query/key door: pairs of coordinates turn with the position."""

    def rotate(self, q, k, q_positions, k_positions):
        return self.turn(q, q_positions), self.turn(k, k_positions)

    def turn(self, x, positions):
        angle = 0.3 * positions[..., None, :, None].to(x.dtype)
        a, b = x.chunk(2, dim=-1)
        c, s = angle.cos(), angle.sin()
        return torch.cat([a * c - b * s, a * s + b * c], dim=-1)


class Distance(PositionEncoding):
    """Logits door: far keys score less."""

    def bias(self, q, k, q_positions, k_positions):
        distance = (q_positions[..., :, None] - k_positions[..., None, :]).abs()
        return (-0.5 * distance).unsqueeze(-3).to(q.dtype)


class Salient(PositionEncoding):
    """Logits door: queries and keys have a say of their own."""

    def bias(self, q, k, q_positions, k_positions):
        return q.sum(-1).unsqueeze(-1) * k[..., 0].unsqueeze(-2)


class Window(PositionEncoding):
    """Logits door: keys farther than one token are forbidden."""

    def bias(self, q, k, q_positions, k_positions):
        distance = (q_positions[..., :, None] - k_positions[..., None, :]).abs()
        return torch.where(distance > 1, -torch.inf, 0.0).unsqueeze(-3)


class Fade(PositionEncoding):
    """Weights door: far keys count less."""

    def reweight(self, weights, q_positions, k_positions):
        distance = (q_positions[..., :, None] - k_positions[..., None, :]).abs()
        return weights / (1 + distance).unsqueeze(-3).to(weights.dtype)


class Tell(PositionEncoding):
    """Values door: values know how far they came."""

    def combine(self, weights, v, q_positions, k_positions):
        offset = (k_positions[..., None, :] - q_positions[..., :, None]).unsqueeze(-3)
        return weights @ v + (weights * offset.to(v.dtype)).sum(-1, keepdim=True)


class Everything(Count, Turn, Distance, Fade, Tell):
    """All doors at once."""

    scale = 0.25


class Unscaled(PositionEncoding):
    """No door, but another factor of the dot products."""

    scale = 1.0


ALL = [PositionEncoding, Count, Turn, Distance, Salient, Window, Fade, Tell, Everything, Unscaled]
FUSABLE = [PositionEncoding, Count, Turn, Distance, Salient, Window, Unscaled]


def twin(layer, **changes):
    """Layer with the same weights and other options."""
    options = {"encoding": layer.encoding, "causal": layer.causal, "first": layer.first} | changes
    other = Attention(layer.d_model, layer.n_heads, **options, dtype=layer.query.weight.dtype)
    other.load_state_dict(layer.state_dict())
    return other


def same(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


class Around(Distance):
    """Hands a door to another encoding."""

    embed = property(lambda self: Count().embed)


# --- doors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        (PositionEncoding, ()),
        (Unscaled, ()),
        (Count, ("input",)),
        (Turn, ("query/key",)),
        (Distance, ("logits",)),
        (Fade, ("weights",)),
        (Tell, ("values",)),
        (Everything, ("input", "query/key", "logits", "weights", "values")),
        (Around, ("logits",)),
    ],
)
def test_doors_are_the_overridden_methods(encoding, names):
    assert doors(encoding) == names


def formula(layer, x, positions, looks):
    """Output by loops over batch, head, query and key, with all five doors of `Everything`."""
    width = layer.d_model // layer.n_heads
    batch, n, _ = x.shape
    positions = positions.double()
    out = torch.zeros(batch, n, layer.d_model, dtype=x.dtype)
    for b in range(batch):
        x_b = x[b] + 0.1 * positions[b, :, None]
        Q, K, V = (m.weight @ x_b.T for m in (layer.query, layer.key, layer.value))
        for h in range(layer.n_heads):
            rows = slice(h * width, (h + 1) * width)
            half = width // 2

            def pairs(M, i, rows=rows, half=half, b=b):
                column = M[rows, i]
                z = torch.complex(column[:half], column[half:])
                return z * torch.exp(1j * 0.3 * positions[b, i])

            for i in range(n):
                seen = [j for j in range(n) if looks(b, i, j)]
                gaps = [int(positions[b, j] - positions[b, i]) for j in seen]
                scores = [
                    0.25 * (pairs(Q, i).conj() * pairs(K, j)).real.sum() - 0.5 * abs(gap)
                    for j, gap in zip(seen, gaps, strict=True)
                ]
                weights = torch.stack(scores).exp()
                weights = weights / weights.sum()
                for w, j, gap in zip(weights, seen, gaps, strict=True):
                    out[b, i, rows] += w / (1 + abs(gap)) * (V[rows, j] + gap)
    return out @ layer.output.weight.T


@torch.no_grad()
def test_all_five_doors_do_what_the_formula_says():
    layer = Attention(8, 2, Everything(), causal=True, dtype=torch.float64)
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 3, 11, 4, 8]])
    want = formula(layer, x, positions, lambda b, i, j: positions[b, j] <= positions[b, i])
    same(layer(x, positions), want, 1e-12)


@pytest.mark.parametrize("encoding", [Count, Turn, Distance, Salient, Window, Fade, Tell, Unscaled])
@torch.no_grad()
def test_every_door_changes_the_output(encoding):
    layer = Attention(8, 2, encoding())
    x = torch.randn(1, 5, 8)
    assert (layer(x) - twin(layer, encoding=None)(x)).abs().max() > 1e-3


@torch.no_grad()
def test_input_door_is_opened_by_the_first_layer_only():
    first, x = Attention(8, 2, Count()), torch.randn(1, 5, 8)
    later = twin(first, first=False)
    same(later(Count().embed(x, torch.arange(5))), first(x))
    same(later(x), twin(first, encoding=None)(x))
    same(later(x[:, :2], context=x), twin(first, encoding=None)(x[:, :2], context=x))


@torch.no_grad()
def test_context_passes_the_input_door_with_its_own_positions():
    layer = Attention(8, 2, Count())
    x, context, at = torch.randn(1, 2, 8), torch.randn(1, 4, 8), torch.tensor([3, 9, 5, 6])
    want = twin(layer, first=False)(
        Count().embed(x, torch.tensor([0, 1])), context=Count().embed(context, at)
    )
    same(layer(x, context=context, context_positions=at), want)


def test_a_shared_encoding_is_one_module():
    shared = Everything()
    layers = nn.ModuleList(Attention(8, 2, shared, first=n == 0) for n in range(2))
    assert layers[0].encoding is layers[1].encoding is shared


# --- masks and positions -----------------------------------------------------------------------


@both_paths
@torch.no_grad()
def test_positions_count_from_zero_by_default(fused):
    layer, x = Attention(8, 2, Distance(), causal=True, fused=fused), torch.randn(2, 5, 8)
    same(layer(x), layer(x, torch.arange(5)))
    same(layer(x), layer(x, torch.arange(5, dtype=torch.int32)))
    same(layer(x), layer(x, torch.arange(5).expand(2, 5)))
    same(layer(x), layer(x, torch.arange(-7, -2)))  # only differences count here
    context = {"context": x, "positions": torch.arange(5)}
    same(layer(x), layer(x, **context))
    same(layer(x), layer(x, **context, context_positions=torch.arange(5)))


@both_paths
@pytest.mark.parametrize("encoding", [PositionEncoding, Count, Turn, Distance])
@torch.no_grad()
def test_order_of_the_rows_does_not_matter_when_positions_come_along(encoding, fused):
    layer, x = Attention(8, 2, encoding(), causal=True, fused=fused), torch.randn(2, 6, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    same(layer(x[:, order], order), layer(x)[:, order])


@both_paths
@pytest.mark.parametrize("encoding", FUSABLE)
@torch.no_grad()
def test_decoding_step_by_step_equals_the_full_pass(encoding, fused):
    layer, x = Attention(8, 2, encoding(), causal=True, fused=fused), torch.randn(2, 6, 8)
    steps = [
        layer(x[:, t : t + 1], torch.tensor([t]), context=x[:, : t + 1]) for t in range(x.shape[1])
    ]
    same(torch.cat(steps, dim=1), layer(x))


@both_paths
@pytest.mark.parametrize("encoding", FUSABLE)
@torch.no_grad()
def test_left_padding_changes_nothing(encoding, fused):
    layer, x = Attention(8, 2, encoding(), causal=True, fused=fused), torch.randn(1, 4, 8)
    padded = torch.cat([torch.randn(1, 3, 8), x], dim=1)
    real = torch.arange(7) >= 3
    mask = real & real[:, None]
    got = layer(padded, torch.tensor([[0, 0, 0, 0, 1, 2, 3]]), mask=mask)
    same(got[:, 3:], layer(x))
    assert not got[:, :3].any()


@both_paths
@pytest.mark.parametrize("encoding", FUSABLE)
@torch.no_grad()
def test_packed_sequences_do_not_see_each_other(encoding, fused):
    layer = Attention(8, 2, encoding(), causal=True, fused=fused)
    a, b = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    document = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    positions = torch.tensor([0, 1, 2, 0, 1, 2, 3])
    got = layer(torch.cat([a, b], dim=1), positions, mask=document[:, None] == document)
    same(got, torch.cat([layer(a), layer(b)], dim=1))


@both_paths
@torch.no_grad()
def test_a_mask_of_size_one_is_stretched(fused):
    layer, x = Attention(8, 2, fused=fused), torch.randn(3, 4, 8)
    keys = torch.tensor([True, False, True, True])
    full = keys.expand(3, 4, 4)
    for mask in (keys[None], keys[None, None], keys.expand(4, 4), keys.expand(3, 1, 4)):
        same(layer(x, mask=mask), layer(x, mask=full))
    same(layer(x, mask=torch.ones(1, 1, dtype=torch.bool)), layer(x))
    same(layer(x, mask=full), layer(x, context=x[:, keys]))


@both_paths
@torch.no_grad()
def test_each_sequence_has_its_own_mask(fused):
    layer, x = Attention(8, 2, fused=fused), torch.randn(2, 3, 8)
    mask = torch.rand(2, 3, 3) < 0.5
    mask |= torch.eye(3, dtype=torch.bool)
    want = torch.cat([layer(x[b : b + 1], mask=mask[b]) for b in range(2)])
    same(layer(x, mask=mask), want)


@both_paths
@pytest.mark.parametrize("encoding", [None, Distance(), Window()])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_query_that_may_look_at_nothing_yields_zeros(encoding, dtype, fused):
    layer = Attention(8, 2, encoding, causal=True, fused=fused, dtype=dtype)
    x = torch.randn(2, 4, 8, dtype=dtype, requires_grad=True)
    mask = torch.tensor([[[False], [True], [True], [True]], [[True], [True], [False], [True]]])
    out = layer(x, mask=mask)
    assert not out[0, 0].any()
    assert not out[1, 2].any()
    assert out[0, 1:].all(dim=-1).all()
    assert out.isfinite().all()
    out.sum().backward()
    assert x.grad.isfinite().all()


@both_paths
@torch.no_grad()
def test_a_window_and_a_mask_can_leave_nothing_to_see(fused):
    """Neither alone blinds the query at 0, together they do."""
    layer, x = Attention(8, 2, Window(), fused=fused), torch.randn(1, 4, 8)
    out = layer(x, mask=torch.tensor([[False, False, True, True]]))
    assert not out[0, 0].any()
    assert out[0, 1:].all()


@both_paths
@torch.no_grad()
def test_blind_queries_get_the_bias_of_the_output_map(fused):
    layer = Attention(8, 2, fused=fused, bias=True)
    out = layer(torch.randn(1, 3, 8), mask=torch.zeros(3, 3, dtype=torch.bool))
    same(out, layer.output.bias.expand(1, 3, 8))


@both_paths
@torch.no_grad()
def test_a_query_before_all_of_its_context_sees_nothing(fused):
    layer, x = Attention(8, 2, causal=True, fused=fused), torch.randn(1, 3, 8)
    out = layer(x, torch.arange(3), context=x, context_positions=torch.arange(1, 4))
    assert not out[0, 0].any()
    assert out[0, 1:].all()


@given(integer_seeds, st.integers(1, 3), st.integers(1, 6), st.booleans())
@torch.no_grad()
def test_without_positions_and_mask_a_layer_is_equivariant(seed, batch, n, fused):
    torch.manual_seed(seed)
    layer = Attention(8, 2, fused=fused, dtype=torch.float64)
    x, order = torch.randn(batch, n, 8, dtype=torch.float64), torch.randperm(n)
    same(layer(x[:, order]), layer(x)[:, order], 1e-12)


@given(integer_seeds, st.integers(1, 6), st.sampled_from([Turn, Distance, Window, Fade, Tell]))
@torch.no_grad()
def test_relative_schemes_do_not_notice_a_shift(seed, n, encoding):
    torch.manual_seed(seed)
    layer = Attention(8, 2, encoding(), causal=True, dtype=torch.float64)
    x = torch.randn(1, n, 8, dtype=torch.float64)
    same(layer(x, torch.arange(n) + seed), layer(x), 1e-9)


# --- oracles -----------------------------------------------------------------------------------


@both_paths
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_layer_equals_multihead_attention(causal, fused):
    layer = Attention(12, 3, causal=causal, fused=fused, bias=True)
    peer = nn.MultiheadAttention(12, 3, batch_first=True)
    peer.in_proj_weight.copy_(torch.cat([m.weight for m in (layer.query, layer.key, layer.value)]))
    peer.in_proj_bias.copy_(torch.cat([m.bias for m in (layer.query, layer.key, layer.value)]))
    peer.out_proj.load_state_dict(layer.output.state_dict())
    x = torch.randn(2, 5, 12)
    forbidden = ~torch.ones(5, 5, dtype=torch.bool).tril() if causal else None
    same(layer(x), peer(x, x, x, attn_mask=forbidden)[0])


@torch.no_grad()
def test_cross_attention_equals_multihead_attention():
    layer = Attention(12, 3)
    peer = nn.MultiheadAttention(12, 3, batch_first=True, bias=False)
    peer.in_proj_weight.copy_(torch.cat([m.weight for m in (layer.query, layer.key, layer.value)]))
    peer.out_proj.load_state_dict(layer.output.state_dict())
    x, context = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    same(layer(x, context=context), peer(x, context, context)[0])


@pytest.mark.parametrize("encoding", FUSABLE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_equals_reference_with_its_gradients(encoding, causal, masked):
    layer = Attention(8, 2, encoding(), causal=causal, dtype=torch.float64)
    fused = twin(layer, fused=True)
    mask = (torch.rand(2, 5, 5) < 0.6) if masked else None
    outputs, gradients = [], []
    for one in (layer, fused):
        torch.manual_seed(1)
        x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
        outputs.append(one(x, mask=mask))
        outputs[-1].square().sum().backward()
        gradients.append(x.grad)
    same(*outputs, 1e-12)
    same(*gradients, 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("encoding", ALL)
@torch.no_grad()
def test_every_dtype_follows_float64(encoding, device, dtype):
    layer = Attention(16, 2, encoding(), causal=True, device=device, dtype=dtype)
    x = torch.randn(2, 6, 16, device=device).to(dtype)
    got = layer(x)
    assert got.dtype == dtype
    assert got.device.type == device
    tolerance = {torch.bfloat16: 0.04, torch.float16: 0.005}.get(dtype, 1e-5)
    same(got.double(), copy.deepcopy(layer).double()(x.double()), tolerance)


@torch.no_grad()
def test_half_precision_takes_a_bias_in_float32():
    class Precise(Distance):
        def bias(self, q, k, q_positions, k_positions):
            return super().bias(q.float(), k, q_positions, k_positions) * 1.001

    layer = Attention(16, 2, Precise(), dtype=torch.bfloat16)
    x = torch.randn(2, 6, 16, dtype=torch.bfloat16)
    assert layer(x).dtype == twin(layer, fused=True)(x).dtype == torch.bfloat16
    same(layer(x), twin(layer, fused=True)(x), 0.02)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_fused_is_one_call_of_scaled_dot_product_attention(fused, monkeypatch):
    calls, real = [], nn.functional.scaled_dot_product_attention

    def spy(q, k, v, mask, *, scale):
        calls.append((mask.dtype, scale))
        return real(q, k, v, mask, scale=scale)

    class Precise(Unscaled, Distance):
        def bias(self, q, k, q_positions, k_positions):
            return super().bias(q.float(), k, q_positions, k_positions)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", spy)
    Attention(8, 2, Precise(), fused=fused, dtype=torch.bfloat16)(torch.randn(1, 3, 8).bfloat16())
    assert calls == ([(torch.bfloat16, 1.0)] if fused else [])


class Short(Distance):
    """A scheme that says how it was asked to do the whole attention."""

    asked = None

    def attend(self, q, k, v, scale, causal):
        self.asked = scale, causal
        return torch.zeros_like(v)


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_a_shorter_way_is_taken_where_positions_are_the_default(causal):
    encoding, x = Short(), torch.randn(1, 3, 8)
    assert not Attention(8, 2, encoding, causal=causal, fused=True)(x).any()
    assert encoding.asked == (0.5, causal)
    assert doors(Short) == ("logits",)


@pytest.mark.parametrize("given", ["positions", "context", "mask", "not fused"])
@torch.no_grad()
def test_positions_context_and_mask_go_through_the_doors(given):
    encoding, x = Short(), torch.randn(1, 3, 8)
    tensors = {"positions": torch.arange(3), "context": x, "mask": torch.ones(3, 3).bool()}
    arguments = {name: value for name, value in tensors.items() if name == given}
    layer = Attention(8, 2, encoding, fused=given != "not fused")
    same(layer(x, **arguments), twin(layer, encoding=Distance())(x))
    assert encoding.asked is None


@both_paths
def test_autocast_takes_what_it_casts(fused):
    layer = Attention(8, 2, Distance(), causal=True, fused=fused)
    x = torch.randn(2, 5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, high = layer(x.bfloat16()), layer(x)
    assert low.dtype == high.dtype == torch.bfloat16
    same(high.float(), layer(x), 0.03)


# --- modules -----------------------------------------------------------------------------------


@torch.no_grad()
def test_weights_survive_a_round_trip():
    class Learned(Everything):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(9, 8))

        def embed(self, x, positions):
            return x + self.table[positions]

    layer, other, x = Attention(8, 2, Learned()), Attention(8, 2, Learned()), torch.randn(1, 5, 8)
    assert "encoding.table" in layer.state_dict()
    assert not torch.equal(layer(x), other(x))
    assert str(other.load_state_dict(layer.state_dict())) == "<All keys matched successfully>"
    assert torch.equal(layer(x), other(x))
    assert torch.equal(layer(x), copy.deepcopy(layer)(x))


def test_everything_is_made_on_the_device_of_the_layer():
    class Seen(PositionEncoding):
        def embed(self, x, positions):
            self.devices = x.device.type, positions.device.type
            return x

    layer = Attention(4, 2, Seen(), causal=True, device="meta")
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert layer(torch.zeros(1, 3, 4, device="meta")).device.type == "meta"
    assert layer.encoding.devices == ("meta", "meta")


def test_a_layer_without_bias_has_four_matrices():
    sizes = {name: tuple(p.shape) for name, p in Attention(6, 3).named_parameters()}
    names = ("query", "key", "value", "output")
    assert sizes == {f"{name}.weight": (6, 6) for name in names}
    assert Attention(6, 3, bias=True).output.bias.shape == (6,)


@pytest.mark.parametrize(
    ("encoding", "fused"), [(Everything, False), (Distance, True), (PositionEncoding, True)]
)
def test_layer_compiles_to_one_graph(encoding, fused):
    torch.compiler.reset()
    layer = Attention(8, 2, encoding(), causal=True, fused=fused)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, mask = torch.randn(2, 5, 8), torch.rand(2, 5, 5) < 0.5
    positions = torch.tensor([[0, 1, 2, 3, 4], [5, 3, 8, 4, 2]])
    same(compiled(x), layer(x))
    same(compiled(x, positions, mask=mask), layer(x, positions, mask=mask))
    step = {"positions": torch.tensor([4]), "context": x, "context_positions": positions}
    same(compiled(x[:, -1:], **step), layer(x[:, -1:], **step))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(
    "given",
    [
        lambda x, n: {"positions": torch.arange(n)},
        lambda x, n: {"positions": torch.arange(n).repeat(2, 1)},
        lambda x, n: {"positions": 5 - n + torch.arange(n), "context": x},
        lambda x, n: {"mask": torch.ones(n, n, dtype=torch.bool)},
    ],
    ids=["positions", "positions of each text", "context", "mask"],
)
def test_a_compiled_layer_takes_another_length_with_other_arguments(given, n):
    """By then the length of `x` is a symbol, and the sizes of what is new are numbers."""
    torch.compiler.reset()
    layer, x = Attention(8, 2, Rope(4)), torch.randn(2, 5, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    same(compiled(x), layer(x), 1e-6)
    same(compiled(x[:, :n], **given(x, n)), layer(x[:, :n], **given(x, n)), 1e-6)
    same(compiled(x[:, :4], **given(x, 4)), layer(x[:, :4], **given(x, 4)), 1e-6)


def test_a_compiled_rotation_takes_another_length_with_positions():
    torch.compiler.reset()
    layer, x = Rope(4), torch.randn(2, 2, 5, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    same(compiled(x), layer(x), 1e-6)
    for n in (2, 4):
        same(compiled(x[:, :, :n], torch.arange(n)), layer(x[:, :, :n]), 1e-6)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
@torch.no_grad()
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = Attention(8, 2, Everything(), causal=True, device=device)
    x, mask = torch.randn(2, 5, 8, device=device), torch.rand(2, 5, 5, device=device) < 0.5
    compiled = torch.compile(layer, fullgraph=True)
    same(compiled(x, mask=mask), layer(x, mask=mask), 1e-5)


def test_a_compiled_layer_refuses_the_same_input():
    torch.compiler.reset()
    compiled = torch.compile(Attention(8, 2), backend="eager")
    with pytest.raises(TypeError, match=r"^positions must be int64 or int32, got torch.float32$"):
        compiled(torch.randn(1, 2, 8), torch.arange(2.0))


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype.claw import beartype_package
beartype_package("posenc")
for name in ("posenc.equations.attention", "posenc.layers.attention"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 20 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- errors ------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 4)


def layer(*args, **kwargs):
    return Attention(4, 2, causal=True)(*args, **kwargs)


TYPE_ERRORS = {
    "d_model must be an integer, got 4.0": lambda: Attention(4.0, 2),
    "d_model must be an integer, got True": lambda: Attention(True, 1),
    "n_heads must be an integer, got '2'": lambda: Attention(4, "2"),
    "encoding must be a class of PositionEncoding, got <class 'NoneType'>": lambda: doors(
        type(None)
    ),
    "encoding must be a PositionEncoding, got Identity()": lambda: Attention(4, 2, nn.Identity()),
    "encoding must be a PositionEncoding, got <class 'test_attention_layer.Turn'>": lambda: (
        Attention(4, 2, Turn)
    ),
    "encoding must be a class of PositionEncoding, got 'rope'": lambda: doors("rope"),
    "encoding must be a class of PositionEncoding, got <class 'int'>": lambda: doors(int),
    "x must have the layer's dtype torch.float32, got torch.float64": lambda: layer(X.double()),
    "x must have the layer's dtype torch.float32, got torch.int64": lambda: layer(X.long()),
    "x must have the layer's dtype torch.float32, got torch.bfloat16": lambda: layer(X.bfloat16()),
    "context must have the layer's dtype torch.float32, got torch.float16": lambda: layer(
        X, torch.arange(3), context=X.half()
    ),
    "positions must be int64 or int32, got torch.float32": lambda: layer(X, torch.arange(3.0)),
    "positions must be int64 or int32, got torch.bool": lambda: layer(X, torch.arange(3) > 1),
    "positions must be int64 or int32, got torch.int16": lambda: layer(X, torch.arange(3).short()),
    "positions must be int64 or int32, got torch.uint8": lambda: layer(X, torch.arange(3).byte()),
    "context_positions must be int64 or int32, got torch.float64": lambda: layer(
        X, torch.arange(3), context=X, context_positions=torch.arange(3).double()
    ),
    "mask must be torch.bool, got torch.float32": lambda: layer(X, mask=torch.ones(3, 3)),
}

VALUE_ERRORS = {
    "d_model must be at least 1, got 0": lambda: Attention(0, 1),
    "n_heads must be at least 1, got -1": lambda: Attention(4, -1),
    "n_heads must be at least 1, got 0": lambda: Attention(4, 0),
    "d_model must be a multiple of n_heads = 3, got 4": lambda: Attention(4, 3),
    "fused must be False for Fade, which opens weights, got True": lambda: Attention(
        4, 2, Fade(), fused=True
    ),
    "fused must be False for Everything, which opens values and weights, got True": lambda: (
        Attention(4, 2, Everything(), fused=True)
    ),
    "x must have shape (batch, n >= 1, 4), got (3, 4)": lambda: layer(X[0]),
    "x must have shape (batch, n >= 1, 4), got (1, 2, 3, 4)": lambda: layer(X[None]),
    "x must have shape (batch, n >= 1, 4), got (2, 0, 4)": lambda: layer(X[:, :0]),
    "x must have shape (batch, n >= 1, 4), got (2, 3, 2)": lambda: layer(X[..., :2]),
    "x must be on device cpu, got meta": lambda: layer(X.to("meta")),
    "context must have shape (2, n >= 1, 4), got (1, 3, 4)": lambda: layer(
        X, torch.arange(3), context=X[:1]
    ),
    "context must have shape (2, n >= 1, 4), got (2, 0, 4)": lambda: layer(
        X, torch.arange(3), context=X[:, :0]
    ),
    "context must have shape (2, n >= 1, 4), got (3, 4)": lambda: layer(
        X, torch.arange(3), context=X[0]
    ),
    "context must be on device cpu, got meta": lambda: layer(
        X, torch.arange(3), context=X.to("meta")
    ),
    "context must be given with context_positions, got None": lambda: layer(
        X, context_positions=torch.arange(3)
    ),
    "positions must be given with context if causal, got None": lambda: layer(X, context=X),
    "positions must have shape (3,) or (2, 3), got ()": lambda: layer(X, torch.tensor(0)),
    "positions must have shape (3,) or (2, 3), got (4,)": lambda: layer(X, torch.arange(4)),
    "positions must have shape (3,) or (2, 3), got (1, 3)": lambda: layer(X, torch.arange(3)[None]),
    "positions must have shape (3,) or (2, 3), got (2, 3, 1)": lambda: layer(
        X, torch.zeros(2, 3, 1, dtype=torch.int64)
    ),
    "positions must be on device cpu, got meta": lambda: layer(X, torch.arange(3, device="meta")),
    "context_positions must have shape (5,) or (2, 5), got (3,)": lambda: layer(
        X, torch.arange(3), context=torch.zeros(2, 5, 4), context_positions=torch.arange(3)
    ),
    "context_positions must be on device cpu, got meta": lambda: layer(
        X, torch.arange(3), context=X, context_positions=torch.arange(3, device="meta")
    ),
    "mask must broadcast to (2, 3, 3), got shape (3,)": lambda: layer(X, mask=X[0, :, 0] == 0),
    "mask must broadcast to (2, 3, 3), got shape (2, 1, 3, 3)": lambda: layer(
        X, mask=torch.ones(2, 1, 3, 3, dtype=torch.bool)
    ),
    "mask must broadcast to (2, 3, 3), got shape (3, 2)": lambda: layer(X, mask=X[0, :, :2] == 0),
    "mask must broadcast to (2, 3, 3), got shape (2, 3)": lambda: layer(X, mask=X[:, :, 0] == 0),
    "mask must broadcast to (2, 3, 3), got shape (3, 3, 3)": lambda: layer(
        X, mask=torch.ones(3, 3, 3, dtype=torch.bool)
    ),
    "mask must broadcast to (2, 3, 5), got shape (3, 3)": lambda: layer(
        X, torch.arange(3), context=torch.zeros(2, 5, 4), mask=X[0, :, :3] == 0
    ),
    "mask must be on device cpu, got meta": lambda: layer(
        X, mask=torch.ones(3, 3, dtype=torch.bool, device="meta")
    ),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_size_or_device_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
