"""Kernel: printed facts, properties, oracles and errors of the equations; the claims."""

import cmath
import itertools
import math
import re
import sys

import mpmath
import numpy as np
import pytest
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.attention import attention, attention_logits
from posenc.equations.kernel import (
    first_negative,
    four_terms,
    kernel,
    kernel_limit,
    log_decay,
    power_limit,
    relative_part,
    smallest_base,
    toeplitz_share,
    zero_crossing,
)
from posenc.equations.sinusoidal import frequencies, shift_matrix, sinusoidal

widths = st.integers(1, 40).map(lambda half: 2 * half)
bases = st.floats(1.01, 1e6)
offsets = st.floats(-1e5, 1e5)


def largest(x):
    return float(np.abs(x).max())


def spread(products):
    """Largest difference between two products of the same offset."""
    n = len(products)
    return max(float(np.ptp(np.diagonal(products, offset))) for offset in range(1 - n, n))


# --- printed facts -----------------------------------------------------------------------------


def test_the_kernel_of_one_pair_is_a_cosine():
    np.testing.assert_array_equal(kernel(np.arange(5), 2), np.cos(np.arange(5)))


def test_the_kernel_is_one_without_an_offset():
    assert kernel(0, 64) == 1.0
    assert kernel_limit(0) == 1.0
    np.testing.assert_allclose(power_limit(0, 3), 1.0, rtol=1e-15)


def test_the_spacing_of_tensor2tensor_ends_at_the_base():
    want = [(math.cos(k) + math.cos(k / 100)) / 2 for k in range(4)]
    got = kernel(np.arange(4), 4, 100, spacing="tensor2tensor")
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_the_kernel_keeps_the_shape_of_the_offsets():
    for function in (lambda k: kernel(k, 8), kernel_limit, log_decay, lambda k: power_limit(k, 3)):
        assert function(np.ones((2, 3, 4))).shape == (2, 3, 4)
        assert isinstance(function(1.0), np.float64)


def test_the_four_terms_come_in_the_order_of_the_formula():
    x, p = np.array([[2.0], [3.0]]), np.array([[5.0], [7.0]])
    ee, ep, pe, pp = four_terms(x, p, np.array([[11.0]]), np.array([[13.0]])) / 143
    np.testing.assert_allclose(ee, [[4, 6], [6, 9]], rtol=1e-15)
    np.testing.assert_allclose(ep, [[10, 14], [15, 21]], rtol=1e-15)  # token of i, position of j
    np.testing.assert_allclose(pe, [[10, 15], [14, 21]], rtol=1e-15)
    np.testing.assert_allclose(pp, [[25, 35], [35, 49]], rtol=1e-15)


def test_the_four_terms_are_scaled_by_the_width_of_a_head():
    ones = np.ones((1, 4))
    np.testing.assert_array_equal(four_terms(ones, ones, ones.T, ones.T).ravel(), [16.0] * 4)
    wide = np.ones((4, 16))
    np.testing.assert_array_equal(four_terms(ones, ones, wide, wide).ravel(), [64.0] * 4)


def test_relative_part_of_two_pairs():
    A = np.arange(16.0).reshape(4, 4)
    want = np.zeros((4, 4))
    want[:2, :2] = [[2.5, -1.5], [1.5, 2.5]]
    want[2:, 2:] = [[12.5, -1.5], [1.5, 12.5]]
    np.testing.assert_array_equal(relative_part(A), want)


def test_toeplitz_share_of_a_matrix_that_is_not_square():
    i, j = np.indices((3, 5))
    assert toeplitz_share((i - j) ** 3) == 1.0
    assert toeplitz_share(i + j) < 0.5


def test_first_offsets_at_which_the_sum_is_negative():
    got = {b: [first_negative(d, b) for d in (128, 512, 768)] for b in (1e3, 1e4, 1e5)}
    assert got[1e3] == [361, 474, 526]
    assert got[1e4] == [1707, 3284, 3659]
    assert got[1e5] == [7757, 18965, 22509]


def test_the_limit_is_negative_from_618_and_6167_on():
    for base, first in ((1e3, 618), (1e4, 6167)):
        np.testing.assert_array_equal(kernel_limit(np.arange(first), base) > 0, True)
        assert kernel_limit(first, base) < 0


def test_six_curves_at_512():
    got = [kernel_limit(512, b) for b in (1e3, 1e4, 1e5)] + [power_limit(512, a) for a in (1, 3, 6)]
    np.testing.assert_allclose(got, [0.0228, 0.2601, 0.4080, 0.0002, 0.0967, 0.3168], atol=5e-5)


# --- properties --------------------------------------------------------------------------------


@given(offsets, widths, bases, st.sampled_from(["paper", "tensor2tensor"]))
def test_the_kernel_is_even_and_at_most_one(k, d, base, spacing):
    S = kernel(k, d, base, spacing=spacing)
    assert kernel(-k, d, base, spacing=spacing) == S
    assert abs(S) <= 1 + 1e-15


