"""Word plus position: printed facts, properties, oracles and errors; the claims."""

import functools
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
from hypothesis.extra.numpy import arrays

from posenc.equations.attention import mixed_difference
from posenc.equations.collision import (
    add_positions,
    count_collisions,
    decode,
    embed_concatenated,
    energy_share,
    gaps,
    log10_expected_collisions,
    margin,
    match_probability,
    nearest_sums,
    round_to,
)
from posenc.equations.sinusoidal import sinusoidal

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3": torch.float8_e4m3fn,
}
BY_FORMAT = pytest.mark.parametrize("number_format", DTYPES)
formats = st.sampled_from(list(DTYPES))
numbers = st.floats(-400, 400)
dyadic = st.integers(-8, 8).map(lambda n: n / 4)


@st.composite
def two_tables(draw, elements=numbers, min_rows=1):
    V, N, d = (
        draw(st.integers(min_rows, 5)),
        draw(st.integers(min_rows, 5)),
        draw(st.integers(1, 4)),
    )
    return (
        draw(arrays(np.float64, (V, d), elements=elements)),
        draw(arrays(np.float64, (N, d), elements=elements)),
    )


def largest(x):
    return float(np.abs(x).max())


def cast(values, number_format):
    """Values rounded by torch, back in float64."""
    x = torch.tensor(np.asarray(values, np.float64))
    if number_format != "float32":  # torch goes from float64 by way of float32: round twice
        assert (x.float().double() == x).all()
        x = x.float()
    return x.to(DTYPES[number_format]).double().numpy()


@functools.cache
def all_numbers(number_format):
    """Every finite number of a format of at most 16 bits, by its bit patterns."""
    bits = torch.finfo(DTYPES[number_format]).bits
    integer = {8: torch.int8, 16: torch.int16}[bits]
    patterns = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)).to(integer)
    values = patterns.view(DTYPES[number_format]).double().numpy()
    return np.unique(values[np.isfinite(values)])


# --- printed facts -----------------------------------------------------------------------------


@pytest.mark.parametrize("number_format", ["float16", "bfloat16", "float8_e4m3"])
def test_every_number_of_a_format_stays_as_it_is(number_format):
    every = all_numbers(number_format)
    np.testing.assert_array_equal(round_to(every, number_format), every, strict=True)


@pytest.mark.parametrize("number_format", ["float16", "bfloat16", "float8_e4m3"])
def test_ties_go_to_the_number_whose_last_bit_is_zero(number_format):
    every = all_numbers(number_format)
    ties = (every[1:] + every[:-1]) / 2
    np.testing.assert_array_equal(round_to(ties, number_format), cast(ties, number_format))


def test_subnormal_float32_are_equally_spaced():
    smallest = 2.0**-149
    got = round_to(np.array([0.5, 0.75, 1.5, 2.5, 3.0]) * smallest, "float32")
    np.testing.assert_array_equal(got / smallest, [0, 1, 2, 2, 3])


def test_one_third_in_four_formats():
    got = [float(round_to(1 / 3, number_format)) for number_format in DTYPES]
    want = [11184811 / 2**25, 1365 / 2**12, 171 / 2**9, 11 / 2**5]
    assert got == want


def test_zero_keeps_its_sign():
    got = round_to(np.array([0.0, -0.0, -1e-300]), "bfloat16")
    np.testing.assert_array_equal(np.signbit(got), [False, True, True])


@BY_FORMAT
def test_the_largest_number_is_that_of_torch(number_format):
    largest = torch.finfo(DTYPES[number_format]).max
    assert round_to(largest, number_format) == largest
    with pytest.raises(ValueError, match=f"at most {re.escape(str(largest))} in {number_format}"):
        round_to(largest * 1.1, number_format)


def test_what_rounds_down_to_the_largest_number_is_allowed():
    assert round_to(464.0, "float8_e4m3") == 448.0
    assert round_to(-65519.99, "float16") == -65504.0


def test_257_words_at_one_position_are_257_sums():
    assert count_collisions(np.arange(257.0)[:, None]) == 0


def test_the_zeros_of_both_signs_are_one_vector():
    assert count_collisions([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0]]) == 1


def test_equal_vectors_need_not_be_neighbours():
    assert count_collisions([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]) == 1
    assert count_collisions([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]) == 1


def test_all_equal_vectors_but_one_are_lost():
    assert count_collisions(np.ones((3, 4, 5))) == 11


def test_positions_may_be_unsigned():
    k = np.array([2, 0], np.uint8)
    got = embed_concatenated([[1.0], [2.0]], k, [[10.0]], [[1.0], [2.0], [3.0]])
    np.testing.assert_array_equal(got, [[13.0], [21.0]])


def test_two_equal_numbers_match_for_sure():
    assert match_probability([[2.0], [2.0]], "float16") == 1.0


def test_one_pair_of_sums_is_expected_to_collide_with_its_probability():
    assert log10_expected_collisions(2, 1, 3, 0.1) == pytest.approx(-3, rel=1e-15)
    assert log10_expected_collisions(1, 2, 3, 1) == 0.0


def test_gaps_of_two_rows_are_their_distance():
    assert gaps([[0, 0], [5, 12]]) == (13.0, 13.0)


