"""The layer of `learned`: rows and positions, padding, other lengths, dtypes, errors."""

import copy
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from posenc.equations.learned import hierarchical, interpolate, padded_positions, sampling_points
from posenc.layers.attention import Attention, doors
from posenc.layers.learned import Learned

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def numbered(n, d=2, **options):
    """A layer whose row of position k is k + 1, so that it tells where it was read."""
    layer = Learned(n, d, **options)
    with torch.no_grad():
        offset = len(layer.weight) - n
        layer.weight.copy_((torch.arange(len(layer.weight)) + 1.0 - offset)[:, None].expand(-1, d))
        if layer.padding_idx is not None:
            layer.weight[layer.padding_idx] = 0
    return layer


def read(layer, positions):
    x = torch.zeros(1, len(positions), layer.d_model)
    return layer(x, torch.tensor(positions))[0, :, 0].tolist()


# --- rows and positions ------------------------------------------------------------------------


@given(st.integers(1, 9), st.data())
def test_any_position_of_the_table_reads_its_row(n, data):
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))
    assert read(numbered(n), positions) == [k + 1 for k in positions]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sum_is_rounded_once(dtype, device):
    layer = Learned(9, 16, std=1.0, token_scale=1.7, device=device)
    x = torch.randn(2, 9, 16, device=device, dtype=dtype)
    want = 1.7 * x.double() + layer.weight.double()
    got = layer(x)
    assert got.dtype == dtype
    ulp = torch.finfo(dtype).eps / 2 + 1e-6
    torch.testing.assert_close(got.double(), want, rtol=ulp, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_layer_may_be_cast(dtype):
    layer = Learned(4, 8, padding_idx=0).to(dtype)
    assert layer.weight.dtype == layer.resize(7).weight.dtype == dtype
    assert layer(torch.zeros(1, 4, 8, dtype=dtype)).dtype == dtype
    assert Learned(4, 8, dtype=dtype).weight.dtype == dtype


def test_positions_count_from_zero_by_default():
    layer, x = Learned(8, 4), torch.randn(2, 6, 4)
    for positions in (
        torch.arange(6),
        torch.arange(6, dtype=torch.int32),
        torch.arange(6).expand(2, 6),
    ):
        same(layer(x), layer.embed(x, positions), 0)


def test_a_table_that_is_just_long_enough_serves():
    assert Learned(6, 4)(torch.zeros(1, 6, 4)).shape == (1, 6, 4)


def test_tokens_are_scaled_and_rows_are_not():
    layer, x = Learned(6, 4, token_scale=2.5), torch.randn(1, 6, 4)
    same(layer(x), 2.5 * x + layer.weight)
    plain = Learned(6, 4)
    same(plain(x), x + plain.weight)


@torch.no_grad()
def test_attention_opens_the_door():
    layer, x = Attention(8, 2, Learned(15, 8, std=1.0)), torch.randn(1, 15, 8)
    order = torch.randperm(15)
    same(layer(x[:, order], order), layer(x)[:, order])
    plain = Attention(8, 2)
    plain.load_state_dict(layer.state_dict(), strict=False)
    same(layer(x), plain(layer.encoding(x)))
    assert (layer(x[:, order]) - layer(x)[:, order]).abs().max() > 1e-3


# --- padding -----------------------------------------------------------------------------------


def test_padding_stands_in_front_and_reads_zeros():
    layer = Learned(5, 4, padding_idx=2)
    assert layer.weight.shape == (8, 4)
    assert not layer.weight[2].any()
    assert layer.weight[[0, 1, 3, 4, 5, 6, 7]].all()
    assert read(numbered(5, padding_idx=2), [-1, 0, 4]) == [0, 1, 5]


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_only_rows_of_tokens_get_a_gradient(padding):
    layer = Learned(4, 2, padding_idx=padding)
    layer(torch.zeros(2, 3, 2), torch.tensor([[-1, 0, 1], [1, 1, -1]])).sum().backward()
    want = torch.zeros(padding + 5)
    want[padding + 1], want[padding + 2] = 1, 3
    same(layer.weight.grad, want[:, None].expand(-1, 2), 0)


def test_a_loaded_padding_row_is_read_and_not_trained():
    """As in torch.nn.Embedding: zeros are the first value, not a law."""
    layer = Learned(3, 2, padding_idx=0)
    layer.load_state_dict({"weight": torch.full((4, 2), 7.0)})
    assert read(layer, [-1]) == [7]
    layer(torch.zeros(1, 1, 2), torch.tensor([-1])).sum().backward()
    assert not layer.weight.grad.any()


def test_padding_equals_that_of_an_embedding():
    peer = nn.Embedding(6, 4, padding_idx=1)
    layer = Learned(4, 4, padding_idx=1)
    layer.load_state_dict(peer.state_dict())
    real = np.array([[False, True, True], [True, True, False]])
    at = torch.from_numpy(padded_positions(real))
    got, want = layer(torch.zeros(2, 3, 4), at), peer(at + 2)
    same(got, want, 0)
    (got**2).sum().backward()
    (want**2).sum().backward()
    same(layer.weight.grad, peer.weight.grad, 0)


def test_positions_of_opt_are_those_of_a_padding_row():
    from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding

    peer, layer = OPTLearnedPositionalEmbedding(6, 4), Learned(6, 4, padding_idx=1)
    layer.load_state_dict(peer.state_dict())
    real = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]])
    at = torch.from_numpy(padded_positions(real.bool().numpy()))
    same(layer(torch.zeros(2, 4, 4), at), peer(real), 0)


