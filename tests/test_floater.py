"""Recursive positions: printed facts, properties, oracles and errors; the claims."""

import cmath
import math
import re

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import nn

from posenc.equations.floater import generator, growth, iterate, solve, step_matrix
from posenc.equations.sinusoidal import shift_matrix, sinusoidal
from posenc.layers.attention import Attention
from posenc.layers.floater import Floater
from posenc.layers.sinusoidal import Sinusoidal
from scripts.figures.floater import TRAINED, nats, study

METHODS = ("euler", "midpoint", "rk4")
even_widths = st.integers(1, 12).map(lambda half: 2 * half)
bases = st.floats(1.5, 1e5)
layouts = st.sampled_from(["interleaved", "halves"])


def largest(x):
    return float(np.abs(np.asarray(x)).max())


def turning(d=16):
    """Velocity of the sinusoidal encoding, one pair at a time, without a matrix."""
    theta = [10000.0 ** (-2 * m / d) for m in range(d // 2)]

    def velocity(t, p):
        out = np.empty(d)
        for m, angle in enumerate(theta):
            out[2 * m], out[2 * m + 1] = angle * p[2 * m + 1], -angle * p[2 * m]
        return out

    return velocity


def lively(t, p):
    """A velocity that depends on the time and, not linearly, on the place."""
    return np.tanh(np.roll(p, 1) - 0.3 * p + np.cos(0.5 * t))


def by_scipy(field, first, times):
    """The same equation with another solver, of order 8, at a tolerance of 1e-12."""
    span = times[0], times[-1]
    done = solve_ivp(field, span, first, "DOP853", times, rtol=1e-12, atol=1e-13)
    return done.y.T


# --- printed facts -----------------------------------------------------------------------------


def test_the_generator_of_width_four_in_halves():
    want = [[0, 0, -1, 0], [0, 0, 0, -0.25], [1, 0, 0, 0], [0, 0.25, 0, 0]]
    np.testing.assert_array_equal(generator(4, base=16, layout="halves"), want)


def test_frequencies_may_end_at_the_base():
    got = generator(4, base=8, spacing="tensor2tensor")
    np.testing.assert_array_equal(got[[1, 3], [0, 2]], [1, 0.125])


def test_fibonacci_is_a_recursion():
    rows = iterate(lambda p: np.array([p[1], p.sum()]), [0.0, 1.0], 10)
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 1, 2, 3, 5, 8, 13, 21, 34])


def test_one_step_of_each_method_is_its_textbook_formula():
    h, t, p = 0.25, 0.0, np.array([0.5, -1.0, 2.0])
    a = lively(t, p)
    b = lively(t + h / 2, p + h / 2 * a)
    c = lively(t + h / 2, p + h / 2 * b)
    e = lively(t + h, p + h * c)
    want = {"euler": a, "midpoint": b, "rk4": (a + 2 * b + 2 * c + e) / 6}
    for method, velocity in want.items():
        got = solve(lambda s, q: lively(s * h, q) * h, p, 2, method=method)
        np.testing.assert_allclose(got[1], p + h * velocity, rtol=1e-15)


def test_the_trapezoid_rule_is_the_cayley_transform_of_a_pair():
    (c, s), norm = (1 - 0.25, 1.0), 1.25  # (1 + i/2)² / |1 + i/2|²
    np.testing.assert_allclose(
        step_matrix(generator(2), 1, "trapezoid"), [[c, -s], [s, c]] / np.array(norm)
    )


def test_euler_is_the_default_of_nothing_and_rk4_the_default():
    np.testing.assert_array_equal(
        solve(lively, np.ones(3), 4), solve(lively, np.ones(3), 4, method="rk4", substeps=1)
    )


# --- properties --------------------------------------------------------------------------------


