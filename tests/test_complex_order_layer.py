"""The layers of `complex_order`: equation, positions, precision, training, casts, errors."""

import copy
import math
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.equations.complex_order import complex_order, real_view
from posenc.equations.rope import rotate
from posenc.equations.sinusoidal import frequencies
from posenc.layers.attention import Attention, doors
from posenc.layers.complex_order import ComplexOrder, ComplexOrderEmbedding

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
ROUNDING = {  # half a unit in the last place, of numbers from 1 to 2; float64 for positions to 10^4
    torch.float64: 1e-11,
    torch.float32: 2**-24,
    torch.bfloat16: 2**-8,
    torch.float16: 2**-11,
}
LAYOUTS = ["interleaved", "halves"]
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", ROUNDING, ids=str)
by_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def table(n_words=7, d_model=8, **options):
    """A layer whose words differ in everything that they have."""
    layer = ComplexOrderEmbedding(n_words, d_model, **options)
    nn.init.uniform_(layer.clocks.frequency, -1.0, 1.0)
    if layer.clocks.phase is not None:
        nn.init.uniform_(layer.clocks.phase, -math.pi, math.pi)
    return layer


def by_equation(layer, ids, positions):
    """What the equation says of the layer's parameters."""
    r, omega = (
        p.detach().double().cpu().numpy() for p in (layer.amplitude, layer.clocks.frequency)
    )
    phase = layer.clocks.phase
    theta = np.zeros_like(r) if phase is None else phase.detach().double().cpu().numpy()
    omega = np.broadcast_to(omega, r.shape)
    words = (part[ids] for part in (r, omega, theta))
    return real_view(complex_order(positions, *words), layout=layer.layout)


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@by_layout
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("phase", [False, True])
def test_the_table_is_the_equation_rounded_once(phase, shared, layout, dtype, device):
    layer = table(layout=layout, shared=shared, phase=phase).to(device, dtype)
    layer.amplitude.data.clamp_(-1.9, 1.9)
    ids, positions = np.array([[0, 3, 6, 3], [1, 1, 2, 5]]), np.array([0, 5, 9000, -77])
    got = layer(*(torch.tensor(x, device=device) for x in (ids, positions)))
    assert got.dtype == dtype
    want = torch.tensor(by_equation(layer, ids, positions))
    # the wave, the product and the result are rounded to at least float32
    same(
        got.detach().double().cpu(),
        want,
        ROUNDING[dtype] * (1 + 2**-10) + 2**-22 * (dtype != torch.float64),
    )


@by_device
@by_dtype
@by_layout
def test_the_door_turns_pairs_as_the_equation_does(layout, dtype, device):
    layer = ComplexOrder(8, layout=layout).to(device)
    nn.init.uniform_(layer.clocks.frequency, -1.0, 1.0)
    x = torch.randn(2, 4, 8, dtype=dtype, device=device).clamp(-0.9, 0.9)
    positions = torch.tensor([[0, 5, 9000, -77], [1, 2, 3, 4]], device=device)
    got = layer(x, positions)
    assert got.dtype == dtype
    columns = x.double().cpu().numpy()
    halves = columns[..., :4], columns[..., 4:]
    real, imaginary = halves if layout == "halves" else (columns[..., ::2], columns[..., 1::2])
    omega = layer.clocks.frequency.detach().double().cpu().numpy()[0]
    angle = positions.cpu().numpy()[..., None] * omega
    want = real_view((real + 1j * imaginary) * np.exp(1j * angle), layout=layout)
    same(
        got.detach().double().cpu(),
        torch.tensor(want),
        ROUNDING[dtype] * (1 + 2**-10) + 2**-22 * (dtype != torch.float64),
    )


@by_layout
def test_a_fresh_door_is_the_rotary_encoding_of_the_tokens(layout):
    layer, x = ComplexOrder(8, 500.0, layout=layout), torch.randn(1, 6, 8)
    want = rotate(x[0].double().numpy(), np.arange(6), 500.0, layout=layout)
    np.testing.assert_allclose(layer(x)[0].detach(), want, rtol=0, atol=1e-6)