# --- another length ----------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [None, 0, 2])
@pytest.mark.parametrize("n_new", [3, 5, 9])
@pytest.mark.parametrize("align", ["ends", "centres"])
def test_stretching_equals_the_equation(align, n_new, padding):
    layer = Learned(5, 4, std=1.0, padding_idx=padding)
    got, front = layer.resize(n_new, align), len(layer.weight) - 5
    table = layer.weight.detach().double().numpy()
    want = interpolate(table[front:], sampling_points(5, n_new, align=align))
    np.testing.assert_allclose(got.weight.detach()[front:], want, rtol=0, atol=1e-6)
    same(got.weight[:front], layer.weight[:front], 0)
    assert (got.n_positions, got.padding_idx) == (n_new, padding)
    assert got(torch.zeros(1, n_new, 4)).shape == (1, n_new, 4)


@pytest.mark.parametrize("alpha", [0, 0.4, 0.7])
def test_hierarchical_equals_the_equation(alpha):
    layer = Learned(5, 4, std=1.0)
    got = layer.resize(25, "hierarchical", alpha=alpha).weight.detach()
    want = hierarchical(layer.weight.detach().double().numpy(), 25, alpha=alpha)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_the_usual_share_of_the_block_is_two_fifths():
    layer = Learned(5, 4)
    got = layer.resize(9, "hierarchical").weight
    same(got, layer.resize(9, "hierarchical", alpha=0.4).weight, 0)


@pytest.mark.parametrize("method", ["random", "hierarchical"])
def test_what_keeps_the_rows_cuts_off_the_rest(method):
    layer = Learned(5, 4, padding_idx=0)
    same(layer.resize(3, method).weight, layer.weight[:4])
    same(layer.resize(8, method).weight[:6], layer.weight)


def test_random_rows_have_the_first_standard_deviation():
    layer = Learned(5, 64, std=0.3)
    got = layer.resize(400, "random").weight[5:]
    assert got.std().item() == pytest.approx(0.3, rel=0.05)
    assert abs(got.mean().item()) < 0.01


