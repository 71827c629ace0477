"""The layer of `floater`: the equation, its solvers, frozen tables, training, casts, errors."""

import copy
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import nn

from posenc.equations.floater import generator, solve
from posenc.equations.sinusoidal import sinusoidal
from posenc.layers.attention import Attention, doors
from posenc.layers.floater import Dynamics, Floater

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FIXED = ("euler", "midpoint", "rk4")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def lively(d=6, **settings):
    """A layer whose network does something."""
    layer = Floater(d, 5, **{"time_step": 0.2, **settings})
    nn.init.normal_(layer.dynamics.outer.weight)
    nn.init.normal_(layer.start)
    return layer


def by_hand(layer):
    """The velocity of a layer, from its weights, in NumPy."""
    inner, outer = layer.dynamics.inner, layer.dynamics.outer
    W1, b1, W2, b2 = (
        w.detach().double().cpu().numpy()
        for w in (inner.weight, inner.bias, outer.weight, outer.bias)
    )
    A = 0 if layer.base is None else generator(layer.d_model, layer.base)

    def velocity(t, p):
        hidden = np.tanh(W1[:, :-1] @ p + W1[:, -1] * t * layer.time_step + b1)
        turn = np.zeros_like(p) if layer.base is None else p @ A
        return turn + layer.time_step * (W2 @ hidden + b2)

    return velocity


def same(a, b, tolerance=0.0):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


# --- the equation ------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [10000.0, 7.0, None])
@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("substeps", [1, 4])
def test_fixed_steps_are_those_of_the_equation(method, substeps, base):
    layer = lively(base=base, method=method, substeps=substeps).double()
    if method == "rk4":  # torchdiffeq has another method of the same order, the 3/8 rule
        substeps, layer.substeps = 20 * substeps, 20 * substeps
    start = layer.start.detach().numpy()
    want = solve(by_hand(layer), start, 5, method=method, substeps=substeps)
    np.testing.assert_allclose(layer.table(5).detach(), want, rtol=0, atol=1e-6)