@given(st.integers(-99, 99), st.integers(-99, 99), widths, bases)
def test_the_kernel_times_half_the_width_is_the_inner_product(i, j, d, base):
    for spacing in ("paper", "tensor2tensor"):
        P_i, P_j = sinusoidal(np.array([i, j]), d, base, spacing=spacing)
        want = d / 2 * kernel(i - j, d, base, spacing=spacing)
        np.testing.assert_allclose(P_i @ P_j, want, rtol=0, atol=1e-13 * d)


@given(offsets, st.floats(2, 1e6), st.integers(1, 8))
def test_the_limits_are_even_and_at_most_one(k, base, a):
    for limit in (kernel_limit(k, base), power_limit(k, a)):
        assert abs(limit) <= 1 + 1e-14
    assert kernel_limit(-k, base) == kernel_limit(k, base)
    assert power_limit(-k, a) == power_limit(k, a)


@given(st.floats(1.01, 1e5))
def test_before_its_zero_the_limit_is_positive_and_at_it_it_falls(base):
    zero = zero_crossing(base)
    assert (kernel_limit(np.linspace(0, zero - 1e-6, 2000), base) > 0).all()
    assert abs(kernel_limit(zero, base)) < 1e-9
    assert kernel_limit(zero + 1e-6, base) < 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 6).map(lambda half: 2 * half))
def test_the_relative_part_is_its_own_and_the_rest_has_none(seed, d):
    A = np.random.default_rng(seed).standard_normal((d, d))
    part = relative_part(A)
    np.testing.assert_allclose(relative_part(part), part, atol=1e-15)
    np.testing.assert_allclose(relative_part(A - part), 0, atol=1e-15)


@given(st.integers(0, 2**32 - 1), st.floats(-100, 100), st.floats(0.01, 100))
def test_toeplitz_share_sees_neither_a_constant_nor_a_scale(seed, constant, scale):
    E = np.random.default_rng(seed).standard_normal((5, 7))
    share = toeplitz_share(E)
    assert 0 <= share <= 1
    np.testing.assert_allclose(toeplitz_share(constant + scale * E), share, atol=1e-9)


# --- oracles -----------------------------------------------------------------------------------


@given(st.floats(0, 1e4), st.integers(1, 6), bases)
def test_the_kernel_equals_mpmath(k, half, base):
    with mpmath.workdps(40):
        angles = [k * mpmath.mpf(base) ** (-mpmath.mpf(m) / half) for m in range(half)]
        want = float(mpmath.fsum(map(mpmath.cos, angles)) / half)
    np.testing.assert_allclose(kernel(k, 2 * half, base), want, rtol=0, atol=1e-11)


def test_four_terms_equal_explicit_loops():
    rng = np.random.default_rng(0)
    n, d, d_k = 3, 4, 2
    x, p = rng.standard_normal((2, n, d))
    W_Q, W_K = rng.standard_normal((2, d, d_k))
    got = four_terms(x, p, W_Q, W_K)
    for t, (left, right) in enumerate(itertools.product((x, p), repeat=2)):
        for i, j in itertools.product(range(n), repeat=2):
            want = sum(
                left[i, a] * W_Q[a, c] * W_K[b, c] * right[j, b]
                for a, b, c in itertools.product(range(d), range(d), range(d_k))
            )
            np.testing.assert_allclose(got[t, i, j], want / math.sqrt(d_k), rtol=1e-12)


def commutant(d, base=10000.0):
    """Orthonormal basis, as rows, of the matrices that commute with the shift by one."""
    M, I = shift_matrix(1, d, base), np.eye(d)  # noqa: E741
    _, size, basis = np.linalg.svd(np.kron(M, I) - np.kron(I, M.T))
    return basis[size < 1e-9]


@pytest.mark.parametrize("d", [2, 4, 6])
def test_relative_part_projects_on_what_commutes_with_a_shift(d):
    A, basis = np.random.default_rng(1).standard_normal((d, d)), commutant(d, base=100.0)
    want = (basis.T @ (basis @ A.ravel())).reshape(d, d)
    np.testing.assert_allclose(relative_part(A), want, atol=1e-12)


def test_relative_part_is_the_mean_over_all_shifts():
    A = np.random.default_rng(2).standard_normal((4, 4))
    moved = [M @ A @ M.T for M in (shift_matrix(s, 4, base=16) for s in range(5000))]
    np.testing.assert_allclose(relative_part(A), np.mean(moved, axis=0), atol=2e-3)


def test_toeplitz_share_equals_explicit_loops():
    E = np.random.default_rng(3).standard_normal((4, 6))
    diagonals = [np.diagonal(E, offset) for offset in range(-3, 6)]
    rest = sum(((x - x.mean()) ** 2).sum() for x in diagonals)
    want = 1 - rest / ((E - E.mean()) ** 2).sum()
    np.testing.assert_allclose(toeplitz_share(E), want, rtol=1e-12)


@pytest.mark.parametrize("base", [1.5, 2, 1000.0, 1e4, 1e6])
def test_the_limit_equals_mpmath(base):
    k = np.array([1e-300, 1e-6, 9.99e-5, 1e-4, 1.01e-4, 0.01, 0.5, 1, 7, 30, 512, 1e4, 1e6, 2e9])
    with mpmath.workdps(60):
        b = mpmath.mpf(base)
        want = [float((mpmath.ci(x) - mpmath.ci(x / b)) / mpmath.log(b)) for x in map(float, k)]
    np.testing.assert_allclose(kernel_limit(k, base), want, rtol=0, atol=4e-15 / math.log(base))


