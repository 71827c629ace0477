"""The layer of `rope_axes`: layer against equation, shapes of positions, attention, errors."""

import copy
import io
import re
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.rope_axes import multimodal_positions, rotate_axes, wave_vectors
from posenc.layers.attention import Attention, PositionEncoding, doors
from posenc.layers.rope import Rope
from posenc.layers.rope_axes import RopeAxes

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
COMPILED = [*(["cpu"] if shutil.which("c++") else []), *DEVICES[1:]]  # needs a compiler
ULPS = {torch.float64: 1e-13, torch.float32: 3e-7, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
PLACES = torch.tensor(multimodal_positions([2, (1, 2, 3), 2]))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(a, b, tolerance=1e-6):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def mrope(**options):
    return RopeAxes(16, [2, 3, 3], **options)


# --- layer against equation --------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ULPS)
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("ladder", ["shared", "own"])
@pytest.mark.parametrize("arrangement", ["chunked", "interleaved"])
def test_layer_equals_equation(arrangement, ladder, layout, dtype, device):
    options = {"arrangement": arrangement, "ladder": ladder}
    layer = RopeAxes(16, [2, 3, 3], 500.0, layout=layout, **options)
    x = torch.randn(2, 3, 10, 16, device=device).to(dtype)
    got = layer(x, PLACES.to(device)).double().cpu().numpy()
    waves = wave_vectors([2, 3, 3], 500.0, **options)
    want = rotate_axes(x.double().cpu().numpy(), PLACES.numpy(), waves, layout=layout)
    np.testing.assert_allclose(got, want, rtol=ULPS[dtype], atol=3 * ULPS[dtype])


@given(st.lists(st.integers(-(10**7), 10**7), min_size=3, max_size=3))
def test_any_position_is_exact_in_float64(place):
    x, at = torch.ones(1, 1, 1, 16, dtype=torch.float64), torch.tensor([place])
    got = mrope()(x, at)[0, 0, 0].numpy()
    want = rotate_axes(np.ones(16), place, wave_vectors([2, 3, 3]))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-8)


def test_angles_stay_exact_in_a_layer_cast_to_bfloat16():
    at = torch.tensor([[123_457, 3, 99_991]])
    same(mrope().bfloat16().angles(at), mrope().angles(at), 0)


def test_angles_stay_exact_under_autocast():
    at = torch.tensor([[123_457, 3, 99_991]])
    with torch.autocast("cpu", torch.bfloat16):
        got = mrope().angles(at)
    same(got, mrope().angles(at), 0)


@pytest.mark.parametrize("arrangement", ["chunked", "interleaved"])
def test_text_is_turned_as_by_plain_rope(arrangement):
    q, k = torch.randn(2, 2, 3, 7, 16)
    layer, plain = mrope(arrangement=arrangement, layout="halves"), Rope(16, layout="halves")
    for at in (torch.arange(7), torch.randint(0, 1000, (2, 7))):
        for got, want in zip(layer.rotate(q, k, at, at), plain.rotate(q, k, at, at), strict=True):
            same(got, want, 0)
    same(layer(q), plain(q), 0)


def test_columns_beyond_the_rotary_width_stay():
    layer, x = RopeAxes(20, [2, 3, 3], d_rotary=16), torch.randn(1, 1, 10, 20)
    got = layer(x, PLACES)
    same(got[..., :16], mrope()(x[..., :16], PLACES), 0)
    same(got[..., 16:], x[..., 16:], 0)


# --- positions ---------------------------------------------------------------------------------


def test_each_row_of_a_batch_may_have_its_own_places():
    x, at = torch.randn(2, 3, 10, 16), torch.stack([PLACES, PLACES.flip(0)])
    got = mrope()(x, at)
    for row in range(2):
        same(got[row : row + 1], mrope()(x[row : row + 1], at[row]), 0)
    same(mrope()(x, at.int()), got, 0)


def test_queries_and_keys_have_places_of_their_own():
    q, k = torch.randn(1, 2, 4, 16), torch.randn(1, 1, 10, 16)
    got = mrope().rotate(q, k, PLACES[3:7], PLACES)
    same(got[0], mrope()(q, PLACES[3:7]), 0)
    same(got[1], mrope()(k, PLACES), 0)


def test_shared_positions_need_not_mean_equal_dtypes():
    q, k = torch.randn(1, 2, 10, 16), torch.randn(1, 2, 10, 16).double()
    got = mrope().rotate(q, k, PLACES, PLACES)
    same(got[0], mrope()(q, PLACES), 0)
    same(got[1], mrope()(k, PLACES), 0)