def test_frequencies_start_geometric_and_phases_at_zero():
    want = torch.tensor(frequencies(8, 500.0), dtype=torch.float32)
    layer = ComplexOrderEmbedding(5, 8, 500.0, phase=True)
    same(layer.clocks.frequency.detach(), want.expand(5, 4))
    same(layer.clocks.phase.detach(), torch.zeros(5, 4))
    same(ComplexOrder(8, 500.0).clocks.frequency.detach(), want[None])
    same(ComplexOrderEmbedding(5, 8, shared=True).clocks.frequency.detach()[0], _default(8))
    amplitude = ComplexOrderEmbedding(1000, 64).amplitude
    assert amplitude.std().item() == pytest.approx(1, abs=0.02)
    assert amplitude.mean().item() == pytest.approx(0, abs=0.02)


def _default(d):
    return torch.tensor(frequencies(d), dtype=torch.float32)


@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=4), st.integers(0, 6))
def test_all_positions_up_to_ten_million_have_their_float32_digits(positions, word):
    layer = table(phase=True)
    nn.init.ones_(layer.amplitude)
    ids = np.full(len(positions), word)
    got = layer(torch.tensor(ids)[None], torch.tensor(positions))[0]
    want = by_equation(layer, ids, np.array(positions))
    np.testing.assert_allclose(got.detach(), want, rtol=0, atol=4e-8)


# --- positions ---------------------------------------------------------------------------------


def test_positions_count_from_zero_by_default():
    layer, ids = table(), torch.randint(0, 7, (2, 5))
    for positions in (torch.arange(5), torch.arange(5).int(), torch.arange(5).expand(2, 5)):
        same(layer(ids), layer(ids, positions))
    door, x = ComplexOrder(8), torch.randn(2, 5, 8)
    same(door(x), door.embed(x, torch.arange(5)))


def test_int32_words_and_positions_are_the_same():
    layer, ids = table(phase=True), torch.randint(0, 7, (2, 5))
    far = torch.tensor([0, 5, 2**31 - 1, -(2**31), 3])
    same(layer(ids.int(), far.int()), layer(ids, far))


def test_a_decoder_continues_at_its_own_position():
    layer, ids = table(), torch.randint(0, 7, (2, 6))
    steps = [layer(ids[:, k : k + 1], torch.tensor([k])) for k in range(6)]
    same(torch.cat(steps, dim=1), layer(ids))


def test_left_padding_does_not_move_the_words():
    layer, ids = table(), torch.tensor([[3, 4, 5]])
    padded = torch.tensor([[0, 0, 3, 4, 5]])
    same(layer(padded, torch.tensor([[0, 0, 0, 1, 2]]))[:, 2:], layer(ids))


@torch.no_grad()
def test_the_door_is_the_input_door_of_attention():
    assert doors(ComplexOrder) == ("input",)
    x, layer = torch.randn(2, 5, 8), Attention(8, 2, ComplexOrder(8))
    plain = Attention(8, 2)
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if "encoding" not in k})
    same(layer(x), plain(ComplexOrder(8)(x)))
    assert (layer(x) - plain(x)).abs().max() > 1e-3


def test_the_table_feeds_an_attention_without_positions():
    layer, ids = table(), torch.tensor([[1, 2, 3]])
    attention = Attention(8, 2)
    swapped = attention(layer(ids.flip(1))).flip(1)
    assert (attention(layer(ids)) - swapped).abs().max() > 1e-3


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, {"amplitude": (7, 4), "clocks.frequency": (7, 4)}),
        ({"shared": True}, {"amplitude": (7, 4), "clocks.frequency": (1, 4)}),
        (
            {"phase": True},
            {"amplitude": (7, 4), "clocks.frequency": (7, 4), "clocks.phase": (7, 4)},
        ),
    ],
)
def test_what_is_trained_and_saved(options, shapes):
    layer = table(**options)
    assert {k: tuple(v.shape) for k, v in layer.state_dict().items()} == shapes
    assert {k: tuple(v.shape) for k, v in layer.named_parameters()} == shapes
    assert (layer.n_words, layer.d_model, layer.layout) == (7, 8, "interleaved")


@pytest.mark.parametrize("phase", [False, True])
def test_a_checkpoint_restores_the_words(phase):
    layer, other, ids = table(phase=phase), table(phase=phase), torch.tensor([[0, 6, 2]])
    assert not torch.equal(layer(ids), other(ids))
    other.load_state_dict(layer.state_dict())
    same(layer(ids), other(ids))


