"""The sinusoidal encoding: printed facts, properties, oracles and errors; the claims."""

import functools
import itertools
import math
import re
import types
import warnings

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.sinusoidal import (
    column_order,
    frequencies,
    log_determinant,
    separation,
    shift_matrix,
    sinusoidal,
    wavelengths,
)
from posenc.layers.sinusoidal import Sinusoidal

PRINTED = [  # the notes' 4 x 4 matrix: b = 100, d = 4
    [0.0, 1.0, 0.0, 1.0],
    [0.84147098, 0.54030231, 0.09983342, 0.99500417],
    [0.90929743, -0.41614684, 0.19866933, 0.98006658],
    [0.14112001, -0.9899925, 0.29552021, 0.95533649],
]
LAYOUTS = ["interleaved", "halves"]
SPACINGS = ["paper", "tensor2tensor"]

widths = st.integers(1, 40)
even_widths = st.integers(1, 20).map(lambda pairs: 2 * pairs)
bases = st.floats(1.5, 1e6)
places = st.integers(-(10**7), 10**7)
layouts, spacings = st.sampled_from(LAYOUTS), st.sampled_from(SPACINGS)


def largest(x):
    return float(np.abs(x).max())


def largest_difference(a, b):
    return largest(np.asarray(a) - np.asarray(b))


# --- printed facts -----------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 8, 9, 512])
def test_position_zero_is_zero_and_one_in_turn(d):
    np.testing.assert_array_equal(sinusoidal(0, d), np.arange(d) % 2)


def test_the_first_pair_turns_by_one_radian_a_step():
    k = np.arange(100)
    np.testing.assert_array_equal(sinusoidal(k, 512)[:, 0], np.sin(k))
    np.testing.assert_array_equal(sinusoidal(k, 512)[:, 1], np.cos(k))


@pytest.mark.parametrize("d", [4, 6, 64, 512])
@pytest.mark.parametrize("base", [100.0, 10000.0])
def test_the_last_frequency_of_tensor2tensor_is_one_over_the_base(d, base):
    assert frequencies(d, base, spacing="tensor2tensor")[-1] == 1 / base


def test_width_512_has_256_frequencies():
    assert frequencies(512).shape == (256,)
    assert frequencies(511).shape == (256,)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_one_pair_has_the_frequency_one(spacing):
    np.testing.assert_array_equal(frequencies(2, spacing=spacing), [1.0])


def test_wavelengths_of_width_four_are_one_turn_and_a_hundred():
    np.testing.assert_allclose(wavelengths(4), [2 * math.pi, 200 * math.pi], rtol=1e-15)


def test_wavelengths_follow_the_spacing():
    turns = wavelengths(8, base=8, spacing="tensor2tensor") / (2 * np.pi)
    np.testing.assert_allclose(turns, [1, 2, 4, 8], rtol=1e-15)


def test_columns_stay_where_they_are_unless_said_otherwise():
    np.testing.assert_array_equal(column_order(4), range(4))


def test_halves_are_all_sines_then_all_cosines():
    np.testing.assert_array_equal(column_order(7, "halves"), [0, 2, 4, 6, 1, 3, 5])
    np.testing.assert_array_equal(sinusoidal(0, 7, layout="halves"), [0, 0, 0, 0, 1, 1, 1])


def test_one_column_is_a_sine():
    np.testing.assert_array_equal(sinusoidal([0, 1, 2], 1)[:, 0], np.sin([0, 1, 2]))


def test_a_quarter_turn_moves_the_cosine_into_the_sine():
    M = shift_matrix(math.pi / 2, 2)
    np.testing.assert_allclose(np.array([0.0, 1.0]) @ M, [1.0, 0.0], atol=1e-15)


def test_opposite_points_of_one_clock_are_two_apart():
    assert separation(math.pi, 2) == 2.0
    assert separation(0.0, 512) == 0.0


def test_two_frequencies_that_float64_cannot_tell_apart_have_no_determinant():
    assert log_determinant(8, 1 + 2**-52) == -math.inf


# --- properties --------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), widths, bases, layouts)
def test_all_entries_lie_between_minus_one_and_one(positions, d, base, layout):
    assert (np.abs(sinusoidal(positions, d, base, layout=layout)) <= 1).all()


@given(st.floats(-1e9, 1e9), even_widths, bases, spacings)
def test_the_squared_norm_is_half_the_width(position, d, base, spacing):
    row = sinusoidal(position, d, base, spacing=spacing)
    assert math.isclose(row @ row, d / 2, rel_tol=1e-13)


@given(places, widths, bases)
def test_backwards_only_the_sines_change_sign(position, d, base):
    signs = np.where(np.arange(d) % 2, 1, -1)
    here, there = sinusoidal(position, d, base), sinusoidal(-position, d, base)
    np.testing.assert_array_equal(there, signs * here)


@given(st.integers(0, 3), st.integers(1, 3), widths)
def test_positions_of_any_shape_give_one_more_axis(ndim, size, d):
    positions = np.arange(size**ndim).reshape((size,) * ndim)
    table = sinusoidal(positions, d)
    assert table.shape == (*positions.shape, d)
    for index in np.ndindex(positions.shape):
        np.testing.assert_array_equal(table[index], sinusoidal(positions[index], d))