def test_the_old_layer_is_left_alone_and_settings_are_kept():
    layer = Learned(5, 4, token_scale=2.0, dropout=0.25, std=0.5).eval()
    layer.weight.requires_grad_(False)
    kept, longer = layer.weight.clone(), layer.resize(9)
    same(layer.weight, kept, 0)
    assert layer.n_positions == 5
    assert not longer.training
    assert not longer.weight.requires_grad
    assert (longer.token_scale, longer.dropout.p, longer.std) == (2.0, 0.25, 0.5)
    assert Learned(5, 4).resize(9).weight.requires_grad
    assert longer.weight.is_leaf


def test_a_checkpoint_of_another_length_is_refused():
    shorter = Learned(512, 4).state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for weight.*\[512, 4\].*\[514, 4\]"):
        Learned(512, 4, padding_idx=1).load_state_dict(shorter)


# --- the module --------------------------------------------------------------------------------


def test_only_the_input_door_is_open():
    assert doors(Learned) == ("input",)


def test_a_checkpoint_holds_the_table_and_nothing_else():
    layer, other = Learned(5, 4), Learned(5, 4)
    assert list(layer.state_dict()) == ["weight"]
    assert (layer.weight != other.weight).all()
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 5, 4)
    same(other(x), layer(x), 0)
    same(copy.deepcopy(layer)(x), layer(x), 0)


def test_first_values_are_small_and_normal():
    weight = Learned(512, 64).weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(weight.mean().item()) < 1e-3
    assert Learned(512, 64, std=1.0).weight.std().item() == pytest.approx(1, rel=0.02)


def test_a_layer_is_built_without_memory_and_filled_later():
    layer = Learned(5, 4, padding_idx=1, device="meta")
    assert layer(torch.zeros(1, 5, 4, device="meta")).device.type == "meta"
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer.weight.abs().max() < 0.2
    assert not layer.weight[1].any()
    assert layer.weight[0].all()


def test_gradients_pass_to_tokens_and_rows():
    layer, x = Learned(3, 2, token_scale=3.0), torch.randn(4, 3, 2, requires_grad=True)
    layer(x).sum().backward()
    same(x.grad, torch.full((4, 3, 2), 3.0))
    same(layer.weight.grad, torch.full((3, 2), 4.0))


def test_dropout_acts_in_training_only():
    layer, x = Learned(100, 64, dropout=0.5), torch.ones(1, 100, 64)
    assert 0.45 < (layer(x) == 0).float().mean() < 0.55
    same(layer.eval()(x), x + layer.weight)


def test_under_autocast_the_sum_keeps_the_dtype_of_the_tokens():
    layer, x = Learned(4, 8), torch.randn(1, 4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        same(layer(x), x + layer.weight, 0)


@pytest.mark.parametrize("padding", [None, 1])
def test_layer_compiles_to_one_graph(padding):
    torch.compiler.reset()
    layer = Learned(9, 8, padding_idx=padding)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 6, 8)
    same(compiled(x), layer(x))
    positions = torch.randint(0, 9, (2, 6))
    same(compiled(x, positions), layer(x, positions))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
def test_generated_code_computes_the_same_and_refuses_the_same_positions(device):
    torch.compiler.reset()
    layer, x = Learned(9, 8, device=device), torch.randn(1, 2, 8, device=device)
    compiled = torch.compile(layer, fullgraph=True)
    positions = torch.tensor([7, 8], device=device)
    same(compiled(x, positions), layer(x, positions))
    if device == "cpu":  # on a GPU it would be the end of the process
        for outside in (-1, 9):
            with pytest.raises(RuntimeError, match="index out of bounds"):
                compiled(x, torch.tensor([0, outside]))


# --- errors ------------------------------------------------------------------------------------

X = torch.zeros(2, 6, 8)


def layer(*args):
    return Learned(8, 8)(*args)