def test_gradients_equal_finite_differences():
    layer = table(phase=True).double()
    ids, positions = torch.tensor([[1, 3]]), torch.tensor([2, 5])
    parameters = dict(layer.named_parameters())

    def out(*values):
        return torch.func.functional_call(
            layer, dict(zip(parameters, values, strict=True)), (ids, positions)
        )

    values = tuple(p.detach().clone().requires_grad_() for p in parameters.values())
    assert torch.autograd.gradcheck(out, values)


def test_gradients_of_the_door_equal_finite_differences():
    layer = ComplexOrder(4).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    omega = layer.clocks.frequency.detach().clone().requires_grad_()

    def out(x, omega):
        return torch.func.functional_call(layer, {"clocks.frequency": omega}, (x,))

    assert torch.autograd.gradcheck(out, (x, omega))


def test_only_the_words_of_the_batch_are_trained():
    layer = table(phase=True)
    (layer(torch.tensor([[2, 5]]), torch.tensor([3, 4])) ** 3).sum().backward()
    for parameter in layer.parameters():
        moved = parameter.grad.abs().sum(1) > 0
        assert moved.nonzero().flatten().tolist() == [2, 5]


# --- casts and copies --------------------------------------------------------------------------

TREATMENTS = {
    "bfloat16": lambda layer: layer.to(torch.bfloat16),
    "half": lambda layer: layer.half(),
    "half and back": lambda layer: layer.half().float(),
    "double and back": lambda layer: layer.double().half(),
    "cast inside a model": lambda layer: nn.Sequential(layer).half()[0],
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
}


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_frequencies_and_phases_survive(treatment):
    layer, door = table(phase=True), ComplexOrder(8)
    layer.clocks.frequency.grad = torch.ones(7, 4)
    want = [p.detach().clone() for p in (*layer.clocks.parameters(), *door.parameters())]
    layer, door = TREATMENTS[treatment](layer), TREATMENTS[treatment](door)
    for got, w in zip((*layer.clocks.parameters(), *door.parameters()), want, strict=True):
        same(got.detach().float(), w)
        assert got.grad is None or got.grad.dtype == got.dtype


def test_amplitudes_follow_every_cast():
    assert table().bfloat16().amplitude.dtype == torch.bfloat16
    assert table().double().clocks.frequency.dtype == torch.float64
    assert table().to("meta").clocks.frequency.device.type == "meta"


def test_a_cast_may_come_with_a_move():
    clocks = table(phase=True).to("meta", torch.float16).clocks
    for parameter in clocks.parameters():
        assert (parameter.device.type, parameter.dtype) == ("meta", torch.float32)


def test_two_words_have_two_clocks_and_one_has_one():
    for n_words in (1, 2):
        layer, ids = table(n_words), np.arange(n_words)
        got = layer(torch.tensor(ids)[None], torch.full((n_words,), 9))[0]
        np.testing.assert_allclose(got.detach(), by_equation(layer, ids, 9), rtol=0, atol=1e-6)


def test_a_layer_made_on_the_meta_device_can_be_filled():
    with torch.device("meta"):
        empty = ComplexOrderEmbedding(7, 8, phase=True)
    layer, ids = table(phase=True), torch.tensor([[1, 2]])
    empty = empty.to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    same(empty(ids), layer(ids))


def test_shapes_are_known_without_numbers():
    layer = table().to("meta")
    out = layer(torch.zeros(2, 3, dtype=torch.long, device="meta"))
    assert (out.shape, out.device.type) == ((2, 3, 8), "meta")
    out = ComplexOrder(8).to("meta")(torch.zeros(2, 3, 8, device="meta", dtype=torch.float16))
    assert (out.shape, out.dtype, out.device.type) == ((2, 3, 8), torch.float16, "meta")


@by_device
def test_autocast_changes_nothing(device):
    layer, ids = table(phase=True).to(device), torch.tensor([[1, 5]], device=device)
    door, x = ComplexOrder(8).to(device), torch.randn(1, 2, 8, device=device)
    with torch.autocast(device, torch.bfloat16):
        got = layer(ids), door(x)
    same(got[0], layer(ids))
    same(got[1], door(x))