def test_the_two_methods_of_order_four_agree_on_a_linear_equation():
    layer = Floater(8, 2, method="rk4").double()
    A, start = generator(8), sinusoidal(0, 8)
    want = solve(lambda t, p: p @ A, start, 30)
    np.testing.assert_allclose(layer.table(30).detach(), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", [10000.0, None])
def test_the_adaptive_method_equals_scipy(base):
    layer = lively(base=base, tolerance=1e-9).double()
    times = np.arange(20.0)
    want = solve_ivp(
        by_hand(layer),
        (0, 19),
        layer.start.detach().numpy(),
        "DOP853",
        times,
        rtol=1e-11,
        atol=1e-12,
    ).y.T
    np.testing.assert_allclose(layer.table(20).detach(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_before_training_it_is_the_sinusoidal_encoding(device):
    layer = Floater(8, 4, tolerance=1e-8).double().to(device)
    got = layer(torch.zeros(1, 12, 8, dtype=torch.float64, device=device))[0]
    np.testing.assert_allclose(got.detach().cpu(), sinusoidal(np.arange(12), 8), rtol=0, atol=1e-6)


def test_a_smaller_tolerance_is_nearer():
    want = sinusoidal(np.arange(30), 4)
    errors = [
        np.abs(Floater(4, 2, tolerance=t).double().table(30).detach().numpy() - want).max()
        for t in (1e-3, 1e-5, 1e-7)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_the_paper_s_time_runs_with_the_time_step():
    """dp/dt = g(t, p) at t = 0.2 k, solved in t, is what the layer solves in positions."""
    layer = lively(base=None, tolerance=1e-9).double()
    slow = by_hand(layer)
    velocity = lambda t, p: slow(t / 0.2, p) / 0.2  # noqa: E731
    times = 0.2 * np.arange(10)
    start = layer.start.detach().numpy()
    want = solve_ivp(velocity, (0, times[-1]), start, "DOP853", times, rtol=1e-11, atol=1e-12).y.T
    np.testing.assert_allclose(layer.table(10).detach(), want, rtol=0, atol=1e-6)


def test_a_longer_table_begins_with_the_shorter_one():
    layer = lively(method="rk4")
    same(layer.table(9)[:4], layer.table(4), 1e-6)
    assert layer.table(1).shape == (1, 6)
    same(layer.table(1)[0], layer.start)


def test_a_bounded_network_runs_away_no_faster_than_a_line():
    layer = lively(base=None, method="rk4").double()
    with torch.no_grad():
        steps = layer.table(200).diff(dim=0).norm(dim=1)
        outer = layer.dynamics.outer
        assert steps.max() <= 0.2 * (outer.weight.abs().sum(1) + outer.bias.abs()).norm()


# --- positions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
def test_positions_are_rows_of_the_table(frozen):
    layer, x = lively(method="rk4"), torch.randn(2, 3, 6)
    rows = layer.table(8).detach()
    if frozen:
        layer.freeze(8)
    positions = torch.tensor([[0, 0, 7], [2, 1, 2]])
    same(layer.embed(x, positions).detach(), x + rows[positions], 1e-6)
    same(layer(x, positions.int()).detach(), layer(x, positions).detach())
    same(layer(x).detach(), layer(x, torch.arange(3)).detach(), 1e-6)


def test_a_decoder_continues_at_its_own_position():
    x, layer = torch.randn(1, 5, 6), lively(method="rk4")
    steps = [layer(x[:, k : k + 1], torch.tensor([k])) for k in range(5)]
    same(torch.cat(steps, dim=1), layer(x), 1e-6)


def test_it_opens_the_input_door_alone():
    assert doors(Floater) == ("input",)
    x, layer = torch.randn(2, 4, 6), lively(method="rk4", token_scale=2.0)
    attention, plain = Attention(6, 2, layer), Attention(6, 2)
    plain.load_state_dict(attention.state_dict(), strict=False)
    same(attention(x), plain(layer(x)))


def test_tokens_keep_their_scale_unless_said_otherwise():
    x, layer = torch.randn(1, 3, 6), lively(method="rk4")
    same(layer(x) - layer(0 * x), x, 1e-6)
    layer.token_scale = 3.0
    same(layer(x) - layer(0 * x), 3 * x, 1e-6)


def test_dropout_works_in_training_only():
    layer = Floater(16, 2, base=None, dropout=0.5)
    layer.freeze(500)
    dropped = (layer(torch.ones(1, 500, 16)) == 0).float().mean()
    assert 0.45 < dropped < 0.55
    assert (layer.eval()(torch.ones(1, 500, 16)) != 0).all()


# --- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_gradients_reach_the_network_and_the_start(method, adjoint):
    layer = lively(method=method, adjoint=adjoint, substeps=8)
    layer(torch.zeros(1, 4, 6)).square().sum().backward()
    for name, weight in layer.named_parameters():
        assert weight.grad.abs().sum() > 0, name


def test_it_learns_a_table():
    """A quarter turn on a circle, at five positions, from rest."""
    turn = torch.linspace(0, torch.pi / 2, 5)
    want = torch.stack([turn.sin(), turn.cos()], dim=1)
    layer = Floater(2, 8, base=None, time_step=1.0, method="rk4")
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        loss = (layer.table(5) - want).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] > 0.1
    assert losses[-1] < 0.01


def test_a_frozen_table_passes_no_gradient():
    layer = lively(method="rk4")
    layer.freeze(4)
    x = torch.randn(1, 4, 6, requires_grad=True)
    layer(x).sum().backward()
    same(x.grad, torch.ones(1, 4, 6))
    assert all(weight.grad is None for weight in layer.parameters())


# --- frozen tables, casts and copies -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_cast_does_not_round_a_frozen_table(dtype):
    layer = lively(method="rk4")
    want = layer.table(9).detach()
    layer.freeze(9)
    got = layer.to(dtype)(torch.zeros(1, 9, 6))
    same(got[0], want)
    x = torch.randn(1, 9, 6).to(dtype)
    same(layer(x)[0], (x[0].to(torch.promote_types(dtype, torch.float32)) + want).to(dtype))


def test_a_double_layer_keeps_a_double_table():
    layer = lively(method="rk4").double()
    want = layer.table(5).detach()
    layer.freeze(5)
    same(layer.float()(torch.zeros(1, 5, 6, dtype=torch.float64))[0], want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_in_half_precision_solves_in_float32(dtype):
    layer = lively(method="rk4").to(dtype)
    got = layer.table(5)
    assert got.dtype == torch.float32
    same(got, copy.deepcopy(layer).float().table(5), 1e-6)
    assert layer(torch.zeros(1, 5, 6, dtype=dtype)).dtype == dtype


def test_autocast_does_not_reach_the_solver():
    layer, x = lively(method="rk4"), torch.zeros(1, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        got = layer(x)
    same(got, layer(x))


def test_a_checkpoint_holds_the_weights_and_drops_a_frozen_table():
    layer, other = lively(method="rk4"), lively(method="rk4")
    nn.init.normal_(other.start)
    layer.freeze(7)
    assert sorted(layer.state_dict()) == [
        "dynamics.inner.bias",
        "dynamics.inner.weight",
        "dynamics.outer.bias",
        "dynamics.outer.weight",
        "start",
    ]
    other.freeze(7)
    nn.Sequential(other).load_state_dict(nn.Sequential(layer).state_dict())
    assert other.frozen is None
    same(other.table(7), layer.table(7))


def test_copies_keep_a_frozen_table():
    layer, x = lively(method="rk4"), torch.randn(1, 4, 6)
    layer.freeze(4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        same(other(x), layer(x))
        other.thaw()
        assert other.frozen is None


def test_a_frozen_layer_knows_shapes_without_numbers():
    layer = lively(method="rk4")
    layer.freeze(4)
    out = layer.to("meta")(torch.zeros(2, 3, 6, device="meta", dtype=torch.float16))
    assert (out.shape, out.dtype) == ((2, 3, 6), torch.float16)


def test_a_layer_can_be_made_on_the_meta_device():
    with torch.device("meta"):
        layer = Floater(6, 3)
    assert {weight.device.type for weight in layer.parameters()} == {"meta"}


def test_the_network_is_small_and_starts_at_zero():
    g = Dynamics(6, 5)
    assert sum(weight.numel() for weight in g.parameters()) == 7 * 5 + 5 + 5 * 6 + 6
    assert not g.outer.weight.any()
    assert not g.outer.bias.any()
    assert g.inner.weight.any()


def test_the_default_dtype_is_the_dtype_of_the_layer():
    torch.set_default_dtype(torch.float64)
    try:
        assert {weight.dtype for weight in Floater(6, 3).parameters()} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


# --- compilation -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_layer_compiles_to_one_graph(dtype):
    torch.compiler.reset()
    layer = lively(method="rk4", token_scale=2.0)
    layer.freeze(9)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    x, positions = torch.randn(2, 5, 6, dtype=dtype), torch.tensor([8, 0, 3, 3, 1])
    same(compiled(x), layer(x))
    same(compiled(x, positions), layer(x, positions))


@torch.no_grad()
def test_a_solver_stays_outside_the_graph():
    torch.compiler.reset()
    layer, x = lively(method="rk4"), torch.randn(1, 3, 6)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(layer, fullgraph=True, backend="eager")(x)
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="eager")
    same(compiled(x), layer(x))
    with pytest.raises(ValueError, match=r"^positions must be at least 0, got -1$"):
        compiled(x, torch.arange(-1, 2))


def test_annotations_hold_in_all_examples():
    """Run the doctests of both floors with every annotation checked."""
    code = """
import doctest, importlib
from beartype import BeartypeConf
from beartype.claw import beartype_package
beartype_package("posenc", conf=BeartypeConf(is_pep484_tower=True))
for name in ("posenc.equations.floater", "posenc.layers.floater"):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 8 and not result.failed, result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- errors ------------------------------------------------------------------------------------


def test_without_torchdiffeq_a_frozen_layer_works_and_another_names_the_extra(monkeypatch):
    layer = Floater(6, 3)
    layer.freeze(3)
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    assert layer(torch.zeros(1, 3, 6)).shape == (1, 3, 6)
    layer.thaw()
    message = "^the differential equation needs torchdiffeq: pip install 'posenc\\[ode\\]'$"
    with pytest.raises(ImportError, match=message):
        layer(torch.zeros(1, 3, 6))


def test_torchdiffeq_is_imported_only_to_solve():
    code = """
import sys
from posenc.layers.floater import Floater
Floater(4, 2)
print("torchdiffeq" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_position_outside_a_frozen_table_is_an_error():
    layer = Floater(6, 3, base=None)
    layer.freeze(4)
    for outside in (4, -1):
        message = rf"^positions must be between 0 and 3, got {outside}$"
        with pytest.raises(IndexError, match=message):
            layer(torch.zeros(1, 2, 6), torch.tensor([3, outside]))


X = torch.zeros(2, 3, 6)


def layer(*args):
    return Floater(6, 3)(*args)


TYPE_ERRORS = {
    "d_model must be an integer, got 6.0": lambda: Floater(6.0, 3),
    "n_hidden must be an integer, got True": lambda: Floater(6, True),
    "base must hold real numbers, got dtype <U1": lambda: Floater(6, 3, "7"),
    "time_step must hold real numbers, got dtype object": lambda: Floater(6, 3, time_step=None),
    "substeps must be an integer, got 0.5": lambda: Floater(6, 3, substeps=0.5),
    "tolerance must hold real numbers, got dtype bool": lambda: Floater(6, 3, tolerance=True),
    "n must be an integer, got 3.0": lambda: Floater(6, 3).table(3.0),
    "x must have a floating dtype, got torch.int64": lambda: layer(X.long()),
    "positions must be int64 or int32, got torch.float32": lambda: layer(X, torch.arange(3.0)),
}

VALUE_ERRORS = {
    "d_model must be at least 1, got 0": lambda: Floater(0, 3),
    "d_model must be a multiple of 2, got 5": lambda: Floater(5, 3),
    "n_hidden must be at least 1, got 0": lambda: Dynamics(6, 0),
    "base must be above 1, got 1": lambda: Floater(6, 3, 1),
    "time_step must be above 0, got 0": lambda: Floater(6, 3, time_step=0),
    "tolerance must be above 0, got -1": lambda: Floater(6, 3, tolerance=-1),
    "substeps must be at least 1, got 0": lambda: Floater(6, 3, substeps=0),
    "method must be 'dopri5' or 'euler' or 'midpoint' or 'rk4', got 'heun'": lambda: Floater(
        6, 3, method="heun"
    ),
    "token_scale must be above 0, got 0": lambda: Floater(6, 3, token_scale=0),
    "dropout must be between 0 and 1, got 1.5": lambda: Floater(6, 3, dropout=1.5),
    "n must be at least 1, got 0": lambda: Floater(6, 3).table(0),
    "n must be at least 1, got -2": lambda: Floater(6, 3).freeze(-2),
    "positions must be at least 0, got -4": lambda: layer(X, torch.tensor([0, -4, 2])),
    "x must have shape (batch, n >= 1, 6), got (3, 6)": lambda: layer(X[0]),
    "x must have shape (batch, n >= 1, 6), got (2, 3, 4)": lambda: layer(X[..., :4]),
    "x must have shape (batch, n >= 1, 6), got (2, 0, 6)": lambda: layer(X[:, :0]),
    "x must have shape (batch, n >= 1, 6), got (2, 3, 5)": lambda: Floater(6, 3).embed(
        X[..., :5], torch.arange(3)
    ),
    "positions must have shape (3,) or (2, 3), got (4,)": lambda: layer(X, torch.arange(4)),
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