def test_sums_on_a_line_meet_where_the_steps_agree():
    assert nearest_sums([[0.0], [1.0]], [[0.0], [0.75]]) == 0.25
    assert margin([[0.0], [1.0]], [[0.0], [0.75]]) == -0.25


def test_a_large_table_does_not_spoil_a_collision():
    e, p = np.array([[1e6, 0.0], [1e6, 1.0]]), np.array([[0.0, 7.0], [0.0, 8.0]])
    assert nearest_sums(e, p) == 0.0


# --- properties --------------------------------------------------------------------------------


@given(arrays(np.float64, 5, elements=numbers), formats)
def test_rounding_twice_is_rounding_once(values, number_format):
    once = round_to(values, number_format)
    np.testing.assert_array_equal(round_to(once, number_format), once)
    np.testing.assert_array_equal(round_to(-values, number_format), -once)


@given(arrays(np.float64, 8, elements=numbers), formats)
def test_rounding_keeps_the_order(values, number_format):
    assert (np.diff(round_to(np.sort(values), number_format)) >= 0).all()


@given(two_tables())
def test_the_second_difference_of_a_sum_is_zero(tables):
    T = add_positions(*tables)
    second = T - T[:, :1] - T[:1] + T[:1, :1]
    np.testing.assert_allclose(second, 0, atol=1e-12)


@given(two_tables(min_rows=2))
def test_sums_keep_the_margin(tables):
    e, p = tables
    across = min(nearest_sums(e, p), gaps(p)[0])
    assert across >= margin(e, p) - 1e-4


@given(two_tables(elements=dyadic, min_rows=2))
def test_distance_zero_is_a_collision(tables):
    e, p = tables
    nearest = min(nearest_sums(e, p), gaps(e)[0], gaps(p)[0])
    assert (nearest == 0) == (count_collisions(add_positions(e, p)) > 0)


@given(two_tables(), st.floats(0.1, 10))
def test_share_of_words_and_share_of_positions_make_one(tables, factor):
    e, p = tables
    if (np.square(e).sum() + np.square(p).sum()) > 1e-6:
        assert energy_share(e, p) + energy_share(p, e) == pytest.approx(1)
        assert energy_share(factor * e, factor * p) == pytest.approx(energy_share(e, p))


# --- oracles -----------------------------------------------------------------------------------

WIDE = {"float32": (-45, 38), "float16": (-9, 4.8), "bfloat16": (-45, 38), "float8_e4m3": (-4, 2.6)}


def samples(number_format, n=20_000):
    """Numbers of all sizes that the format can hold, and from float16 on exact in float32."""
    rng = np.random.default_rng(0)
    values = rng.choice([-1, 1], n) * 10 ** rng.uniform(*WIDE[number_format], n)
    return values if number_format == "float32" else values.astype(np.float32).astype(np.float64)


@BY_FORMAT
def test_rounding_is_that_of_torch_bit_for_bit(number_format):
    values = samples(number_format)
    got, want = round_to(values, number_format), cast(values, number_format)
    np.testing.assert_array_equal(got.view(np.int64), want.view(np.int64))


def by_fractions(value, bits, smallest):
    """The nearest multiple of the spacing, ties to even, in exact arithmetic."""
    x = abs(Fraction(value))
    exponent = smallest
    while Fraction(2) ** (exponent + 1) <= x:
        exponent += 1
    spacing = Fraction(2) ** (exponent - bits + 1)
    return math.copysign(float(round(x / spacing) * spacing), value)


@given(st.floats(-440, 440))
def test_rounding_is_that_of_exact_fractions(value):
    assert round_to(value, "float32") == by_fractions(value, 24, -126)
    assert round_to(value, "float16") == by_fractions(value, 11, -14)
    assert round_to(value, "bfloat16") == by_fractions(value, 8, -126)
    assert round_to(value, "float8_e4m3") == by_fractions(value, 4, -6)


@given(two_tables(), st.data())
def test_appended_one_hots_are_an_added_row(tables, data):
    W_x, W_p = tables
    k = np.array(data.draw(st.lists(st.integers(0, len(W_p) - 1), min_size=1, max_size=4)))
    x = data.draw(arrays(np.float64, (len(k), len(W_x)), elements=numbers))
    want = [row @ W_x + W_p[place] for row, place in zip(x, k, strict=True)]
    np.testing.assert_allclose(embed_concatenated(x, k, W_x, W_p), want, atol=1e-9)


@given(two_tables())
def test_the_table_of_sums_is_a_double_loop(tables):
    e, p = tables
    want = [[word + position for position in p] for word in e]
    np.testing.assert_array_equal(add_positions(e, p), want)


def test_share_is_a_quotient_of_sums():
    rng = np.random.default_rng(1)
    e, p = rng.standard_normal((7, 3)), rng.standard_normal((4, 3))
    words = sum(float(x) ** 2 for x in e.flat) / 7
    positions = sum(float(x) ** 2 for x in p.flat) / 4
    assert energy_share(e, p) == pytest.approx(positions / (words + positions), rel=1e-14)


