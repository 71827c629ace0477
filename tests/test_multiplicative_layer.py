"""The layers of `multiplicative`: equation, positions, dtypes, training, casts, errors."""

import copy
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.equations.multiplicative import factors
from posenc.layers.attention import Attention, doors
from posenc.layers.multiplicative import Multiplicative, MultiplicativeSinusoidal

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
HALF_ULP = {  # relative
    torch.float64: 1e-12,
    torch.float32: 2**-24,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", HALF_ULP, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def learned(d=8, n=12, device="cpu"):
    """A layer as after some training."""
    layer = Multiplicative(d, n)
    nn.init.normal_(layer.deviation)
    return layer.to(device)


def both():
    return [learned(), MultiplicativeSinusoidal(8)]


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize(("centre", "gain"), [(0.0, 1.0), (1.0, 0.5), (-2.0, 3.0)])
def test_factors_are_the_equation_rounded_once(centre, gain, layout, dtype, device):
    at = torch.tensor([0, 1, 2, 77, 10_000, -3], device=device)
    x = torch.randn(2, 6, 7, device=device).to(dtype)
    layer = MultiplicativeSinusoidal(7, 500.0, centre=centre, gain=gain, layout=layout)
    got = layer.embed(x, at)
    assert got.dtype == dtype
    p = factors(at.cpu().numpy(), 7, 500.0, centre=centre, gain=gain, layout=layout)
    want = x.double().cpu() * torch.tensor(p)
    roundings = 3 if dtype == torch.float32 else 1.01  # factor and product, or the last one
    torch.testing.assert_close(
        got.double().cpu(), want, rtol=roundings * HALF_ULP[dtype], atol=1e-7
    )


@by_device
@by_dtype
def test_the_learned_layer_multiplies_by_one_plus_its_row(dtype, device):
    layer = learned(device=device).to(dtype)
    x, at = torch.randn(2, 5, 8, device=device).to(dtype), torch.tensor([3, 0, 11, 3, 7])
    got = layer.embed(x, at.to(device))
    assert got.dtype == dtype
    rows = [1 + layer.deviation[k].double() for k in at]
    want = torch.stack([x[:, i].double() * row for i, row in enumerate(rows)], dim=1)
    roundings = 3 if dtype == torch.float32 else 1.01
    tolerance = roundings * HALF_ULP[dtype]
    torch.testing.assert_close(
        got.double(), want, rtol=tolerance, atol=1e-6 * (dtype != torch.float64)
    )


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=4), st.integers(1, 20))
def test_far_positions_keep_their_float32_digits(positions, d):
    layer = MultiplicativeSinusoidal(d)
    got = layer(torch.ones(1, len(positions), d), torch.tensor(positions))[0]
    want = factors(positions, d, centre=1, gain=0.5)
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-7)


def test_a_factor_near_zero_keeps_its_digits():
    """1 + sin 11 is 1e-5: in float32 the sum would lose three digits."""
    got = MultiplicativeSinusoidal(2, gain=1.0)(torch.ones(1, 1, 2), torch.tensor([11]))[0, 0, 0]
    assert got.item() == pytest.approx(1 + np.sin(11.0), rel=1e-6)


def test_the_product_is_not_made_in_bfloat16():
    """Rounding the factor 1.4207 first would lose a digit: 2.5 times it is 3.5518."""
    x, factor = torch.full((1, 1, 1), 2.5).bfloat16(), torch.tensor(1 + np.sin(1.0) / 2)
    assert MultiplicativeSinusoidal(1)(x, torch.tensor([1])).item() == 3.546875
    assert (x * factor.bfloat16()).item() == 3.5625


# --- positions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", both(), ids=lambda layer: type(layer).__name__)
def test_positions_start_at_zero_unless_said_otherwise(layer):
    x = torch.randn(2, 5, 8)
    same(layer(x), layer(x, torch.arange(5)))
    same(layer(x), layer.embed(x, torch.arange(5, dtype=torch.int32)))


@pytest.mark.parametrize("layer", both(), ids=lambda layer: type(layer).__name__)
def test_every_row_may_have_its_own_positions(layer):
    x, at = torch.randn(2, 4, 8), torch.tensor([[0, 0, 1, 2], [5, 6, 7, 8]])
    got = layer(x, at)
    for row in range(2):
        same(got[row], layer(x[row : row + 1], at[row])[0])