@given(even_widths, bases, layouts)
def test_the_generator_is_skew_and_orthogonal_to_every_place(d, base, layout):
    A = generator(d, base, layout=layout)
    np.testing.assert_array_equal(A, -A.T)
    p = np.random.default_rng(d).normal(size=d)
    assert abs(p @ A @ p) <= 1e-13 * d


@given(even_widths, bases, layouts, st.floats(-50, 50))
def test_every_shift_is_an_exponential(d, base, layout, offset):
    got = expm(offset * generator(d, base, layout=layout))
    np.testing.assert_allclose(got, shift_matrix(offset, d, base, layout=layout), atol=1e-12)


@given(st.floats(-2, 2), st.sampled_from([*METHODS, "trapezoid"]))
def test_growth_is_the_eigenvalue_of_the_step_matrix(angle, method):
    R = step_matrix(generator(2), angle, method)
    z = growth(angle, method)
    np.testing.assert_allclose(R, [[z.real, -z.imag], [z.imag, z.real]], atol=1e-14)


@given(st.floats(0.01, 0.3), st.sampled_from([("euler", 1), ("midpoint", 2), ("rk4", 4)]))
def test_growth_is_the_turn_up_to_the_order_of_the_method(angle, case):
    method, order = case
    rest = abs(growth(angle, method) - cmath.exp(1j * angle))
    assert rest == pytest.approx(angle ** (order + 1) / math.factorial(order + 1), rel=0.1)


@given(st.floats(0, 100))
def test_the_trapezoid_rule_never_lengthens_and_turns_less(angle):
    z = growth(angle, "trapezoid")
    assert abs(z) == pytest.approx(1, abs=1e-15)
    assert 0 <= cmath.phase(z) <= angle


def test_growth_keeps_shapes():
    assert growth(np.ones((2, 3)), "rk4").shape == (2, 3)
    assert growth(np.ones((2, 3)), "trapezoid").shape == (2, 3)
    assert isinstance(growth(1.0, "euler"), np.complex128)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("substeps", [1, 3])