@given(arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=dyadic))
def test_collisions_are_what_a_set_leaves_out(vectors):
    assert count_collisions(vectors) == len(vectors) - len({tuple(row + 0.0) for row in vectors})


@given(st.lists(numbers, min_size=2, max_size=12), formats)
def test_match_probability_is_a_count_of_pairs(values, number_format):
    rounded = [float(round_to(v, number_format)) for v in values]
    pairs = list(itertools.combinations(rounded, 2))
    want = sum(r == s for r, s in pairs) / len(pairs)
    assert match_probability(np.array(values), number_format) == pytest.approx(want, rel=1e-14)


@given(st.integers(1, 10**6), st.integers(2, 10**6), st.integers(1, 5000), st.floats(1e-300, 1))
def test_expected_collisions_are_those_of_fifty_digits(V, N, d, q):
    with mpmath.workdps(50):
        want = mpmath.log10(mpmath.binomial(V * N, 2) * mpmath.mpf(q) ** d)
    assert log10_expected_collisions(V, N, d, q) == pytest.approx(float(want), rel=1e-12, abs=1e-9)


@given(two_tables(min_rows=2))
def test_gaps_are_those_of_all_pairs(tables):
    rows = tables[0]
    distances = [math.dist(r, s) for r, s in itertools.combinations(rows, 2)]
    np.testing.assert_allclose(gaps(rows), (min(distances), max(distances)), rtol=1e-14, atol=1e-14)
    want = min(math.dist(r, s) for r, s in itertools.combinations(tables[1], 2)) - max(distances)
    assert margin(rows, tables[1]) == pytest.approx(want, abs=1e-12)


def nearest_by_loops(e, p):
    """Smallest distance of another word at another position, and who they are."""
    pairs = [
        (math.dist(e[a] + p[i], e[b] + p[j]), a, i, b, j)
        for a, b in itertools.combinations(range(len(e)), 2)
        for i, j in itertools.permutations(range(len(p)), 2)
    ]
    return min(pairs)


@given(two_tables(elements=st.floats(-3, 3), min_rows=2))
def test_nearest_sums_are_those_of_a_fourfold_loop(tables):
    want = nearest_by_loops(*tables)[0]
    assert nearest_sums(*tables) == pytest.approx(want, rel=1e-9, abs=1e-6)


def test_decode_is_a_search_through_all_sums():
    rng = np.random.default_rng(2)
    e, p, s = (rng.standard_normal((n, 3)) for n in (6, 5, 40))
    words, positions = decode(s.reshape(8, 5, 3), e, p)
    assert words.shape == positions.shape == (8, 5)
    for row, a, i in zip(s, words.flat, positions.flat, strict=True):
        want = min(
            itertools.product(range(6), range(5)), key=lambda t: math.dist(row, e[t[0]] + p[t[1]])
        )
        assert (a, i) == want


def test_a_single_vector_decodes_to_two_numbers():
    words, positions = decode([2.0], [[1.0], [5.0]], [[0.0], [1.0]])
    assert (words.shape, positions.shape) == ((), ())
    assert (int(words), int(positions)) == (0, 1)


# --- errors ------------------------------------------------------------------------------------

TABLE = np.zeros((2, 3))

TYPE_ERRORS = {
    "tokens must hold real numbers, got dtype complex128": lambda: add_positions(TABLE + 0j, TABLE),
    "position_vectors must hold real numbers, got dtype bool": lambda: energy_share(
        TABLE, TABLE > 0
    ),
    "positions must hold integers, got dtype float64": lambda: embed_concatenated(
        TABLE, np.zeros(2), np.zeros((3, 4)), np.zeros((5, 4))
    ),
    "positions must hold integers, got dtype bool": lambda: embed_concatenated(
        TABLE, np.zeros(2, bool), np.zeros((3, 4)), np.zeros((5, 4))
    ),
    "values must hold real numbers, got dtype <U1": lambda: round_to("1", "float16"),
    "n_tokens must be an integer, got 2.0": lambda: log10_expected_collisions(2.0, 2, 2, 0.5),
    "n_positions must be an integer, got True": lambda: log10_expected_collisions(2, True, 2, 0.5),
    "d_model must be an integer, got 2.0": lambda: log10_expected_collisions(2, 2, 2.0, 0.5),
    "match must hold real numbers, got dtype complex128": lambda: log10_expected_collisions(
        2, 2, 2, 0.5j
    ),
    "rows must hold real numbers, got dtype object": lambda: gaps([[None], [1]]),
    "vectors must hold real numbers, got dtype complex128": lambda: count_collisions(TABLE + 0j),
}