@pytest.mark.parametrize("layer", both(), ids=lambda layer: type(layer).__name__)
def test_a_decoder_continues_at_its_own_position(layer):
    x = torch.randn(2, 10, 8)
    steps = [layer(x[:, k : k + 1], torch.tensor([k])) for k in range(10)]
    same(torch.cat(steps, dim=1), layer(x))


@pytest.mark.parametrize("layer", both(), ids=lambda layer: type(layer).__name__)
def test_a_token_of_zeros_stays_one(layer):
    assert not layer(torch.zeros(1, 6, 8)).any()


@pytest.mark.parametrize("position", [12, -1])
def test_a_learned_layer_has_no_other_positions(position):
    with pytest.raises(IndexError):
        learned()(torch.ones(1, 1, 8), torch.tensor([position]))


def test_the_last_position_is_there():
    layer = learned()
    same(layer(torch.ones(1, 12, 8))[0, 11], 1 + layer.deviation[11])


@pytest.mark.parametrize("kind", [Multiplicative, MultiplicativeSinusoidal])
def test_they_open_the_input_door_alone(kind):
    assert doors(kind) == ("input",)


@pytest.mark.parametrize("layer", both(), ids=lambda layer: type(layer).__name__)
def test_attention_multiplies_the_tokens_of_the_first_layer(layer):
    x, attention, plain = torch.randn(2, 5, 8), Attention(8, 2, layer), Attention(8, 2)
    plain.load_state_dict(
        {k: v for k, v in attention.state_dict().items() if not k.startswith("encoding")}
    )
    same(attention(x), plain(layer(x)))


# --- training ----------------------------------------------------------------------------------


def test_a_new_layer_does_nothing():
    x = torch.randn(2, 5, 8)
    same(Multiplicative(8, 5)(x), x)


def test_the_gradient_of_a_row_is_token_times_gradient():
    layer, x, g = learned(), torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    layer(x, torch.tensor([4, 9, 4])).backward(g)
    want = torch.zeros(12, 8)
    want[4] = (x * g)[:, [0, 2]].sum((0, 1))
    want[9] = (x * g)[:, 1].sum(0)
    same(layer.deviation.grad, want, 1e-6)


def test_the_gradient_of_a_token_is_scaled_by_its_factors():
    x, g = torch.randn(1, 4, 8, requires_grad=True), torch.randn(1, 4, 8)
    MultiplicativeSinusoidal(8, centre=0, gain=1)(x).backward(g)
    same(x.grad, g * torch.tensor(factors(np.arange(4), 8)).float())
    assert not x.grad[0, 0, ::2].any()