def test_a_linear_equation_is_solved_by_powers_of_the_step_matrix(method, substeps):
    A = np.random.default_rng(0).normal(size=(4, 4)) / 4
    R = step_matrix(A, 1 / substeps, method)
    want = [np.ones(4) @ np.linalg.matrix_power(R, k * substeps) for k in range(6)]
    got = solve(lambda t, p: p @ A, np.ones(4), 6, method=method, substeps=substeps)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_the_error_falls_with_the_order_of_the_method(method, order):
    want = by_scipy(lively, np.ones(3), np.arange(5.0))
    errors = [
        largest(solve(lively, np.ones(3), 5, method=method, substeps=n) - want) for n in (20, 40)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_a_step_back_undoes_a_step_of_the_trapezoid_rule():
    A = np.random.default_rng(1).normal(size=(3, 3))
    there, back = (step_matrix(A, h, "trapezoid") for h in (0.3, -0.3))
    np.testing.assert_allclose(there @ back, np.eye(3), atol=1e-14)


# --- errors ------------------------------------------------------------------------------------

STAY = {"step": lambda p: p, "first": [1.0]}


def test_every_step_must_keep_the_shape():
    grow = iter([np.ones(1), np.ones(2)])
    with pytest.raises(ValueError, match=r"^what step returns must have shape \(1,\), got \(2,\)$"):
        iterate(lambda p: next(grow), [1.0], 3)


TYPE_ERRORS = {
    "d_model must be an integer, got 2.0": lambda: generator(2.0),
    "n must be an integer, got 2.0": lambda: iterate(**STAY, n=2.0),
    "first must hold real numbers, got dtype complex128": lambda: iterate(abs, [1j], 2),
    "what step returns must hold real numbers, got dtype bool": lambda: iterate(
        lambda p: p > 0, [1.0], 2
    ),
    "substeps must be an integer, got 0.5": lambda: solve(lively, [1.0], 2, substeps=0.5),
    "angle must hold real numbers, got dtype complex128": lambda: growth(1j, "euler"),
    "step must hold real numbers, got dtype <U1": lambda: step_matrix([[1.0]], "1", "euler"),
}

VALUE_ERRORS = {
    "d_model must be a multiple of 2, got 5": lambda: generator(5),
    "base must be above 1, got 1": lambda: generator(4, 1),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: generator(4, layout="x"),
    "spacing must be 'paper' or 'tensor2tensor', got 'x'": lambda: generator(4, spacing="x"),
    "n must be at least 1, got 0": lambda: iterate(**STAY, n=0),
    "first must have at least 1 axes, got shape ()": lambda: iterate(abs, 1.0, 2),
    "first must have shape (2,), got (1, 2)": lambda: iterate(abs, [[1.0, 2.0]], 2),
    "first must be finite, got nan": lambda: iterate(abs, [math.nan], 2),
    "what step returns must have shape (1,), got (2,)": lambda: iterate(
        lambda p: np.ones(2), [1.0], 2
    ),
    "what step returns must be finite, got inf": lambda: iterate(lambda p: p * math.inf, [1.0], 2),
    "n must be at least 1, got -1": lambda: solve(lively, [1.0], -1),
    "substeps must be at least 1, got 0": lambda: solve(lively, [1.0], 2, substeps=0),
    "method must be 'euler' or 'midpoint' or 'rk4', got 'trapezoid'": lambda: solve(
        lively, [1.0], 2, method="trapezoid"
    ),
    "method must be 'euler' or 'midpoint' or 'rk4' or 'trapezoid', got 'heun'": lambda: growth(
        1, "heun"
    ),
    "angle must be finite, got inf": lambda: growth(math.inf, "euler"),
    "A must have shape (1, 1), got (1, 2)": lambda: step_matrix([[1.0, 2.0]], 1, "euler"),
    "A must have at least 2 axes, got shape (1,)": lambda: step_matrix([1.0], 1, "euler"),
    "step must have shape (), got (2,)": lambda: step_matrix([[1.0]], [1, 2], "euler"),
    "method must be 'euler' or 'midpoint' or 'rk4' or 'trapezoid', got ''": lambda: step_matrix(
        [[1.0]], 1, ""
    ),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- the claims --------------------------------------------------------------------------------


@torch.no_grad()
@claim("floater.rnn")
def test_attention_alone_passes_a_shuffle_on_and_a_recurrent_layer_does_not():
    torch.manual_seed(0)
    x, order = torch.randn(1, 12, 16, dtype=torch.float64), torch.randperm(12)
    attention, gru = Attention(16, 2).double(), nn.GRU(16, 16, batch_first=True).double()

    def behind(tokens):
        return attention(gru(tokens)[0])

    alone = attention(x[:, order]) - attention(x)[:, order]
    in_front = behind(x[:, order]) - behind(x)[:, order]
    return at_most(1e-12, right=largest(alone), wrong=largest(in_front))


@claim("floater.recursion")
def test_the_sinusoid_is_a_recursion_with_one_rotation():
    M = shift_matrix(1, 16)
    rows = iterate(lambda p: p @ M, sinusoidal(0, 16), 200)
    back = iterate(lambda p: p @ M.T, sinusoidal(0, 16), 200)
    want = np.array(
        [
            [f(k * 10000 ** (-m / 8)) for m in range(8) for f in (math.sin, math.cos)]
            for k in range(200)
        ]
    )
    return at_most(1e-12, right=largest(rows - want), wrong=largest(back - want))


@claim("floater.contraction")
def test_a_contraction_brings_neighbours_together():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(16, 16))
    W *= 0.9 / np.linalg.norm(W, 2)
    b, first = rng.normal(size=16), rng.normal(size=16)
    by_tanh = iterate(lambda p: np.tanh(p @ W + b), first, 101)
    M = shift_matrix(1, 16)
    rotated = iterate(lambda p: p @ M, first, 101)
    apart = np.linalg.norm(np.diff(by_tanh, axis=0), axis=1)
    apart_rotated = np.linalg.norm(np.diff(rotated, axis=0), axis=1)
    allowed = 0.9 ** np.arange(1, 100)
    return at_most(
        1,
        right=(apart[1:] / apart[0] / allowed).max(),
        wrong=(apart_rotated[1:] / apart_rotated[0] / allowed).max(),
        first=apart[0],
        at_20=apart[20],
    )


@claim("floater.walk")
def test_a_walk_may_be_interrupted():
    first, end = np.array([1.0, -0.5, 2.0]), by_scipy(lively, [1.0, -0.5, 2.0], np.arange(13.0))[-1]
    half = solve(lively, first, 6, substeps=40)[-1]
    on = solve(lambda t, p: lively(t + 5, p), half, 8, substeps=40)[-1]
    again = solve(lively, half, 8, substeps=40)[-1]
    return at_most(1e-6, right=largest(on - end), wrong=largest(again - end))


@claim("floater.generator")
def test_the_exponential_of_the_generator_is_the_shift():
    A = generator(16)
    tangent = np.eye(16) + A
    M = shift_matrix(1, 16)
    return at_most(1e-14, right=largest(expm(A) - M), wrong=largest(tangent - M))


@claim("floater.sinusoid")
def test_the_sinusoid_solves_the_equation():
    want = sinusoidal(np.arange(200), 16)
    by_ours = solve(turning(), sinusoidal(0, 16), 200, substeps=20)
    by_theirs = by_scipy(turning(), sinusoidal(0, 16), np.arange(200.0))
    theta = 10000.0 ** (np.arange(8) / 8)  # c to the power of plus j/d
    angle = np.arange(200)[:, None] * theta
    inverted = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(200, 16)
    return at_most(
        1e-4,
        right=max(largest(by_ours - want), largest(by_theirs - want)),
        wrong=largest(inverted - want),
        ours=largest(by_ours - want),
        theirs=largest(by_theirs - want),
    )


@claim("floater.time_only")
def test_a_velocity_of_time_alone_gives_the_same_curve_and_keeps_euler_in_bounds():
    theta = 10000.0 ** (-np.arange(8) / 8)

    def velocity(t, p):
        turn = theta * t
        return np.stack([theta * np.cos(turn), -theta * np.sin(turn)], axis=-1).reshape(16)

    exact = by_scipy(velocity, sinusoidal(0, 16), np.arange(200.0))
    assert largest(exact - sinusoidal(np.arange(200), 16)) < 1e-9
    first = sinusoidal(0, 16)
    by_time = np.abs(solve(velocity, first, 201, method="euler")).max()
    by_place = np.abs(solve(turning(), first, 201, method="euler")).max()
    return at_most(2, right=by_time, wrong=by_place)


def euler_norm(substeps):
    rows = solve(turning(), sinusoidal(0, 16), 201, method="euler", substeps=substeps)
    return np.linalg.norm(rows[-1])


@claim("floater.euler")
def test_euler_lengthens_every_pair_by_a_known_factor():
    got = [euler_norm(n) for n in (1, 10, 100)]
    theta = 10000.0 ** (-np.arange(8) / 8)
    want = [math.sqrt(((1 + (theta / n) ** 2) ** (200 * n)).sum()) for n in (1, 10, 100)]
    kept = math.sqrt(8)
    return at_most(
        1e-9,
        right=max(abs(a / b - 1) for a, b in zip(got, want, strict=True)),
        wrong=min(abs(a / kept - 1) for a in got),
        step_1=got[0],
        step_01=got[1],
        step_001=got[2],
        exact=kept,
        one_percent=100 / math.log(1.01),
        steps=200 * 100 / math.log(1.01),
    )


@claim("floater.rk4")
def test_rk4_shortens_a_pair_a_little():
    angle = np.linspace(0.01, 3, 300)
    got = abs(growth(angle, "rk4")) ** 2
    want = 1 - angle**6 / 72 + angle**8 / 576
    fastest = 1 - 1 / 72 + 1 / 576
    return at_most(
        1e-12,
        right=largest(got - want),
        wrong=largest(got - 1),
        limit=math.sqrt(8),
        kept=fastest**100,
        kept_second=(1 - 10000.0 ** (-6 / 8) / 72 + 10000.0 ** (-1) / 576) ** 100,
    )


@claim("floater.trapezoid")
def test_the_trapezoid_rule_keeps_the_norm_and_turns_too_little():
    A, h = generator(16), 1.0
    R = step_matrix(A, h, "trapezoid")
    rows = iterate(lambda p: p @ R, sinusoidal(0, 16), 201)
    theta = 10000.0 ** (-np.arange(8) / 8)
    turned = np.multiply.outer(np.arange(201), 2 * np.arctan(h * theta / 2))
    want = np.stack([np.sin(turned), np.cos(turned)], axis=-1).reshape(201, 16)
    norms = np.linalg.norm(rows, axis=1)
    assert largest(norms - math.sqrt(8)) < 1e-12
    return at_most(
        1e-12,
        right=largest(rows - want),
        wrong=largest(rows - sinusoidal(np.arange(201), 16)),
        turn=2 * math.atan(0.5),
        late=1 / (1 - 2 * math.atan(0.5)) * math.pi,
    )


def evaluations(layer, work):
    """How often the network is asked for a velocity."""
    counts = []
    handle = layer.dynamics.register_forward_hook(lambda *_: counts.append(1))
    work()
    handle.remove()
    return len(counts)


@torch.no_grad()
@claim("floater.layer")
def test_the_layer_starts_as_the_sinusoidal_encoding():
    x = torch.zeros(1, 51, 16)
    want = Sinusoidal(16)(x)
    got, by_euler = (Floater(16, 8, method=method)(x) for method in ("dopri5", "euler"))
    return at_most(1e-3, right=largest(got - want), wrong=largest(by_euler - want))


@claim("floater.gradient")
def test_both_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    weights = torch.randn(3, 4, dtype=torch.float64)

    def made(**settings):
        torch.manual_seed(1)
        layer = Floater(4, 6, time_step=0.3, tolerance=1e-6, **settings).double()
        nn.init.normal_(layer.dynamics.outer.weight)
        return layer

    def gradient(layer):
        (layer.table(3) * weights).sum().backward()
        return layer.dynamics.inner.weight.grad[0]

    one = made()
    row, step = one.dynamics.inner.weight[0], 1e-4
    want = torch.zeros(5, dtype=torch.float64)
    with torch.no_grad():
        for i in range(5):
            for sign in (1, -1):
                row[i] += sign * step
                want[i] += sign * (one.table(3) * weights).sum() / (2 * step)
                row[i] -= sign * step
    through, adjoint = gradient(one), gradient(made(adjoint=True))
    right = max(largest(through - want), largest(adjoint - want))
    return at_most(1e-5, right=right, wrong=largest(want), adjoint=largest(adjoint - through))


@torch.no_grad()
@claim("floater.still")
def test_a_network_of_zeros_leaves_all_positions_the_same():
    torch.manual_seed(0)
    x, order = torch.randn(1, 12, 16), torch.randperm(12)
    still = Attention(16, 2, Floater(16, 8, base=None))
    turning_ = Attention(16, 2, Floater(16, 8))
    turning_.load_state_dict(still.state_dict())
    gaps = [largest(a(x[:, order]) - a(x)[:, order]) for a in (still, turning_)]
    return at_most(1e-5, right=gaps[0], wrong=gaps[1])


@claim("floater.bias")
def test_a_position_vector_before_a_linear_map_is_a_bias_after_it():
    rng = np.random.default_rng(0)
    x, p = rng.normal(size=(2, 12, 16))
    W, b = rng.normal(size=(16, 16)), rng.normal(size=16)
    biases = np.stack([b + row @ W for row in p])
    wanted = np.stack([(a + c) @ W + b for a, c in zip(x, p, strict=True)])
    return at_most(1e-12, right=largest(x @ W + biases - wanted), wrong=largest(x @ W + b - wanted))


@torch.no_grad()
@claim("floater.cost")
def test_the_authors_settings_ask_for_a_velocity_five_thousand_times():
    """Positions 0.01 apart, steps of 0.002, four velocities a step, 255 positions."""

    def asked(n, **settings):
        layer = Floater(2, 1, **settings).double()
        return evaluations(layer, lambda: layer.table(n))

    authors = asked(255, method="rk4", substeps=5)
    frozen = Floater(4, 2)
    frozen.freeze(3)
    return at_most(
        0.5,
        right=abs(authors - 4 * round(254 * 0.01 / 0.002)),
        wrong=authors - 255,
        authors=authors,
        steps=round(254 * 0.01 / 0.002),
        adaptive=asked(33) / 32,
        still=asked(255, base=None),
        frozen=evaluations(frozen, lambda: frozen(torch.zeros(1, 3, 4))),
        per_update=authors / 400,
    )


@claim("floater.frozen")
def test_a_frozen_table_is_the_solved_one_until_training_goes_on():
    torch.manual_seed(0)
    layer, x = Floater(8, 8, time_step=0.1), torch.zeros(1, 6, 8)
    solved = layer(x)
    solved.square().sum().backward()
    layer.freeze(64)
    kept = layer(x)
    assert evaluations(layer, lambda: layer(x)) == 0
    with torch.no_grad():
        for weight in layer.parameters():
            weight -= 0.01 * weight.grad
    stale = layer(x)
    layer.thaw()
    gaps = largest((kept - solved).detach()), largest((stale - layer(x)).detach())
    return at_most(1e-6, right=gaps[0], wrong=gaps[1])


def parts(loss):
    """Mean loss within the trained length, up to twice it, and in the last hundred positions."""
    inside, beyond = loss[: TRAINED - 1], loss[TRAINED - 1 : 2 * TRAINED - 1]
    return inside.mean(), beyond.mean(), loss[-100:].mean()


@claim("floater.trained")
def test_the_trained_equation_points_back_within_its_length_only():
    losses = {name: parts(loss) for name, (_, loss) in study().items()}
    inside, twice, far = losses["floater"]
    known = nats(
        torch.tensor(sinusoidal(np.arange(252), 16)), 40 * torch.tensor(shift_matrix(-1, 16))
    )
    guess = np.log(np.arange(153, 253)).mean()
    assert losses["learned"][0] < 0.2
    assert losses["learned"][2] > guess
    return at_most(
        0.2,
        right=inside,
        wrong=far,
        twice=twice,
        learned=losses["learned"][0],
        learned_far=losses["learned"][2],
        sinusoidal=losses["sinusoidal"][0],
        sinusoidal_far=losses["sinusoidal"][2],
        rnn=losses["rnn"][0],
        rnn_far=losses["rnn"][2],
        guess=np.log(np.arange(2, TRAINED + 1)).mean(),
        guess_far=guess,
        shift=known.max(),
    )


@claim("floater.rows")
def test_the_rows_of_the_tanh_recursion_become_one():
    rows = {name: table for name, (table, _) in study().items()}
    moved = {
        name: np.linalg.norm(np.diff(table[100:], axis=0), axis=1) for name, table in rows.items()
    }
    return at_most(
        1e-6,
        right=moved["rnn"].max(),
        wrong=moved["floater"].min(),
        start=np.linalg.norm(rows["floater"][0]),
        end=np.linalg.norm(rows["floater"][-1]),
        trained=np.linalg.norm(rows["learned"][:TRAINED], axis=1).mean(),
        untrained=np.linalg.norm(rows["learned"][TRAINED:], axis=1).mean(),
    )