def test_the_default_dtype_moves_the_amplitudes_alone():
    torch.set_default_dtype(torch.float64)
    try:
        layer = ComplexOrderEmbedding(3, 8, phase=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert layer.amplitude.dtype == torch.float64
    assert layer.clocks.frequency.dtype == layer.clocks.phase.dtype == torch.float32


# --- compilation -------------------------------------------------------------------------------


@by_layout
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_a_compiled_layer_is_one_graph(shared, dtype, layout):
    torch.compiler.reset()
    layer = table(layout=layout, shared=shared, phase=True).to(dtype)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    ids, positions = torch.randint(0, 7, (2, 3)), torch.tensor([[0, 1, 2], [9, -1, 1]])
    same(compiled(ids), layer(ids))
    same(compiled(ids, positions), layer(ids, positions))
    door = ComplexOrder(8, layout=layout)
    x = torch.randn(2, 3, 8, dtype=dtype)
    same(torch.compile(door, fullgraph=True, backend="eager")(x, positions), door(x, positions))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = table(phase=True).to(device)
    ids = torch.randint(0, 7, (2, 3), device=device)
    positions = torch.tensor([0, 4096, 10**7], device=device)
    compiled = torch.compile(layer, fullgraph=True)
    same(compiled(ids, positions), layer(ids, positions), 2e-6)


# --- errors ------------------------------------------------------------------------------------

X, IDS = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)


def door(*args):
    return ComplexOrder(4)(*args)


def embed(*args):
    return ComplexOrderEmbedding(5, 4)(*args)


TYPE_ERRORS = {
    "d_model must be an integer, got 4.0": lambda: ComplexOrder(4.0),
    "base must hold real numbers, got dtype <U1": lambda: ComplexOrder(4, "a"),
    "n_words must be an integer, got True": lambda: ComplexOrderEmbedding(True, 4),
    "d_model must be an integer, got '4'": lambda: ComplexOrderEmbedding(5, "4"),
    "base must hold real numbers, got dtype bool": lambda: ComplexOrderEmbedding(5, 4, True),
    "x must have a floating dtype, got torch.int64": lambda: door(X.long()),
    "x must have a floating dtype, got torch.complex64": lambda: door(X.cfloat()),
    "positions must be int64 or int32, got torch.float32": lambda: door(X, torch.arange(3.0)),
    "ids must be int64 or int32, got torch.float32": lambda: embed(IDS.float()),
    "ids must be int64 or int32, got torch.bool": lambda: embed(IDS > 0),
    "positions must be int64 or int32, got torch.bool": lambda: embed(IDS, torch.arange(3) > 1),
}

VALUE_ERRORS = {
    "d_model must be a multiple of 2, got 3": lambda: ComplexOrder(3),
    "d_model must be at least 1, got 0": lambda: ComplexOrderEmbedding(5, 0),
    "d_model must be a multiple of 2, got 5": lambda: ComplexOrderEmbedding(5, 5),
    "n_words must be at least 1, got 0": lambda: ComplexOrderEmbedding(0, 4),
    "base must be above 1, got 1": lambda: ComplexOrder(4, 1),
    "base must be finite, got inf": lambda: ComplexOrderEmbedding(5, 4, math.inf),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: ComplexOrder(4, layout="x"),
    "layout must be 'interleaved' or 'halves', got 'y'": lambda: ComplexOrderEmbedding(
        5, 4, layout="y"
    ),
    "x must have shape (batch, n >= 1, 4), got (3, 4)": lambda: door(X[0]),
    "x must have shape (batch, n >= 1, 4), got (2, 3, 2)": lambda: door(X[..., :2]),
    "positions must have shape (3,) or (2, 3), got (4,)": lambda: door(X, torch.arange(4)),
    "positions must be on device cpu, got meta": lambda: door(X, torch.arange(3, device="meta")),
    "x must be on device cpu, got meta": lambda: door(X.to("meta")),
    "ids must have shape (batch, n >= 1), got (3,)": lambda: embed(IDS[0]),
    "ids must have shape (batch, n >= 1), got (2, 0)": lambda: embed(IDS[:, :0]),
    "ids must be on device cpu, got meta": lambda: embed(IDS.to("meta")),
    "positions must have shape (3,) or (2, 3), got (3, 2)": lambda: embed(IDS, IDS.T),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


def test_the_input_door_checks_its_tokens_too():
    with pytest.raises(ValueError, match=r"^x must have shape \(batch, n >= 1, 4\), got \(3, 4\)$"):
        ComplexOrder(4).embed(X[0], torch.arange(3))


@pytest.mark.parametrize("word", [-1, 5])
def test_a_word_beyond_the_table_is_refused(word):
    with pytest.raises(IndexError, match="out of range"):
        embed(torch.full((1, 2), word))