@given(st.integers(2, 40), bases)
def test_frequencies_fall_by_one_ratio(d, base):
    theta = frequencies(d, base)
    np.testing.assert_allclose(theta[1:] / theta[:-1], base ** (-2 / d), rtol=1e-13)
    assert theta[0] == 1.0


@given(st.integers(2, 20), bases)
def test_both_spacings_differ_by_one_exponent(pairs, base):
    """The paper's spacing of one pair more ends where that of tensor2tensor does."""
    np.testing.assert_allclose(
        frequencies(2 * pairs, base, spacing="tensor2tensor"),
        [*frequencies(2 * (pairs - 1), base), 1 / base],
        rtol=1e-13,
    )


@given(widths, layouts)
def test_a_column_order_is_a_permutation(d, layout):
    np.testing.assert_array_equal(np.sort(column_order(d, layout)), np.arange(d))


@given(st.integers(-1000, 1000), st.floats(-1000, 1000), even_widths, layouts, spacings)
def test_the_shift_matrix_moves_every_encoding(position, offset, d, layout, spacing):
    options = {"layout": layout, "spacing": spacing}
    moved = sinusoidal(position, d, **options) @ shift_matrix(offset, d, **options)
    there = sinusoidal(position + offset, d, **options)
    np.testing.assert_allclose(moved, there, rtol=0, atol=1e-12)


