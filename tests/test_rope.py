"""RoPE: printed facts, properties, oracles and errors of the equations; the claims."""

import cmath
import itertools
import math
import re
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm, schur

from posenc.equations.kernel import kernel
from posenc.equations.rope import (
    decay_bound,
    partial_sums,
    permute_layout,
    relative_score,
    rotate,
    rotate_complex,
    rotate_pairs,
    rotation_matrix,
)
from posenc.equations.sinusoidal import column_order, frequencies, shift_matrix, sinusoidal
from posenc.layers.attention import Attention
from posenc.layers.rope import Rope
from posenc.layers.sinusoidal import Sinusoidal

J = np.array([[0.0, -1.0], [1.0, 0.0]])
widths = st.integers(1, 24).map(lambda half: 2 * half)
bases = st.floats(1.01, 1e6)
places = st.floats(-1e4, 1e4)
layouts = st.sampled_from(["interleaved", "halves"])
seeds = st.integers(0, 2**32 - 1)


def largest(x):
    return float(np.abs(x).max())


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def by_loop(x, position, base=10000.0, layout="interleaved", d_rotary=None):
    """One pair at a time, each as a point of the plane that is turned."""
    r = len(x) if d_rotary is None else d_rotary
    y = [float(value) for value in x]
    for pair in range(r // 2):
        a, b = (2 * pair, 2 * pair + 1) if layout == "interleaved" else (pair, pair + r // 2)
        point = complex(x[a], x[b]) * cmath.exp(1j * position / base ** (2 * pair / r))
        y[a], y[b] = point.real, point.imag
    return np.array(y)


def scores(q, k, positions):
    """Scores of all pairs of rows, turned by their positions one by one."""
    q, k = ([by_loop(row, p) for row, p in zip(x, positions, strict=True)] for x in (q, k))
    return np.array(q) @ np.array(k).T


def skew_blocks(theta):
    """The generator of rotations in the planes of neighbouring columns."""
    B = np.zeros((2 * len(theta), 2 * len(theta)))
    for m, t in enumerate(theta):
        B[2 * m : 2 * m + 2, 2 * m : 2 * m + 2] = t * J
    return B


def spread(products):
    """Largest difference between two products of the same offset."""
    n = len(products)
    return max(float(np.ptp(np.diagonal(products, offset))) for offset in range(1 - n, n))


# --- printed facts -----------------------------------------------------------------------------


def test_a_quarter_turn_sends_the_first_axis_to_the_second():
    np.testing.assert_allclose(rotate_pairs([1, 0], [math.pi / 2]), [0, 1], atol=1e-15)
    np.testing.assert_allclose(rotate_pairs([0, 1], [math.pi / 2]), [-1, 0], atol=1e-15)


def test_position_zero_turns_nothing():
    x = normal(0, 3, 8)
    np.testing.assert_array_equal(rotate(x, 0), x)
    np.testing.assert_array_equal(rotate(x, 0, layout="halves"), x)
    np.testing.assert_array_equal(rotate_complex(x, 0), x)
    np.testing.assert_array_equal(rotation_matrix(0, 8), np.eye(8))


def test_the_first_pair_turns_by_one_radian_per_position():
    y = rotate(np.array([1, 0, 1, 0]), 3, base=100)
    np.testing.assert_allclose(y, [math.cos(3), math.sin(3), math.cos(0.3), math.sin(0.3)])


def test_pairs_are_neighbours_or_half_a_width_apart():
    x = np.array([1.0, 0, 0, 0])
    turn = np.array([math.pi / 2, 0])
    assert rotate_pairs(x, turn).round(9).tolist() == [0, 1, 0, 0]
    assert rotate_pairs(x, turn, layout="halves").round(9).tolist() == [0, 0, 1, 0]


def test_the_matrix_has_its_minus_above_the_diagonal():
    R = rotation_matrix(1, 2)
    want = [[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]
    np.testing.assert_allclose(R, want, rtol=1e-15)


def test_rotation_matrix_is_the_shift_matrix_of_the_sinusoidal_encoding():
    for layout in ("interleaved", "halves"):
        R = rotation_matrix(5, 12, 500, layout=layout)
        np.testing.assert_allclose(R, shift_matrix(5, 12, 500, layout=layout), atol=1e-15)


def test_permuted_columns_of_two_heads():
    got = permute_layout(np.arange(12), 2, to="halves", d_rotary=4)
    assert got.tolist() == [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]


def test_partial_sums_at_offset_zero_are_the_mean_of_one_to_half_the_width():
    assert partial_sums(0, 8) == 2.5
    assert isinstance(partial_sums(3, 8), np.float64)
    assert partial_sums(np.zeros((2, 3)), 8).shape == (2, 3)


def test_leading_axes_broadcast():
    x = normal(1, 2, 5, 8)
    y = rotate(x, np.arange(5))
    assert y.shape == (2, 5, 8)
    for h in range(2):
        for p in range(5):
            np.testing.assert_allclose(y[h, p], by_loop(x[h, p], p), atol=1e-14)
    assert rotate(x[0, 0], np.arange(7)).shape == (7, 8)
    assert rotate(x, np.arange(5), d_rotary=4).shape == (2, 5, 8)
    assert rotate_complex(x[0, 0], np.arange(7)).shape == (7, 8)
    assert relative_score(x[:, :1], x[:, 1], np.arange(3)[:, None, None]).shape == (3, 2, 2)
    assert decay_bound(x[0, 0], x[0, 1], np.arange(3)).shape == (3,)


def test_arguments_are_not_changed_and_integers_become_float64():
    x, at = np.arange(8), np.arange(3)
    kept = x.copy()
    y = rotate(x, at, d_rotary=4)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(at, np.arange(3))
    assert y.dtype == np.float64
    np.testing.assert_array_equal(rotate(x.astype(np.float32), at, d_rotary=4), y)


# --- properties --------------------------------------------------------------------------------


@given(seeds, places, places, places, widths, bases, layouts)
def test_scores_depend_on_the_offset_only(seed, i, j, shift, d, base, layout):
    q, k = normal(seed, 2, d)
    here = rotate(q, i, base, layout=layout) @ rotate(k, j, base, layout=layout)
    there = rotate(q, i + shift, base, layout=layout) @ rotate(k, j + shift, base, layout=layout)
    assert there == pytest.approx(here, abs=1e-8)  # positions are rounded when they are added


@given(seeds, places, widths, bases, layouts)
def test_lengths_are_kept(seed, position, d, base, layout):
    x = normal(seed, d)
    y = rotate(x, position, base, layout=layout)
    assert np.linalg.norm(y) == pytest.approx(np.linalg.norm(x), rel=1e-13)


@given(seeds, places, places, widths, layouts)
def test_two_rotations_are_one(seed, i, j, d, layout):
    x = normal(seed, d)
    twice = rotate(rotate(x, i, layout=layout), j, layout=layout)
    np.testing.assert_allclose(twice, rotate(x, i + j, layout=layout), atol=1e-9)


@given(seeds, places, widths, bases)
def test_the_halves_are_the_interleaved_columns_in_another_order(seed, position, d, base):
    x, order = normal(seed, d), column_order(d, "halves")
    got = rotate(x[order], position, base, layout="halves")
    np.testing.assert_array_equal(got, rotate(x, position, base)[order])


@given(seeds, places, bases, layouts, st.integers(1, 6))
def test_columns_beyond_the_rotary_width_stay(seed, position, base, layout, pairs):
    x = normal(seed, 12)
    y = rotate(x, position, base, layout=layout, d_rotary=2 * pairs)
    np.testing.assert_array_equal(y[2 * pairs :], x[2 * pairs :])
    want = rotate(x[: 2 * pairs], position, base, layout=layout)
    np.testing.assert_array_equal(y[: 2 * pairs], want)


@given(seeds, st.integers(1, 4), widths, st.sampled_from(["interleaved", "halves"]))
def test_permuting_there_and_back_is_nothing(seed, n_heads, d, to):
    W = normal(seed, 3, n_heads * d)
    back = "interleaved" if to == "halves" else "halves"
    there = permute_layout(W, n_heads, to=to)
    np.testing.assert_array_equal(permute_layout(there, n_heads, to=back), W)


@given(seeds, places, widths, bases)
def test_the_score_is_that_of_the_rotated_vectors(seed, offset, d, base):
    q, k = normal(seed, 2, d)
    want = q @ rotate(k, offset, base)
    assert relative_score(q, k, offset, base) == pytest.approx(want, abs=1e-10)


@given(seeds, st.lists(places, min_size=1, max_size=20), widths, bases)
def test_no_score_exceeds_its_bound(seed, offsets, d, base):
    q, k = normal(seed, 2, d)
    bound = decay_bound(q, k, np.array(offsets), base)
    assert (abs(relative_score(q, k, np.array(offsets), base)) <= bound * (1 + 1e-12)).all()


# --- oracles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize(("d", "d_rotary"), [(2, None), (12, None), (12, 8), (96, 24)])
def test_rotation_equals_the_loop(d, d_rotary, layout):
    x = normal(2, 5, d)
    at = np.array([0, 1, 77, -3, 0.5])
    got = rotate(x, at, 500, layout=layout, d_rotary=d_rotary)
    want = [by_loop(row, p, 500, layout, d_rotary) for row, p in zip(x, at, strict=True)]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


@given(seeds, places, st.sampled_from([2, 4, 10]))
def test_rotation_equals_mpmath(seed, position, d):
    x = normal(seed, d)
    with mpmath.workdps(40):
        want = []
        for m in range(d // 2):
            angle = mpmath.mpf(position) / mpmath.mpf(10000) ** (mpmath.mpf(2 * m) / d)
            z = mpmath.mpc(*map(float, x[2 * m : 2 * m + 2])) * mpmath.expj(angle)
            want += [float(z.real), float(z.imag)]
    np.testing.assert_allclose(rotate(x, position), want, rtol=0, atol=1e-11)
    np.testing.assert_allclose(rotate_complex(x, position), want, rtol=0, atol=1e-11)


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
@pytest.mark.parametrize("position", [1, -2.5, 300])
def test_matrix_is_the_exponential_of_its_generator(position, layout):
    order = column_order(10, layout)
    B = skew_blocks(frequencies(10, 500))[np.ix_(order, order)]
    got = rotation_matrix(position, 10, 500, layout=layout)
    np.testing.assert_allclose(got, expm(position * B), rtol=0, atol=1e-11)


@pytest.mark.parametrize("d", [2, 6, 64])
def test_bound_and_partial_sums_equal_loops(d):
    q, k = normal(3, 2, d)
    h = [complex(q[a], -q[a + 1]) * complex(k[a], k[a + 1]) for a in range(0, d, 2)] + [0]
    step = max(abs(b - a) for a, b in itertools.pairwise(h))
    for s in (0, 1, 33, 2000):
        total, sizes = 0, []
        for m in range(d // 2):
            total += cmath.exp(1j * s * 10000 ** (-2 * m / d))
            sizes.append(abs(total))
        assert partial_sums(s, d) == pytest.approx(sum(sizes) / len(sizes), rel=1e-12)
        assert decay_bound(q, k, s) == pytest.approx(step * sum(sizes), rel=1e-12)


def test_score_of_ones_is_the_kernel():
    s = np.arange(200)
    np.testing.assert_allclose(
        relative_score(np.ones(64), np.ones(64), s, 500), 64 * kernel(s, 64, 500), atol=1e-12
    )


def bound_by_loop(q, k, s, base):
    """Abel's bound and the sum of the partial sums, one complex number at a time."""
    d = len(q)
    h = [complex(q[c], -q[c + 1]) * complex(k[c], k[c + 1]) for c in range(0, d, 2)]
    largest_step = max(abs(after - here) for here, after in itertools.pairwise([*h, 0]))
    total, sizes = 0, 0.0
    for m in range(d // 2):
        total += cmath.exp(1j * s * base ** (-2 * m / d))
        sizes += abs(total)
    return largest_step * sizes, sizes


def test_the_bound_of_each_row_is_the_loops_at_the_base_that_is_given():
    rng = np.random.default_rng(3)
    q, k = rng.normal(size=(2, 3, 8)) * np.array([[[1], [10], [100]], [[1], [1], [1]]])
    wants = [bound_by_loop(q[i], k[i], 5, 50.0) for i in range(3)]
    np.testing.assert_allclose(decay_bound(q, k, 5, base=50), [w for w, _ in wants], rtol=1e-13)
    assert partial_sums(5, 8, base=50) == pytest.approx(wants[0][1] / 4, rel=1e-13)


def test_the_base_is_ten_thousand_unless_said_otherwise():
    q, k = np.random.default_rng(4).normal(size=(2, 16))
    assert relative_score(q, k, 77) == relative_score(q, k, 77, base=10000)
    np.testing.assert_array_equal(rotation_matrix(77, 16), rotation_matrix(77, 16, base=10000))


# --- errors ------------------------------------------------------------------------------------

x8 = np.ones(8)

TYPE_ERRORS = {
    "x must hold real numbers, got dtype complex128": lambda: rotate_pairs([1j, 0], [0]),
    "angles must hold real numbers, got dtype bool": lambda: rotate_pairs([1, 0], [True]),
    "x must hold real numbers, got dtype <U1": lambda: rotate(["a", "b"], 0),
    "positions must hold real numbers, got dtype bool": lambda: rotate(x8, True),
    "base must hold real numbers, got dtype <U1": lambda: rotate(x8, 0, "a"),
    "d_rotary must be an integer, got 4.0": lambda: rotate(x8, 0, d_rotary=4.0),
    "x must hold real numbers, got dtype bool": lambda: rotate_complex([True, False], 0),
    "positions must hold real numbers, got dtype complex128": lambda: rotate_complex(x8, 1j),
    "position must hold real numbers, got dtype complex128": lambda: rotation_matrix(1j, 8),
    "d_head must be an integer, got 8.0": lambda: rotation_matrix(1, 8.0),
    "weight must hold real numbers, got dtype bool": lambda: permute_layout(
        [True, False], 1, to="halves"
    ),
    "n_heads must be an integer, got 2.0": lambda: permute_layout(x8, 2.0, to="halves"),
    "offset must hold real numbers, got dtype bool": lambda: relative_score(x8, x8, True),
    "query must hold real numbers, got dtype complex128": lambda: relative_score([1j, 0], x8, 0),
    "key must hold real numbers, got dtype complex128": lambda: decay_bound(x8, [1j, 0], 0),
    "d_head must be an integer, got '8'": lambda: partial_sums(0, "8"),
}

VALUE_ERRORS = {
    "x must have at least 1 axes, got shape ()": lambda: rotate_pairs(3.0, [0]),
    "angles must have at least 1 axes, got shape ()": lambda: rotate_pairs([1, 0], 0.5),
    "weight must have at least 1 axes, got shape ()": lambda: permute_layout(1.0, 1, to="halves"),
    "query must have at least 1 axes, got shape ()": lambda: relative_score(1.0, [1, 0], 1),
    "key must have at least 1 axes, got shape ()": lambda: relative_score([1, 0], 1.0, 1),
    "leading axes of query_and_key, offset must broadcast, got (2,), (4,)": lambda: relative_score(
        np.ones((2, 4)), np.ones(4), np.arange(4)
    ),
    "width of x must be a multiple of 2, got 3": lambda: rotate_pairs(np.ones(3), [0]),
    "angles must have shape (4,), got (3,)": lambda: rotate_pairs(x8, np.ones(3)),
    "angles must be finite, got nan": lambda: rotate_pairs([1, 0], [math.nan]),
    "leading axes of x, angles must broadcast, got (2,), (3,)": lambda: rotate_pairs(
        np.ones((2, 8)), np.ones((3, 4))
    ),
    "layout must be 'interleaved' or 'halves', got 'x'": lambda: rotate(x8, 0, layout="x"),
    "x must not be empty, got shape (0, 8)": lambda: rotate(np.ones((0, 8)), 0),
    "positions must be finite, got inf": lambda: rotate(x8, math.inf),
    "leading axes of x, positions must broadcast, got (2,), (3,)": lambda: rotate(
        np.ones((2, 8)), np.arange(3)
    ),
    "width must be a multiple of 2, got 3": lambda: rotate(np.ones(3), 0),
    "d_rotary must be a multiple of 2, got 3": lambda: rotate(x8, 0, d_rotary=3),
    "d_rotary must be at least 1, got 0": lambda: rotate(x8, 0, d_rotary=0),
    "d_rotary must be between 2 and 8, got 10": lambda: rotate(x8, 0, d_rotary=10),
    "base must be above 1, got 1": lambda: rotate(x8, 0, 1),
    "base must be finite, got inf": lambda: rotate_complex(x8, 0, math.inf),
    "width of x must be a multiple of 2, got 5": lambda: rotate_complex(np.ones(5), 0),
    "leading axes of x, positions must broadcast, got (3,), (2,)": lambda: rotate_complex(
        np.ones((3, 8)), np.arange(2)
    ),
    "position must have shape (), got (2,)": lambda: rotation_matrix([1, 2], 8),
    "d_head must be a multiple of 2, got 7": lambda: rotation_matrix(1, 7),
    "layout must be 'interleaved' or 'halves', got 'y'": lambda: rotation_matrix(1, 8, layout="y"),
    "width of weight must be a multiple of 3, got 8": lambda: permute_layout(x8, 3, to="halves"),
    "n_heads must be at least 1, got 0": lambda: permute_layout(x8, 0, to="halves"),
    "to must be 'interleaved' or 'halves', got 'half'": lambda: permute_layout(x8, 1, to="half"),
    "d_rotary must be between 2 and 4, got 6": lambda: permute_layout(
        x8, 2, to="halves", d_rotary=6
    ),
    "width of query must be a multiple of 2, got 3": lambda: relative_score(
        np.ones(3), np.ones(3), 0
    ),
    "key must have shape (8,), got (6,)": lambda: relative_score(x8, np.ones(6), 0),
    "leading axes of query, key must broadcast, got (2,), (3,)": lambda: relative_score(
        np.ones((2, 8)), np.ones((3, 8)), 0
    ),
    "leading axes of query_and_key, offset must broadcast, got (2,), (3,)": lambda: decay_bound(
        np.ones((2, 8)), x8, np.arange(3)
    ),
    "offset must be finite, got nan": lambda: decay_bound(x8, x8, math.nan),
    "offset must not be empty, got shape (0,)": lambda: partial_sums([], 8),
    "d_head must be a multiple of 2, got 5": lambda: partial_sums(0, 5),
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


def a_head(seed=0, n=4, d_model=24, d=16):
    """Tokens and the maps of one head, scaled so that queries and keys have entries of size 1."""
    x, maps = normal(seed, n, d_model), normal(seed + 1, 2, d_model, d) / math.sqrt(d_model)
    return x, *maps


PLACES = np.array([0, 11, 250, 3000])


@claim("rope.relative")
def test_scores_at_one_offset_are_the_same_everywhere():
    (q, k), p = normal(0, 2, 64), PLACES
    got = np.array([by_loop(q, i) @ by_loop(k, i + 7) for i in p])
    added = ((q + sinusoidal(p, 64)) * (k + sinusoidal(p + 7, 64))).sum(axis=1)
    values = {f"at_{i}": value for i, value in zip(p, got, strict=True)}
    values |= {f"added_{i}": value for i, value in zip(p, added, strict=True)}
    return at_most(1e-10, right=float(np.ptp(got)), wrong=float(np.ptp(added)), **values)


@claim("rope.group")
def test_the_transpose_of_one_rotation_times_another_is_that_of_the_offset():
    R = {t: expm(t * skew_blocks(frequencies(16))) for t in (3, 10, 7, -7)}
    product = R[3].T @ R[10]
    return at_most(
        1e-12,
        right=max(largest(product - R[7]), largest(R[3].T @ R[3] - np.eye(16))),
        wrong=largest(product - R[-7]),
    )


def grid_of_scores(generator, q, k, positions):
    """Scores of one query and one key at all pairs of positions, turned by exp(t B)."""
    R = [expm(t * generator) for t in positions]
    return np.array([[q @ A.T @ (k @ C.T) for C in R] for A in R])


@claim("rope.skew")
def test_any_skew_generator_makes_scores_relative():
    A, (q, k) = normal(0, 6, 6) / 6, normal(1, 2, 6)
    right = spread(grid_of_scores((A - A.T) / 2, q, k, np.arange(6)))
    return at_most(1e-12, right=right, wrong=spread(grid_of_scores(A, q, k, np.arange(6))))


@claim("rope.blocks")
def test_every_skew_generator_turns_planes_in_some_orthonormal_basis():
    A = normal(2, 6, 6)
    B = (A - A.T) / 2
    T, U = schur(B)  # real Schur form: U is orthogonal, T has the blocks
    theta = T[[1, 3, 5], [0, 2, 4]]
    got = U @ expm(2.5 * skew_blocks(theta)) @ U.T
    return at_most(
        1e-12,
        right=max(largest(got - expm(2.5 * B)), largest(U.T @ U - np.eye(6))),
        wrong=largest(expm(2.5 * skew_blocks(theta)) - expm(2.5 * B)),
    )


@claim("rope.basis")
def test_the_basis_can_be_absorbed_by_the_projections():
    x, W_Q, W_K = a_head()
    U = np.linalg.qr(normal(3, 16, 16))[0]
    R = [expm(t * skew_blocks(frequencies(16))) for t in range(4)]
    in_basis = np.array(
        [[x[i] @ W_Q @ U @ R[i].T @ U.T @ (x[j] @ W_K @ U @ R[j].T @ U.T).T for j in range(4)]
         for i in range(4)]
    )  # fmt: skip
    return at_most(
        1e-12,
        right=largest(in_basis - scores(x @ W_Q @ U, x @ W_K @ U, range(4))),
        wrong=largest(in_basis - scores(x @ W_Q @ U, x @ W_K, range(4))),
    )


@claim("rope.unshared")
def test_maps_that_q_and_k_do_not_share_need_not_be_orthogonal():
    (q, k), zeta = normal(4, 2, 16), np.repeat(np.linspace(0.9, 0.99, 8), 2)
    at = range(6)

    def table(sign):
        rows = [by_loop(q, i) * zeta**i for i in at]
        return np.array(rows) @ np.array([by_loop(k, j) * zeta ** (sign * j) for j in at]).T

    A = normal(5, 16, 16) / 8
    any_generator = [[q @ expm(-i * A) @ expm(j * A) @ k for j in at] for i in at]
    right = max(spread(table(-1)), spread(np.array(any_generator)))
    return at_most(1e-11, right=right, wrong=spread(table(1)))


@claim("rope.forms")
def test_elements_complex_numbers_and_matrix_agree():
    x, at = normal(6, 5, 32), np.array([0, 1, 40, 999, -5])
    elements = rotate(x, at)
    matrix = [row @ expm(p * skew_blocks(frequencies(32))).T for row, p in zip(x, at, strict=True)]
    numbers = (x[:, ::2] + 1j * x[:, 1::2]) * np.exp(1j * np.outer(at, frequencies(32)))
    numbers = np.stack([numbers.real, numbers.imag], axis=-1).reshape(5, 32)
    return at_most(
        1e-11,
        right=max(largest(elements - matrix), largest(elements - numbers)),
        wrong=largest(rotate(x, -at) - matrix),
    )


@claim("rope.cosine")
def test_each_pair_adds_a_cosine_of_its_own_length_and_phase():
    q, k = normal(7, 2, 16)
    a, b = (x[::2] + 1j * x[1::2] for x in (q, k))
    size, phase, theta = abs(a) * abs(b), np.angle(b) - np.angle(a), frequencies(16)
    got = by_loop(q, 5) @ by_loop(k, 12)
    return at_most(
        1e-12,
        right=abs(got - (size * np.cos(phase + 7 * theta)).sum()),
        wrong=abs(got - (size * np.cos(phase + 17 * theta)).sum()),
    )


@claim("rope.norm")
def test_a_rotation_keeps_the_length_of_every_pair():
    x = normal(8, 6, 32)
    y = rotate(x, PLACES.repeat(2)[:6])
    c, s = np.cos(1.0), np.sin(1.0)
    sign_lost = np.stack([x[:, ::2] * c + x[:, 1::2] * s, x[:, 1::2] * c + x[:, ::2] * s], axis=-1)

    def length(v):
        return np.hypot(v[:, ::2], v[:, 1::2])

    return at_most(
        1e-13,
        right=largest(length(y) - length(x)),
        wrong=largest(length(sign_lost.reshape(6, 32)) - length(x)),
    )


@claim("rope.after_projection")
def test_only_a_rotation_after_the_projection_is_relative():
    """The notes, read literally: x is turned and then projected."""
    x, W_Q, W_K = a_head(9, 2, 16, 16)

    def after(i):
        return by_loop(x[0] @ W_Q, i) @ by_loop(x[1] @ W_K, i + 7)

    def before(i):
        return by_loop(x[0], i) @ W_Q @ (by_loop(x[1], i + 7) @ W_K)

    got, literal = (np.array([form(i) for i in PLACES]) for form in (after, before))
    values = {f"at_{i}": value for i, value in zip(PLACES, got, strict=True)}
    values |= {f"literal_{i}": value for i, value in zip(PLACES, literal, strict=True)}
    return at_most(1e-10, right=float(np.ptp(got)), wrong=float(np.ptp(literal)), **values)


@claim("rope.transpose")
def test_rows_that_are_turned_by_the_matrix_itself_look_the_other_way():
    q, k = normal(10, 2, 16)
    R = [expm(t * skew_blocks(frequencies(16))) for t in range(9)]
    turned = np.array([[q @ R[i] @ (k @ R[j]) for j in range(9)] for i in range(9)])
    right = np.array([[q @ R[i].T @ (k @ R[j].T) for j in range(9)] for i in range(9)])
    return at_most(
        1e-12,
        right=max(spread(turned), largest(turned - right.T)),
        wrong=largest(turned - right),
    )


@claim("rope.layouts")
def test_weights_with_permuted_columns_give_the_same_scores_in_halves():
    x, W_Q, W_K = a_head(11)
    q, k = (x @ permute_layout(W, 1, to="halves") for W in (W_Q, W_K))
    at = [0, 5, 6, 90]
    halves = np.array(
        [[by_loop(a, i, layout="halves") @ by_loop(b, j, layout="halves")
          for b, j in zip(k, at, strict=True)] for a, i in zip(q, at, strict=True)]
    )  # fmt: skip
    mixed = rotate(x @ W_Q, at, layout="halves") @ rotate(x @ W_K, at, layout="halves").T
    want = scores(x @ W_Q, x @ W_K, at)
    one_sided = rotate(q, at, layout="halves") @ rotate(x @ W_K, at, layout="halves").T
    return at_most(
        1e-12,
        right=max(largest(halves - want), largest(q @ k.T - x @ W_Q @ (x @ W_K).T)),
        wrong=largest(mixed - want),
        one_sided=largest(one_sided - want),
        relative=spread(rotate(np.tile(q[0], (6, 1)), np.arange(6), layout="halves")
                        @ rotate(np.tile(k[0], (6, 1)), np.arange(6), layout="halves").T),
    )  # fmt: skip


@claim("rope.partial")
def test_the_frequencies_are_those_of_the_columns_that_turn():
    x, at = normal(12, 4, 96), np.array([1, 10, 100, 1000])
    got = rotate(x, at, d_rotary=24)
    theta = 10000.0 ** (-2 * np.arange(12) / 96)
    full = np.concatenate([rotate_pairs(x[:, :24], np.outer(at, theta)), x[:, 24:]], axis=1)
    want = np.array([by_loop(row, p, d_rotary=24) for row, p in zip(x, at, strict=True)])
    return at_most(
        1e-12,
        right=largest(got - want),
        wrong=largest(full - want),
        slowest=2 * math.pi * 10000.0 ** (22 / 24),
        slowest_full=2 * math.pi * 10000.0 ** (22 / 96),
    )


DISTANCES = np.union1d(np.geomspace(1, 4096, 60).round(), np.arange(1700, 1720))


@claim("rope.kernel")
def test_a_vector_scores_itself_by_the_kernel_on_average():
    """For q = k each pair adds its energy times a cosine; with normal entries the mean is d S."""
    q = normal(13, 4000, 128)
    energy = (q**2).reshape(-1, 64, 2).sum(axis=-1)
    at = np.array([0, 64, 1024, 4096])
    cosines = np.cos(np.outer(at, frequencies(128)))
    one = np.array([by_loop(q[0], 0) @ by_loop(q[0], s) for s in at])
    mean = (energy @ cosines.T).mean(axis=0) / math.sqrt(128)
    scaled = math.sqrt(128) * kernel(at, 128)
    return at_most(
        0.05,
        right=max(largest(mean - scaled), largest(one - cosines @ energy[0])),
        wrong=largest(mean - (energy.mean(axis=0) @ np.cos(np.outer(at, np.ones(64))).T)),
        **{f"at_{s}": value for s, value in zip(at, scaled, strict=True)},
    )


@claim("rope.independent")
def test_independent_queries_and_keys_have_mean_zero_at_every_distance():
    q, k = normal(14, 2, 6000, 128)
    at = np.array([0, 1, 64, 1024, 4096])
    got = np.array([(rotate(q, 0) * rotate(k, s)).sum(axis=1) for s in at]) / math.sqrt(128)
    same = relative_score(q[:, None], q[:, None], at[None]).mean(axis=0) / math.sqrt(128)
    spreads = got.std(axis=1)
    return at_most(
        0.065,  # five standard errors of 6000 draws
        right=largest(got.mean(axis=1)),
        wrong=largest(same),
        narrowest=spreads.min(),
        widest=spreads.max(),
    )


@claim("rope.abel")
def test_the_bound_by_parts_holds_and_the_kernel_is_no_bound():
    q, k = normal(15, 2, 200, 1, 128)
    size = abs(relative_score(q, k, DISTANCES))
    bound = decay_bound(q, k, DISTANCES)
    lengths = np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1)
    tight = np.median(size / bound)
    means = partial_sums(np.array([0, 64, 1024, 4096]), 128)
    return at_most(
        1.0,
        right=float((size / bound).max()),
        wrong=float((size / (lengths * abs(kernel(DISTANCES, 128)))).max()),
        typical=tight,
        over_lengths=float((bound / lengths).min()),
        **{f"sums_{s}": v for s, v in zip((0, 64, 1024, 4096), means, strict=True)},
    )


@claim("rope.any_distance")
def test_some_key_of_the_same_length_scores_highest_at_any_distance():
    q, far = normal(16, 64), np.arange(0, 1001)
    behind = 300
    k = by_loop(q, behind)  # then q at i and k at i - 300 point the same way
    got = np.array([by_loop(q, 0) @ by_loop(k, -s) for s in far])
    best = int(got.argmax())
    return at_most(
        1e-10,
        right=abs(got[behind] - q @ q) + abs(best - behind),
        wrong=abs(got[0] - q @ q),
        best=best,
        there=got[behind],
        here=got[0],
        runner_up=float(np.delete(got, behind).max()),
    )


@claim("rope.turns")
def test_pairs_that_complete_a_turn_within_the_length():
    def by_walking(length):
        walked = np.outer(np.arange(length + 1), frequencies(128))
        return int((walked[-1] >= 2 * math.pi).sum())

    def by_formula(length, base=10000.0):
        return 1 + math.floor(64 * math.log(length / (2 * math.pi), base))

    lengths = (2048, 4096, 8192)
    found = {f"l{n}": by_walking(n) for n in lengths}
    return at_most(
        0.5,
        right=max(abs(by_walking(n) - by_formula(n)) for n in lengths),
        wrong=64 - by_walking(2048),
        rest_2048=64 - by_walking(2048),
        llama3_8192=by_formula(8192, 500000.0),
        share_slowest=2048 * 10000.0 ** (-126 / 128) / (2 * math.pi),
        **found,
    )


@claim("rope.unseen")
def test_what_is_fixed_within_the_length_is_open_beyond_it():
    """A query and a key whose logit falls along a straight line, fitted at offsets below L."""
    d, length = 64, 512
    s = np.arange(2 * length)
    line = -4.0 * s / length
    theta = frequencies(d)
    terms = np.concatenate([np.cos(np.outer(s, theta)), np.sin(np.outer(s, theta))], axis=1)
    inside = terms[:length]
    ridge = inside.T @ inside + 1e-4 * np.eye(d)
    a, b = np.linalg.solve(ridge, inside.T @ line[:length]).reshape(2, -1)
    q, k = np.tile([1.0, 0.0], d // 2), np.stack([a, -b], axis=-1).ravel()
    got = np.array([by_loop(q, 0) @ by_loop(k, p) for p in s])
    error = abs(got - line)
    return at_most(
        0.01,
        right=error[:length].max(),
        wrong=error[length:].max(),
        end=got[length - 1],
        beyond=got[-1],
        line_beyond=line[-1],
        weights=math.hypot(np.linalg.norm(a), np.linalg.norm(b)),
    )


@claim("rope.naming")
def test_one_name_stands_for_three_functions_in_one_library():
    """Every `rotate_half` of the library's models is run on four numbers."""
    import transformers

    found = {}
    for file in Path(transformers.__file__).parent.glob("models/*/modeling_*.py"):
        text = file.read_text("utf-8")
        if (start := text.find("def rotate_half(")) >= 0:
            names = {"torch": torch}
            exec(text[start : text.index("\n\n\n", start)], names)
            got = tuple(names["rotate_half"](torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist())
            found.setdefault(got, set()).add(file.stem.removeprefix("modeling_"))
    halves, pairs, back = (-3, -4, 1, 2), (-2, 1, -4, 3), (3, 4, -1, -2)
    assert found[back] == {"nanochat"}
    assert {"cohere", "glm4", "ernie4_5", "moonshine"} <= found[pairs]
    assert {"llama", "gpt_neox", "qwen3", "gemma3"} <= found[halves]
    counts = [len(found[form]) for form in (halves, pairs, back)]
    total = sum(map(len, found.values()))
    return at_most(
        0.5,
        right=sum(abs(n - m) for n, m in zip(counts, (169, 15, 1), strict=True)) + len(found) - 3,
        wrong=total - counts[0],
        total=total,
        halves=counts[0],
        interleaved=counts[1],
        back=counts[2],
    )


# The layer


def to_numpy(x):
    return x.detach().to(torch.float64).numpy()


@claim("rope.layer")
def test_layer_equals_equation():
    x = torch.from_numpy(normal(17, 1, 2, 5, 64)).float()
    at = torch.tensor([0, 3, 77, 5000, -9])
    got = to_numpy(Rope(64, 500000.0, layout="halves", d_rotary=32)(x, at))
    want = [[by_loop(row, p, 500000.0, "halves", 32) for row, p in zip(h, at.tolist(), strict=True)]
            for h in to_numpy(x)[0]]  # fmt: skip
    other = to_numpy(Rope(64, 500000.0, d_rotary=32)(x, at))
    return at_most(2e-6, right=largest(got[0] - want), wrong=largest(other[0] - want))


FAR = torch.tensor([1000, 100_000, 1_000_000, 9_999_991, 10_000_000])


@claim("rope.precision")
def test_tables_have_their_digits_at_position_ten_million():
    with mpmath.workdps(40):
        theta = [mpmath.mpf(10000) ** (-mpmath.mpf(m) / 64) for m in range(64)]
        angles = [[p * t for t in theta] for p in FAR.tolist()]
        want = np.array(
            [[[float(f(a)) for a in row] for row in angles] for f in (mpmath.cos, mpmath.sin)]
        )

    def error(precision, at, want):
        tables = Rope(128, precision=precision).tables(at)
        return largest(np.stack([to_numpy(t)[0] for t in tables]) - want)

    def up_to(end):
        """Largest error of float32 angles over the thousand positions that end there."""
        at = torch.arange(end - 999, end + 1)
        exact = np.outer(at, frequencies(128))
        return error("float32", at, np.stack([np.cos(exact), np.sin(exact)]))

    return at_most(
        4e-8,
        right=error("float64", FAR, want),
        wrong=error("float32", FAR, want),
        to_1000=up_to(1000),
        to_million=up_to(10**6),
        to_ten_million=up_to(10**7),
    )


@claim("rope.same_tables")
def test_one_mode_gives_the_tables_of_transformers_bit_for_bit():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(hidden_size=256, num_attention_heads=2, rope_parameters={
        "rope_type": "default", "rope_theta": 10000.0})  # fmt: skip
    at = torch.cat([torch.arange(2048), FAR])
    want = [t[0, :, :64] for t in LlamaRotaryEmbedding(config)(torch.zeros(1), at[None])]

    def difference(precision):
        tables = Rope(128, precision=precision).tables(at)
        return max(float((a[0] - b).abs().max()) for a, b in zip(tables, want, strict=True))

    return at_most(1e-12, right=difference("float32"), wrong=difference("float64"))


@claim("rope.rounded")
def test_bfloat16_is_turned_in_float32_and_rounded_once():
    """Errors over the length of each pair: half a unit of bfloat16 is 2 to the power -8."""
    x = torch.from_numpy(normal(18, 1, 1, 400, 64)).bfloat16()
    at = torch.arange(4000, 4400)
    exact = rotate(to_numpy(x), at.numpy())
    length = np.hypot(exact[..., ::2], exact[..., 1::2]).repeat(2, axis=-1)

    def error(got):
        return largest((to_numpy(got) - exact) / length)

    cos, sin = Rope(64).tables(at, torch.bfloat16)
    pairs = x.unflatten(-1, (-1, 2))
    x1, x2 = pairs.unbind(-1)
    narrow = torch.stack([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1).flatten(-2)
    theta = torch.from_numpy(frequencies(64)).bfloat16()
    angles = at.bfloat16()[:, None] * theta
    cos, sin = angles.cos(), angles.sin()
    worst = torch.stack([x1 * cos - x2 * sin, x2 * cos + x1 * sin], dim=-1).flatten(-2)
    return at_most(
        2.0**-8 * 1.001, right=error(Rope(64)(x, at)), wrong=error(worst), narrow=error(narrow)
    )


def a_layer(encoding, causal=True):
    torch.manual_seed(0)
    return Attention(32, 2, encoding, causal=causal, dtype=torch.float64)


def tokens(seed, n):
    return torch.from_numpy(normal(seed, 1, n, 32))


def apart(a, b):
    return float((a - b).detach().abs().max())


class ValuesToo(Rope):
    """What must not be done: values turn, too."""

    def combine(self, weights, v, q_positions, k_positions):
        return weights @ self(v, k_positions)


@claim("rope.values")
def test_moving_the_text_changes_nothing_unless_values_turn():
    x, here, there = tokens(19, 6), torch.arange(6), torch.arange(1000, 1006)
    right, wrong = (a_layer(scheme(16)) for scheme in (Rope, ValuesToo))
    return at_most(
        1e-11,
        right=apart(right(x, here), right(x, there)),
        wrong=apart(wrong(x, here), wrong(x, there)),
    )


@claim("rope.constant")
def test_identical_tokens_stay_identical():
    x = tokens(20, 1).expand(1, 12, 32)

    def spread_after(encoding, causal):
        h = x
        for depth in range(3):
            torch.manual_seed(depth)
            layer = Attention(32, 2, encoding, causal=causal, first=depth == 0, dtype=torch.float64)
            h = h + layer(h)
        return float((h.amax(1) - h.amin(1)).detach().max())

    return at_most(
        1e-12,
        right=max(spread_after(Rope(16), causal) for causal in (False, True)),
        wrong=spread_after(Sinusoidal(32, token_scale=1.0), False),
    )


@claim("rope.cache")
def test_a_token_decoded_from_a_cache_equals_the_full_pass():
    x, layer = tokens(21, 9), a_layer(Rope(16))
    full = layer(x)[:, -1:]
    at = torch.arange(9)
    one = layer(x[:, -1:], at[-1:], context=x, context_positions=at)
    moved = layer(x[:, -1:], at[-1:] + 500, context=x, context_positions=at + 500)
    free = a_layer(Rope(16), causal=False)
    restarted = free(x[:, -1:], at[:1], context=x, context_positions=at)
    return at_most(
        1e-11, right=max(apart(one, full), apart(moved, full)), wrong=apart(restarted, full)
    )


@claim("rope.padding")
def test_left_padding_is_harmless_while_all_positions_are_counted_alike():
    x, layer = tokens(22, 5), a_layer(Rope(16))
    padded = torch.cat([tokens(23, 3), x], dim=1)
    mask = torch.arange(8) >= 3
    slots, counted = torch.arange(8), torch.arange(8) - 3
    want = layer(x)
    by_slot, by_count = (layer(padded, at, mask=mask[None])[:, 3:] for at in (slots, counted))
    free = a_layer(Rope(16), causal=False)
    last = free(padded[:, -1:], counted[-1:], context=padded, context_positions=slots,
                mask=mask[None])  # fmt: skip
    return at_most(
        1e-11,
        right=max(apart(by_slot, want), apart(by_count, want)),
        wrong=apart(last, want[:, -1:]),
    )


@claim("rope.packed")
def test_packed_texts_are_kept_apart_by_the_mask_alone():
    one, two, layer = tokens(24, 4), tokens(25, 6), a_layer(Rope(16))
    both = torch.cat([one, two], dim=1)
    text = torch.tensor([0] * 4 + [1] * 6)
    mask = text[:, None] == text
    restart = torch.cat([torch.arange(4), torch.arange(6)])
    want = torch.cat([layer(one), layer(two)], dim=1)
    return at_most(
        1e-11,
        right=max(apart(layer(both, at, mask=mask), want) for at in (restart, torch.arange(10))),
        wrong=apart(layer(both, restart), want),
    )


# What the page says of models


def test_models_turn_as_many_columns_as_the_page_says():
    from transformers import GPTJConfig, GPTNeoXConfig

    gptj, neox = GPTJConfig(), GPTNeoXConfig()
    assert (gptj.rotary_dim, gptj.n_embd // gptj.n_head, gptj.n_positions) == (64, 256, 2048)
    width = neox.hidden_size // neox.num_attention_heads
    assert (width, neox.rope_parameters["partial_rotary_factor"] * width) == (96, 24)
    assert neox.rope_parameters["rope_theta"] == 10000
