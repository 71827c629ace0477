"""The layer of `sinusoidal`: equation, positions, precision, training, casts, errors."""

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

from posenc.equations.sinusoidal import sinusoidal
from posenc.layers.attention import Attention, doors
from posenc.layers.sinusoidal import Sinusoidal

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
ROUNDING = {  # half a unit in the last place, of numbers below 1; float64 for positions to 10^4
    torch.float64: 1e-11,
    torch.float32: 2**-25,
    torch.bfloat16: 2**-9,
    torch.float16: 2**-12,
}
LAYOUTS = ["interleaved", "halves"]
by_device = pytest.mark.parametrize("device", DEVICES)
by_dtype = pytest.mark.parametrize("dtype", ROUNDING, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def table(layer, positions, dtype=torch.float32):
    """What the layer adds: its output for tokens of zeros."""
    x = torch.zeros(1, len(positions), layer.d_model, dtype=dtype)
    return layer(x, torch.tensor(positions))[0]


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# --- the equation ------------------------------------------------------------------------------


@by_device
@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("d", "spacing"), [(64, "paper"), (64, "tensor2tensor"), (7, "paper")])
def test_the_layer_is_the_equation_rounded_once(d, spacing, layout, dtype, device):
    positions = torch.tensor([0, 1, 2, 77, 512, 10_000, -3], device=device)
    x = torch.zeros(2, 7, d, dtype=dtype, device=device)
    got = Sinusoidal(d, layout=layout, spacing=spacing).embed(x, positions)
    assert got.dtype == dtype
    want = torch.tensor(sinusoidal(positions.cpu().numpy(), d, layout=layout, spacing=spacing))
    # float32 comes before bfloat16 and float16, and may tip a tie
    same(got.double().cpu(), want.expand(2, 7, d), ROUNDING[dtype] * (1 + 2**-10))


@given(
    st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=4),
    st.integers(1, 40),
    st.floats(1.5, 1e6),
    st.sampled_from(LAYOUTS),
)
def test_all_positions_up_to_ten_million_have_their_float32_digits(positions, d, base, layout):
    got = table(Sinusoidal(d, base, layout=layout), positions)
    want = sinusoidal(positions, d, base, layout=layout)
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=4e-8)


def test_ten_million_equals_mpmath():
    got = table(Sinusoidal(128), [10**7])[0]
    with mpmath.workdps(50):
        angles = [10**7 / mpmath.mpf(10000) ** (mpmath.mpf(2 * m) / 128) for m in range(64)]
        want = [float(f(a)) for a in angles for f in (mpmath.sin, mpmath.cos)]
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=4e-8)


@by_dtype
def test_tokens_are_scaled_before_the_sum(dtype):
    d, scale = 48, math.sqrt(48)
    x = torch.randn(2, 9, d, dtype=dtype)
    got = Sinusoidal(d, token_scale=scale)(x).double()
    want = scale * x.double() + torch.tensor(sinusoidal(np.arange(9), d))
    roundings = 4 if dtype == torch.float32 else 1.01  # scale, product, table and sum, or the last
    same(got, want, roundings * 32 * ROUNDING[dtype])  # tokens of this scale are below 32


def test_the_sum_is_not_made_in_bfloat16():
    """Rounding the scaled token first would lose a step of 2 here."""
    x = torch.full((1, 1, 1), 100.0, dtype=torch.bfloat16)
    layer = Sinusoidal(1, token_scale=2.57)
    position = torch.tensor([8])  # sin 8 = 0.989
    assert layer(x, position).item() == 258.0  # 257.989
    assert (2.57 * x + math.sin(8)).item() == 256.0  # 2.57 * 100 is 256 in bfloat16


def test_encodings_start_at_zero_by_default():
    x, layer = torch.randn(2, 5, 8), Sinusoidal(8)
    same(layer(x), layer(x, torch.arange(5)))
    same(layer(x), layer.embed(x, torch.arange(5)))


# --- positions ---------------------------------------------------------------------------------


def test_a_decoder_continues_at_its_own_position():
    x, layer = torch.randn(2, 10, 8), Sinusoidal(8)
    steps = [layer(x[:, k : k + 1], torch.tensor([k])) for k in range(10)]
    same(torch.cat(steps, dim=1), layer(x))


def test_left_padding_does_not_move_the_words():
    x, layer = torch.randn(1, 3, 8), Sinusoidal(8)
    padded = torch.cat([torch.zeros(1, 2, 8), x], dim=1).expand(2, 5, 8)
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    got = layer(padded, positions)
    same(got[0, 2:], layer(x)[0])
    same(got[1], layer(padded)[1])