@given(st.floats(-1000, 1000), st.floats(-1000, 1000), even_widths, layouts)
def test_shifts_add_up_and_undo_each_other(a, b, d, layout):
    move = functools.partial(shift_matrix, d_model=d, layout=layout)
    np.testing.assert_allclose(move(a) @ move(b), move(a + b), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(move(-a), move(a).T)
    np.testing.assert_allclose(move(a) @ move(a).T, np.eye(d), rtol=0, atol=1e-15)


@given(places, st.integers(-(10**4), 10**4), even_widths, bases, spacings)
def test_the_separation_is_the_distance_of_two_rows(k, offset, d, base, spacing):
    rows = sinusoidal([k, k + offset], d, base, spacing=spacing)
    distance = math.dist(*rows)
    assert math.isclose(separation(offset, d, base, spacing=spacing), distance, abs_tol=1e-7)


@given(even_widths, bases)
def test_the_separation_does_not_look_at_the_direction(d, base):
    s = np.linspace(-9, 9, 19)
    np.testing.assert_array_equal(separation(s, d, base), separation(-s, d, base))
    assert separation(s.reshape(1, 19), d, base).shape == (1, 19)


# --- oracles -----------------------------------------------------------------------------------


def exact(position, d, base=10000, spacing="paper"):
    """A row of the table at 50 digits, column by column."""
    with mpmath.workdps(50):
        row = []
        for column in range(d):
            m = column // 2
            last = mpmath.mpf(d) / 2 if spacing == "paper" else mpmath.mpf(d) / 2 - 1
            angle = position / mpmath.mpf(base) ** (m / last if m else 0)
            row.append(float(mpmath.cos(angle) if column % 2 else mpmath.sin(angle)))
        return row


@given(places, widths, st.integers(2, 10**6))
def test_the_table_equals_mpmath_up_to_ten_million(position, d, base):
    # An angle of k radians carries a rounding error of some k * 2^-53.
    tolerance = 1e-15 + 6e-16 * abs(position)
    got = sinusoidal(position, d, base)
    np.testing.assert_allclose(got, exact(position, d, base), rtol=0, atol=tolerance)


@given(places, even_widths)
def test_the_other_spacing_equals_mpmath_up_to_ten_million(position, d):
    tolerance = 1e-15 + 6e-16 * abs(position)
    got = sinusoidal(position, d, spacing="tensor2tensor")
    want = exact(position, d, spacing="tensor2tensor")
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


def loop(n, d, base=10000.0):
    """The table by a double loop over positions and pairs; an odd width has no last pair."""
    table = [[0.0] * d for _ in range(n)]
    for k in range(n):
        for m in range(d // 2):
            turn = k / math.pow(base, 2 * m / d)
            table[k][2 * m], table[k][2 * m + 1] = math.sin(turn), math.cos(turn)
    return np.array(table)


def test_the_table_equals_a_double_loop():
    np.testing.assert_allclose(sinusoidal(np.arange(300), 64), loop(300, 64), rtol=0, atol=1e-12)


def test_encodings_are_powers_of_complex_numbers():
    z = np.exp(1j * frequencies(16))
    powers = np.cumprod(np.vstack([np.ones(8), np.tile(z, (199, 1))]), axis=0)
    table = sinusoidal(np.arange(200), 16, layout="halves")
    np.testing.assert_allclose(table, np.hstack([powers.imag, powers.real]), rtol=0, atol=1e-12)


def digits_table(n, d):
    """Rows 0 to n - 1 in mpmath, at the working precision."""
    theta = [mpmath.mpf(10000) ** (-mpmath.mpf(2 * m) / d) for m in range(d // 2)]
    rows = [[f(k * t) for t in theta for f in (mpmath.sin, mpmath.cos)] for k in range(n)]
    return mpmath.matrix(rows)


def test_no_other_matrix_moves_the_first_rows():
    d, offset = 12, 5
    with mpmath.workdps(200):
        P = digits_table(d + offset, d)
        solved = mpmath.inverse(P[:d, :]) * P[offset:, :]
        M = np.array(solved.tolist(), dtype=float)
    np.testing.assert_allclose(shift_matrix(offset, d), M, rtol=0, atol=1e-14)


def test_the_shift_matrix_is_the_exponential_of_its_generator():
    theta = frequencies(6)
    G = torch.zeros(6, 6, dtype=torch.float64)
    for m in range(3):
        G[2 * m + 1, 2 * m], G[2 * m, 2 * m + 1] = theta[m], -theta[m]
    want = torch.linalg.matrix_exp(7 * G)
    np.testing.assert_allclose(shift_matrix(7, 6), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("d", [2, 4, 8, 10])
def test_the_determinant_equals_that_of_the_table(d, spacing):
    table = sinusoidal(np.arange(d), d, 10.0, spacing=spacing)
    want = np.linalg.slogdet(table).logabsdet
    assert math.isclose(log_determinant(d, 10.0, spacing=spacing), want, abs_tol=1e-5)


@functools.cache
def huggingface(model, name):
    """An object of a model in transformers, whose import may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = __import__(f"transformers.models.{model}.modeling_{model}", fromlist=[name])
    return getattr(module, name)


@pytest.mark.parametrize("d", [8, 7, 512, 1])
@pytest.mark.parametrize("model", ["Marian", "RoFormer"])
def test_marian_and_roformer_have_halves(model, d):
    cls = huggingface(model.lower(), f"{model}SinusoidalPositionalEmbedding")
    want = cls(300, d).create_weight()
    got = sinusoidal(np.arange(300), d, layout="halves")
    np.testing.assert_allclose(got, want, rtol=0, atol=6e-8)


def test_xlm_and_videomae_are_interleaved():
    got = sinusoidal(np.arange(300), 64)
    xlm = huggingface("xlm", "create_sinusoidal_embeddings")(300, 64, torch.empty(300, 64))
    videomae = huggingface("videomae", "get_sinusoid_encoding_table")(300, 64)[0]
    np.testing.assert_allclose(got, xlm, rtol=0, atol=6e-8)
    np.testing.assert_allclose(got, videomae, rtol=0, atol=6e-8)


def test_xlnet_has_halves_of_offsets_from_positive_to_negative():
    XLNetModel = huggingface("xlnet", "XLNetModel")
    model = types.SimpleNamespace(d_model=32, attn_type="bi", bi_data=False, clamp_len=-1)
    model.positional_embedding = XLNetModel.positional_embedding
    want = XLNetModel.relative_positional_encoding(model, qlen=20, klen=30)
    got = sinusoidal(np.arange(30, -20, -1), 32, layout="halves")
    np.testing.assert_allclose(got, want[:, 0], rtol=0, atol=1e-5)


def test_m2m100_has_the_other_spacing_and_starts_behind_the_padding_index():
    cls = huggingface("m2m_100", "M2M100SinusoidalPositionalEmbedding")
    model = cls(100, 16, padding_idx=1)
    tokens = torch.tensor([[5, 6, 7, 8], [1, 1, 5, 6]])  # the second row is padded on the left
    options = {"layout": "halves", "spacing": "tensor2tensor"}
    want = model(tokens)
    np.testing.assert_allclose(sinusoidal(range(2, 6), 16, **options), want[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(sinusoidal([2, 3], 16, **options), want[1, 2:], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(want[1, :2], np.zeros((2, 16)))


def test_whisper_has_the_other_spacing_too():
    want = huggingface("whisper", "sinusoids")(1500, 384)
    got = sinusoidal(np.arange(1500), 384, layout="halves", spacing="tensor2tensor")
    np.testing.assert_allclose(got, want, rtol=0, atol=5e-4)  # Whisper's angles are float32


# --- input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float16, np.float32])
def test_positions_of_any_real_dtype_are_computed_in_float64(dtype):
    got = sinusoidal(np.array([0, 1, 100], dtype), 6)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, sinusoidal([0.0, 1.0, 100.0], 6))


def test_positions_are_not_changed():
    positions = np.arange(5.0)
    sinusoidal(positions, 4)
    separation(positions, 4)
    np.testing.assert_array_equal(positions, np.arange(5.0))


TYPE_ERRORS = {
    "d_model must be an integer, got 4.0": lambda: sinusoidal(0, 4.0),
    "d_model must be an integer, got True": lambda: frequencies(True),
    "d_model must be an integer, got '4'": lambda: column_order("4"),
    "d_model must be an integer, got 2.0": lambda: shift_matrix(1, 2.0),
    "d_model must be an integer, got None": lambda: separation(1, None),
    "d_model must be an integer, got 6.0": lambda: log_determinant(6.0),
    "d_model must be an integer, got 8.0": lambda: wavelengths(8.0),
    "base must hold real numbers, got dtype complex128": lambda: frequencies(4, 1j),
    "base must hold real numbers, got dtype bool": lambda: sinusoidal(0, 4, True),
    "base must hold real numbers, got dtype <U3": lambda: wavelengths(4, "100"),
    "positions must hold real numbers, got dtype complex128": lambda: sinusoidal([1j], 4),
    "positions must hold real numbers, got dtype bool": lambda: sinusoidal([True], 4),
    "positions must hold real numbers, got dtype object": lambda: sinusoidal([None], 4),
    "offset must hold real numbers, got dtype bool": lambda: shift_matrix(True, 4),
    "offset must hold real numbers, got dtype complex128": lambda: separation(1j, 4),
}

VALUE_ERRORS = {
    "d_model must be at least 1, got 0": lambda: sinusoidal(0, 0),
    "d_model must be at least 1, got -2": lambda: frequencies(-2),
    "d_model must be at least 1, got -1": lambda: column_order(-1),
    "d_model must be at least 1, got -4": lambda: shift_matrix(1, -4),
    "d_model must be a multiple of 2, got 5": lambda: frequencies(5, spacing="tensor2tensor"),
    "d_model must be a multiple of 2, got 7": lambda: sinusoidal(0, 7, spacing="tensor2tensor"),
    "d_model must be a multiple of 2, got 3": lambda: shift_matrix(1, 3),
    "d_model must be a multiple of 2, got 9": lambda: separation(1, 9),
    "d_model must be a multiple of 2, got 1": lambda: log_determinant(1),
    "base must be above 1, got 1": lambda: frequencies(4, 1),
    "base must be above 1, got 0.5": lambda: sinusoidal(0, 4, 0.5),
    "base must be above 1, got -10000": lambda: shift_matrix(1, 4, -10000),
    "base must be finite, got nan": lambda: sinusoidal(0, 4, math.nan),
    "base must be finite, got inf": lambda: wavelengths(4, math.inf),
    "base must have shape (), got (2,)": lambda: frequencies(4, [2.0, 3.0]),
    "positions must be finite, got nan": lambda: sinusoidal([0.0, math.nan], 4),
    "positions must be finite, got -inf": lambda: sinusoidal(-math.inf, 4),
    "positions must not be empty, got shape (0,)": lambda: sinusoidal([], 4),
    "positions must be exact in float64, got 9007199254740993": lambda: sinusoidal(2**53 + 1, 4),
    "offset must be finite, got inf": lambda: shift_matrix(math.inf, 4),
    "offset must have shape (), got (2,)": lambda: shift_matrix([1, 2], 4),
    "offset must be finite, got nan": lambda: separation([math.nan], 4),
    "offset must not be empty, got shape (0,)": lambda: separation([], 4),
    "layout must be 'interleaved' or 'halves', got 'half'": lambda: sinusoidal(0, 4, layout="half"),
    "layout must be 'interleaved' or 'halves', got None": lambda: column_order(4, None),
    "spacing must be 'paper' or 'tensor2tensor', got 't2t'": lambda: sinusoidal(
        0, 4, spacing="t2t"
    ),
    "spacing must be 'paper' or 'tensor2tensor', got ''": lambda: log_determinant(4, spacing=""),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims: the table -------------------------------------------------------------------------


def one_frequency_per_column(positions, d, base=10000.0):
    """Table of a widespread bug: exponent 2c/d for every column c, not for every pair."""
    c = np.arange(d)
    angle = np.asarray(positions, float)[:, None] * base ** (-2 * c / d)
    return np.where(c % 2, np.cos(angle), np.sin(angle))


@claim("sinusoidal.printed")
def test_four_tokens_have_the_printed_table():
    k, frequency = np.arange(4), 100 ** (-1 / 4)
    halved = np.column_stack([np.sin(k), np.cos(k), np.sin(k * frequency), np.cos(k * frequency)])
    got = sinusoidal(k, 4, base=100)
    return at_most(
        5e-9,
        right=largest_difference(got, PRINTED),
        wrong=largest_difference(halved, PRINTED),
        cos_tenth=got[1, 3],
        wrong_frequency=frequency,
    )


@claim("sinusoidal.literal")
def test_the_base_is_raised_to_the_exponent():
    n, d = 100, 512
    m = np.arange(1, d // 2)
    literal = d / (100002 * m)  # pos / (100002 i / d), without i = 0
    table = sinusoidal(np.arange(n), d)
    return at_most(
        1e-12,
        right=largest_difference(table, loop(n, d)),
        wrong=largest_difference(table[:, 2::2], np.sin(np.arange(n)[:, None] * literal)),
        first=frequencies(d)[1],
        last=frequencies(d)[-1],
        literal_first=literal[0],
        literal_last=literal[-1],
    )


@claim("sinusoidal.odd")
def test_an_odd_width_ends_with_a_sine():
    n, d = 100, 5
    table, k = sinusoidal(np.arange(n), d), np.arange(n)
    last = [math.sin(j / 10000 ** (4 / 5)) for j in k]
    squares = (table**2).sum(axis=1)
    return at_most(
        1e-12,
        right=largest_difference(table[:, -1], last),
        wrong=largest_difference(loop(n, d)[:, -1], last),
        norm_min=squares.min(),
        norm_max=squares.max(),
    )


def period_of_last_pair(d):
    """Where the last sine is back at zero for the second time, by bisection on the table."""
    low, high = 1.5 * math.pi * 10000 ** ((d - 2) / d), 2.5 * math.pi * 10000 ** ((d - 2) / d)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sinusoidal(middle, d)[-2] < 0 else (low, middle)
    return low


@claim("sinusoidal.wavelength")
def test_the_longest_wavelength_falls_short_of_the_base():
    sizes = (4, 64, 128, 512)
    longest = {d: wavelengths(d)[-1] for d in sizes}
    measured = {d: period_of_last_pair(d) for d in sizes}
    return at_most(
        1e-9,
        right=max(abs(longest[d] / measured[d] - 1) for d in sizes),
        wrong=min(abs(2 * math.pi * 10000 / measured[d] - 1) for d in sizes),
        shortest=wavelengths(512)[0],
        two_pi_b=2 * math.pi * 10000,
        **{f"longest_{d}": longest[d] for d in sizes},
    )


@claim("sinusoidal.columns")
def test_a_slow_column_covers_a_short_arc():
    n, d = 100, 512
    table, reach = sinusoidal(np.arange(n), d), (n - 1) * frequencies(d)
    spans = np.ptp(table, axis=0)
    slow = reach < math.pi / 2
    arcs = np.column_stack([np.sin(reach), 1 - np.cos(reach)])[slow]
    found = spans.reshape(-1, 2)[slow]
    return at_most(
        1e-12,
        right=largest_difference(found, arcs),
        wrong=largest_difference(found, 2.0),
        below_005=(spans < 0.05).mean(),
        below_05=(spans < 0.5).mean(),
        slowest_sine=spans[-2],
        slowest_cosine=spans[-1],
    )


@claim("sinusoidal.norm")
def test_all_encodings_are_equally_long():
    k = np.arange(10_000)

    def squares(table):
        return (table**2).sum(axis=1)

    right = {d: squares(sinusoidal(k, d)) for d in (4, 512)}
    wrong = {d: squares(one_frequency_per_column(k[:512], d)) for d in (4, 512)}
    return at_most(
        1e-10,
        right=max(largest_difference(right[d], d / 2) for d in right),
        wrong=min(largest_difference(wrong[d], d / 2) for d in wrong),
        square_512=right[512].mean(),
        per_column_min_4=wrong[4].min(),
        per_column_max_4=wrong[4].max(),
        per_column_min_512=wrong[512].min(),
        per_column_max_512=wrong[512].max(),
    )


@claim("sinusoidal.layouts")
def test_halves_are_a_permutation_of_the_columns():
    k, d = np.arange(200), 64
    angle = np.outer(k, frequencies(d))
    apart = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    neighbours, halves = sinusoidal(k, d), sinusoidal(k, d, layout="halves")
    gram = largest_difference(neighbours @ neighbours.T, halves @ halves.T)
    return at_most(
        1e-12,
        right=max(largest_difference(halves, apart), gram),
        wrong=largest_difference(neighbours, apart),
        same_product=neighbours[7] @ neighbours[7],
        mixed_product=neighbours[7] @ halves[7],
    )


@claim("sinusoidal.tensor2tensor")
def test_the_other_spacing_ends_at_one_over_the_base():
    sizes, b = (4, 64, 512, 1024), 10000.0
    paper = {d: frequencies(d, b)[-1] * b for d in sizes}
    other = {d: frequencies(d, b, spacing="tensor2tensor")[-1] * b for d in sizes}
    tables = [sinusoidal(np.arange(512), 512, spacing=spacing) for spacing in SPACINGS]
    return at_most(
        1e-15,
        right=max(abs(other[d] - 1) for d in sizes),
        wrong=min(abs(paper[d] - 1) for d in sizes),
        last_ratio_64=paper[64],
        last_ratio_512=paper[512],
        table_difference=largest_difference(*tables),
    )


# --- claims: shifts ----------------------------------------------------------------------------


@claim("sinusoidal.addition")
def test_the_addition_theorems_join_two_rows_into_a_third():
    n, d = 256, 16
    table = sinusoidal(np.arange(2 * n), d)
    S, C = table[:n, 0::2], table[:n, 1::2]
    p, k = np.arange(n)[:, None], np.arange(n)
    there = table[p + k]
    sine = S[p] * C[k] + C[p] * S[k]
    cosine = C[p] * C[k] - S[p] * S[k]
    flipped = C[p] * C[k] + S[p] * S[k]
    return at_most(
        1e-12,
        right=max(
            largest_difference(sine, there[..., 0::2]), largest_difference(cosine, there[..., 1::2])
        ),
        wrong=largest_difference(flipped, there[..., 1::2]),
    )


@claim("sinusoidal.shift")
def test_one_matrix_moves_all_encodings():
    k, d, shifts = np.arange(1000), 128, (1, 7, 500, -3)
    P = sinusoidal(k, d)

    def error(s, M):
        return largest_difference(P @ M, sinusoidal(k + s, d))

    return at_most(
        1e-11,
        right=max(error(s, shift_matrix(s, d)) for s in shifts),
        wrong=min(error(s, shift_matrix(s, d).T) for s in shifts),
    )


@claim("sinusoidal.group")
def test_shifts_form_a_group_of_rotations():
    d, pairs = 64, list(itertools.product((-40, -3, 1, 7, 500), repeat=2))
    move = functools.partial(shift_matrix, d_model=d)
    products = max(largest_difference(move(a) @ move(b), move(a + b)) for a, b in pairs)
    inverses = max(largest_difference(move(-a), move(a).T) for a, _ in pairs)
    rotations = max(largest_difference(move(a) @ move(a).T, np.eye(d)) for a, _ in pairs)
    return at_most(
        1e-12,
        right=max(products, inverses, rotations),
        wrong=min(largest_difference(move(a) + move(b), move(a + b)) for a, b in pairs),
    )


def best_map(X, Y):
    """Linear map from the rows of X to those of Y with the least squared error."""
    return np.linalg.lstsq(X, Y, rcond=None)[0]


def root_mean_square(x):
    return float(np.sqrt((x**2).mean()))


@claim("sinusoidal.pairs")
def test_a_sine_needs_its_cosine():
    k, s = np.arange(1, 507), 5

    def residual(columns):
        X, Y = columns(k), columns(k + s)
        return root_mean_square(X @ best_map(X, Y) - Y)

    def pair(table, m):
        return residual(lambda k: table(k, 512)[:, 2 * m : 2 * m + 2])

    apart = {m: pair(one_frequency_per_column, m) for m in (0, 10)}
    return at_most(
        1e-13,
        right=max(pair(sinusoidal, m) for m in (0, 10)),
        wrong=min(apart.values()),
        pair_0=apart[0],
        pair_10=apart[10],
        sine_alone=residual(lambda k: np.sin(k)[:, None]),
    )


@claim("sinusoidal.unique")
def test_the_determinant_has_a_closed_form():
    dets = {}
    with mpmath.workdps(200):
        for d in (4, 8, 16, 32):
            dets[d] = abs(mpmath.det(digits_table(d, d)))
        logs = {d: float(mpmath.log(det)) for d, det in dets.items()}
        log10s = {f"log10_{d}": float(mpmath.log10(det)) for d, det in dets.items()}

    def without_squares(d):
        return (log_determinant(d) + np.log(np.sin(frequencies(d))).sum()) / 2

    return at_most(
        1e-9,
        right=max(abs(log_determinant(d) - logs[d]) for d in dets),
        wrong=min(abs(without_squares(d) - logs[d]) for d in dets),
        det_4=float(dets[4]),
        det_8=float(dets[8]),
        det_16=float(dets[16]),
        log10_512=log_determinant(512) / math.log(10),
        **log10s,
    )


@claim("sinusoidal.least_squares")
def test_least_squares_does_not_find_the_shift_matrix():
    s, seen, unseen = 1, np.arange(512), np.arange(1000, 2000)

    def error(d, M, k):
        return largest_difference(sinusoidal(k, d) @ M, sinusoidal(k + s, d))

    fitted = {d: best_map(sinusoidal(seen, d), sinusoidal(seen + s, d)) for d in (64, 128)}
    return at_most(
        1e-11,
        right=max(error(d, shift_matrix(s, d), unseen) for d in fitted),
        wrong=min(error(d, fitted[d], unseen) for d in fitted),
        trained_64=error(64, fitted[64], seen),
        trained_128=error(128, fitted[128], seen),
        held_out_64=error(64, fitted[64], unseen),
        held_out_128=error(128, fitted[128], unseen),
        rank_64=np.linalg.matrix_rank(sinusoidal(seen, 64)),
        rank_128=np.linalg.matrix_rank(sinusoidal(seen, 128)),
    )


def spread(gram):
    """Largest difference of two inner products at the same offset."""
    n = len(gram)
    return max(float(np.ptp(np.diagonal(gram, offset))) for offset in range(1 - n, n))


@claim("sinusoidal.distance")
def test_a_linear_shift_does_not_make_inner_products_relative():
    k, d, s = np.arange(200), 16, 7
    A = np.random.default_rng(20).standard_normal((d, d)) / math.sqrt(d)
    P, Q = sinusoidal(k, d), sinusoidal(k, d) @ A
    M = np.linalg.inv(A) @ shift_matrix(s, d) @ A
    shift_error = largest_difference(Q @ M, sinusoidal(k + s, d) @ A)
    size = (Q**2).sum(axis=1).mean()
    return at_most(
        1e-11,
        right=max(shift_error, spread(P @ P.T) / (d / 2)),
        wrong=spread(Q @ Q.T) / size,
        shift_error=shift_error,
    )


# --- claims: frequencies -----------------------------------------------------------------------


@claim("sinusoidal.spectrum")
def test_every_decade_of_wavelengths_has_as_many_pairs():
    d = 512
    decades = 10.0 ** (np.arange(5) - 2 / d)  # half a step before each power of ten

    def shares(theta):
        return np.histogram(1 / theta, decades)[0] / len(theta)

    even = np.linspace(1, 1e-4, d // 2)
    return at_most(
        1e-12,
        right=largest_difference(shares(frequencies(d)), 1 / 4),
        wrong=largest_difference(shares(even), 1 / 4),
        per_decade=shares(frequencies(d))[0] * d / 2,
        longer=(wavelengths(d) > 512).sum(),
        pairs=d // 2,
        uniform_first=shares(even)[0],
    )


def energy(n, d=512):
    """Share of the energy of n rows that their first 1, 2, 3, ... directions hold."""
    values = np.linalg.svd(sinusoidal(np.arange(n), d), compute_uv=False) ** 2
    return np.cumsum(values) / values.sum()


@claim("sinusoidal.rank")
def test_few_directions_hold_the_energy():
    few = energy(512)
    return at_most(
        0.01,
        right=1 - few[108],
        wrong=1 - 109 / 512,
        at_512=np.searchsorted(few, 0.99) + 1,
        at_4096=np.searchsorted(energy(4096), 0.99) + 1,
    )


# --- claims: distances -------------------------------------------------------------------------


@claim("sinusoidal.separation")
def test_tiny_distances_keep_their_digits():
    d, offsets = 64, [1e-9, 1e-6, 1e-3, 1, 30, 1000]
    with mpmath.workdps(50):
        theta = [mpmath.mpf(10000) ** (-mpmath.mpf(2 * m) / d) for m in range(d // 2)]
        sums = [mpmath.fsum(mpmath.cos(s * t) for t in theta) for s in offsets]
        exact = np.array([float(mpmath.sqrt(d - 2 * total)) for total in sums])
    cosines = np.cos(np.outer(offsets, frequencies(d))).sum(axis=1)
    naive = np.sqrt(np.maximum(d - 2 * cosines, 0))
    return at_most(
        1e-12,
        right=largest(separation(offsets, d) / exact - 1),
        wrong=largest(naive / exact - 1),
        near_64=separation(1, 64),
        near_512=separation(1, 512),
    )


def nearest(d, n):
    """Distance and offset of the nearest other encoding within n positions.

    Pair by pair: an offset is dropped as soon as it is farther away than the neighbour.
    """
    offsets, squares = np.arange(1.0, n + 1), np.zeros(n)
    for theta in frequencies(d):
        squares += 4 * np.sin(offsets * theta / 2) ** 2
        keep = squares <= separation(1, d) ** 2 * (1 + 1e-12)
        offsets, squares = offsets[keep], squares[keep]
    return math.sqrt(squares.min()), offsets[squares.argmin()]


@pytest.mark.parametrize("d", [*range(20, 100, 8), 128, 256])
def test_the_neighbour_is_nearest_at_other_widths_too(d):
    assert nearest(d, 10**6) == (pytest.approx(separation(1, d)), 1)


@claim("sinusoidal.injective")
def test_from_width_18_on_nobody_is_nearer_than_the_neighbour():
    n = 10**6
    misses = {d: nearest(d, n) for d in (2, 4, 8, 16)}
    near = {d: nearest(d, n)[0] for d in (18, 32, 64, 512)}
    return at_most(
        1e-9,
        right=max(separation(1, d) / near[d] - 1 for d in near),
        wrong=separation(1, 16) / misses[16][0] - 1,
        miss_710=separation(710, 2),
        **{f"miss_{d}": miss for d, (miss, _) in misses.items()},
        **{f"at_{d}": at for d, (_, at) in misses.items()},
        **{f"near_{d}": distance for d, distance in near.items()},
    )


@claim("sinusoidal.periodic")
def test_a_truly_periodic_code_repeats():
    d, period = 16, 256
    offsets = np.arange(1, period + 1)

    def distance(theta, s):
        angle = np.outer(s, theta)
        return np.sqrt((np.sin(angle) ** 2 + (1 - np.cos(angle)) ** 2).sum(axis=1))

    clocks = 2 * math.pi / 2.0 ** np.arange(1, d // 2 + 1)
    return at_most(
        1e-10,
        right=distance(clocks, [period])[0],
        wrong=distance(frequencies(d), offsets).min(),
        period=offsets[distance(clocks, offsets) < 1e-10][0],
        nearest=distance(frequencies(d), offsets).min(),
    )


def first_repeat(d, n):
    """First two positions whose rows are equal once they are rounded to bfloat16, if any."""
    rows = torch.tensor(sinusoidal(np.arange(n), d)).bfloat16().view(torch.int16).numpy()
    seen: dict[bytes, int] = {}
    for k, row in enumerate(map(bytes, rows)):
        if (before := seen.setdefault(row, k)) != k:
            return before, k
    return None


@claim("sinusoidal.rounded_rows")
def test_rounded_to_bfloat16_wide_rows_still_differ():
    n = 100_000
    (first_2, second_2), (first_4, second_4) = first_repeat(2, n), first_repeat(4, n)

    def lost(d):
        rows = torch.tensor(sinusoidal(np.arange(n), d)).bfloat16().view(torch.int16).numpy()
        return 1 - len({*map(bytes, rows)}) / n

    return at_most(
        1e-6,
        right=lost(8),
        wrong=lost(2),
        first_2=first_2,
        second_2=second_2,
        first_4=first_4,
        second_4=second_4,
    )


# --- claims: a widespread bug ------------------------------------------------------------------


@claim("sinusoidal.per_column")
def test_both_columns_of_a_pair_share_one_frequency():
    n, d, b = 512, 512, 10000.0
    right, wrong = sinusoidal(np.arange(n), d), one_frequency_per_column(np.arange(n), d)
    by_loop, differences = loop(n, d), np.abs(wrong - right).max(axis=0)

    def flat(table, limit):
        return (np.ptp(table, axis=0) < limit).mean()

    return at_most(
        1e-11,
        right=largest_difference(right, by_loop),
        wrong=largest_difference(wrong, by_loop),
        lowest=b ** (-2 * (d - 1) / d),
        lowest_formula=frequencies(d)[-1],
        equal_columns=(differences < 1e-9).sum(),
        flat_01=flat(wrong, 0.1),
        flat_01_formula=flat(right, 0.1),
        flat_001=flat(wrong, 0.01),
        flat_001_formula=flat(right, 0.01),
        **{f"ratio_{d}": b ** (2 / d) for d in (4, 128, 512)},
    )


@claim("sinusoidal.per_column_shift")
def test_columns_of_their_own_frequencies_have_no_shift_matrix():
    d, s, seen, unseen = 8, 1, np.arange(512), np.arange(512, 1024)

    def errors(table):
        M = best_map(table(seen, d), table(seen + s, d))
        return [root_mean_square(table(k, d) @ M - table(k + s, d)) for k in (seen, unseen)]

    right, wrong = errors(sinusoidal), errors(one_frequency_per_column)
    return at_most(1e-12, right=max(right), wrong=min(wrong), trained=wrong[0], held_out=wrong[1])


def absolute_share(P):
    """Share of the variance of the inner products that the offset alone does not explain."""
    G = P @ P.T
    n = len(G)
    offset = np.subtract.outer(np.arange(n), np.arange(n)) + n - 1
    means = np.bincount(offset.ravel(), G.ravel()) / np.bincount(offset.ravel())
    return ((G - means[offset]) ** 2).sum() / ((G - G.mean()) ** 2).sum()


@claim("sinusoidal.per_column_gram")
def test_columns_of_their_own_frequencies_see_absolute_positions():
    k = np.arange(1, 512)
    with_zeros = one_frequency_per_column(np.arange(512), 512)
    with_zeros[0] = 0
    shares = {d: absolute_share(one_frequency_per_column(k, d)) for d in (4, 128, 512)}
    return at_most(
        1e-12,
        right=max(absolute_share(sinusoidal(k, d)) for d in shares),
        wrong=min(shares.values()),
        share_512_zero=absolute_share(with_zeros),
        **{f"share_{d}": share for d, share in shares.items()},
    )


@claim("sinusoidal.zero_row")
def test_position_zero_is_as_long_as_any_other():
    norm = math.sqrt(512 / 2)
    first = np.linalg.norm(sinusoidal(0, 512))
    return at_most(
        1e-12, right=abs(first - norm), wrong=abs(np.linalg.norm(np.zeros(512)) - norm), norm=first
    )


# --- claims: precision and the layer -----------------------------------------------------------


def table_error(positions, angle):
    """Largest error of sines and cosines of the angles, against the float64 table."""
    d = 2 * angle.shape[1]
    got = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(len(positions), d)
    return largest_difference(got, sinusoidal(positions, d))


@claim("sinusoidal.precision")
def test_exact_angles_rounded_last_are_exact_at_ten_million():
    d, theta = 128, frequencies(128)

    def float32(k):
        return (k.astype(np.float32)[:, None] * theta.astype(np.float32)).astype(float)

    def bfloat16(k):
        return torch.tensor(k).bfloat16().double().numpy()[:, None] * theta

    ends = {p: np.arange(10**p - 7, 10**p + 1) for p in range(3, 8)}
    far = torch.tensor(ends[7])
    got = Sinusoidal(d)(torch.zeros(1, 8, d), far)[0].numpy()
    return at_most(
        4e-8,
        right=largest_difference(got, [exact(int(k), d) for k in far]),
        wrong=table_error(ends[7], float32(ends[7])),
        bfloat16_1e3=table_error(ends[3], bfloat16(ends[3])),
        bfloat16_1e4=table_error(ends[4], bfloat16(ends[4])),
        **{f"float32_1e{p}": table_error(k, float32(k)) for p, k in ends.items()},
    )


@claim("sinusoidal.bf16_positions")
def test_positions_stay_integers():
    positions = torch.arange(4096)
    rounded = positions.bfloat16()
    distinct = len(rounded.unique())
    lost = (rounded.double() != positions).nonzero()
    return at_most(
        1e-6,
        right=1 - len(positions.unique()) / 4096,
        wrong=1 - distinct / 4096,
        distinct=distinct,
        positions=4096,
        first_lost=lost[0],
        distinct_float16=len(positions.half().unique()),
    )


@claim("sinusoidal.layer")
def test_layer_equals_the_equation():
    d, n = 512, 100
    x = torch.randn(2, n, d, generator=torch.Generator().manual_seed(21)) / math.sqrt(d)
    want = math.sqrt(d) * x.double().numpy() + sinusoidal(np.arange(n), d)

    def error(**options):
        return largest_difference(Sinusoidal(d, **options)(x).numpy(), want)

    return at_most(1e-6, right=error(token_scale=math.sqrt(d)), wrong=error())