VALUE_ERRORS = {
    "tokens must have at least 2 axes, got shape (3,)": lambda: add_positions(TABLE[0], TABLE),
    "tokens must have shape (2, 3), got (1, 2, 3)": lambda: add_positions(TABLE[None], TABLE),
    "tokens must not be empty, got shape (0, 3)": lambda: energy_share(TABLE[:0], TABLE),
    "tokens must be finite, got nan": lambda: margin(TABLE + np.nan, TABLE),
    "position_vectors must be finite, got inf": lambda: nearest_sums(TABLE, TABLE + np.inf),
    "position_vectors must have shape (2, 3), got (2, 2)": lambda: add_positions(
        TABLE, TABLE[:, :2]
    ),
    "position_vectors must have shape (4, 3), got (4, 1)": lambda: decode(
        TABLE, TABLE, np.zeros((4, 1))
    ),
    "w_token must have shape (3, 4), got (2, 4)": lambda: embed_concatenated(
        TABLE, np.zeros(2, int), np.zeros((2, 4)), np.zeros((5, 4))
    ),
    "w_position must have shape (5, 4), got (5, 3)": lambda: embed_concatenated(
        TABLE, np.zeros(2, int), np.zeros((3, 4)), np.zeros((5, 3))
    ),
    "positions must have shape (2,), got (3,)": lambda: embed_concatenated(
        TABLE, np.zeros(3, int), np.zeros((3, 4)), np.zeros((5, 4))
    ),
    "positions must be from 0 to 4, got 5": lambda: embed_concatenated(
        TABLE, np.array([5, 9]), np.zeros((3, 4)), np.zeros((5, 4))
    ),
    "positions must be from 0 to 4, got -1": lambda: embed_concatenated(
        TABLE, np.array([0, -1]), np.zeros((3, 4)), np.zeros((5, 4))
    ),
    "tokens must have shape (2, 3), got (1, 1, 2, 3)": lambda: embed_concatenated(
        TABLE[None, None], np.zeros(2, int), np.zeros((3, 4)), np.zeros((5, 4))
    ),
    "w_token must have shape (3, 4), got (1, 3, 4)": lambda: embed_concatenated(
        TABLE, np.zeros(2, int), np.zeros((1, 3, 4)), np.zeros((5, 4))
    ),
    "w_position must have shape (5, 4), got (1, 5, 4)": lambda: embed_concatenated(
        TABLE, np.zeros(2, int), np.zeros((3, 4)), np.zeros((1, 5, 4))
    ),
    "energy of tokens and position_vectors must be above 0, got 0.0": lambda: energy_share(
        TABLE, TABLE
    ),
    "values must not be empty, got shape (0,)": lambda: round_to([], "float16"),
    "values must be finite, got -inf": lambda: round_to(-np.inf, "float16"),
    "number_format must be 'float32' or 'float16' or 'bfloat16' or 'float8_e4m3', "
    "got 'float64'": lambda: round_to(1.0, "float64"),
    "values must round to at most 65504.0 in float16, got 65520.0": lambda: round_to(
        [1.0, 65520.0, 7e4], "float16"
    ),
    "values must round to at most 448.0 in float8_e4m3, got -464.5": lambda: round_to(
        -464.5, "float8_e4m3"
    ),
    "values must round to at most 3.3895313892515355e+38 in bfloat16, "
    "got 1.7976931348623157e+308": lambda: round_to(np.finfo(float).max, "bfloat16"),
    "vectors must have at least 2 axes, got shape (3,)": lambda: count_collisions(TABLE[0]),
    "number of values must be at least 2, got 1": lambda: match_probability([1.0], "float16"),
    "n_tokens must be at least 1, got 0": lambda: log10_expected_collisions(0, 2, 2, 0.5),
    "n_positions must be at least 1, got -1": lambda: log10_expected_collisions(2, -1, 2, 0.5),
    "n_tokens * n_positions must be at least 2, got 1": lambda: log10_expected_collisions(
        1, 1, 2, 0.5
    ),
    "d_model must be at least 1, got 0": lambda: log10_expected_collisions(2, 2, 0, 0.5),
    "match must be above 0, got 0": lambda: log10_expected_collisions(2, 2, 2, 0),
    "match must be at most 1, got 1.5": lambda: log10_expected_collisions(2, 2, 2, 1.5),
    "match must be finite, got nan": lambda: log10_expected_collisions(2, 2, 2, np.nan),
    "rows must have shape (2, 3), got (1, 2, 3)": lambda: gaps(TABLE[None]),
    "number of rows must be at least 2, got 1": lambda: margin(TABLE[:1], TABLE),
    "number of tokens must be at least 2, got 1": lambda: nearest_sums(TABLE[:1], TABLE),
    "number of position_vectors must be at least 2, got 1": lambda: nearest_sums(TABLE, TABLE[:1]),
    "vectors must have shape (4, 3), got (4, 2)": lambda: decode(np.zeros((4, 2)), TABLE, TABLE),
    "vectors must have at least 1 axes, got shape ()": lambda: decode(1.0, TABLE, TABLE),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_what_is_not_the_right_kind_of_number_is_refused(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_or_shape_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims ------------------------------------------------------------------------------------


def cosine(x, y):
    return (x * y).sum(axis=-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)


@claim("collision.concatenation")
def test_appending_a_one_hot_position_is_adding_a_row():
    rng = np.random.default_rng(3)
    x, W_x, W_p = (rng.standard_normal((16, 16)) for _ in range(3))
    k = rng.permutation(16)
    got = embed_concatenated(x, k, W_x, W_p)
    row, column = (np.array([word @ W_x for word in x]) + W[k] for W in (W_p, W_p.T))
    return at_most(1e-12, right=largest(got - row), wrong=largest(got - column))


@claim("collision.fixed_reach")
def test_behind_a_fixed_sinusoid_a_map_reaches_few_tables():
    rng = np.random.default_rng(4)
    n, d = 512, 16
    S, free = sinusoidal(np.arange(n), d), rng.standard_normal((n, d))

    def residual(table):
        W = np.linalg.lstsq(S, table, rcond=None)[0]
        return float(np.linalg.norm(S @ W - table) / np.linalg.norm(table))

    no_words = np.zeros((n, d)), np.zeros((d, d))
    one_hot = embed_concatenated(no_words[0], np.arange(n), no_words[1], free)
    return at_most(
        1e-10,
        right=max(largest(one_hot - free), residual(S @ rng.standard_normal((d, d)))),
        wrong=residual(free),
        residual=residual(free),
        rank=int(np.linalg.matrix_rank(S)),
        width=d,
        positions=n,
    )


@claim("collision.additive")
def test_word_and_position_change_a_sum_independently():
    rng = np.random.default_rng(5)
    e, p = rng.standard_normal((6, 8)), sinusoidal(np.arange(5), 8)

    def second_difference(combine):
        """Exchange the word and the position: what do the two exchanges change only together?"""
        pairs = itertools.product(range(1, 6), range(1, 5))
        both = [np.stack([[e[a] - e[0], 0 * p[0]], [0 * e[0], p[i] - p[0]]]) for a, i in pairs]
        start = np.stack([e[0], p[0]])
        return largest([mixed_difference(lambda x: combine(*x), start, b) for b in both])

    T = add_positions(e, p)
    indexed = largest(T[1:, 1:] - T[1:, :1] - T[:1, 1:] + T[:1, :1])
    multiplied = second_difference(np.multiply)
    right = max(second_difference(np.add), indexed)
    zeroed = float(np.mean(e * p[0] == 0))  # the sines of position 0
    return at_most(1e-12, right=right, wrong=multiplied, multiplied=multiplied, zeroed=zeroed)


@claim("collision.four_terms")
def test_logits_of_sums_are_four_terms_with_one_matrix():
    rng = np.random.default_rng(18)
    e, p, W_Q, W_K = rng.standard_normal((4, 8, 8))
    A = W_Q @ W_K.T
    x = e + p
    logits = (x @ W_Q) @ (x @ W_K).T
    both, zero = np.hstack([e, p]), np.zeros((8, 8))
    four = both @ np.block([[A, A], [A, A]]) @ both.T
    two = both @ np.block([[A, zero], [zero, A]]) @ both.T
    return at_most(1e-10, right=largest(logits - four), wrong=largest(logits - two))


def trained(seed):
    """A sentence with a repeated word, and the gradients that autograd sends back."""
    rng = np.random.default_rng(seed)
    words = np.array([3, 0, 2, 3, 1, 3])
    e, p, W, C = (rng.standard_normal(s) for s in ((4, 5), (6, 5), (5, 7), (6, 7)))
    E, P, M = (torch.tensor(table, requires_grad=True) for table in (e, p, W))
    (torch.tanh((E[words] + P) @ M) * torch.tensor(C)).sum().backward()
    gradients = [leaf.grad.numpy() for leaf in (E, P, M) if leaf.grad is not None]
    outputs = (e[words] + p) @ W
    g = C / np.cosh(outputs) ** 2  # the derivative of tanh
    return words, e, p, W, g, gradients


@claim("collision.trained")
def test_a_map_is_trained_on_the_sum():
    words, e, p, _, g, (_, _, of_map) = trained(6)
    of_sum = sum(np.outer(e[a] + p[k], g[k]) for k, a in enumerate(words))
    of_word = sum(np.outer(e[a], g[k]) for k, a in enumerate(words))
    return at_most(1e-12, right=largest(of_map - of_sum), wrong=largest(of_map - of_word))


@claim("collision.word_gradient")
def test_a_word_learns_at_all_of_its_places():
    words, e, _, W, g, (of_words, of_positions, _) = trained(7)
    everywhere, first = np.zeros((2, *e.shape))
    for k, a in enumerate(words):
        everywhere[a] += g[k] @ W.T
        first[a] += g[k] @ W.T * (a not in words[:k])
    places = np.array([g[k] @ W.T for k in range(len(words))])
    right = max(largest(of_words - everywhere), largest(of_positions - places))
    return at_most(1e-12, right=right, wrong=largest(of_words - first))


@claim("collision.scale")
def test_positions_have_a_third_of_the_energy():
    rng = np.random.default_rng(8)
    stds = {
        "original": (512, 1.0),  # N(0, 1/d), times the root of d
        "unscaled": (512, 1 / math.sqrt(512)),
        "bert": (768, 0.02),
        "doubled": (512, math.sqrt(512)),  # N(0, 1), times the root of d
    }
    values, off = {}, []
    for name, (d, std) in stds.items():
        e, p = std * rng.standard_normal((512, d)), sinusoidal(np.arange(512), d)
        values[f"share_{name}"] = energy_share(e, p)
        values[f"cosine_{name}"] = cosine(e + p, e).mean()
        values[f"norm_{name}"] = np.linalg.norm(e, axis=1).mean()
        off.append(abs(values[f"share_{name}"] - 1 / (1 + 2 * std**2)))
    return at_most(
        0.005,
        right=max(off),
        wrong=abs(values["share_unscaled"] - 1 / 3),
        norm_position=np.linalg.norm(sinusoidal(511, 512)),
        norm_position_bert=np.linalg.norm(sinusoidal(511, 768)),
        **values,
    )


@claim("collision.tied")
def test_a_table_that_also_reads_the_output_needs_the_small_variance():
    rng = np.random.default_rng(19)
    d = 512
    h, E = rng.standard_normal((500, d)), rng.standard_normal((500, d))
    small, large = (h @ (std * E).T for std in (1 / math.sqrt(d), 1))
    return at_most(0.05, right=abs(small.std() - 1), wrong=abs(large.std() - 1), large=large.std())


@claim("collision.layer_norm")
def test_a_norm_afterwards_does_not_repair_the_scale():
    rng = np.random.default_rng(9)
    d = 512
    e, p = rng.standard_normal((512, d)) / math.sqrt(d), sinusoidal(np.arange(512), d)

    def norm(x):
        return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)

    def share_after(e, p):
        """Share of the position in the energy of its part of the normalised sum."""
        deviation = (e + p).std(axis=1, keepdims=True)
        e, p = ((x - x.mean(axis=1, keepdims=True)) / deviation for x in (e, p))
        return energy_share(e, p)

    c = math.sqrt(d)
    return at_most(
        1e-12,
        right=largest(norm(c * (e + p)) - norm(e + p)),
        wrong=largest(norm(c * e + p) - norm(e + p)),
        before=energy_share(e, p),
        after=share_after(e, p),
        after_scaled=share_after(c * e, p),
    )


@claim("collision.orthogonal")
def test_words_and_positions_are_nearly_orthogonal():
    rng = np.random.default_rng(10)
    cosines, extra = {}, {}
    for d in (16, 64, 512):
        e, p = rng.standard_normal((2000, d)), sinusoidal(np.arange(64), d)
        e_norm, p_norm = (np.linalg.norm(x, axis=1) for x in (e, p))
        cosines[d] = np.sqrt(np.square(e @ p.T / np.outer(e_norm, p_norm)).mean())
        u, v = e[1:] - e[:-1], p[rng.integers(1, 64, 1999)] - p[0]
        apart = np.square(u).sum(axis=1) + np.square(v).sum(axis=1)  # concatenated
        extra[d] = np.sqrt(np.square(np.square(u + v).sum(axis=1) / apart - 1).mean())
    return at_most(
        0.05,
        right=max(abs(c * math.sqrt(d) - 1) for d, c in cosines.items()),
        wrong=min(abs(c * d - 1) for d, c in cosines.items()),
        **{f"cosine_{d}": c for d, c in cosines.items()},
        **{f"deviation_{d}": x for d, x in extra.items()},
    )


@claim("collision.formats")
def test_four_formats_round_as_torch_does():
    right = 0
    for number_format in DTYPES:
        values = samples(number_format)
        if number_format != "float32":
            every = all_numbers(number_format)
            values = np.concatenate([values, every, (every[1:] + every[:-1]) / 2])
        want = cast(values, number_format)
        right += int((round_to(values, number_format) != want).sum())
    x = samples("bfloat16").astype(np.float32)
    cut = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return at_most(0.5, right=right, wrong=int((cut != cast(x, "bfloat16")).sum()), samples=len(x))


@claim("collision.continuous")
def test_without_rounding_not_even_one_coordinate_agrees():
    rng = np.random.default_rng(11)
    T = add_positions(rng.standard_normal((2000, 1)), sinusoidal(np.arange(128), 1))
    lost = count_collisions(round_to(T, "bfloat16"))
    return at_most(0.5, right=count_collisions(T), wrong=lost, sums=T.size, lost=lost)


PHASES = np.sin(2 * np.pi * (np.arange(64) + 0.5) / 64)


def match_by_integral(number_format):
    """Integral of density squared times spacing, for N(0, 1) + sin(uniform phase)."""
    s = (np.arange(2**13) + 0.5) / 2**10  # 0 to 8, and the same below 0
    density = np.exp(-((s[:, None] - PHASES) ** 2) / 2).mean(axis=1) / math.sqrt(2 * math.pi)
    spacing = torch.finfo(DTYPES[number_format]).eps * 2.0 ** np.floor(np.log2(s))
    return float(2 * (density**2 * spacing).sum() / 2**10)


def cells(number_format, p):
    """Chances to be rounded to each number of a format, of N(0, 1) + p, for every p."""
    every = all_numbers(number_format)
    edges = (every[1:] + every[:-1]) / 2
    edges = torch.tensor(edges[abs(edges) < 12])
    return torch.diff(torch.special.ndtr(edges[:, None] - torch.tensor(p)), dim=0).numpy()


@functools.cache
def match_exactly(number_format):
    """Sum over all numbers of a format of the squared chance to be rounded to it."""
    if number_format == "float32":  # too many numbers, but the cells are as good as points
        return match_by_integral(number_format)
    return float(np.square(cells(number_format, PHASES).mean(axis=1)).sum())


def short(number_format):
    return number_format.removesuffix("_e4m3")


@claim("collision.dimensions")
def test_chance_to_agree_in_one_dimension():
    rng = np.random.default_rng(12)
    n = 2**20
    sums = rng.standard_normal(n) + np.sin(rng.uniform(0, 2 * np.pi, n))
    q = {f: match_exactly(f) for f in DTYPES}
    integral = {f: match_by_integral(f) for f in DTYPES}
    sampled = {f: match_probability(sums, f) for f in DTYPES}
    every_pattern = {f: 2.0 ** -torch.finfo(DTYPES[f]).bits for f in DTYPES}
    return at_most(
        0.05,
        right=max(abs(x[f] / q[f] - 1) for x in (integral, sampled) for f in DTYPES),
        wrong=min(abs(every_pattern[f] / q[f] - 1) for f in DTYPES),
        **{short(f): q[f] for f in DTYPES},
        **{f"any_{short(f)}": -math.expm1(512 * math.log1p(-q[f])) for f in DTYPES},
        **{f"zeros_{short(f)}": -512 * math.log10(q[f]) for f in DTYPES},
    )


@claim("collision.expected")
def test_expected_number_of_collisions():
    V, N = 50_000, 512
    zeros, first, right, wrong = {}, {}, 0.0, math.inf
    for f in DTYPES:
        q = match_exactly(f)
        got = log10_expected_collisions(V, N, 512, q)
        with mpmath.workdps(50):
            want = mpmath.log10(mpmath.binomial(V * N, 2) * mpmath.mpf(q) ** 512)
            right = max(right, float(abs(got - want)))
            wrong = min(wrong, float(abs(mpmath.log10(V * N * mpmath.mpf(q) ** 512) - want)))
        zeros[f"zeros_{short(f)}"] = -got
        widths = (d for d in itertools.count(1) if log10_expected_collisions(V, N, d, q) < 0)
        first[f"width_{short(f)}"] = next(widths)
    return at_most(1e-9, right=right, wrong=wrong, pairs=math.comb(V * N, 2), **zeros, **first)


@claim("collision.simulated")
def test_the_expected_number_of_collisions_is_found():
    V, N = 2000, 128
    rng = np.random.default_rng(17)
    lost, clashes = {}, 0
    for d in (1, 2, 3, 4):
        T = add_positions(rng.standard_normal((V, d)), sinusoidal(np.arange(N), d))
        rounded = round_to(T, "bfloat16")
        lost[f"lost_{d}"] = count_collisions(rounded)
        if d == 2:
            pairs = rounded[..., 0] + 1j * rounded[..., 1]
            times = np.unique(pairs, return_counts=True)[1]
            clashes = int((times * (times - 1) // 2).sum())
    q = match_exactly("bfloat16")
    predicted = 10 ** log10_expected_collisions(V, N, 2, q)
    return at_most(
        0.1,
        right=abs(clashes / predicted - 1),
        wrong=abs(q * clashes / predicted - 1) / q,
        sums=V * N,
        clashes=clashes,
        predicted=predicted,
        **lost,
    )


def log10_match_of_one_word(number_format, p, q):
    """Chance, per column, that N(0, 1) + p and the same N(0, 1) + q are rounded to one number."""
    every = all_numbers(number_format)
    edges = torch.tensor((every[1:] + every[:-1]) / 2)[:, None]
    low, high = (
        edges[:-1] - torch.tensor(np.minimum(p, q)),
        edges[1:] - torch.tensor(np.maximum(p, q)),
    )
    right = low + high > 0  # of zero: mirrored, since tails are exact on the left only
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    log_cell = log_high + torch.log1p(-torch.exp(log_low - log_high))
    log_cell[low >= high] = -torch.inf
    return (torch.logsumexp(log_cell, dim=0) / math.log(10)).numpy()


@claim("collision.same_place")
def test_two_words_at_one_place_match_more_often():
    rng = np.random.default_rng(20)
    V, N, n = 50_000, 512, 20_000
    grid, positions = np.linspace(-1, 1, 33), sinusoidal(np.arange(N), 512)
    zeros = {}
    for f in ("bfloat16", "float8_e4m3"):
        match = np.square(cells(f, grid)).sum(axis=0)  # of two words at one p
        per_place = np.interp(positions, grid, np.log10(match)).sum(axis=1)
        with mpmath.workdps(30):
            expected = math.comb(V, 2) * sum(mpmath.mpf(10) ** x for x in per_place)
            zeros[f"zeros_{short(f)}"] = -float(mpmath.log10(expected))
    at_0, at_1 = match[16], match[32]  # of float8
    fine = np.linspace(-1, 1, 513)
    one, k = cells("float8_e4m3", fine), np.rint(256 * (positions + 1)).astype(int)
    both = np.log10(one.T @ one)  # of two words at two p
    pairs = [10 ** (both[k[i], k].sum(axis=1) - both[k[i], k[i]].sum()) for i in range(0, N, 8)]
    others = np.mean([p.sum() - 1 for p in pairs])  # at other places, for one at the same
    sums = round_to(rng.standard_normal((n, 2)) + sinusoidal(0, 2), "float8_e4m3")
    times = np.unique(sums[:, 0] + 1j * sums[:, 1], return_counts=True)[1]
    share = (times * (times - 1)).sum() / (n * (n - 1))
    word = rng.standard_normal(200_000)
    stays = (round_to(word, "float8_e4m3") == round_to(word + 0.1, "float8_e4m3")).mean()
    want = 10 ** log10_match_of_one_word("float8_e4m3", np.zeros(1), np.array([0.1]))[0]
    one_word = log10_match_of_one_word("float8_e4m3", positions[1], positions[2]).sum()
    return at_most(
        0.05,
        right=max(abs(share / (at_0 * at_1) - 1), abs(stays / want - 1)),
        wrong=abs(share / match_exactly("float8_e4m3") ** 2 - 1),
        at_0=at_0,
        at_1=at_1,
        others=others,
        zeros_one_word=-one_word,
        **zeros,
    )


@claim("collision.bound")
def test_positions_farther_apart_than_words_cannot_collide():
    rng = np.random.default_rng(14)
    e, p = 0.02 * rng.standard_normal((300, 512)), sinusoidal(np.arange(512), 512)
    wide = 50 * e[:200]
    few, (word_gap, position_gap) = p[:64], (gaps(e)[1], gaps(p[:64])[0])
    nearest = min(nearest_sums(e[:50], few), position_gap)
    word_gap_wide = gaps(wide)[0]
    nearest_wide = min(nearest_sums(wide[:50], few), word_gap_wide)
    promised, swapped = margin(e, p), margin(p, wide)
    return at_most(
        1e-9,
        right=max(promised - nearest, swapped - nearest_wide, 0),
        wrong=max(position_gap - nearest, 0),
        word_gap=word_gap,
        position_gap=position_gap,
        margin=promised,
        nearest=nearest,
        position_gap_768=gaps(sinusoidal(np.arange(64), 768))[0],
        word_gap_wide=word_gap_wide,
        position_span=word_gap_wide - swapped,
        swapped=swapped,
        nearest_wide=nearest_wide,
        words=len(e),
        words_wide=len(wide),
        width=512,
    )


@claim("collision.near")
def test_the_nearest_sums_move_apart_as_the_width_grows():
    rng = np.random.default_rng(15)
    right, wrong = 0.0, math.inf
    for _ in range(3):
        e, p = rng.standard_normal((6, 4)), sinusoidal(np.arange(5), 4)
        want, a, i, b, j = nearest_by_loops(e, p)
        right = max(right, abs(nearest_sums(e, p) - want))
        wrong = min(wrong, abs(math.hypot(math.dist(e[a], e[b]), math.dist(p[i], p[j])) - want))
    values = {}
    for d in (4, 16, 64, 512):
        e, p = rng.standard_normal((100, d)), sinusoidal(np.arange(64), d)
        both, word, position = nearest_sums(e, p), gaps(e)[0], gaps(p)[0]
        values |= {f"both_{d}": both, f"word_{d}": word, f"position_{d}": position}
        values |= {f"other_{d}": min(both, word), f"typical_{d}": math.sqrt(2 * d)}
    return at_most(1e-9, right=right, wrong=wrong, words=100, positions=64, **values)


@claim("collision.decode")
def test_word_and_position_can_be_read_off_the_rounded_sum():
    rng = np.random.default_rng(16)
    V, N, d, n = 300, 64, 64, 2000
    e, p = rng.standard_normal((V, d)), sinusoidal(np.arange(N), d)
    a, i = rng.integers(V, size=n), rng.integers(N, size=n)
    s, noise = add_positions(e, p)[a, i], rng.standard_normal((n, d))

    def read(vectors):
        """Shares of words, of positions and of both read rightly, and of near misses."""
        words, positions = decode(vectors, e, p)
        a_right, i_right = words == a, positions == i
        shares = a_right, i_right, a_right & i_right, abs(positions - i) <= 1
        return [float(share.mean()) for share in shares]

    bfloat16, float8 = (read(round_to(s, f))[2] for f in ("bfloat16", "float8_e4m3"))
    word_03, position_03, _, _ = read(s + 0.3 * noise)
    word_1, position_1, _, near = read(s + noise)
    return at_most(
        0.001,
        right=1 - min(bfloat16, float8),
        wrong=1 - position_1,
        bfloat16=bfloat16,
        float8=float8,
        word_03_64=word_03,
        position_03_64=position_03,
        word_1_64=word_1,
        position_1_64=position_1,
        near_1_64=near,
        sums=n,
    )


@claim("collision.integers")
def test_integer_positions_collide_in_bfloat16():
    positions = np.arange(4096)
    stored = round_to(positions, "bfloat16")
    distinct = 4096 - count_collisions(stored[:, None])
    first_lost = int(positions[stored != positions][0])
    want = 256 + 4 * 128 + 1  # 128 in each of four doublings, and 4096, which 4095 becomes
    in_float32 = 4096 - count_collisions(round_to(positions, "float32")[:, None])
    return at_most(
        0.5,
        right=abs(distinct - want),
        wrong=abs(in_float32 - want),
        distinct=distinct,
        positions=len(positions),
        first_lost=first_lost,
    )