def test_packed_sequences_restart_at_zero():
    a, b, layer = torch.randn(1, 3, 8), torch.randn(1, 4, 8), Sinusoidal(8)
    packed = layer(torch.cat([a, b], dim=1), torch.tensor([0, 1, 2, 0, 1, 2, 3]))
    same(packed, torch.cat([layer(a), layer(b)], dim=1))


def test_int32_positions_are_the_same_positions():
    layer, far = Sinusoidal(8), [0, 5, 2**31 - 1, -(2**31)]
    x, positions = torch.zeros(1, 4, 8), torch.tensor(far)
    same(layer(x, positions.int()), layer(x, positions))


def test_it_opens_the_input_door_alone():
    assert doors(Sinusoidal) == ("input",)


def test_attention_adds_it_to_the_tokens_of_the_first_layer():
    x, layer = torch.randn(2, 5, 8), Sinusoidal(8, token_scale=2.0)
    attention = Attention(8, 2, layer)
    plain = Attention(8, 2)
    plain.load_state_dict(attention.state_dict())
    same(attention(x), plain(layer(x)))


# --- training ----------------------------------------------------------------------------------


def test_it_has_nothing_to_train_and_nothing_to_save():
    layer = Sinusoidal(8, dropout=0.1)
    assert list(layer.parameters()) == []
    assert list(layer.buffers()) == []
    assert layer.state_dict() == {}
    layer.load_state_dict({})


def test_the_gradient_of_a_token_is_its_scale():
    x = torch.randn(2, 5, 8, requires_grad=True)
    weights = torch.randn(2, 5, 8)
    (Sinusoidal(8, token_scale=3.0)(x) * weights).sum().backward()
    same(x.grad, 3 * weights)


def test_tokens_keep_their_scale_unless_said_otherwise():
    x = torch.randn(1, 3, 4)
    torch.testing.assert_close(Sinusoidal(4)(x) - Sinusoidal(4)(0 * x), x)


def test_dropout_works_in_training_only():
    x = torch.zeros(1, 2000, 16)
    layer = Sinusoidal(16, dropout=0.25)
    same(layer.eval()(x), Sinusoidal(16)(x))
    dropped = layer.train()(x)
    kept = dropped != 0
    share = 1 - kept.float().mean().item()
    assert 0.23 < share < 0.27
    same(dropped[kept], (Sinusoidal(16)(x) / 0.75)[kept], 1e-6)


def test_all_may_be_dropped():
    assert not Sinusoidal(4, dropout=1).train()(torch.ones(1, 3, 4)).any()


# --- casts and copies --------------------------------------------------------------------------

TREATMENTS = {
    "nothing": lambda layer: layer,
    "bfloat16": lambda layer: layer.to(torch.bfloat16),
    "half": lambda layer: layer.half(),
    "half and back": lambda layer: layer.half().double(),
    "cast inside a model": lambda layer: nn.Sequential(layer).half()[0],
    "cpu": lambda layer: layer.to("cpu"),
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "meta and empty": lambda layer: layer.to("meta").to_empty(device="cpu"),
    "share_memory": lambda layer: layer.share_memory(),
}


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_frequencies_survive(treatment):
    positions = [1, 4097, 10**7]
    want = table(Sinusoidal(64), positions)
    same(table(TREATMENTS[treatment](Sinusoidal(64)), positions), want)


def test_frequencies_survive_a_file():
    file = io.BytesIO()
    torch.save(Sinusoidal(64), file)
    file.seek(0)
    same(table(torch.load(file, weights_only=False), [10**7]), table(Sinusoidal(64), [10**7]))


def test_a_layer_made_on_the_meta_device_works_on_another():
    with torch.device("meta"):
        layer = Sinusoidal(8)
    same(layer(torch.zeros(1, 3, 8)), Sinusoidal(8)(torch.zeros(1, 3, 8)))


def test_shapes_are_known_without_numbers():
    out = Sinusoidal(7)(torch.zeros(2, 3, 7, device="meta", dtype=torch.float16))
    assert (out.shape, out.dtype, out.device.type) == ((2, 3, 7), torch.float16, "meta")


@by_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(device, dtype):
    x, layer = torch.randn(2, 5, 8, dtype=dtype, device=device), Sinusoidal(8)
    with torch.autocast(device, torch.bfloat16):
        got = layer(x)
    same(got, layer(x))


def test_the_default_dtype_does_not_matter():
    want = table(Sinusoidal(16), [10**6])
    torch.set_default_dtype(torch.float16)
    try:
        same(table(Sinusoidal(16), [10**6]), want)
    finally:
        torch.set_default_dtype(torch.float32)