def test_a_base_near_one_costs_digits():
    k = np.array([1e-4, 0.1, 1.0, 30.0])
    np.testing.assert_allclose(kernel_limit(k, 1.0001), np.cos(k), rtol=0, atol=2e-3)
    for x in k:
        with mpmath.workdps(60):
            b = mpmath.mpf(1.0001)
            want = float((mpmath.ci(x) - mpmath.ci(x / b)) / mpmath.log(b))
        assert abs(kernel_limit(x, 1.0001) - want) < 1e-15 / math.log(1.0001) * 10


@pytest.mark.parametrize("a", [1, 2, 3, 6, 12, 40])
def test_the_limit_of_a_power_equals_the_hypergeometric_function(a):
    k = [1e-8, 0.1, 1, 5, 15, 19.99, 20, 20.01, 30, 60, 512, 2e4]
    with mpmath.workdps(40):
        c = mpmath.mpf(1) / (2 * a)
        want = [float(mpmath.hyp1f2(c, 0.5, 1 + c, -(mpmath.mpf(x) ** 2) / 4)) for x in k]
    np.testing.assert_allclose(power_limit(np.array(k), a), want, rtol=0, atol=4e-15)


def test_huge_offsets_do_not_overflow():
    for k in (1e200, 1.7e308):
        assert abs(kernel_limit(k)) < 1e-190
        assert abs(power_limit(k, 40)) < 1e-4
        assert abs(kernel(k, 8)) <= 1


@pytest.mark.parametrize("base", [1.0001, 2.0, 3.9, 4.0, 7.0, 25.0, 110.0, 333.3, 1000.0])
def test_the_zero_equals_a_fine_search(base):
    k = np.arange(1, 200_000) * (2 * base / 200_000 + 2e-5)
    first = k[np.argmax(kernel_limit(k, base) < 0)]
    assert first - (k[1] - k[0]) <= zero_crossing(base) <= first


@pytest.mark.parametrize("base", [10.56, 51.14, 112.16])
def test_of_three_zeros_the_first_is_returned(base):
    k = np.linspace(0.3 * base, 1.2 * base, 20_000)
    (changes,) = np.nonzero(np.diff(np.sign(kernel_limit(k, base))))
    assert len(changes) == 3
    assert k[changes[0]] <= zero_crossing(base) <= k[changes[0] + 1]


def test_the_zero_of_the_largest_base_is_that_of_the_cosine_integral():
    with mpmath.workdps(30):
        want = float(mpmath.findroot(mpmath.ci, 0.6))
    np.testing.assert_allclose(zero_crossing(1e12) / 1e12, want, rtol=1e-11)