TYPE_ERRORS = {
    "n_positions must be an integer, got 8.0": lambda: Learned(8.0, 8),
    "d_model must be an integer, got True": lambda: Learned(8, True),
    "padding_idx must be an integer, got '1'": lambda: Learned(8, 8, padding_idx="1"),
    "token_scale must hold real numbers, got dtype bool": lambda: Learned(8, 8, token_scale=True),
    "dropout must hold real numbers, got dtype object": lambda: Learned(8, 8, dropout=None),
    "std must hold real numbers, got dtype <U1": lambda: Learned(8, 8, std="a"),
    "x must have a floating dtype, got torch.int64": lambda: layer(X.long()),
    "positions must be int64 or int32, got torch.float32": lambda: layer(X, torch.arange(6.0)),
    "n_new must be an integer, got 9.0": lambda: Learned(8, 8).resize(9.0),
    "alpha must hold real numbers, got dtype <U1": lambda: Learned(8, 8).resize(
        9, "hierarchical", alpha="a"
    ),
}

VALUE_ERRORS = {
    "n_positions must be at least 1, got 0": lambda: Learned(0, 8),
    "d_model must be at least 1, got 0": lambda: Learned(8, 0),
    "padding_idx must be at least 0, got -1": lambda: Learned(8, 8, padding_idx=-1),
    "token_scale must be above 0, got 0": lambda: Learned(8, 8, token_scale=0),
    "std must be above 0, got 0": lambda: Learned(8, 8, std=0),
    "dropout must be between 0 and 1, got 1.5": lambda: Learned(8, 8, dropout=1.5),
    "x must have shape (batch, n >= 1, 8), got (6, 8)": lambda: layer(X[0]),
    "x must have shape (batch, n >= 1, 8), got (2, 6, 4)": lambda: layer(X[..., :4]),
    "x must have shape (batch, n >= 1, 8), got (2, 0, 8)": lambda: layer(X[:, :0]),
    "x must have at most n_positions = 8 rows if there are no positions, got 9": lambda: layer(
        torch.zeros(1, 9, 8)
    ),
    "x must be on device cpu, got meta": lambda: layer(X.to("meta")),
    "x must have shape (batch, n >= 1, 8), got (2, 6, 7)": lambda: Learned(8, 8).embed(
        X[..., :7], torch.arange(6)
    ),
    "positions must have shape (6,) or (2, 6), got (5,)": lambda: layer(X, torch.arange(5)),
    "positions must be on device cpu, got meta": lambda: layer(X, torch.arange(6, device="meta")),
    "n_new must be at least 1, got 0": lambda: Learned(8, 8).resize(0),
    "n_new must be at most 8 ** 2 = 64, got 65": lambda: Learned(8, 8).resize(65, "hierarchical"),
    "alpha must be below 1, got 1": lambda: Learned(8, 8).resize(9, "hierarchical", alpha=1),
    "method must be 'ends' or 'centres' or 'hierarchical' or 'random', got 'linear'": (
        lambda: Learned(8, 8).resize(9, "linear")
    ),
}

INDEX_ERRORS = {
    "positions must be between 0 and 7, got 8": lambda: read(Learned(8, 2), [0, 8, 9]),
    "positions must be between 0 and 7, got -1": lambda: read(Learned(8, 2), [7, -1]),
    "positions must be between -1 and 7, got 8": lambda: read(
        Learned(8, 2, padding_idx=1), [-1, 8]
    ),
    "positions must be between -1 and 7, got -2": lambda: read(
        Learned(8, 2, padding_idx=1), [7, -2]
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


@pytest.mark.parametrize("message", INDEX_ERRORS)
def test_a_position_without_a_row_is_named(message):
    """Rows before the padding row are never read, nor do negative positions count from the end."""
    with pytest.raises(IndexError, match=f"^{re.escape(message)}$"):
        INDEX_ERRORS[message]()


def test_a_compiled_layer_refuses_the_same_input():
    torch.compiler.reset()
    compiled = torch.compile(Learned(8, 8), backend="eager")
    with pytest.raises(ValueError, match=r"^x must have at most n_positions = 8 rows .*, got 9$"):
        compiled(torch.zeros(1, 9, 8))
    with pytest.raises(IndexError, match="out of range"):
        compiled(torch.zeros(1, 1, 8), torch.tensor([8]))