def test_one_shape_may_be_places_for_keys_and_a_batch_for_queries():
    q, k, at = torch.randn(2, 1, 3, 16), torch.randn(2, 1, 2, 16), torch.tensor([[0, 1, 2]] * 2)
    got = mrope().rotate(q, k, at, at)
    same(got[0], mrope()(q, at.unsqueeze(-1).expand(2, 3, 3)), 0)
    same(got[1], mrope()(k, at), 0)


def test_a_shape_that_may_mean_two_things_is_refused():
    x, at = torch.randn(3, 1, 3, 16), torch.arange(9).view(3, 3)
    message = r"positions must have shape (3,) or (3, 3, 3) here, as (3, 3) may mean two things"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mrope()(x, at)
    same(mrope()(x, at.expand(3, 3, 3))[1:2], mrope()(x[1:2], at), 0)


def test_scores_stay_when_all_places_move():
    q, k = torch.randn(2, 1, 2, 10, 16, dtype=torch.float64)
    here = mrope().rotate(q, k, PLACES, PLACES)
    moved = mrope().rotate(
        q, k, PLACES + torch.tensor([5, -3, 70]), PLACES + torch.tensor([5, -3, 70])
    )
    same(here[0] @ here[1].mT, moved[0] @ moved[1].mT, 1e-12)


# --- in attention ------------------------------------------------------------------------------


def attention(**options):
    return Attention(32, 2, options.pop("encoding", mrope()), **options)


def slots(n, context=None):
    """Mask of a decoder: every slot looks at itself and at those before."""
    return torch.ones(n, context or n, dtype=torch.bool).tril((context or n) - n)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_attention_passes_places_on(fused):
    layer, x = attention(fused=fused), torch.randn(2, 10, 32)
    got = layer(x, PLACES, mask=slots(10))
    same(got, layer(x, PLACES.expand(2, 10, 3), mask=slots(10)))
    same(got, layer(x, PLACES + 40, mask=slots(10)), 1e-5)
    assert (got - layer(x, PLACES[:, [0, 2, 1]], mask=slots(10))).abs().max() > 1e-3


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_text_alone_may_be_causal(fused):
    layer, x = attention(causal=True, fused=fused), torch.randn(2, 7, 32)
    at = torch.arange(7)
    want = attention(encoding=Rope(16), causal=True)
    want.load_state_dict(layer.state_dict())
    same(layer(x, at), want(x, at))
    same(layer(x), want(x))
    same(layer(x, torch.stack([at, at + 2])), want(x, torch.stack([at, at + 2])))
    places = at.unsqueeze(-1).expand(7, 3)
    free = attention(fused=fused)
    free.load_state_dict(layer.state_dict())
    same(free(x, places, mask=slots(7)), want(x))


@torch.no_grad()
def test_decoding_after_an_image_equals_the_full_pass():
    layer, x = attention(), torch.randn(1, 10, 32)
    full = layer(x, PLACES, mask=slots(10))
    last = layer(x[:, 8:], PLACES[8:], context=x, context_positions=PLACES, mask=slots(2, 10))
    same(last, full[:, 8:])


@torch.no_grad()
def test_order_of_the_rows_does_not_matter_when_places_come_along():
    layer, x, order = attention(), torch.randn(1, 10, 32), torch.randperm(10)
    same(layer(x[:, order], PLACES[order]), layer(x, PLACES)[:, order])


@pytest.mark.parametrize("name", ["positions", "context_positions"])
def test_places_have_no_order_for_a_causal_layer(name):
    layer, x = attention(causal=True), torch.randn(1, 10, 32)
    given_too = {
        "positions": {},
        "context_positions": {"positions": torch.arange(10), "context": x},
    }
    message = f"{name} must have one number per token if causal, for lack of an order, got shape "
    for at in (PLACES, PLACES[None]):
        with pytest.raises(ValueError, match=f"^{re.escape(message + str(tuple(at.shape)))}$"):
            layer(x, **given_too[name], **{name: at})


def test_other_encodings_take_one_number_only():
    layer, x = attention(encoding=PositionEncoding()), torch.randn(1, 10, 32)
    message = "positions must have shape (10,) or (1, 10), got (10, 3)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer(x, PLACES)
    assert PositionEncoding.axes is None
    assert mrope().axes == 3


# --- the module --------------------------------------------------------------------------------


def test_only_the_query_and_key_door_is_open():
    assert doors(RopeAxes) == ("query/key",)


def test_there_is_nothing_to_train_or_to_save():
    layer = mrope()
    assert not list(layer.parameters())
    assert len(layer.state_dict()) == 0
    file = io.BytesIO()
    torch.save(attention(encoding=layer).state_dict(), file)
    file.seek(0)
    other, x = attention(), torch.randn(1, 10, 32)
    other.load_state_dict(torch.load(file))
    same(copy.deepcopy(other)(x, PLACES), other(x, PLACES), 0)


