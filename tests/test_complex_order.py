"""Complex-order: printed facts, properties, oracles and errors; the claims."""

import cmath
import math
import re
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.complex_order import (
    best_step,
    complex_order,
    geometric,
    offset_factor,
    real_product,
    real_view,
)
from posenc.equations.rope import rotate
from posenc.equations.sinusoidal import frequencies, sinusoidal
from posenc.layers.complex_order import ComplexOrder, ComplexOrderEmbedding

reals = st.floats(-50, 50)
turns = st.floats(-math.pi, math.pi)
layouts = st.sampled_from(["interleaved", "halves"])


def largest(x):
    return float(np.abs(x).max())


def words(n_words, width, seed=0):
    """Amplitudes, frequencies and phases of some words, at random."""
    rng = np.random.default_rng(seed)
    shape = n_words, width
    return rng.normal(size=shape), rng.uniform(0.05, 1, shape), rng.uniform(-np.pi, np.pi, shape)


def by_loop(positions, amplitude, frequency, phase):
    """One word, one number at a time, in polar form."""
    return np.array(
        [
            [cmath.rect(abs(r), w * k + t + (math.pi if r < 0 else 0)) for r, w, t in dimensions]
            for k in positions
            for dimensions in [list(zip(amplitude, frequency, phase, strict=True))]
        ]
    )


def products(first, second, at, to, one_clock=None):
    """Real inner products of word 1 at `at` with word 2 at `to`, pair by pair of positions."""
    (r, w, t), (s, v, u) = first, second
    if one_clock is not None:
        w = v = one_clock
    return real_product(complex_order(at, r, w, t), complex_order(to, s, v, u))


# --- printed facts -----------------------------------------------------------------------------


def test_a_quarter_turn_per_token_visits_the_four_axes():
    got = complex_order(np.arange(4), [3.0], [np.pi / 2])[:, 0]
    np.testing.assert_allclose(got, [3, 3j, -3, -3j], rtol=0, atol=1e-15)


def test_at_position_zero_stands_amplitude_and_phase():
    got = complex_order(0, [2.0, 5.0], [0.3, 0.7], [0.0, np.pi])
    np.testing.assert_allclose(got, [2, -5], rtol=0, atol=1e-15)


def test_a_negative_amplitude_is_a_phase_of_half_a_turn():
    one = complex_order(np.arange(5), [-2.0], [0.3])
    np.testing.assert_allclose(one, complex_order(np.arange(5), [2.0], [0.3], [np.pi]), atol=1e-14)


def test_a_clock_that_stands_still_is_a_word_vector():
    got = complex_order([-3, 0, 10**6], [2.0, 3.0], [0.0, 0.0])
    np.testing.assert_array_equal(got, [[2, 3]] * 3)


def test_amplitude_zero_is_the_zero_word_everywhere():
    assert not complex_order(np.arange(9), [0.0], [0.3], [1.0]).any()


def test_powers_of_two_and_of_the_imaginary_unit_are_exact():
    np.testing.assert_array_equal(geometric(1j, 2, 4), [1j, 2j, 4j, 8j])
    np.testing.assert_array_equal(geometric(1, 1, 3), np.ones(3))
    np.testing.assert_array_equal(geometric(0, 0.5, 3), np.zeros(3))
    assert geometric(7, 0, 1).tolist() == [7]


