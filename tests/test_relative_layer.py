"""The tool for layers and untied positions: equation, positions, training, casts, errors."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from posenc.equations import relative as equations
from posenc.layers.attention import Attention, PositionEncoding, doors
from posenc.layers.relative import Tupe, offsets, score_terms
from posenc.layers.rope import Rope

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 0.08, torch.float16: 0.01}
OPTIONS = [{}, {"class_token": True}, {"max_distance": 2}, {"class_token": True, "max_distance": 2}]
by_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def made(n_positions=9, d_model=8, n_heads=2, **options):
    """A layer all of whose numbers are random."""
    layer = Tupe(n_positions, d_model, n_heads, **options)
    for numbers in (layer.theta, layer.relative):
        if numbers is not None:
            nn.init.normal_(numbers)
    return layer


def zeros(n_q, n_k, batch=1, heads=2, d_head=4, dtype=torch.float32):
    return (torch.zeros(batch, heads, n, d_head, dtype=dtype) for n in (n_q, n_k))


# --- the offset --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_offsets_equal_the_equation(dtype):
    got = offsets(torch.arange(2, 5, dtype=dtype), torch.arange(6, dtype=dtype))
    assert torch.equal(got, torch.from_numpy(equations.offsets(3, 6, start=2)).to(dtype))
    assert got.dtype == dtype


def test_each_row_of_a_batch_has_its_own_offsets():
    q_at, k_at = torch.tensor([[0, 5], [-3, 2]]), torch.tensor([[1, 2, 9], [0, 0, -1]])
    rows = torch.stack([offsets(q, k) for q, k in zip(q_at, k_at, strict=True)])
    assert torch.equal(offsets(q_at, k_at), rows)
    assert torch.equal(offsets(q_at[0], k_at), torch.stack([offsets(q_at[0], k) for k in k_at]))


# --- the four terms ----------------------------------------------------------------------------


class Everything(PositionEncoding):
    """Turns, asks for an offset, answers with a place, and adds a number."""

    scale = 0.25

    def rotate(self, q, k, q_positions, k_positions):
        return Rope(4).rotate(q, k, q_positions, k_positions)

    def bias(self, q, k, q_positions, k_positions):
        t = offsets(q_positions, k_positions).to(q.dtype).unsqueeze(-3)
        j = k_positions.to(q.dtype).unsqueeze(-2).unsqueeze(-2)
        return q.sum(-1).unsqueeze(-1) * t + k.sum(-1).unsqueeze(-2) * j + 7 * t


@pytest.mark.parametrize("encoding", [PositionEncoding(), Rope(4), Everything(), made()])
def test_the_terms_of_a_layer_equal_the_equation(encoding):
    encoding = encoding.double()
    q, k = torch.randn(2, 1, 2, 5, 4, dtype=torch.float64)
    i, j = torch.arange(1, 6), torch.arange(5)
    got = score_terms(encoding, q, k, i, j).detach()
    scale = 0.5 if encoding.scale is None else encoding.scale

    def score(q, k, head):
        pair = (torch.from_numpy(np.stack([x] * 2))[None] for x in (q, k))
        turned = encoding.rotate(*pair, i, j)
        bias = encoding.bias(*turned, i, j)
        e = scale * turned[0] @ turned[1].mT + (0 if bias is None else bias)
        return e[0, head].detach().numpy()

    for h in range(2):
        want = equations.score_terms(
            lambda q, k, h=h: score(q, k, h), q[0, h].numpy(), k[0, h].numpy()
        )
        same(got[:, 0, h], torch.from_numpy(want), 1e-12)


def test_the_terms_add_up_to_the_logits_of_the_attention_layer():
    seen = []

    class Spy(Everything):
        def reweight(self, weights, q_positions, k_positions):
            seen.append(weights)
            return weights

    layer, x, at = Attention(8, 2, Spy()), torch.randn(2, 5, 8), torch.randint(0, 9, (2, 5))
    layer(x, at)
    q, k = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (layer.query, layer.key))
    terms = score_terms(Spy(), q, k, at, at)
    assert terms.shape == (4, 2, 2, 5, 5)
    same(terms.sum(0).softmax(-1), seen[0], 1e-6)


# --- untied positions --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@by_option
def test_the_term_is_the_equation_in_every_head(options, dtype):
    layer = made(**options, dtype=dtype)
    at = torch.tensor([0, 1, 5, 8])
    got = layer.correlation(at, at)
    assert got.dtype == dtype
    p = layer.weight.detach().double().numpy()[at]
    for h in range(2):
        rows = slice(4 * h, 4 * h + 4)
        u_q, u_k = (m.weight[rows].detach().double().numpy().T for m in (layer.query, layer.key))
        want = equations.tupe_logits(0 * p, p, u_q, u_k, u_q, u_k)
        if layer.relative is not None:
            clipped = np.clip(at.numpy() - at.numpy()[:, None], -2, 2) + 2
            want = want + layer.relative[h].detach().double().numpy()[clipped]
        if layer.theta is not None:
            want[:, 0], want[0] = layer.theta[1, h].item(), layer.theta[0, h].item()
        same(got[h].detach().double(), torch.from_numpy(want), ROUNDING[dtype])


@by_option
def test_queries_and_keys_may_stand_anywhere(options):
    layer = made(**options)
    whole = layer.correlation(torch.arange(9), torch.arange(9))
    i, j = torch.tensor([3, 0, 8]), torch.tensor([7, 0])
    same(layer.correlation(i, j), whole[:, i][..., j], 1e-5)
    same(layer.correlation(i.int(), j.int()), layer.correlation(i, j), 0)
    rows = torch.stack([i, i.flip(0)])
    got = layer.correlation(rows, j)
    same(got, torch.stack([layer.correlation(row, j) for row in rows]), 1e-5)
    same(layer.correlation(j, rows)[1], layer.correlation(j, rows[1]), 1e-5)


def test_the_bias_is_the_term_and_does_not_look_at_content():
    layer, i, j = made(class_token=True), torch.arange(3), torch.arange(5)
    q, k = zeros(3, 5)
    same(layer.bias(q, k, i, j), layer.correlation(i, j), 0)
    same(layer.bias(q + 1, k - 1, i, j), layer.correlation(i, j), 0)


def test_content_is_scaled_by_the_root_of_twice_the_width():
    assert Tupe(2, 12, 3).scale == 1 / math.sqrt(8)
    assert Tupe(2, 12, 12).scale == 1 / math.sqrt(2)


def test_only_the_logits_door_is_open():
    assert doors(Tupe) == ("logits",)


def test_fused_attention_gives_the_same():
    layer, x = made(class_token=True), torch.randn(2, 6, 8)
    plain, fused = Attention(8, 2, layer), Attention(8, 2, layer, fused=True)
    fused.load_state_dict(plain.state_dict())
    same(fused(x), plain(x), 1e-6)


def test_the_first_number_of_the_class_token_gets_no_gradient_and_the_second_does():
    layer = made(class_token=True).double()
    attention = Attention(8, 2, layer).double()
    attention(torch.randn(3, 6, 8, dtype=torch.float64)).pow(2).sum().backward()
    assert layer.theta.grad[0].abs().max() < 1e-12
    assert layer.theta.grad[1].abs().min() > 1e-4
    assert all(p.grad.abs().max() > 1e-4 for p in (layer.weight, layer.query.weight))


def test_offsets_beyond_the_last_share_its_number():
    layer = made(20, max_distance=2)
    layer.weight.data.zero_()
    got = layer.correlation(torch.tensor([10]), torch.arange(20))[:, 0]
    same(got[:, :8], layer.relative[:, :1].expand(2, 8), 0)
    same(got[:, 8:13], layer.relative[:, :5], 0)
    same(got[:, 13:], layer.relative[:, -1:].expand(2, 7), 0)


# --- the module --------------------------------------------------------------------------------


def test_a_checkpoint_holds_what_was_trained_and_nothing_else():
    names = ["weight", "query.weight", "key.weight"]
    assert sorted(Tupe(9, 8, 2).state_dict()) == sorted(names)
    layer = made(class_token=True, max_distance=2)
    assert sorted(layer.state_dict()) == sorted([*names, "theta", "relative"])
    assert layer.relative.shape == (2, 5)
    assert layer.theta.shape == (2, 2)
    other, at = made(class_token=True, max_distance=2), torch.arange(9)
    assert (other.correlation(at, at) != layer.correlation(at, at)).any()
    other.load_state_dict(layer.state_dict())
    same(other.correlation(at, at), layer.correlation(at, at), 0)
    same(copy.deepcopy(layer).correlation(at, at), layer.correlation(at, at), 0)


def test_first_values_are_normal_rows_and_no_preference():
    layer = Tupe(200, 64, 4, class_token=True, max_distance=3)
    assert layer.weight.std().item() == pytest.approx(1, rel=0.05)
    assert Tupe(200, 64, 4, std=0.02).weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.theta.any()
    assert not layer.relative.any()


def test_a_layer_is_built_without_memory_and_filled_later():
    layer = Tupe(9, 8, 2, class_token=True, max_distance=2, device="meta")
    at = torch.arange(3, device="meta")
    assert layer.correlation(at, at).device.type == "meta"
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer.correlation(torch.arange(2), torch.arange(2)).isfinite().all()
    assert not layer.relative.any()
    assert layer.query.weight.abs().max() < 1


def test_a_cast_model_works_in_bfloat16():
    layer = Attention(8, 2, made(class_token=True, max_distance=2)).to(torch.bfloat16)
    out = layer(torch.randn(1, 4, 8, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


@by_option
def test_layer_compiles_to_one_graph(options):
    torch.compiler.reset()
    layer, x = Attention(8, 2, made(**options)), torch.randn(2, 6, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    same(compiled(x), layer(x), 1e-6)
    positions = torch.randint(0, 9, (2, 6))
    same(compiled(x, positions), layer(x, positions), 1e-6)


# --- errors ------------------------------------------------------------------------------------


def biased(q=None, k=None, i=None, j=None):
    q_0, k_0 = zeros(3, 3)
    at = torch.arange(3)
    pairs = zip((q, k, i, j), (q_0, k_0, at, at), strict=True)
    return made().bias(*(given if given is not None else default for given, default in pairs))


ERRORS = {
    "n_positions must be an integer, got 2.0": lambda: Tupe(2.0, 8, 2),
    "n_positions must be at least 1, got 0": lambda: Tupe(0, 8, 2),
    "d_model must be at least 1, got 0": lambda: Tupe(9, 0, 2),
    "n_heads must be at least 1, got 0": lambda: Tupe(9, 8, 0),
    "d_model must be a multiple of n_heads = 3, got 8": lambda: Tupe(9, 8, 3),
    "max_distance must be at least 1, got 0": lambda: Tupe(9, 8, 2, max_distance=0),
    "std must be above 0, got 0": lambda: Tupe(9, 8, 2, std=0),
    "q must have shape (batch, heads, n >= 1, 4), got (1, 2, 3, 5)": lambda: biased(
        torch.zeros(1, 2, 3, 5)
    ),
    "k must have n_heads = 2, got 1": lambda: biased(k=torch.zeros(1, 1, 3, 4)),
    "q must have a floating dtype, got torch.int64": lambda: biased(
        torch.zeros(1, 2, 3, 4, dtype=torch.int64)
    ),
    "q_positions must have shape (3,) or (1, 3), got (2,)": lambda: biased(i=torch.arange(2)),
    "k_positions must be int64 or int32, got torch.float32": lambda: biased(j=torch.zeros(3)),
    "q_positions must be int64 or int32, got torch.float32": lambda: offsets(
        torch.zeros(3), torch.arange(3)
    ),
    "k_positions must be int64 or int32, got torch.int16": lambda: offsets(
        torch.arange(3), torch.arange(3, dtype=torch.int16)
    ),
    "q_positions must be between 0 and 8, got -1": lambda: biased(i=torch.tensor([0, -1, 2])),
    "k_positions must be between 0 and 8, got 9": lambda: biased(j=torch.tensor([9, 10, 2])),
    "encoding must be a PositionEncoding, got 'rope'": lambda: score_terms(
        "rope", *zeros(3, 3), torch.arange(3), torch.arange(3)
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_a_wrong_argument_is_named(message):
    with pytest.raises((TypeError, ValueError, IndexError), match=f"^{re.escape(message)}$"):
        ERRORS[message]()