# --- compilation -------------------------------------------------------------------------------


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_compiled_layer_is_one_graph(layout, dtype):
    torch.compiler.reset()
    layer = Sinusoidal(7, layout=layout, token_scale=2.0)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, positions = (
        torch.randn(2, 5, 7, dtype=dtype),
        torch.tensor([[0, 1, 2, 3, 4], [9, 9, -1, 0, 1]]),
    )
    same(compiled(x), layer(x))
    same(compiled(x, positions), layer(x, positions))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer = Sinusoidal(16, token_scale=4.0)
    x = torch.randn(2, 5, 16, device=device)
    positions = torch.tensor([0, 1, 4096, 10**7, -5], device=device)
    compiled = torch.compile(layer, fullgraph=True)
    same(compiled(x, positions), layer(x, positions), 2e-6)


def test_it_can_be_exported():
    layer, x = Sinusoidal(8), torch.randn(1, 3, 8)
    same(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.sinusoidal", "posenc.layers.sinusoidal"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- errors ------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 4)


def layer(*args):
    return Sinusoidal(4)(*args)


TYPE_ERRORS = {
    "d_model must be an integer, got 4.0": lambda: Sinusoidal(4.0),
    "d_model must be an integer, got True": lambda: Sinusoidal(True),
    "base must hold real numbers, got dtype <U5": lambda: Sinusoidal(4, "10000"),
    "token_scale must hold real numbers, got dtype object": lambda: Sinusoidal(4, token_scale=None),
    "dropout must hold real numbers, got dtype bool": lambda: Sinusoidal(4, dropout=True),
    "x must have a floating dtype, got torch.int64": lambda: layer(X.long()),
    "x must have a floating dtype, got torch.complex64": lambda: layer(X.cfloat()),
    "x must have a floating dtype, got torch.bool": lambda: layer(X > 0),
    "positions must be int64 or int32, got torch.float32": lambda: layer(X, torch.arange(3.0)),
    "positions must be int64 or int32, got torch.bool": lambda: layer(X, torch.arange(3) > 1),
    "positions must be int64 or int32, got torch.uint8": lambda: layer(X, torch.arange(3).byte()),
}

VALUE_ERRORS = {
    "d_model must be at least 1, got 0": lambda: Sinusoidal(0),
    "d_model must be at least 1, got -4": lambda: Sinusoidal(-4),
    "d_model must be a multiple of 2, got 5": lambda: Sinusoidal(5, spacing="tensor2tensor"),
    "base must be above 1, got 1.0": lambda: Sinusoidal(4, 1.0),
    "base must be finite, got inf": lambda: Sinusoidal(4, math.inf),
    "layout must be 'interleaved' or 'halves', got 'concat'": lambda: Sinusoidal(
        4, layout="concat"
    ),
    "spacing must be 'paper' or 'tensor2tensor', got 'half'": lambda: Sinusoidal(4, spacing="half"),
    "token_scale must be above 0, got 0": lambda: Sinusoidal(4, token_scale=0),
    "token_scale must be above 0, got -1.5": lambda: Sinusoidal(4, token_scale=-1.5),
    "token_scale must be finite, got nan": lambda: Sinusoidal(4, token_scale=math.nan),
    "token_scale must be finite, got inf": lambda: Sinusoidal(4, token_scale=math.inf),
    "dropout must be between 0 and 1, got -0.1": lambda: Sinusoidal(4, dropout=-0.1),
    "dropout must be between 0 and 1, got 1.5": lambda: Sinusoidal(4, dropout=1.5),
    "dropout must be finite, got nan": lambda: Sinusoidal(4, dropout=math.nan),
    "x must have shape (batch, n >= 1, 4), got (3, 4)": lambda: layer(X[0]),
    "x must have shape (batch, n >= 1, 4), got (4,)": lambda: layer(X[0, 0]),
    "x must have shape (batch, n >= 1, 4), got (1, 2, 3, 4)": lambda: layer(X[None]),
    "x must have shape (batch, n >= 1, 4), got (2, 0, 4)": lambda: layer(X[:, :0]),
    "x must have shape (batch, n >= 1, 4), got (2, 3, 1)": lambda: layer(X[..., :1]),
    "positions must have shape (3,) or (2, 3), got ()": lambda: layer(X, torch.tensor(0)),
    "positions must have shape (3,) or (2, 3), got (4,)": lambda: layer(X, torch.arange(4)),
    "positions must have shape (3,) or (2, 3), got (1, 3)": lambda: layer(X, torch.arange(3)[None]),
    "positions must be on device cpu, got meta": lambda: layer(X, torch.arange(3, device="meta")),
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
        Sinusoidal(4).embed(X[0], torch.arange(3))