def kernel_by_turning(n, d, base):
    """Kernel at 0..n-1: every pair is a complex number that turns by its frequency."""
    turn = np.array([cmath.exp(1j * base ** (-2 * m / d)) for m in range(d // 2)])
    turns = np.vstack([np.ones(d // 2), np.broadcast_to(turn, (n - 1, d // 2))])
    return np.cumprod(turns, axis=0).real.mean(axis=1)


@pytest.mark.parametrize(("d", "base"), [(2, 10), (4, 1e3), (8, 1e5), (64, 1e4)])
def test_first_negative_equals_turning_step_by_step(d, base):
    first = first_negative(d, base)
    S = kernel_by_turning(first + 1, d, base)
    assert (S[:-1] >= 0).all()
    assert S[-1] < 0


@pytest.mark.parametrize(("length", "d"), [(1, 4), (2, 8), (3, 4), (5, 8), (40, 24), (100, 64)])
def test_the_smallest_base_works_and_none_below_it_does(length, d):
    base = smallest_base(length, d)
    power = round(math.log(base) / math.log(1.001))
    assert base == 1.001**power
    depths = [kernel(np.arange(length), d, 1.001**p).min() for p in range(1, power + 1)]
    assert [depth >= 0 for depth in depths] == [False] * (power - 1) + [True]


def test_the_search_for_the_first_negative_leaves_no_gap():
    for d, base, first in ((512, 6138, 2000), (256, 28190, 5004)):  # it goes in blocks of 1000
        assert first_negative(d, base) == first
        S = kernel_by_turning(first + 1, d, base)
        assert (S < 0).tolist() == [False] * first + [True]


# --- input -------------------------------------------------------------------------------------


def test_integers_and_float32_are_computed_in_float64():
    for dtype in (np.int64, np.uint8, np.float16, np.float32):
        k = np.array([1, 2], dtype)
        for got in (kernel(k, 8), kernel_limit(k), log_decay(k), power_limit(k, 3)):
            assert got.dtype == np.float64
        np.testing.assert_array_equal(kernel(k, 8), kernel([1.0, 2.0], 8))


def test_without_scipy_the_limit_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    message = "^the cosine integral needs SciPy: pip install 'posenc\\[scipy\\]'$"
    for call in (lambda: kernel_limit(1.0), lambda: zero_crossing(1000.0)):
        with pytest.raises(ImportError, match=message):
            call()
    assert kernel(0.0, 4) == 1.0
    assert power_limit(512, 1) == pytest.approx(math.sin(512) / 512)


TWO, SQUARE = np.ones((2, 4)), np.ones((4, 4))

TYPE_ERRORS = {
    "tokens must hold real numbers, got dtype complex128": lambda: four_terms(
        TWO * 1j, TWO, SQUARE, SQUARE
    ),
    "position_vectors must hold real numbers, got dtype bool": lambda: four_terms(
        TWO, TWO > 0, SQUARE, SQUARE
    ),
    "w_query must hold real numbers, got dtype bool": lambda: four_terms(
        TWO, TWO, SQUARE > 0, SQUARE
    ),
    "w_key must hold real numbers, got dtype object": lambda: four_terms(TWO, TWO, SQUARE, None),
    "matrix must hold real numbers, got dtype complex128": lambda: relative_part(SQUARE * 1j),
    "products must hold real numbers, got dtype bool": lambda: toeplitz_share(SQUARE > 0),
    "offsets must hold real numbers, got dtype complex128": lambda: kernel(1j, 4),
    "offsets must hold real numbers, got dtype bool": lambda: kernel_limit(True),
    "offsets must hold real numbers, got dtype <U1": lambda: log_decay("1"),
    "offsets must hold real numbers, got dtype object": lambda: power_limit(None, 3),
    "base must hold real numbers, got dtype complex128": lambda: kernel(1, 4, 1j),
    "base must hold real numbers, got dtype <U5": lambda: kernel_limit(1, "10000"),
    "base must hold real numbers, got dtype bool": lambda: log_decay(1, True),
    "base must hold real numbers, got dtype object": lambda: zero_crossing(None),
    "d_model must be an integer, got 4.0": lambda: kernel(1, 4.0),
    "d_model must be an integer, got True": lambda: first_negative(True),
    "d_model must be an integer, got '4'": lambda: smallest_base(8, "4"),
    "length must be an integer, got 8.0": lambda: smallest_base(8.0, 4),
    "exponent must be an integer, got 0.5": lambda: power_limit(1, 0.5),
}

VALUE_ERRORS = {
    "tokens must have at least 2 axes, got shape (4,)": lambda: four_terms(
        TWO[0], TWO, SQUARE, SQUARE
    ),
    "tokens must have shape (2, 4), got (1, 2, 4)": lambda: four_terms([TWO], TWO, SQUARE, SQUARE),
    "tokens must not be empty, got shape (0, 4)": lambda: four_terms(TWO[:0], TWO, SQUARE, SQUARE),
    "tokens must be finite, got nan": lambda: four_terms(TWO * math.nan, TWO, SQUARE, SQUARE),
    "position_vectors must have shape (2, 4), got (1, 4)": lambda: four_terms(
        TWO, TWO[:1], SQUARE, SQUARE
    ),
    "position_vectors must be finite, got inf": lambda: four_terms(
        TWO, TWO * math.inf, SQUARE, SQUARE
    ),
    "w_query must have at least 2 axes, got shape (4,)": lambda: four_terms(
        TWO, TWO, SQUARE[0], SQUARE
    ),
    "w_query must have shape (4, 4), got (2, 4)": lambda: four_terms(TWO, TWO, TWO, SQUARE),
    "w_query must have shape (4, 4), got (1, 4, 4)": lambda: four_terms(TWO, TWO, [SQUARE], SQUARE),
    "w_key must have shape (4, 4), got (4, 3)": lambda: four_terms(TWO, TWO, SQUARE, SQUARE[:, :3]),
    "w_key must have shape (4, 3), got (4,)": lambda: four_terms(
        TWO, TWO, SQUARE[:, :3], SQUARE[0]
    ),
    "matrix must have at least 2 axes, got shape (4,)": lambda: relative_part(SQUARE[0]),
    "matrix must have shape (4, 4), got (2, 4)": lambda: relative_part(TWO),
    "matrix must have shape (4, 4), got (1, 4, 4)": lambda: relative_part([SQUARE]),
    "matrix must be finite, got inf": lambda: relative_part(SQUARE * math.inf),
    "width of matrix must be a multiple of 2, got 3": lambda: relative_part(SQUARE[:, :3]),
    "products must have at least 2 axes, got shape (4,)": lambda: toeplitz_share(np.arange(4)),
    "products must have shape (2, 4), got (1, 2, 4)": lambda: toeplitz_share([TWO]),
    "products must not be empty, got shape (2, 0)": lambda: toeplitz_share(TWO[:, :0]),
    "products must be finite, got nan": lambda: toeplitz_share(TWO * math.nan),
    "products must not all be the same, got 1.0": lambda: toeplitz_share(TWO),
    "offsets must be finite, got inf": lambda: kernel([0, math.inf], 4),
    "offsets must be finite, got -inf": lambda: kernel_limit(-math.inf),
    "offsets must be finite, got nan": lambda: power_limit(math.nan, 3),
    "offsets must not be empty, got shape (0,)": lambda: kernel([], 4),
    "offsets must not be zero, got 0.0": lambda: log_decay([3, 0, -1]),
    "d_model must be at least 1, got 0": lambda: kernel(1, 0),
    "d_model must be at least 1, got -2": lambda: first_negative(-2),
    "d_model must be a multiple of 2, got 5": lambda: kernel(1, 5),
    "d_model must be a multiple of 2, got 7": lambda: first_negative(7),
    "d_model must be a multiple of 2, got 9": lambda: smallest_base(8, 9),
    "d_model must be at least 4, got 2": lambda: smallest_base(8, 2),
    "length must be at least 1, got 0": lambda: smallest_base(0, 8),
    "length must be at least 1, got -1": lambda: smallest_base(-1, 8),
    "base must be above 1, got 1": lambda: kernel(1, 4, 1),
    "base must be above 1, got 0.5": lambda: kernel_limit(1, 0.5),
    "base must be above 1, got 1.0": lambda: log_decay(1, 1.0),
    "base must be above 1, got -3": lambda: zero_crossing(-3),
    "base must be above 1, got 0": lambda: first_negative(4, 0),
    "base must be at most 1e12, got 10000000000000.0": lambda: zero_crossing(1e13),
    "base must be at most 1e12, got 1000000000000.5": lambda: zero_crossing(1e12 + 0.5),
    "base must be finite, got inf": lambda: kernel_limit(1, math.inf),
    "base must have shape (), got (2,)": lambda: kernel(1, 4, [10, 100]),
    "spacing must be 'paper' or 'tensor2tensor', got 'mel'": lambda: kernel(1, 4, spacing="mel"),
    "exponent must be at least 1, got 0": lambda: power_limit(1, 0),
    "exponent must be at most 40, got 41": lambda: power_limit(1, 41),
}


def test_the_base_is_ten_thousand_unless_said_otherwise():
    assert log_decay(100) == log_decay(100, 10000)
    assert zero_crossing() == zero_crossing(10000)
    assert first_negative(110) == first_negative(110, 10000) == 1347


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_what_is_not_of_the_right_kind_is_refused(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_or_shape_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims: from the logits to the kernel -----------------------------------------------------


def sample(seed, n=16, d=32, d_k=8):
    """Tokens, position vectors and the maps to queries and keys."""
    rng = np.random.default_rng(seed)
    W_Q, W_K = rng.standard_normal((2, d, d_k)) / math.sqrt(d)
    return rng.standard_normal((n, d)), sinusoidal(np.arange(n), d), W_Q, W_K


@claim("kernel.four_terms")
def test_the_four_terms_add_up_to_the_logits():
    x, p, W_Q, W_K = sample(0)
    logits = attention_logits((x + p) @ W_Q, (x + p) @ W_K)
    terms = four_terms(x, p, W_Q, W_K)
    return at_most(
        1e-12,
        right=largest(terms.sum(axis=0) - logits),
        wrong=largest(math.sqrt(8) * terms.sum(axis=0) - logits),
        without_last=largest(terms[:3].sum(axis=0) - logits),
    )


@claim("kernel.order")
def test_the_printed_order_has_the_middle_terms_the_other_way_round():
    x, p, W_Q, W_K = sample(1)
    W = W_Q.T.T @ W_K.T  # W_Q^T W_K of the column convention, whose W_Q is our transposed one
    printed = [
        [[left[i].T @ W @ right[j] for j in range(16)] for i in range(16)]
        for left, right in ((x, x), (p, x), (x, p), (p, p))
    ]
    ours = math.sqrt(8) * four_terms(x, p, W_Q, W_K)
    ee, pe, ep, pp = printed
    return at_most(
        1e-12,
        right=largest(ours - np.array([ee, ep, pe, pp])),
        wrong=largest(ours - np.array(printed)),
    )


@claim("kernel.weights")
def test_the_output_takes_the_softmax_of_the_scaled_logits():
    x, p, W_Q, W_K = sample(2)
    Q, K, V = (x + p) @ W_Q, (x + p) @ W_K, x
    raw = Q @ K.T
    want = np.zeros_like(V)
    for i, row in enumerate(raw):
        e = [math.exp(value / math.sqrt(8)) for value in row]
        want[i] = sum(weight / sum(e) * V[j] for j, weight in enumerate(e))
    sums = raw.sum(axis=1)
    return at_most(
        1e-12,
        right=largest(attention(Q, K, V) - want),
        wrong=largest(raw @ V - want),
        row_sum_min=sums.min(),
        row_sum_max=sums.max(),
    )


@claim("kernel.one_pair")
def test_the_inner_product_of_one_pair_is_the_cosine_of_the_offset():
    k = np.subtract.outer(np.arange(64), np.arange(64))
    one, four = sinusoidal(np.arange(64), 2), sinusoidal(np.arange(64), 8)
    return at_most(
        1e-12, right=largest(one @ one.T - np.cos(k)), wrong=largest(four @ four.T - np.cos(k))
    )


@claim("kernel.cosines")
def test_the_inner_product_is_a_sum_of_cosines():
    n, d = 40, 16
    theta = [10000 ** (-2 * m / d) for m in range(d // 2)]

    def cosines(sign):
        pairs = itertools.product(range(n), repeat=2)
        return np.array([sum(math.cos(t * (i + sign * j)) for t in theta) for i, j in pairs])

    P = sinusoidal(np.arange(n), d)
    gram = (P @ P.T).ravel()
    norms = (sinusoidal(np.arange(2048), 512) ** 2).sum(axis=1)
    return at_most(
        1e-12,
        right=largest(gram - cosines(-1)),
        wrong=largest(gram - cosines(+1)),
        norm_512=norms[-1],
        spread=spread(P @ P.T),
    )


@claim("kernel.even")
def test_the_inner_product_does_not_know_the_direction():
    P = sinusoidal(np.arange(256), 512)
    gram, turned = P @ P.T, P @ shift_matrix(1, 512) @ P.T
    return at_most(1e-10, right=largest(gram - gram.T), wrong=largest(turned - turned.T))


# --- claims: which matrices keep it relative ---------------------------------------------------


@claim("kernel.block")
def test_four_coefficients_make_up_a_block():
    (a, b), (c, d) = np.random.default_rng(3).standard_normal((2, 2))
    theta = frequencies(8)[1]
    i, j = np.indices((50, 50))
    P = np.column_stack([np.sin(theta * np.arange(50)), np.cos(theta * np.arange(50))])
    products = P @ np.array([[a, b], [c, d]]) @ P.T
    minus = (a + d) / 2 * np.cos(theta * (i - j)) + (b - c) / 2 * np.sin(theta * (i - j))
    plus = (d - a) / 2 * np.cos(theta * (i + j)) + (b + c) / 2 * np.sin(theta * (i + j))
    return at_most(1e-12, right=largest(products - minus - plus), wrong=largest(products - minus))


@claim("kernel.relative_iff")
def test_a_product_is_relative_if_and_only_if_the_matrix_is_its_relative_part():
    d = 8
    A, basis = np.random.default_rng(4).standard_normal((d, d)), commutant(d)
    part, P = relative_part(A), sinusoidal(np.arange(64), d)
    projected = (basis.T @ (basis @ A.ravel())).reshape(d, d)
    right = max(spread(P @ part @ P.T), largest(part - projected))
    return at_most(
        1e-10, right=right, wrong=spread(P @ A @ P.T), commutant=len(basis), d=d, free=d * d
    )


@claim("kernel.toeplitz_share")
def test_random_maps_leave_little_to_the_offset():
    right, values = 0.0, {}
    for d in (64, 512):
        P, shares = sinusoidal(np.arange(512), d), []
        for seed in range(8):
            W_Q, W_K = np.random.default_rng(seed).standard_normal((2, d, 64))
            A = W_Q @ W_K.T
            shares.append(toeplitz_share(P @ A @ P.T))
        right = max(
            right, *(1 - toeplitz_share(P @ B @ P.T) for B in (np.eye(d), relative_part(A)))
        )
        values |= {f"random_{d}": np.mean(shares), f"largest_{d}": max(shares)}
        values |= {f"identity_{d}": toeplitz_share(P @ P.T)}
    wrong = 1 - max(values["largest_64"], values["largest_512"])
    return at_most(1e-9, right=right, wrong=wrong, **values)


@claim("kernel.direction")
def test_the_antisymmetric_part_tells_before_from_after():
    d = 64
    I, J = np.eye(d // 2), np.array([[0, 1], [-1, 0]])  # noqa: E741
    here, after, before = sinusoidal(np.array([100, 108, 92]), d)

    def both(A):
        return np.array([after @ A @ here, before @ A @ here]) * 2 / d

    antisymmetric, symmetric = both(np.kron(I, J)), both(np.eye(d))
    return at_most(
        1e-12,
        right=abs(antisymmetric.sum()),
        wrong=abs(symmetric.sum()),
        forward=antisymmetric[0],
        backward=antisymmetric[1],
        symmetric=symmetric[0],
    )


# --- claims: the integral ----------------------------------------------------------------------


@claim("kernel.riemann")
def test_the_sum_is_the_left_riemann_sum_of_the_integral():
    k, d = np.arange(1, 9), 512
    S, F = kernel(k, d), kernel_limit(k)
    first, last = np.cos(k), np.cos(k / 10000)
    right_sum = S + 2 / d * (last - first)
    predicted = (first - last) / d  # Euler and Maclaurin: half a step times f(0) - f(1)
    return at_most(
        2e-4,
        right=largest(S - F - predicted),
        wrong=largest(right_sum - F - predicted),
        error_1_512=S[0] - F[0],
        predicted_1_512=predicted[0],
    )


@claim("kernel.closed_form")
def test_the_closed_form_is_the_integral():
    cuts = [x / 8 for x in range(9)]
    k, b = [0.5, 1.0, 7.0, 30.0], 10000.0
    with mpmath.workdps(20):
        want = [float(mpmath.quad(lambda t, k=k: mpmath.cos(k * b**-t), cuts)) for k in k]
        upper = [float(mpmath.ci(x) / mpmath.log(b)) for x in k]
    F = {f"k{k}": kernel_limit(k) for k in (1, 128, 512, 2048, 4096)}
    return at_most(
        1e-12,
        right=largest(kernel_limit(np.array(k)) - want),
        wrong=largest(np.subtract(upper, want)),
        **F,
    )


@claim("kernel.slope")
def test_the_slope_nearly_vanishes_after_every_full_turn():
    b, h = 10000.0, 1e-3

    def formula(k):
        return (np.cos(k) - np.cos(k / b)) / (k * math.log(b))

    k = np.linspace(1, 100, 400)
    slope = (kernel_limit(k + h) - kernel_limit(k - h)) / (2 * h)
    smooth = -1 / (k * math.log(b))
    return at_most(
        1e-6,
        right=largest(slope - formula(k)),
        wrong=largest(slope - smooth),
        at_2pi=formula(2 * math.pi),  # a difference quotient would be off by as much
        between=formula(3 * math.pi),
    )


@claim("kernel.log_decay")
def test_between_one_and_the_base_the_integral_falls_with_the_logarithm():
    k, b = np.arange(64, 1025), 10000.0
    F, line = kernel_limit(k), log_decay(k)
    return at_most(
        0.004,
        right=largest(F - line),
        wrong=largest(F - (1 - np.log(k) / math.log(b))),
        error_128=abs(F - line)[k == 128][0],
        error_1024=abs(F - line)[k == 1024][0],
    )


@claim("kernel.zero")
def test_the_integral_changes_sign_at_the_zero_of_the_cosine_integral():
    with mpmath.workdps(30):
        ratio = float(mpmath.findroot(mpmath.ci, 0.6))
    base = {1000: 1e3, 10000: 1e4, 100000: 1e5}
    zero = {name: zero_crossing(b) for name, b in base.items()}
    negative = {name: kernel_limit(np.arange(0.7 * b), b) < 0 for name, b in base.items()}
    return at_most(
        0.002,
        right=max(abs(zero[name] / b - ratio) for name, b in base.items()),
        wrong=min(abs(math.pi / 2 - zero[name] / b) for name, b in base.items()),
        ratio=ratio,
        **{f"zero_{name}": zero[name] for name in base},
        **{f"first_{name}": negative[name].argmax() for name in base},
    )


@claim("kernel.minimum")
def test_the_integral_is_lowest_near_a_quarter_turn_of_the_slowest_pair():
    values = {}
    for b in (1000, 10000):
        k = np.arange(5 * b)
        F = kernel_limit(k, b)
        values |= {f"ratio_{b}": k[F.argmin()] / b, f"value_{b}": F.min()}
    ratios = [values["ratio_1000"], values["ratio_10000"]]
    return at_most(
        0.01,
        right=max(abs(ratio - math.pi / 2) for ratio in ratios),
        wrong=min(abs(ratio - 0.6165) for ratio in ratios),
        **values,
    )


@claim("kernel.finite_zero")
def test_the_sum_turns_negative_before_the_integral():
    first = {(d, b): first_negative(d, b) for d in (128, 512, 768) for b in (10**3, 10**4, 10**5)}
    zero = {10**3: zero_crossing(1e3), 10**4: zero_crossing(1e4)}
    turned = {
        (d, b): (kernel_by_turning(math.ceil(zero[b]) + 1, d, b) < 0).argmax()
        for d, b in first
        if b in zero
    }
    return at_most(
        0.5,
        right=max(abs(first[case] - turned[case]) for case in turned),
        wrong=min(zero[b] - turned[d, b] for d, b in turned),
        d512_tensor2tensor=(kernel(np.arange(4000), 512, spacing="tensor2tensor") < 0).argmax(),
        **{f"d{d}_b{b}": k for (d, b), k in first.items()},
    )


@claim("kernel.no_limit")
def test_the_sum_does_not_tend_to_zero():
    far = np.arange(100_000, 200_001)
    some = np.random.default_rng(6).integers(10**6, 10**9, 20_000)
    S_64, S_512 = kernel(far, 64), kernel(some, 512)

    def rms(x):
        return math.sqrt(np.mean(np.square(x)))

    return at_most(
        0.03,
        right=max(abs(rms(S_64) * 8 - 1), abs(rms(S_512) * math.sqrt(512) - 1)),
        wrong=min(abs(rms(kernel_limit(far)) * 8 - 1), abs(rms(kernel_limit(some)) - 1)),
        rms_64=rms(S_64),
        rms_512=rms(S_512),
        inverse_root_64=1 / math.sqrt(64),
        inverse_root_512=1 / math.sqrt(512),
        max_64=largest(S_64),
        rms_limit=rms(kernel_limit(far)),
    )


@claim("kernel.validity")
def test_sum_and_integral_agree_up_to_a_limit():
    k = np.unique(np.concatenate([np.arange(2000), np.geomspace(2000, 1e5, 20_000).astype(int)]))
    F, inside, outside, values = kernel_limit(k), {}, {}, {}
    for d in (128, 512):
        error, limit = abs(kernel(k, d) - F), math.pi * d / (2 * math.log(10000))
        inside[d], outside[d] = error[k <= limit].max(), error[k > limit].max()
        values |= {f"limit_{d}": limit, f"error_{d}": inside[d], f"beyond_{d}": outside[d]}
        for n in range(1, 6):
            decade = (k > 10 ** (n - 1)) & (k <= 10**n)
            values[f"d{d}_decade{n}"] = error[decade].max()
    return at_most(
        2.5,
        right=max(d * error for d, error in inside.items()),
        wrong=min(d * error for d, error in outside.items()),
        **values,
    )


# --- claims: other curves and bases ------------------------------------------------------------


@claim("kernel.six")
def test_the_six_curves_at_512():
    with mpmath.workdps(30):
        logs = [mpmath.log(b) for b in (1e3, 1e4, 1e5)]
        want = [(mpmath.ci(512) - mpmath.ci(512 * mpmath.exp(-x))) / x for x in logs]
        halves = [mpmath.mpf(1) / (2 * a) for a in (1, 3, 6)]
        want += [mpmath.hyp1f2(c, 0.5, 1 + c, -(mpmath.mpf(256) ** 2)) for c in halves]
    got = {f"b{b}": kernel_limit(512, b) for b in (1000, 10000, 100000)}
    got |= {f"t{a}": power_limit(512, a) for a in (1, 3, 6)}
    sums = [kernel(512, 128, b) for b in (1000, 10000, 100000)]
    t = np.arange(64) / 64
    sums += [np.cos(512 * t**a).mean() for a in (1, 3, 6)]
    right = np.array([*got.values()]) - np.array(want, float)
    return at_most(
        1e-12, right=largest(right), wrong=largest(np.array(sums) - [*got.values()]), **got
    )


@claim("kernel.tail")
def test_powers_have_a_tail_that_is_a_power():
    k = np.arange(512, 20_001)

    def tail(a, k):
        return math.gamma(1 + 1 / a) * math.cos(math.pi / (2 * a)) * k ** (-1 / a)

    return at_most(
        1e-3,
        right=max(largest(power_limit(k, a) - tail(a, k)) for a in (3, 6)),
        wrong=min(largest(power_limit(k, a) - 1 / k) for a in (3, 6)),
        t3=tail(3, 512),
        t6=tail(6, 512),
    )


@claim("kernel.crossings")
def test_where_the_curves_of_the_bases_fall_below_those_of_the_powers():
    near, far = np.arange(100, 400, 0.02), np.arange(4000, 5000, 0.02)
    right, wrong, values = 0.0, math.inf, {}
    for b, a, k in ((1000, 3, near), (10000, 6, near), (100000, 6, far)):
        ahead = kernel_limit(k, b) - power_limit(k, a)
        last = k[ahead > 0][-1]
        values[f"b{b}_t{a}"] = last
        values[f"b{b}_t{a}_first"] = k[ahead < 0][0]
        right = max(right, abs(ahead[k == last][0]))
        wrong = min(wrong, abs(kernel_limit(2 * last, b) - power_limit(2 * last, a)))
    return at_most(1e-4, right=right, wrong=wrong, **values)


def depth(length, base):
    """How far below zero the kernel of width 128 goes within a length."""
    return max(0.0, -float(kernel(np.arange(length), 128, base).min()))


@claim("kernel.base_for_length")
def test_the_smallest_base_of_a_length_leaves_no_offset_negative():
    smallest = {length: smallest_base(length, 128) for length in (512, 1024, 2048, 4096)}

    def negative(factor):
        S = [kernel(np.arange(n), 128, factor * base) for n, base in smallest.items()]
        return [int((row < 0).sum()) for row in S]

    return at_most(
        0.1,
        right=max(negative(1)),
        wrong=min(negative(1 / 1.001)),
        **{f"l{length}": base for length, base in smallest.items()},
    )


@claim("kernel.islands")
def test_a_larger_base_may_fail_where_a_smaller_one_works():
    values, right, wrong = {}, 0.0, math.inf
    for length in (512, 1024):
        first = smallest_base(length, 128)
        ladder = first * 1.002 ** np.arange(240)
        depths = np.array([depth(length, base) for base in ladder])
        last = int(np.flatnonzero(depths)[-1])
        above = [depth(length, base) for base in np.geomspace(ladder[last + 1], 1e6, 400)]
        values |= {
            f"first_{length}": first,
            f"fails_{length}": ladder[depths.argmax()],
            f"safe_{length}": ladder[last + 1],
        }
        right, wrong = max(right, depths[0], *above), min(wrong, depths.max())
    return at_most(1e-4, right=right, wrong=wrong, **values)


@claim("kernel.thousand_or_ten_thousand")
def test_a_thousand_is_better_for_short_ranges_only():
    k = np.arange(5000)
    F_3, F_4 = kernel_limit(k, 1000), kernel_limit(k, 10000)
    return at_most(
        1e-3,
        right=max(0.0, -float(F_3[:600].min())),
        wrong=max(0.0, -float(F_3.min())),
        f1000_512=F_3[512],
        f1000_2048=F_3[2048],
        f10000_512=F_4[512],
        f10000_2048=F_4[2048],
    )


@claim("kernel.monotone")
def test_the_integral_falls_from_offset_to_offset_and_the_sum_does_not():
    steps = np.diff(kernel_limit(np.arange(15_701)))
    rises = {d: np.diff(kernel(np.arange(1000), d)) for d in (64, 512)}
    return at_most(
        1e-5,
        right=max(0.0, float(steps.max())),
        wrong=min(float(rise.max()) for rise in rises.values()),
        rise_64=(rises[64] > 0).argmax(),
        rise_512=(rises[512] > 0).argmax(),
        step_1000=steps[:999].max(),
        step_max=steps.max(),
    )
