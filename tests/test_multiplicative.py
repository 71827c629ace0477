"""The product of word and position: printed facts, properties, oracles and errors; the claims."""

import cmath
import contextlib
import itertools
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
from torch import nn

from posenc.equations.collision import add_positions
from posenc.equations.kernel import relative_part
from posenc.equations.multiplicative import (
    damped_estimate,
    damped_share,
    factors,
    multiply,
    score_parts,
)
from posenc.equations.rope import rotate, rotate_complex
from posenc.equations.sinusoidal import sinusoidal
from posenc.layers.attention import Attention, PositionEncoding
from posenc.layers.multiplicative import Multiplicative, MultiplicativeSinusoidal
from posenc.layers.sinusoidal import Sinusoidal

reals = st.floats(-500, 500)
even = st.integers(1, 12).map(lambda half: 2 * half)
seeds = st.integers(0, 2**32 - 1)
QUERY, KEY = np.random.default_rng(0).normal(size=(2, 16))
PLACES = np.array([0, 1, 7, 40])  # of the query; the key stands 3 further on


def largest(x):
    return float(np.abs(x).max())


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def damped_by_loop(position, d, below, base=10000.0):
    """One column at a time, as a whole count over a whole width."""
    count = 0
    for column in range(d):
        angle = position / base ** (2 * (column // 2) / d)
        count += abs(math.cos(angle) if column % 2 else math.sin(angle)) < below
    return Fraction(count, d)


def by_complex_numbers(x, position, base=10000.0):
    """Pairs as Python's complex numbers, turned by powers of one number each."""
    d, out = len(x), []
    for m in range(d // 2):
        root = cmath.exp(1j * base ** (-2 * m / d))
        z = complex(x[2 * m], x[2 * m + 1]) * root**position
        out += [z.real, z.imag]
    return np.array(out)


# --- printed facts -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("d", [1, 2, 7, 64])
def test_all_sines_and_nothing_else_are_zero_at_position_zero(d, layout):
    p = factors(0, d, layout=layout)
    assert (p == 0).sum() == (d + 1) // 2
    assert (p == 1).sum() == d // 2


def test_two_words_that_differ_in_sine_columns_alone_are_one_at_position_zero():
    cat, mouse = np.array([[1.0, 5.0, 2.0, 6.0], [3.0, 5.0, 4.0, 6.0]])
    p = factors(np.arange(2), 4)
    np.testing.assert_array_equal(multiply(cat, p[0]), multiply(mouse, p[0]))
    assert (multiply(cat, p[1]) != multiply(mouse, p[1])).any()


def test_a_token_of_zeros_has_no_position():
    np.testing.assert_array_equal(multiply(np.zeros(8), factors(np.arange(9), 8)), np.zeros((9, 8)))


def test_the_sinusoid_is_the_default():
    np.testing.assert_array_equal(factors([0, 3], 8, 50.0), sinusoidal([0, 3], 8, 50.0))


def test_half_a_gain_leaves_factors_between_a_half_and_three_halves():
    p = factors(np.arange(100_000), 16, centre=1, gain=0.5)
    assert p.min() == pytest.approx(0.5, abs=1e-9)
    assert p.max() == 1.5
    assert not damped_share(p).any()


# --- properties --------------------------------------------------------------------------------


@given(st.lists(reals, min_size=1, max_size=4), st.integers(1, 20), st.floats(-2, 2), reals)
def test_factors_lie_around_the_centre(positions, d, gain, centre):
    p = factors(np.array(positions), d, centre=centre, gain=gain)
    assert p.shape == (len(positions), d)
    assert largest(p - centre) <= abs(gain) + 1e-10


@given(seeds, even, reals, reals)
def test_the_two_sums_are_the_inner_product(seed, d, i, j):
    q, k = normal(2, d, seed=seed)
    want = multiply(q, factors(i, d)) @ multiply(k, factors(j, d))
    assert score_parts(q, k, i, j).sum() == pytest.approx(want, abs=1e-10)


@given(seeds, even, st.integers(-300, 300), st.integers(-50, 50), st.integers(-300, 300))
def test_the_first_sum_knows_the_offset_and_the_second_the_sum(seed, d, i, offset, move):
    q, k = normal(2, d, seed=seed)
    here, there = (score_parts(q, k, at, at + offset) for at in (i, i + move))
    assert here[0] == pytest.approx(there[0], abs=1e-10)
    swapped = score_parts(q, k, i + offset, i)
    assert here[1] == pytest.approx(swapped[1], abs=1e-10)


def test_with_equal_sine_and_cosine_products_the_second_sum_is_zero():
    q = np.repeat(normal(8), 2)
    first, second = score_parts(q, q, np.arange(9), 4)
    assert not second.any()
    np.testing.assert_allclose(first, [(q * q)[::2] @ w for w in waves(4, 9)], rtol=1e-13)


def waves(j, n, d=16):
    """cos (j - i) θ_m for i = 0 .. n-1, a row each."""
    return [[math.cos((j - i) * 10000 ** (-2 * m / d)) for m in range(d // 2)] for i in range(n)]


@given(st.floats(0, 1e5), st.floats(2, 1e6), st.floats(1e-3, 0.5))
def test_the_estimate_starts_at_a_half_and_ends_at_random_phases(k, base, below):
    start, here, end = damped_estimate(np.array([0, k, base * 2]), base, below)
    assert start == 0.5
    assert end == pytest.approx(2 * math.asin(below) / math.pi)
    assert 0 <= here <= 0.5
    assert damped_estimate(-k, base, below) == here


def test_leading_axes_broadcast():
    assert multiply(np.ones((4, 1, 6)), np.ones((5, 6))).shape == (4, 5, 6)
    assert multiply(np.ones(6), np.ones((5, 6))).shape == (5, 6)
    assert damped_share(np.ones((2, 3, 4))).shape == (2, 3)
    assert damped_share([0.25, 0.5, 1.0, 2.0], 0.5) == 0.25
    assert damped_estimate(np.ones((2, 3))).shape == (2, 3)
    assert score_parts(QUERY, KEY, np.ones((3, 1)), np.ones(4)).shape == (2, 3, 4)
    assert score_parts(QUERY, KEY, 1, 2).shape == (2,)


def test_integers_and_float32_are_computed_in_float64():
    for dtype in (np.int32, np.uint8, np.float16, np.float32):
        one = np.ones(2, dtype)
        for got in (multiply(one, one), factors(one, 2), damped_share(one), damped_estimate(one)):
            assert got.dtype == np.float64
        assert score_parts(one, one, one[0], one[0]).dtype == np.float64


# --- oracles -----------------------------------------------------------------------------------


@given(seeds, st.integers(1, 6), st.integers(1, 9))
def test_the_product_is_a_diagonal_matrix_for_each_position(seed, n, d):
    x, p = normal(2, n, d, seed=seed)
    got = multiply(x, p)
    for k in range(n):
        np.testing.assert_allclose(got[k], x[k] @ np.diag(p[k]), rtol=1e-15)


@given(reals, st.floats(-3, 3), st.floats(-3, 3))
def test_factors_equal_mpmath(k, centre, gain):
    with mpmath.workdps(40):
        angles = [mpmath.mpf(k) / mpmath.mpf(10000) ** (mpmath.mpf(2 * m) / 6) for m in range(3)]
        want = [centre + gain * f(a) for a in angles for f in (mpmath.sin, mpmath.cos)]
        got = factors(k, 6, centre=centre, gain=gain)
        assert max(abs(g - w) for g, w in zip(got, want, strict=True)) < 1e-12


@pytest.mark.parametrize("d", [7, 64, 512])
@pytest.mark.parametrize("k", [0, 1, 10, 333])
@pytest.mark.parametrize("below", [0.01, 0.1, 0.5])
def test_damped_share_equals_the_loop(k, d, below):
    assert damped_share(factors(k, d), below) == float(damped_by_loop(k, d, below))


@pytest.mark.parametrize("k", [1, 8, 64, 1000, 40_000])
@pytest.mark.parametrize("below", [0.02, 0.3])
def test_the_estimate_is_the_logarithmic_length_of_the_small_angles(k, below):
    """For endless width: angles from k/b to k, spread evenly over their logarithm."""
    alpha, small = math.asin(below), []
    for n in range(int(k / (np.pi / 2)) + 2):
        low, high = max(n * np.pi / 2 - alpha, k / 1e4), min(n * np.pi / 2 + alpha, k)
        small.append(max(math.log(high / low), 0) if high > low else 0)
    want = math.fsum(small) / math.log(1e4) / 2
    assert damped_estimate(k, below=below) == pytest.approx(want, abs=0.12 * below)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (2, 5), (40, 17)])
def test_parts_equal_a_loop_over_pairs(i, j):
    relative = absolute = 0.0
    for m in range(8):
        theta = 10000 ** (-2 * m / 16)
        S, C = QUERY[2 * m] * KEY[2 * m], QUERY[2 * m + 1] * KEY[2 * m + 1]
        relative += (C + S) / 2 * math.cos((j - i) * theta)
        absolute += (C - S) / 2 * math.cos((i + j) * theta)
    np.testing.assert_allclose(score_parts(QUERY, KEY, i, j), [relative, absolute], rtol=1e-12)


def test_the_base_is_the_one_that_is_given():
    want = multiply(QUERY, factors(3, 16, 50.0)) @ multiply(KEY, factors(9, 16, 50.0))
    assert score_parts(QUERY, KEY, 3, 9, 50.0).sum() == pytest.approx(want)
    alpha, start = math.asin(0.1), math.pi / 2 / math.exp(np.euler_gamma)
    slow, fast = (math.log(3 / phi, 100) for phi in (alpha, start))
    want = 0.5 - slow / 2 + 2 / math.pi * alpha * fast
    assert damped_estimate(3, 100.0) == pytest.approx(want)


# --- errors ------------------------------------------------------------------------------------

ONES = np.ones(4)
TYPE_ERRORS = {
    "x must hold real numbers, got dtype bool": lambda: multiply([True], [1.0]),
    "p must hold real numbers, got dtype complex128": lambda: multiply([1.0], [1j]),
    "positions must hold real numbers, got dtype <U1": lambda: factors("a", 4),
    "d_model must be an integer, got 4.0": lambda: factors(0, 4.0),
    "base must hold real numbers, got dtype complex128": lambda: factors(0, 4, 1j),
    "centre must hold real numbers, got dtype bool": lambda: factors(0, 4, centre=True),
    "gain must hold real numbers, got dtype object": lambda: factors(0, 4, gain=None),
    "below must hold real numbers, got dtype bool": lambda: damped_share(ONES, True),
    "p must hold real numbers, got dtype bool": lambda: damped_share([True]),
    "positions must hold real numbers, got dtype bool": lambda: damped_estimate(True),
    "below must hold real numbers, got dtype <U1": lambda: damped_estimate(0, below="a"),
    "query must hold real numbers, got dtype bool": lambda: score_parts([True, True], ONES, 0, 0),
    "key must hold real numbers, got dtype complex128": lambda: score_parts(ONES, 1j * ONES, 0, 0),
    "q_positions must hold real numbers, got dtype bool": lambda: score_parts(ONES, ONES, True, 0),
    "k_positions must hold real numbers, got dtype <U1": lambda: score_parts(ONES, ONES, 0, "a"),
}

VALUE_ERRORS = {
    "x must have at least 1 axes, got shape ()": lambda: multiply(1.0, ONES),
    "p must have at least 1 axes, got shape ()": lambda: multiply(ONES, 1.0),
    "p must have width 4, got shape (3, 2)": lambda: multiply(ONES, np.ones((3, 2))),
    "leading axes of x, p must broadcast, got (2,), (3,)": lambda: multiply(
        np.ones((2, 4)), np.ones((3, 4))
    ),
    "x must be finite, got nan": lambda: multiply([math.nan], [1.0]),
    "p must not be empty, got shape (0,)": lambda: multiply(ONES, []),
    "positions must be finite, got inf": lambda: factors(math.inf, 4),
    "d_model must be at least 1, got 0": lambda: factors(0, 0),
    "base must be above 1, got 1": lambda: factors(0, 4, 1),
    "centre must be finite, got nan": lambda: factors(0, 4, centre=math.nan),
    "gain must have shape (), got (1,)": lambda: factors(0, 4, gain=[1.0]),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: factors(0, 4, layout="x"),
    "below must be above 0, got 0": lambda: damped_share(ONES, 0),
    "below must be finite, got inf": lambda: damped_share(ONES, math.inf),
    "below must be above 0, got -0.1": lambda: damped_estimate(0, below=-0.1),
    "below must be between 0 and 0.5, got 0.6": lambda: damped_estimate(0, below=0.6),
    "base must be above 1, got 0.5": lambda: damped_estimate(0, 0.5),
    "query must have at least 1 axes, got shape ()": lambda: score_parts(1, ONES, 0, 0),
    "query must have shape (4,), got (2, 4)": lambda: score_parts(np.ones((2, 4)), ONES, 0, 0),
    "width of query must be a multiple of 2, got 3": lambda: score_parts(ONES[:3], ONES, 0, 0),
    "key must have shape (4,), got (2,)": lambda: score_parts(ONES, ONES[:2], 0, 0),
    "leading axes of q_positions, k_positions must broadcast, got (2,), (3,)": lambda: score_parts(
        ONES, ONES, [0, 1], [0, 1, 2]
    ),
    "base must be above 1, got 1.0": lambda: score_parts(ONES, ONES, 0, 0, 1.0),
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


@claim("multiplicative.ratio")
def test_moving_a_word_multiplies_every_word_by_the_same_numbers():
    e, p = normal(6, 8), normal(9, 8, seed=1)
    product, total = multiply(e[:, None], p), add_positions(e, p)
    pairs = [
        (a, b, i, j) for a, b in itertools.combinations(range(6), 2) for i, j in ((0, 5), (7, 2))
    ]
    second, ratio = (
        [
            max(largest(rule(T[a, i], T[a, j], T[b, i], T[b, j])) for a, b, i, j in pairs)
            for T in (product, total)
        ]
        for rule in (
            lambda ai, aj, bi, bj: ai - aj - bi + bj,
            lambda ai, aj, bi, bj: ai * bj - aj * bi,
        )
    )
    assert second[1] < 1e-12
    return at_most(1e-12, right=ratio[0], wrong=ratio[1], second_difference=second[0])


@claim("multiplicative.pooled")
def test_a_sum_over_words_keeps_the_order_only_if_positions_multiply():
    e, p = normal(3, 16), sinusoidal(np.arange(3), 16)
    cat_first, mouse_first = e, e[::-1]
    added = (cat_first + p).sum(axis=0) - (mouse_first + p).sum(axis=0)
    multiplied = multiply(cat_first, p).sum(axis=0) - multiply(mouse_first, p).sum(axis=0)
    return at_most(1e-12, right=np.linalg.norm(added), wrong=np.linalg.norm(multiplied))


@claim("multiplicative.contains")
def test_a_product_with_constant_parts_is_a_concatenation():
    e, p = normal(6, 8), sinusoidal(np.arange(5), 8)
    words = np.concatenate([e, np.ones((6, 8))], axis=1)
    places = np.concatenate([np.ones((5, 8)), p], axis=1)
    want = np.array([[np.concatenate([word, place]) for place in p] for word in e])
    centred = words - words.mean(axis=0)
    return at_most(
        1e-15,
        right=largest(multiply(words[:, None], places) - want),
        wrong=largest(multiply(centred[:, None], places) - want),
    )


@claim("multiplicative.mean_word")
def test_the_mean_over_words_is_the_mean_word_times_the_factors():
    e, p = normal(400, 16) + 0.25, sinusoidal(np.arange(32), 16)
    mean = e.mean(axis=0)
    centred = e - mean
    by_position = multiply(centred[:, None], p).mean(axis=0)
    np.testing.assert_allclose(multiply(e[:, None], p).mean(axis=0), multiply(mean, p), atol=1e-13)
    return at_most(
        1e-13, right=largest(by_position), wrong=largest(add_positions(centred, p).mean(axis=0))
    )


@claim("multiplicative.zero")
def test_half_of_the_features_are_erased_at_position_zero():
    raw, around = factors(0, 64), factors(0, 64, centre=1, gain=0.5)
    erased = [(multiply(normal(1000, 64), p) == 0).all(axis=0).mean() for p in (raw, around)]
    return at_most(
        1e-12,
        right=abs(erased[0] - 0.5),
        wrong=abs(erased[1] - 0.5),
        share=erased[0],
        rank=np.linalg.matrix_rank(np.diag(raw)),
        width=64,
    )


@claim("multiplicative.damped")
def test_slow_pairs_lose_their_sine_for_a_long_time():
    k = np.arange(1, 4096)
    counted = damped_share(factors(k, 512))
    octaves = np.log2(k).astype(int)
    mean, estimate, no_slow = (
        np.bincount(octaves, share) / np.bincount(octaves)
        for share in (counted, damped_estimate(k), np.full(k.shape, 2 / np.pi * np.arcsin(0.1)))
    )
    around = damped_share(factors(np.arange(5000), 512, centre=1))
    return at_most(
        0.003,
        right=largest(mean - estimate),
        wrong=largest(mean - no_slow),
        at_1=counted[0],
        at_10=counted[9],
        at_100=counted[99],
        end=2 / np.pi * np.arcsin(0.1),
        around_one=around.mean(),
        around_one_start=around[0],
    )


@claim("multiplicative.gradient")
def test_what_is_erased_learns_nothing():
    p, g = factors(np.arange(4), 8), normal(4, 8)
    grads = []
    for merge in (torch.mul, torch.add):
        x = torch.tensor(normal(4, 8, seed=1), requires_grad=True)
        merge(x, torch.tensor(p)).backward(torch.tensor(g))
        grads.append(x.grad.numpy())
    assert (grads[0][0, ::2] == 0).all()
    return at_most(1e-15, right=largest(grads[0] - g * p), wrong=largest(grads[1] - g * p))


@claim("multiplicative.gate")
def test_positions_weight_every_product_of_features():
    (x, y), (p, r), A = normal(2, 6), normal(2, 6, seed=1), normal(6, 6, seed=2)
    want = sum(
        x[a] * A[a, b] * y[b] * p[a] * r[b] for a, b in itertools.product(range(6), repeat=2)
    )
    gated, added = x @ (A * np.outer(p, r)) @ y, (x + p) @ A @ (y + r)
    assert multiply(x, p) @ A @ multiply(y, r) == pytest.approx(want, abs=1e-12)
    return at_most(
        1e-12,
        right=abs(gated - want),
        wrong=abs(added - want),
        nothing=abs(multiply(0 * x, p) @ A @ multiply(0 * y, r)),
        position_alone=abs(p @ A @ r),
    )


@claim("multiplicative.absolute")
def test_the_real_product_also_sees_the_sum_of_the_positions():
    direct = np.array([
        multiply(QUERY, factors(i, 16)) @ multiply(KEY, factors(i + 3, 16)) for i in PLACES
    ])  # fmt: skip
    relative, absolute = score_parts(QUERY, KEY, PLACES, PLACES + 3)
    scores = dict(zip(("score_0", "score_1", "score_7", "score_40"), direct, strict=True))
    return at_most(
        1e-12,
        right=largest(direct - relative - absolute),
        wrong=largest(direct - relative),
        spread=np.ptp(direct),
        relative=relative[0],
        **scores,
    )


@claim("multiplicative.powers")
def test_only_powers_of_a_number_of_modulus_one_are_relative():
    k = np.arange(12)
    turn, sign, fade, wave = np.exp(0.7j * k), (-1.0) ** k, 0.9**k, np.cos(0.7 * k)
    return at_most(
        1e-12,
        right=max(off_diagonals(np.outer(p, p.conj())) for p in (turn, sign, np.full(12, 3.0))),
        wrong=off_diagonals(np.outer(fade, fade)),
        wave=off_diagonals(np.outer(wave, wave)),
        reciprocal=off_diagonals(np.outer(fade, 1 / fade)),
    )


def off_diagonals(E):
    """Largest spread along a diagonal i - j."""
    diagonals = (np.diagonal(E, o) for o in range(1 - len(E), len(E)))
    return max(largest(np.subtract.outer(d, d)) for d in diagonals)


@claim("multiplicative.complex")
def test_the_complex_product_sees_the_offset_alone():
    turned = [rotate_complex(QUERY, i) @ rotate_complex(KEY, i + 3) for i in PLACES]
    loop = [by_complex_numbers(QUERY, i) @ by_complex_numbers(KEY, i + 3) for i in PLACES]
    np.testing.assert_allclose(turned, loop, rtol=1e-12)
    real = score_parts(QUERY, KEY, PLACES, PLACES + 3).sum(axis=0)
    return at_most(1e-12, right=np.ptp(turned), wrong=np.ptp(real), score=turned[0])


@claim("multiplicative.crossed")
def test_the_complex_product_in_real_numbers_is_a_dot_and_a_cross():
    theta = 10000.0 ** (-np.arange(8) / 8)
    x, y = QUERY.reshape(-1, 2), KEY.reshape(-1, 2)
    dot = (x * y).sum(axis=1)
    cross = x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]
    places = np.stack(np.meshgrid(PLACES, PLACES), axis=-1).reshape(-1, 2)
    want = np.array([by_complex_numbers(QUERY, i) @ by_complex_numbers(KEY, j) for i, j in places])
    angle = np.multiply.outer(places[:, 1] - places[:, 0], theta)
    got, flipped = (np.cos(angle) @ dot + sign * np.sin(angle) @ cross for sign in (-1, 1))
    return at_most(1e-12, right=largest(got - want), wrong=largest(flipped - want))


@claim("multiplicative.rope")
def test_two_real_products_are_rope():
    x, k = normal(12, 16), np.arange(12)
    angle = np.multiply.outer(k, 10000.0 ** (-np.arange(8) / 8))
    cos, sin = (np.repeat(f(angle), 2, axis=1) for f in (np.cos, np.sin))
    quarter = np.stack([-x[:, 1::2], x[:, ::2]], axis=-1).reshape(x.shape)
    want = np.array([by_complex_numbers(row, at) for row, at in zip(x, k, strict=True)])
    np.testing.assert_allclose(rotate(x, k), want, atol=1e-12)
    return at_most(
        1e-12,
        right=largest(multiply(x, cos) + multiply(quarter, sin) - rotate(x, k)),
        wrong=largest(multiply(x, cos) - multiply(quarter, sin) - rotate(x, k)),
        norms=largest(np.linalg.norm(rotate(x, k), axis=1) - np.linalg.norm(x, axis=1)),
    )


@claim("multiplicative.projection")
def test_before_the_projection_only_matrices_that_commute_keep_it_relative():
    A = normal(16, 16) / 4
    commuting = relative_part(A)
    at = np.arange(12)
    spread = [
        off_diagonals(rotate(QUERY, at) @ M @ rotate(KEY, at).T) for M in (commuting, A, np.eye(16))
    ]
    return at_most(1e-12, right=spread[0], wrong=spread[1], identity=spread[2])


@claim("multiplicative.bfloat16")
def test_small_steps_survive_in_the_deviation_and_not_in_the_factor():
    layer = Multiplicative(4, n_positions=1).to(torch.bfloat16)
    factor = torch.ones(4, dtype=torch.bfloat16)
    for _ in range(100):
        layer.deviation.data += 2.0**-10
        factor += 2.0**-10
    wanted = 1 + 100 * 2.0**-10
    moved = 1 + layer.deviation.detach().double()
    return at_most(
        2e-3,
        right=largest(moved.numpy() - wanted),
        wrong=largest(factor.double().numpy() - wanted),
        wanted=wanted,
        factor=factor[0],
        step=2.0**-10,
    )


@claim("multiplicative.layer")
def test_layer_equals_the_equation():
    x, at = normal(1, 7, 64), [0, 1, 2, 77, 512, 10_000, -3]
    tokens = torch.tensor(x, dtype=torch.float32)
    exact = tokens.double().numpy()
    layer = MultiplicativeSinusoidal(64)
    got = layer(tokens, torch.tensor(at)).double().numpy()
    want = multiply(exact, factors(at, 64, centre=1, gain=0.5))
    raw = multiply(exact, factors(at, 64))
    return at_most(1e-6, right=largest(got - want), wrong=largest(got - raw))


@claim("multiplicative.trained")
def test_the_raw_product_learns_to_look_back_before_the_gentle_one_does():
    error = {
        "none": trained(PositionEncoding()),
        "added": trained(Sinusoidal(16)),
        "raw": trained(MultiplicativeSinusoidal(16, centre=0, gain=1)),
        "gentle": trained(MultiplicativeSinusoidal(16)),
        "longer": trained(MultiplicativeSinusoidal(16), steps=600),
        "common": trained(MultiplicativeSinusoidal(16), common=1.0),
    }
    return at_most(0.03, right=error["raw"], wrong=error["gentle"], **error)


@contextlib.contextmanager
def one_thread():
    """Run what is small on one thread: several would wait for each other."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def trained(encoding, common=0.0, steps=200, n=8, words=8, d=16):
    """Share of words wrong after a short training to copy the word before, by one attention."""
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(0)
        embedding, attention = nn.Embedding(words, d), Attention(d, 2, encoding)
        head = nn.Linear(d, words)
        embedding.weight.data += common
        parts = nn.ModuleList([embedding, attention, head])
        optimizer = torch.optim.Adam(parts.parameters(), lr=0.01)
        for _ in range(steps):
            w = torch.randint(words, (64, n))
            logits = head(attention(embedding(w))).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, w.roll(1, dims=1).flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        w = torch.randint(words, (500, n))
        guess = head(attention(embedding(w))).argmax(dim=-1)
        return (guess != w.roll(1, dims=1)).double().mean().item()