def test_gradients_turn_back():
    x = torch.randn(1, 1, 10, 16, requires_grad=True)
    out = mrope()(x, PLACES)
    direction = torch.randn_like(out)
    (out * direction).sum().backward()
    same(x.grad, mrope()(direction, -PLACES))


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_layer_compiles_to_one_graph(layout):
    torch.compiler.reset()
    layer = mrope(layout=layout, arrangement="interleaved")
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x = torch.randn(2, 3, 10, 16)
    same(compiled(x), layer(x))
    same(compiled(x, PLACES), layer(x, PLACES))
    same(compiled(x, PLACES.expand(2, 10, 3) + 7), layer(x, PLACES + 7))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's inductor uses it
@pytest.mark.parametrize("device", COMPILED)
@torch.no_grad()
def test_generated_code_computes_the_same(device):
    torch.compiler.reset()
    layer, x = attention().to(device), torch.randn(2, 10, 32, device=device)
    at, mask = PLACES.to(device), slots(10).to(device)
    compiled = torch.compile(layer, fullgraph=True)
    same(compiled(x, at, mask=mask), layer(x, at, mask=mask), 1e-5)


def test_places_are_counted_where_the_tokens_are():
    layer, x = mrope(), torch.zeros(1, 1, 10, 16, device="meta")
    assert layer(x).device.type == "meta"
    assert layer(x, PLACES.to("meta")).shape == x.shape


# --- errors ------------------------------------------------------------------------------------

X = torch.zeros(2, 1, 6, 16)
AT = torch.zeros(6, 3, dtype=torch.int64)

TYPE_ERRORS = {
    "d_head must be an integer, got 16.0": lambda: RopeAxes(16.0, [2, 3, 3]),
    "section must be an integer, got 2.0": lambda: RopeAxes(16, [2.0, 3, 3]),
    "d_rotary must be an integer, got '16'": lambda: RopeAxes(16, [2, 3, 3], d_rotary="16"),
    "base must hold real numbers, got dtype <U1": lambda: mrope(base="a"),
    "x must have a floating dtype, got torch.int64": lambda: mrope()(X.long(), AT),
    "positions must be int64 or int32, got torch.float32": lambda: mrope()(X, AT.float()),
    "q must have a floating dtype, got torch.int64": lambda: mrope().rotate(X.long(), X, AT, AT),
    "k_positions must be int64 or int32, got torch.bool": lambda: mrope().rotate(
        X, X, AT, AT.bool()
    ),
}

VALUE_ERRORS = {
    "sections must add up to 8, half of the columns that turn, got 7": lambda: RopeAxes(16, [2, 5]),
    "sections must add up to 4, half of the columns that turn, got 8": lambda: RopeAxes(
        16, [2, 3, 3], d_rotary=8
    ),
    "sections must not be empty, got []": lambda: RopeAxes(16, []),
    "section must be at least 1, got 0": lambda: RopeAxes(16, [8, 0]),
    "d_head must be a multiple of 2, got 15": lambda: RopeAxes(15, [2, 3, 3]),
    "base must be above 1, got 1": lambda: mrope(base=1),
    "arrangement must be 'chunked' or 'interleaved', got 'x'": lambda: mrope(arrangement="x"),
    "ladder must be 'shared' or 'own', got 'x'": lambda: mrope(ladder="x"),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: mrope(layout="x"),
    "x must have shape (batch, heads, n >= 1, 16), got (1, 6, 16)": lambda: mrope()(X[0], AT),
    "x must have shape (batch, heads, n >= 1, 16), got (16,)": lambda: mrope()(X[0, 0, 0]),
    "k must have shape (batch, heads, n >= 1, 16), got (2, 1, 6, 8)": lambda: mrope().rotate(
        X, X[..., :8], AT, AT
    ),
    "positions must have shape (6,) or (2, 6) or (6, 3) or (2, 6, 3), got (6, 2)": (
        lambda: mrope()(X, AT[:, :2])
    ),
    "q_positions must have shape (6,) or (2, 6) or (6, 3) or (2, 6, 3), got (3, 2, 6)": (
        lambda: mrope().rotate(X, X, AT.T[:, None].expand(3, 2, 6), AT)
    ),
    "positions must have shape (..., 3), one number per axis, got (6,)": lambda: mrope().tables(
        AT[:, 0]
    ),
    "positions must be on device cpu, got meta": lambda: mrope()(X, AT.to("meta")),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


def test_a_compiled_layer_refuses_the_same_input():
    torch.compiler.reset()
    compiled = torch.compile(mrope(), backend="eager")
    with pytest.raises(TypeError, match=r"^positions must be int64 or int32, got torch.float32$"):
        compiled(X, AT.float())