def test_layouts_place_real_and_imaginary_parts():
    z = np.array([[1 + 2j, 3 + 4j, 5 + 6j]])
    np.testing.assert_array_equal(real_view(z), [[1, 2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(real_view(z, layout="halves"), [[1, 3, 5, 2, 4, 6]])


def test_results_are_complex128_and_float64():
    assert complex_order(1, np.ones(2, np.float32), [1, 2]).dtype == np.complex128
    assert offset_factor(1, [1]).dtype == geometric(1, 1, 2).dtype == np.complex128
    assert real_view([1, 2]).dtype == real_product([1], [2]).dtype == np.float64


# --- properties --------------------------------------------------------------------------------


@given(reals, reals, st.floats(0, 10), turns, turns)
def test_modulus_is_the_amplitude_at_every_position(k, n, r, omega, theta):
    for position in (k, k + n):
        got = abs(complex_order(position, [r], [omega], [theta])[0])
        assert got == pytest.approx(r, abs=1e-14)


@given(reals, reals, turns, turns)
def test_two_steps_in_a_row_are_one(m, n, omega, theta):
    np.testing.assert_allclose(
        offset_factor(m, [omega]) * offset_factor(n, [omega]),
        offset_factor(m + n, [omega]),
        rtol=0,
        atol=1e-12,
    )
    here, there = complex_order(np.array([m, m + n]), [1.0], [omega], [theta])
    np.testing.assert_allclose(here * offset_factor(n, [omega]), there, rtol=0, atol=1e-12)


@given(st.integers(-50, 50), turns, turns)
def test_a_negative_frequency_is_the_conjugate(k, omega, theta):
    got = complex_order(k, [1.0], [-omega], [-theta])
    np.testing.assert_array_equal(got, complex_order(k, [1.0], [omega], [theta]).conj())


@given(st.floats(0, 1), turns, st.floats(0.1, 5), turns)
def test_the_best_step_of_a_geometric_sequence_is_its_ratio(modulus, angle, size, start):
    ratio = cmath.rect(modulus, angle)
    w, miss = best_step(geometric(cmath.rect(size, start), ratio, 12))
    assert miss < 1e-13
    assert abs(w - ratio) < 1e-13


@given(st.lists(st.complex_numbers(max_magnitude=10), min_size=3, max_size=8))
def test_no_other_factor_is_nearer_in_the_mean(values):
    g = np.array(values)
    if np.abs(g[:-1]).max() < 1e-3:
        return
    w, miss = best_step(g)
    errors = [np.linalg.norm(g[1:] - v * g[:-1]) for v in (w, w + 0.01, w - 0.01j)]
    assert errors[0] <= min(errors[1:]) + 1e-12
    assert miss == pytest.approx(largest(g[1:] - w * g[:-1]), abs=1e-12)


@given(st.integers(1, 5), layouts, st.integers(0, 99))
def test_the_real_view_keeps_inner_products(width, layout, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(4, width)) + 1j * rng.normal(size=(4, width)) for _ in range(2))
    got = (real_view(a, layout=layout) * real_view(b, layout=layout)).sum(axis=-1)
    np.testing.assert_allclose(real_product(a, b), got, rtol=0, atol=1e-13)
    np.testing.assert_allclose(real_product(a, b), (a.conj() * b).sum(-1).real, atol=1e-13)


def test_axes_in_front_broadcast():
    r, omega, theta = words(3, 4)
    got = complex_order(np.arange(5)[:, None], r, omega, theta)
    assert got.shape == (5, 3, 4)
    np.testing.assert_array_equal(got[2, 1], complex_order(2, r[1], omega[1], theta[1]))
    sentence = complex_order([0, 1, 2], r, omega, theta)
    np.testing.assert_array_equal(sentence, got[np.arange(3), np.arange(3)])
    assert offset_factor(np.arange(2), omega[0]).shape == (2, 4)
    assert real_product(got, sentence[0]).shape == (5, 3)


def test_arguments_are_not_changed():
    arrays = [np.arange(3.0), np.ones(3), np.ones(3), np.ones(3)]
    complex_order(*arrays)
    z = np.array([1 + 2j, 3j])
    real_view(z), real_product(z, z), best_step(z)
    np.testing.assert_array_equal(z, [1 + 2j, 3j])
    np.testing.assert_array_equal(arrays[0], np.arange(3))


# --- oracles -----------------------------------------------------------------------------------


@given(st.integers(-(10**4), 10**4), st.floats(-3, 3), turns, turns)
def test_one_number_equals_mpmath(k, r, omega, theta):
    got = complex_order(k, [r], [omega], [theta])[0]
    with mpmath.workdps(40):
        want = complex(r * mpmath.expj(mpmath.mpf(omega) * k + theta))
    assert abs(got - want) < 1e-11


def test_embedding_equals_the_listing_of_the_paper():
    """Its Appendix C, whose positions count from 1."""
    amplitude, frequency, phase = (torch.tensor(x) for x in words(7, 5))
    x = torch.tensor([[3, 0, 3, 6]])
    position = torch.arange(1, 5).view(1, -1, 1).double()
    angle = position * frequency[x] + phase[x]
    want = torch.cat([amplitude[x] * angle.cos(), amplitude[x] * angle.sin()], -1)[0]
    r, omega, theta = (part[[3, 0, 3, 6]] for part in words(7, 5))
    got = real_view(complex_order(np.arange(1, 5), r, omega, theta), layout="halves")
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-14)


# --- errors ------------------------------------------------------------------------------------


def test_unsigned_integers_are_numbers_too():
    got = real_view(np.array([3], np.uint8))
    np.testing.assert_array_equal(got, [3.0, 0.0])


TYPE_ERRORS = {
    "positions must hold real numbers, got dtype complex128": lambda: complex_order(1j, [1], [1]),
    "amplitude must hold real numbers, got dtype complex128": lambda: complex_order(1, [1j], [1]),
    "frequency must hold real numbers, got dtype bool": lambda: complex_order(1, [1], [True]),
    "phase must hold real numbers, got dtype <U1": lambda: complex_order(1, [1], [1], ["a"]),
    "frequency must hold real numbers, got dtype complex128": lambda: offset_factor(1, [1j]),
    "start must hold numbers, got dtype bool": lambda: geometric(True, 1, 2),
    "ratio must hold numbers, got dtype <U1": lambda: geometric(1, "a", 2),
    "n must be an integer, got 2.0": lambda: geometric(1, 1, 2.0),
    "sequence must hold numbers, got dtype object": lambda: best_step([None, 1]),
    "z must hold numbers, got dtype bool": lambda: real_view([True]),
    "a must hold numbers, got dtype <U1": lambda: real_product(["a"], [1]),
    "b must hold numbers, got dtype bool": lambda: real_product([1], [True]),
}

VALUE_ERRORS = {
    "positions must be finite, got nan": lambda: complex_order(math.nan, [1], [1]),
    "amplitude must have at least 1 axes, got shape ()": lambda: complex_order(0, 1, [1]),
    "amplitude must not be empty, got shape (0,)": lambda: complex_order(0, [], [1]),
    "frequency must be finite, got inf": lambda: complex_order(0, [1], [math.inf]),
    "arguments must broadcast, got (1,), (2,), (3,), ()": lambda: complex_order(
        0, [1, 2], [1, 2, 3]
    ),
    "arguments must broadcast, got (2, 1), (1,), (3, 1), ()": lambda: offset_factor(
        [1, 2], [[1], [2], [3]]
    ),
    "start must be finite, got nan": lambda: geometric(math.nan, 1, 2),
    "ratio must have 0 axes, none empty, got shape (1,)": lambda: geometric(1, [1], 2),
    "n must be at least 1, got 0": lambda: geometric(1, 1, 0),
    "sequence must have 1 axes, none empty, got shape (1, 2)": lambda: best_step([[1, 2]]),
    "sequence must have at least 2 entries, got 1": lambda: best_step([1]),
    "sequence must not be zero up to the last but one, got zeros": lambda: best_step([0, 0, 1]),
    "z must have at least 1 axes, none empty, got shape ()": lambda: real_view(1j),
    "z must have at least 1 axes, none empty, got shape (2, 0)": lambda: real_view(np.ones((2, 0))),
    "z must be finite, got (nan+0j)": lambda: real_view([complex(math.nan, 0)]),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: real_view([1], layout="x"),
    "a and b must broadcast, got (2,) and (3,)": lambda: real_product([1, 2], [1, 2, 3]),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims ------------------------------------------------------------------------------------


@claim("complex_order.phase")
def test_the_phase_grows_with_the_position():
    (r,), (omega,), (theta,) = words(1, 64)
    positions = np.arange(100)
    want = by_loop(positions, r, omega, theta)
    without_k = np.broadcast_to(r * np.exp(1j * (theta + omega)), want.shape)
    got = complex_order(positions, r, omega, theta)
    return at_most(
        1e-12,
        right=largest(got - want),
        wrong=largest(without_k - want),
        apart=np.linalg.norm(got[5] - got[0]),
        apart_without=np.linalg.norm(without_k[5] - without_k[0]),
    )


@claim("complex_order.offset")
def test_one_factor_moves_a_word_from_everywhere():
    (r,), (omega,), (theta,) = words(1, 64)
    positions = np.arange(-50, 50)
    here, there = (complex_order(positions + n, r, omega, theta) for n in (0, 7))
    with_phase = np.exp(1j * (7 * omega + theta))
    return at_most(
        1e-12,
        right=largest(here * offset_factor(7, omega) - there),
        wrong=largest(here * with_phase - there),
    )


@claim("complex_order.geometric")
def test_a_linear_step_leaves_powers_only():
    """Exact recursion in Gaussian rationals; the factor (3 + 4i)/5 has modulus 1."""
    step, start = (Fraction(3, 5), Fraction(4, 5)), (Fraction(1, 2), Fraction(-1, 3))
    exact = [start]
    for _ in range(200):
        (a, b), (c, d) = exact[-1], step
        exact.append((a * c - b * d, a * d + b * c))
    want = np.array([complex(a, b) for a, b in exact])
    got = geometric(complex(*start), complex(*step), 201)
    omega = cmath.phase(complex(*step))
    polar = complex_order(np.arange(201), [abs(want[0])], [omega], [cmath.phase(want[0])])[:, 0]
    assert largest(polar - want) < 1e-12
    conjugate = geometric(complex(*start), complex(*step).conjugate(), 201)
    return at_most(1e-12, right=largest(got - want), wrong=largest(conjugate - want))


@claim("complex_order.linear")
def test_no_constant_factor_moves_a_phase_that_grows_like_a_square():
    k = np.arange(200)
    square = np.exp(1j * k**2)
    two = np.exp(0.3j * k) + np.exp(0.8j * k)
    gaps = np.abs(square[:, None] - square)[np.triu_indices(200, 1)]
    return at_most(
        1e-12,
        right=best_step(np.exp(0.3j * k))[1],
        wrong=best_step(square)[1],
        square=best_step(square)[1],
        two=best_step(two)[1],
        cosine=best_step(np.cos(0.3 * k))[1],
        closest=gaps.min(),
    )


@claim("complex_order.bounded")
def test_beyond_the_unit_circle_nothing_stays_bounded():
    inside, on, beyond = (
        np.abs(geometric(2, cmath.rect(modulus, 0.3), 1001)) for modulus in (0.99, 1, 1.01)
    )
    return at_most(
        1e-9,
        right=max(inside.max(), on.max()) - 2,
        wrong=beyond.max() - 2,
        inside=inside[-1],
        on=on[-1],
        beyond=beyond[-1],
    )


@claim("complex_order.two")
def test_two_frequencies_need_two_dimensions():
    """The recurrence of a sum of two exponentials as a 2 x 2 matrix on neighbours."""
    k = np.arange(300)
    one, other = np.exp(0.3j), np.exp(0.8j)
    g = one**k + other**k
    memory = np.stack([g[:-1], g[1:]], axis=1)
    M = np.array([[0, -one * other], [1, one + other]])
    return at_most(
        1e-10,
        right=largest(memory[:-1] @ M - memory[1:]),
        wrong=best_step(g)[1],
        eigenvalues=largest(np.sort_complex(np.linalg.eigvals(M)) - np.sort_complex([one, other])),
    )


@claim("complex_order.product")
def test_the_inner_product_is_a_sum_of_cosines():
    r, omega, theta = words(2, 16)
    k, l = 5, 12  # noqa: E741
    got = products(*zip(r, omega, theta, strict=True), k, l)
    dimensions = list(zip(*r, *omega, *theta, strict=True))
    want = math.fsum(a * b * math.cos(v * l - w * k + u - t) for a, b, w, v, t, u in dimensions)
    summed = math.fsum(a * b * math.cos(v * l + w * k + u + t) for a, b, w, v, t, u in dimensions)
    return at_most(1e-12, right=abs(got - want), wrong=abs(got - summed))


@claim("complex_order.shared")
def test_shared_frequencies_leave_the_offset_alone():
    r, omega, theta = words(2, 64)
    first, second = zip(r, omega, theta, strict=True)
    k = np.array([0, 1, 7, 100, 1000])
    shared = products(first, second, k, k + 3, one_clock=omega[0])
    own = products(first, second, k, k + 3)
    twice = products(first, first, k, k + 3)
    return at_most(
        1e-10,
        right=np.ptp(shared),
        wrong=np.ptp(own),
        shared_0=shared[0],
        shared_7=shared[2],
        shared_100=shared[3],
        own_0=own[0],
        own_7=own[2],
        own_100=own[3],
        one_word=np.ptp(twice),
    )


@claim("complex_order.rope")
def test_shared_frequencies_rotate_the_embedding():
    (r,), _, (theta,) = words(1, 32)
    k, omega = np.arange(200), frequencies(64)
    got = real_view(complex_order(k, r, omega, theta))
    start = np.broadcast_to(real_view(complex_order(0, r, omega, theta)), got.shape)
    return at_most(
        1e-12,
        right=largest(rotate(start, k) - got),
        wrong=largest(rotate(start, -k) - got),
    )


@claim("complex_order.projection")
def test_projections_in_between_undo_the_offset():
    rng = np.random.default_rng(4)
    x, y, W, V = rng.normal(size=64), rng.normal(size=64), *rng.normal(size=(2, 64, 64)) / 8
    k = np.arange(0, 200, 3)
    after = (rotate(x @ W + 0 * k[:, None], k) * rotate(y @ V + 0 * k[:, None], k + 3)).sum(1)
    before = ((rotate(x + 0 * k[:, None], k) @ W) * (rotate(y + 0 * k[:, None], k + 3) @ V)).sum(1)
    return at_most(
        1e-10,
        right=np.ptp(after),
        wrong=np.ptp(before),
        constant=after[0],
    )


@claim("complex_order.diagonal")
def test_complex_numbers_per_dimension_may_stand_in_between():
    rng = np.random.default_rng(5)
    z, y, w, v = rng.normal(size=(4, 32)) + 1j * rng.normal(size=(4, 32))
    full = rng.normal(size=(32, 32)) + 1j * rng.normal(size=(32, 32))
    k, omega = np.arange(0, 200, 3)[:, None], frequencies(64)
    q, key = z * np.exp(1j * omega * k), y * np.exp(1j * omega * (k + 3))
    diagonal = real_product(q * w, key * v)
    mixed = real_product(q @ full / 8, key * v)
    one = np.exp(1j * 0.3 * k)
    one_clock = real_product((z * one) @ full / 8, y * one * np.exp(0.9j) * v)
    return at_most(
        1e-10,
        right=max(np.ptp(diagonal), np.ptp(one_clock)),
        wrong=np.ptp(mixed),
    )


@claim("complex_order.conjugate")
def test_without_the_conjugate_positions_add_up():
    rng = np.random.default_rng(6)
    z, y = rng.normal(size=(2, 32)) + 1j * rng.normal(size=(2, 32))
    k, omega = np.arange(0, 200, 3)[:, None], frequencies(64)
    q, key = z * np.exp(1j * omega * k), y * np.exp(1j * omega * (k + 3))
    with_it, without = np.abs((q * key.conj()).sum(1)), np.abs((q * key).sum(1))
    mirrored = np.abs((q[0] * np.exp(6j * omega) * (y * np.exp(-3j * omega))).sum())
    return at_most(
        1e-10,
        right=np.ptp(with_it),
        wrong=np.ptp(without),
        first=without[0],
        last=without[-1],
        same_sum=abs(mirrored - without[0]),
    )


@claim("complex_order.sinusoidal")
def test_the_sinusoidal_encoding_is_the_embedding_of_one_word():
    k, theta = np.arange(500), frequencies(64)
    got = real_view(complex_order(k, np.ones(32), -theta, np.pi / 2))
    straight = real_view(complex_order(k, np.ones(32), theta))
    return at_most(
        1e-12,
        right=largest(got - sinusoidal(k, 64)),
        wrong=largest(straight - sinusoidal(k, 64)),
        swapped=largest(
            straight.reshape(500, 32, 2)[..., ::-1].reshape(500, 64) - sinusoidal(k, 64)
        ),
    )


@claim("complex_order.alias")
def test_whole_turns_per_token_leave_no_trace():
    k = np.arange(100)
    slow, fast = (complex_order(k, [1.0], [omega]) for omega in (0.5, 0.5 + 2 * np.pi))
    halfway = [complex_order(k + 0.5, [1.0], [omega]) for omega in (0.5, 0.5 + 2 * np.pi)]
    return at_most(1e-12, right=largest(slow - fast), wrong=largest(halfway[0] - halfway[1]))


# --- claims on the layer -----------------------------------------------------------------------


def table(n_words=11, d_model=64, **options):
    """A layer with words that differ in everything, and its parameters in NumPy."""
    torch.manual_seed(0)
    layer = ComplexOrderEmbedding(n_words, d_model, phase=True, **options)
    torch.nn.init.uniform_(layer.clocks.frequency, 0.0, 1.0)
    torch.nn.init.uniform_(layer.clocks.phase, -math.pi, math.pi)
    parts = layer.amplitude, layer.clocks.frequency, layer.clocks.phase
    return layer, [part.detach().double().numpy() for part in parts]


@claim("complex_order.layer")
def test_layer_equals_the_equation():
    layer, (r, omega, theta) = table()
    ids, positions = np.arange(11), np.array([0, 1, 2, 3, 50, 512, 4096, 10**5, 10**6, 10**7, -9])
    want = real_view(complex_order(positions, r, omega, theta))
    got = layer(torch.tensor(ids)[None], torch.tensor(positions))[0].detach().double().numpy()
    angle = torch.tensor(positions[:, None]).float() * torch.tensor(omega).float()
    rough = torch.tensor(r).float() * (angle + torch.tensor(theta).float()).cos()
    return at_most(
        4e-7,
        right=largest(got - want),
        wrong=largest(rough.double().numpy() - want[:, ::2]),
        largest_amplitude=np.abs(r).max(),
    )


@claim("complex_order.cast")
def test_frequencies_survive_a_cast_of_the_model():
    layer, (_, omega, theta) = table()
    torch.nn.init.ones_(layer.amplitude)
    cast = layer.bfloat16()
    positions = np.full(11, 1000)
    want = real_view(complex_order(positions, np.ones(64 // 2), omega, theta))
    got = cast(torch.arange(11)[None], torch.tensor(positions))[0].detach().double().numpy()
    rounded = torch.tensor(omega).bfloat16().double().numpy()
    wrong = real_view(complex_order(positions, np.ones(64 // 2), rounded, theta))
    return at_most(
        2.0**-8,
        right=largest(got - want),
        wrong=largest(wrong - want),
        radians=1000 * largest(rounded - omega),
    )


@claim("complex_order.gradient")
def test_the_gradient_of_a_frequency_is_the_position_times_that_of_the_phase():
    layer, _ = table()
    ratios = []
    for position in (1, 10, 100, 1000):
        layer.zero_grad()
        out = layer(torch.tensor([[4]]), torch.tensor([position]))
        (out * torch.linspace(-1, 1, 64)).sum().backward()
        grads = layer.clocks.frequency.grad[4], layer.clocks.phase.grad[4]
        ratios.append((grads[0].norm() / grads[1].norm()).item() / position)
        torch.testing.assert_close(grads[0], position * grads[1])
    before = layer.clocks.frequency.detach().clone()
    torch.optim.Adam([layer.clocks.frequency], lr=1e-3).step()
    step = layer.clocks.frequency.detach() - before
    return at_most(
        1e-5,
        right=max(abs(ratio - 1) for ratio in ratios),
        wrong=abs(ratios[-1] * 1000 - 1),
        adam_512=512 * step.abs().max().item(),
    )


@claim("complex_order.door")
def test_the_door_and_the_table_with_shared_frequencies_agree():
    torch.manual_seed(1)
    whole = ComplexOrderEmbedding(11, 64, shared=True, phase=True)
    torch.nn.init.uniform_(whole.clocks.phase, -math.pi, math.pi)
    ids, positions = torch.arange(11)[None], torch.randint(0, 5000, (11,))
    tokens = whole(ids, torch.zeros_like(positions))
    door = ComplexOrder(64)
    return at_most(
        1e-6,
        right=largest((door(tokens, positions) - whole(ids, positions)).detach().numpy()),
        wrong=largest((door(tokens, -positions) - whole(ids, positions)).detach().numpy()),
    )


class Reduced(torch.nn.Module):
    """Phases that every call brings back to one turn, in a new parameter or in place."""

    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place
        self.phase = torch.nn.Parameter(torch.tensor([7.0]))

    def forward(self):
        if self.in_place:
            with torch.no_grad():
                self.phase.remainder_(2 * math.pi)
        else:
            self.phase = torch.nn.Parameter(self.phase % (2 * math.pi))
        return self.phase.cos()


@claim("complex_order.reduced")
def test_a_parameter_replaced_in_the_forward_pass_is_never_trained():
    phases = []
    for in_place in (True, False):
        model = Reduced(in_place)
        parameters = list(model.parameters())  # what an optimiser is given, once
        for _ in range(300):
            model().sum().backward()
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.data -= 0.1 * parameter.grad
                    parameter.grad = None
        phases.append(model.phase.item())
    trained, stuck = phases
    return at_most(
        1e-3,
        right=abs(trained - math.pi),
        wrong=abs(stuck - math.pi),
        stuck=stuck,
        start=7.0 % (2 * math.pi),
    )
