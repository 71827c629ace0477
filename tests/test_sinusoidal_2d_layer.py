"""The layer of `sinusoidal_2d`: layer against equation, patches left out, dtypes, errors."""

import copy
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.sinusoidal_2d import grid, sinusoidal_2d
from posenc.layers.attention import Attention, doors
from posenc.layers.sinusoidal_2d import Sinusoidal2d

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
ULPS = {  # half of the last digit of numbers up to 1
    torch.float64: 1e-12,
    torch.float32: 2.0**-25,
    torch.bfloat16: 2.0**-9,
    torch.float16: 2.0**-12,
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def table(layer, positions, dtype=torch.float32, device="cpu"):
    """What the layer adds to tokens of zeros."""
    at = torch.as_tensor(positions, device=device)
    x = torch.zeros(1 if at.ndim == 1 else len(at), at.shape[-1], layer.d_model)
    return layer(x.to(device, dtype), at).double().cpu().numpy()


def same(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- layer against equation --------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ULPS)
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("order", ["hw", "wh"])
@pytest.mark.parametrize(("height", "width"), [(3, 5), (7, 2)])
def test_layer_equals_equation_rounded_once(height, width, order, layout, dtype, device):
    layer = Sinusoidal2d(24, width, 500.0, order=order, layout=layout)
    got = table(layer, np.arange(height * width), dtype, device)[0]
    want = sinusoidal_2d(grid(height, width), 24, 500.0, order=order, layout=layout)
    np.testing.assert_allclose(got, want, rtol=0, atol=ULPS[dtype] * (1 + 1e-6))


@given(st.integers(1, 40), st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=5))
def test_any_patch_number_is_a_row_and_a_column(width, numbers):
    got = table(Sinusoidal2d(8, width), numbers, torch.float64)[0]
    want = sinusoidal_2d(np.stack(np.divmod(numbers, width), axis=-1), 8)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)


def test_angles_stay_exact_in_a_layer_cast_to_bfloat16():
    layer = Sinusoidal2d(8, width=7).bfloat16()
    got = table(layer, [7 * 12345 + 3], torch.float64)[0]
    np.testing.assert_allclose(got, sinusoidal_2d([[12345, 3]], 8), rtol=0, atol=1e-10)


def test_tokens_are_scaled_and_the_encoding_is_not():
    x, layer = torch.randn(2, 6, 8), Sinusoidal2d(8, width=3, token_scale=2.5)
    same(layer(x), 2.5 * x + Sinusoidal2d(8, width=3)(torch.zeros(2, 6, 8)))


def test_positions_count_from_zero_by_default():
    x, layer = torch.randn(2, 6, 8), Sinusoidal2d(8, width=3)
    for positions in (
        torch.arange(6),
        torch.arange(6, dtype=torch.int32),
        torch.arange(6).expand(2, 6),
    ):
        same(layer(x), layer.embed(x, positions), 0)


def test_there_may_be_any_number_of_rows():
    layer, x = Sinusoidal2d(8, width=3), torch.zeros(1, 300, 8)
    same(layer(x)[:, :6], layer(x[:, :6]), 0)
    want = sinusoidal_2d(grid(100, 3), 8)
    np.testing.assert_allclose(layer(x.double())[0], want, rtol=0, atol=1e-13)


# --- patches left out --------------------------------------------------------------------------


def test_each_image_may_keep_other_patches():
    layer, x = Sinusoidal2d(8, width=5), torch.randn(2, 15, 8)
    kept = torch.stack([torch.randperm(15)[:4] for _ in range(2)])
    index = kept.unsqueeze(-1).expand(2, 4, 8)
    same(layer(x.gather(1, index), kept), layer(x).gather(1, index), 0)


@torch.no_grad()
def test_attention_opens_the_door_with_the_patch_numbers():
    layer, x = Attention(8, 2, Sinusoidal2d(8, width=5)), torch.randn(1, 15, 8)
    order = torch.randperm(15)
    same(layer(x[:, order], order), layer(x)[:, order])
    plain = Attention(8, 2)
    plain.load_state_dict(layer.state_dict())
    same(layer(x), plain(Sinusoidal2d(8, width=5)(x)))
    assert (layer(x[:, order]) - layer(x)[:, order]).abs().max() > 1e-3


def test_the_width_says_where_a_row_ends():
    got = [table(Sinusoidal2d(4, width), [5])[0, 0] for width in (3, 5, 6)]
    for vector, place in zip(got, [(1, 2), (1, 0), (0, 5)], strict=True):
        np.testing.assert_allclose(vector, sinusoidal_2d(place, 4), rtol=0, atol=1e-7)


# --- the module --------------------------------------------------------------------------------


def test_only_the_input_door_is_open():
    assert doors(Sinusoidal2d) == ("input",)


def test_there_is_nothing_to_train_or_to_save():
    layer = Sinusoidal2d(8, width=3)
    assert not list(layer.parameters())
    assert len(layer.state_dict()) == 0
    assert (layer.d_model, layer.width, layer.order) == (8, 3, "hw")
    same(copy.deepcopy(layer)(torch.zeros(1, 6, 8)), layer(torch.zeros(1, 6, 8)), 0)