def test_weight_decay_leads_back_to_the_token():
    layer, x = learned(), torch.randn(1, 12, 8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, weight_decay=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        (0 * layer(x)).sum().backward()
        optimizer.step()
    same(layer(x), x, 1e-6)


def test_only_the_learned_layer_has_something_to_train():
    assert [name for name, _ in learned().named_parameters()] == ["deviation"]
    assert not list(MultiplicativeSinusoidal(8).parameters())
    assert MultiplicativeSinusoidal(8).state_dict() == {}


# --- casts and copies --------------------------------------------------------------------------

TREATMENTS = {
    "bfloat16": lambda layer: layer.to(torch.bfloat16),
    "half and back": lambda layer: layer.half().float(),
    "cast inside a model": lambda layer: nn.Sequential(layer).half()[0],
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "meta and empty": lambda layer: layer.to("meta").to_empty(device="cpu"),
}


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_formula_survives(treatment):
    x, at = torch.ones(1, 2, 64), torch.tensor([4097, 10**7])
    got = TREATMENTS[treatment](MultiplicativeSinusoidal(64))(x, at)
    same(got, MultiplicativeSinusoidal(64)(x, at))


def test_the_learned_table_survives_a_state_dict():
    layer, x = learned(), torch.randn(2, 5, 8)
    other = Multiplicative(8, 12)
    other.load_state_dict(layer.state_dict())
    same(other(x), layer(x))
    same(copy.deepcopy(layer)(x), layer(x))


def test_a_layer_made_on_the_meta_device_can_be_filled():
    with torch.device("meta"):
        layer = Multiplicative(8, 5)
    layer.to_empty(device="cpu").reset_parameters()
    same(layer(torch.ones(1, 5, 8)), torch.ones(1, 5, 8))


def test_a_bfloat16_layer_takes_float32_tokens():
    x = torch.randn(1, 3, 8)
    assert learned().bfloat16()(x).dtype == torch.float32


@pytest.mark.parametrize("kind", ["learned", "formula"])
def test_shapes_are_known_without_numbers(kind):
    layer = Multiplicative(8, 4) if kind == "learned" else MultiplicativeSinusoidal(8)
    x = torch.zeros(2, 3, 8, device="meta", dtype=torch.float16)
    out = layer.to("meta")(x)
    assert (out.shape, out.dtype, out.device.type) == (x.shape, torch.float16, "meta")


# --- compilation -------------------------------------------------------------------------------


@by_dtype
@pytest.mark.parametrize("layer", both(), ids=lambda layer: type(layer).__name__)
def test_a_compiled_layer_is_one_graph(layer, dtype):
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, at = torch.randn(2, 5, 8).to(dtype), torch.tensor([[0, 1, 2, 3, 4], [9, 9, 11, 0, 1]])
    same(compiled(x), layer(x))
    same(compiled(x, at), layer(x, at))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = MultiplicativeSinusoidal(8)
    x, at = torch.randn(2, 3, 8, device=device), torch.tensor([0, 4096, -5], device=device)
    same(torch.compile(layer, fullgraph=True)(x, at), layer(x, at), 2e-6)


# --- errors ------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 4)
BOTH = [Multiplicative(4, 3), MultiplicativeSinusoidal(4)]

CALLS = {
    "x must have a floating dtype, got torch.int64": lambda layer: layer(X.long()),
    "positions must be int64 or int32, got torch.float32": lambda layer: layer(
        X, torch.arange(3.0)
    ),
    "x must have shape (batch, n >= 1, 4), got (3, 4)": lambda layer: layer(X[0]),
    "x must have shape (batch, n >= 1, 4), got (2, 3, 1)": lambda layer: layer.embed(
        X[..., :1], torch.arange(3)
    ),
    "positions must have shape (3,) or (2, 3), got (4,)": lambda layer: layer(X, torch.arange(4)),
    "positions must be on device cpu, got meta": lambda layer: layer(
        X, torch.arange(3, device="meta")
    ),
}

CONSTRUCTORS = {
    "d_model must be an integer, got 4.0": lambda: Multiplicative(4.0, 3),
    "n_positions must be an integer, got True": lambda: Multiplicative(4, True),
    "d_model must be at least 1, got 0": lambda: Multiplicative(0, 3),
    "n_positions must be at least 1, got -2": lambda: Multiplicative(4, -2),
    "d_model must be an integer, got '4'": lambda: MultiplicativeSinusoidal("4"),
    "base must be above 1, got 1": lambda: MultiplicativeSinusoidal(4, 1),
    "centre must be finite, got nan": lambda: MultiplicativeSinusoidal(4, centre=float("nan")),
    "gain must hold real numbers, got dtype bool": lambda: MultiplicativeSinusoidal(4, gain=True),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: MultiplicativeSinusoidal(
        4, layout="x"
    ),
    "x must have at most 3 tokens if there are no positions, got 4": lambda: BOTH[0](
        torch.zeros(1, 4, 4)
    ),
    "x must be on device cpu, got meta": lambda: BOTH[0](X.to("meta")),
}


@pytest.mark.parametrize("layer", BOTH, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("message", CALLS)
def test_a_wrong_call_is_named(message, layer):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        CALLS[message](layer)


@pytest.mark.parametrize("message", CONSTRUCTORS)
def test_a_wrong_argument_is_named(message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        CONSTRUCTORS[message]()


def test_the_longest_text_without_positions_is_as_long_as_the_table():
    assert BOTH[0](torch.zeros(1, 3, 4)).shape == (1, 3, 4)