def test_gradients_pass_to_the_tokens_with_their_scale():
    x = torch.randn(1, 6, 8, requires_grad=True)
    Sinusoidal2d(8, width=3, token_scale=3.0)(x).sum().backward()
    same(x.grad, torch.full((1, 6, 8), 3.0))


def test_dropout_acts_in_training_on_both_halves():
    layer, x = Sinusoidal2d(64, width=10, dropout=0.5), torch.ones(1, 100, 64)
    dropped = (layer(x) == 0).float()
    for half in dropped.chunk(2, dim=-1):
        assert 0.4 < half.mean() < 0.6
    same(layer.eval()(x), Sinusoidal2d(64, width=10)(x), 0)


@pytest.mark.parametrize("order", ["hw", "wh"])
def test_layer_compiles_to_one_graph(order):
    torch.compiler.reset()
    layer = Sinusoidal2d(8, width=3, order=order)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 6, 8)
    same(compiled(x), layer(x))
    positions = torch.randint(-50, 50, (2, 6))
    same(compiled(x, positions), layer(x, positions))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer, x = Sinusoidal2d(8, width=3), torch.randn(2, 6, 8, device=device)
    compiled = torch.compile(layer, fullgraph=True)
    same(compiled(x), layer(x))
    positions = torch.randint(0, 10**6, (2, 6), device=device)
    same(compiled(x, positions), layer(x, positions))


# --- errors ------------------------------------------------------------------------------------

X = torch.zeros(2, 6, 8)


def layer(*args):
    return Sinusoidal2d(8, width=3)(*args)


TYPE_ERRORS = {
    "d_model must be an integer, got 8.0": lambda: Sinusoidal2d(8.0, 3),
    "width must be an integer, got True": lambda: Sinusoidal2d(8, True),
    "base must hold real numbers, got dtype <U1": lambda: Sinusoidal2d(8, 3, "a"),
    "token_scale must hold real numbers, got dtype bool": lambda: Sinusoidal2d(
        8, 3, token_scale=True
    ),
    "dropout must hold real numbers, got dtype object": lambda: Sinusoidal2d(8, 3, dropout=None),
    "x must have a floating dtype, got torch.int64": lambda: layer(X.long()),
    "positions must be int64 or int32, got torch.float32": lambda: layer(X, torch.arange(6.0)),
}

VALUE_ERRORS = {
    "d_model must be a multiple of 4, got 6": lambda: Sinusoidal2d(6, 3),
    "d_model must be at least 1, got 0": lambda: Sinusoidal2d(0, 3),
    "width must be at least 1, got 0": lambda: Sinusoidal2d(8, 0),
    "base must be above 1, got 1": lambda: Sinusoidal2d(8, 3, 1),
    "order must be 'hw' or 'wh', got 'yx'": lambda: Sinusoidal2d(8, 3, order="yx"),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: Sinusoidal2d(8, 3, layout="x"),
    "token_scale must be above 0, got 0": lambda: Sinusoidal2d(8, 3, token_scale=0),
    "x must have shape (batch, n >= 1, 8), got (6, 8)": lambda: layer(X[0]),
    "x must have shape (batch, n >= 1, 8), got (2, 6, 4)": lambda: layer(X[..., :4]),
    "x must have shape (batch, n >= 1, 8), got (2, 0, 8)": lambda: layer(X[:, :0]),
    "x must hold whole rows of 3 patches if there are no positions, got 5": lambda: layer(X[:, :5]),
    "positions must have shape (6,) or (2, 6), got (5,)": lambda: layer(X, torch.arange(5)),
    "positions must have shape (6,) or (2, 6), got (6, 2)": lambda: layer(
        X, torch.tensor(grid(2, 3))
    ),
    "x must have shape (batch, n >= 1, 8), got (2, 6, 5)": lambda: Sinusoidal2d(8, 3).embed(
        X[..., :5], torch.arange(6)
    ),
    "positions must be on device cpu, got meta": lambda: layer(X, torch.arange(6, device="meta")),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_size_or_device_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


def test_tokens_keep_their_scale_unless_said_otherwise():
    plain, ones = Sinusoidal2d(8, 3), torch.ones(1, 6, 8)
    torch.testing.assert_close(plain(ones) - plain(0 * ones), ones)


def test_positions_are_counted_where_the_tokens_are():
    assert Sinusoidal2d(8, 3)(X.to("meta")).device.type == "meta"


def test_dropout_must_be_a_probability():
    with pytest.raises(ValueError, match=r"^dropout must be .*, got 1\.5$"):
        Sinusoidal2d(8, 3, dropout=1.5)


def test_a_compiled_layer_refuses_the_same_input():
    torch.compiler.reset()
    compiled = torch.compile(Sinusoidal2d(8, width=3), backend="eager")
    with pytest.raises(TypeError, match=r"^positions must be int64 or int32, got torch.float32$"):
        compiled(torch.randn(1, 2, 8), torch.arange(2.0))
