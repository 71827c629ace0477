"""ALiBi: printed facts, properties, oracles and errors; the claims."""

import math
import re
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.falcon.modeling_falcon import build_alibi_tensor as build_falcon_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from posenc.equations.alibi import head_slopes, horizon, linear_bias, logit_lead, mass_within
from posenc.equations.relative import offsets

EIGHT = [Fraction(1, 2**h) for h in range(1, 9)]

heads = st.integers(1, 130)
slope = st.floats(1e-3, 2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def x_transformers(H):
    """Its bias with the sign and for the heads of ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".torch\.jit", DeprecationWarning)
        from x_transformers.x_transformers import AlibiPositionalBias
    return AlibiPositionalBias(H)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# --- printed facts -----------------------------------------------------------------------------


def test_the_slopes_of_the_paper_for_eight_heads():
    assert [Fraction(m) for m in head_slopes(8)] == EIGHT


def test_the_slopes_of_the_paper_for_sixteen_heads():
    """A geometric series that starts with, and steps by, the square root of a half."""
    np.testing.assert_allclose(head_slopes(16), 0.5 ** (np.arange(1, 17) / 2), rtol=1e-15)


def test_twelve_heads_are_eight_and_every_second_of_sixteen():
    np.testing.assert_array_equal(head_slopes(12)[:8], head_slopes(8))
    np.testing.assert_array_equal(head_slopes(12)[8:], head_slopes(16)[:8:2])


def test_another_exponent_ends_elsewhere():
    assert head_slopes(4, 16).tolist() == [2.0**-4, 2.0**-8, 2.0**-12, 2.0**-16]


def test_ninety_nine_percent_lies_in_so_many_tokens():
    assert horizon(head_slopes(8)).tolist() == [10, 19, 37, 74, 148, 295, 590, 1179]


# --- properties --------------------------------------------------------------------------------


@given(st.integers(0, 6), st.data())
def test_more_heads_never_change_the_first_ones(power, data):
    P = 2**power
    H = data.draw(st.integers(P, 2 * P - 1))
    np.testing.assert_array_equal(head_slopes(H)[:P], head_slopes(P))


@given(heads)
def test_slopes_are_different_and_lie_between_the_last_and_one(H):
    m = head_slopes(H)
    assert m.shape == (H,)
    assert len(set(m.tolist())) == H
    assert m.min() == 2.0**-8
    assert m.max() < 1


@given(heads)
def test_all_slopes_are_those_of_twice_the_largest_power_of_two(H):
    P = 2 ** int(math.log2(H))
    assert set(head_slopes(H).tolist()) <= set(head_slopes(2 * P).tolist())


@given(slope, slope, st.integers(-50, 50), st.integers(-50, 50))
def test_the_bias_falls_by_the_slope_with_every_step(before, after, s, t):
    b = linear_bias([before], [s, t], after=[after])[0]
    assert (b <= 0).all()
    if s <= t <= 0:
        assert b[1] - b[0] == pytest.approx(before * (t - s), abs=1e-12)
    if 0 <= s <= t:
        assert b[1] - b[0] == pytest.approx(-after * (t - s), abs=1e-12)


@given(slope, st.floats(0, 0.999), st.floats(0, 5))
def test_the_horizon_is_the_first_that_reaches_the_share(m, share, content):
    L = int(horizon(m, share, content))
    missed = 1 - share
    assert math.exp(2 * content - m * L) <= missed * (1 + 1e-9)
    assert L == 0 or math.exp(2 * content - m * (L - 1)) >= missed * (1 - 1e-9)


@given(slope, st.integers(2, 300), st.data())
def test_a_lead_gives_the_share(m, n, data):
    D = data.draw(st.integers(0, n - 1))
    share = data.draw(st.floats(0.01, 0.99))
    e = -m * np.arange(n)
    e[D] += logit_lead(m, D, n, share)
    weights = np.exp(e - e.max())
    assert weights[D] / weights.sum() == pytest.approx(share, rel=1e-9)


def test_a_lead_is_exact_where_the_crowd_is_almost_nothing():
    """The others of a steep head weigh 10^-26 of the query's own token."""
    with mpmath.workdps(60):
        crowd = sum(mpmath.exp(-60 * d) for d in range(1, 9))
        want = float(mpmath.log(crowd))
    assert logit_lead(60.0, 0, 9) == pytest.approx(want, rel=1e-14)


def test_arguments_are_not_changed():
    m, t = np.array([0.5, 1.0]), np.array([3, -2])
    linear_bias(m, t)
    np.testing.assert_array_equal(m, [0.5, 1.0])
    np.testing.assert_array_equal(t, [3, -2])


def test_shapes_broadcast():
    assert mass_within(head_slopes(8)[:, None], np.arange(5)).shape == (8, 5)
    assert linear_bias(head_slopes(3), offsets(4, 6)).shape == (3, 4, 6)
    assert horizon(np.full((2, 3), 0.5)).shape == (2, 3)


# --- oracles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("H", [1, 2, 6, 8, 12, 40, 71, 112])
def test_slopes_equal_those_of_the_libraries(H):
    """Read at the second key, whose position is 1; in float32 there, in bfloat16 in Falcon."""
    mask, m = torch.ones(1, 2), head_slopes(H)
    bloom = build_alibi_tensor(mask, H, torch.float32)[:, 0, 1]
    mpt = -build_mpt_alibi_tensor(H, 2)[:, 0, 0]
    falcon = build_falcon_tensor(mask, H, torch.float32)[:, 0, 1]
    x = -x_transformers(H)(1, 2)[:, 0, 0]
    np.testing.assert_allclose(bloom, m, rtol=3e-6)
    np.testing.assert_allclose(mpt, m, rtol=3e-6)
    np.testing.assert_allclose(x, m, rtol=3e-7)
    np.testing.assert_allclose(falcon, m, rtol=2**-8)


def test_slopes_equal_the_definition_at_sixty_digits():
    for H in range(1, 130):
        P = max(2**k for k in range(8) if 2**k <= H)
        with mpmath.workdps(60):
            want = [mpmath.mpf(2) ** (mpmath.mpf(-8 * h) / P) for h in range(1, P + 1)]
            double = [mpmath.mpf(2) ** (mpmath.mpf(-8 * h) / (2 * P)) for h in range(1, 2 * P + 1)]
            want += [m for m in double if m not in want][: H - P]
        np.testing.assert_allclose(head_slopes(H), [float(m) for m in want], rtol=1e-15)


def test_the_bias_equals_a_loop_with_fractions():
    """Slopes of eight heads are dyadic, so that nothing is rounded."""
    got = linear_bias(head_slopes(8), offsets(5, 40, 30))
    for h, m in enumerate(EIGHT):
        for i in range(5):
            for j in range(40):
                assert Fraction(got[h, i, j]) == -m * abs(30 + i - j)


def test_the_bias_equals_that_of_the_library_at_any_positions():
    at, other = torch.tensor([7, -3, 40, 0]), torch.tensor([1, 2, 90])
    want = x_transformers(12).forward_custom_pos(at, other)
    t = other.numpy() - at.numpy()[:, None]
    np.testing.assert_allclose(linear_bias(head_slopes(12), t), want, rtol=1e-6)


@given(slope, st.integers(0, 60), st.integers(1, 50))
def test_the_share_equals_the_sum(m, L, n):
    with mpmath.workdps(40):
        terms = [mpmath.exp(-mpmath.mpf(m) * d) for d in range(n)]
        want = float(mpmath.fsum(terms[:L]) / mpmath.fsum(terms))
        endless = float(
            mpmath.fsum(mpmath.exp(-mpmath.mpf(m) * d) for d in range(L))
            * -mpmath.expm1(-mpmath.mpf(m))
        )
    np.testing.assert_allclose(mass_within(m, L, n), want, rtol=1e-13)
    np.testing.assert_allclose(mass_within(m, L), endless, rtol=1e-12)


# --- errors ------------------------------------------------------------------------------------

TYPE_ERRORS = {
    "n_heads must be an integer, got 8.0": lambda: head_slopes(8.0),
    "n_heads must be an integer, got True": lambda: head_slopes(True),
    "exponent must hold real numbers, got dtype <U1": lambda: head_slopes(8, "a"),
    "slopes must hold real numbers, got dtype bool": lambda: linear_bias([True], [0]),
    "after must hold real numbers, got dtype complex128": lambda: linear_bias([1], [0], [1j]),
    "offsets must hold real numbers, got dtype bool": lambda: linear_bias([1.0], [True]),
    "slope must hold real numbers, got dtype <U1": lambda: mass_within("a", 1),
    "n_tokens must hold integers, got dtype float64": lambda: mass_within(1.0, 1.0),
    "n_keys must be an integer, got 2.0": lambda: mass_within(1.0, 1, 2.0),
    "share must hold real numbers, got dtype <U1": lambda: horizon(1.0, "a"),
    "content must hold real numbers, got dtype bool": lambda: horizon(1.0, 0.5, True),
    "distance must be an integer, got 1.0": lambda: logit_lead(1.0, 1.0, 9),
    "n_keys must be an integer, got 9.0": lambda: logit_lead(1.0, 1, 9.0),
}

VALUE_ERRORS = {
    "n_heads must be at least 1, got 0": lambda: head_slopes(0),
    "exponent must be above 0, got 0": lambda: head_slopes(8, 0),
    "exponent must be finite, got inf": lambda: head_slopes(8, math.inf),
    "slopes must be at least 0, got -0.5": lambda: linear_bias([1, -0.5], [0]),
    "after must be at least 0, got -1.0": lambda: linear_bias([1], [0], [-1]),
    "slopes must have at least 1 axes, got shape ()": lambda: linear_bias(1.0, [0]),
    "slopes must have shape (1,), got (1, 1)": lambda: linear_bias([[1.0]], [0]),
    "slopes must be finite, got nan": lambda: linear_bias([math.nan], [0]),
    "after must have shape (1,), got (2,)": lambda: linear_bias([1], [0], [1, 1]),
    "offsets must not be empty, got shape (0,)": lambda: linear_bias([1.0], []),
    "slope must be above 0, got 0.0": lambda: mass_within([1, 0], 1),
    "slope must be finite, got inf": lambda: horizon(math.inf),
    "n_tokens must be at least 0, got -1": lambda: mass_within(1.0, [3, -1]),
    "n_keys must be at least 1, got 0": lambda: mass_within(1.0, 1, 0),
    "slope must be above 0, got 0": lambda: logit_lead(0, 1, 9),
    "share must be above 0, got 0.0": lambda: logit_lead(1.0, 1, 9, 0),
    "share must be below 1, got 1": lambda: logit_lead(1.0, 1, 9, 1),
    "content must be at least 0, got -1.0": lambda: horizon(1.0, 0.5, -1),
    "n_keys must be at least 2, got 1": lambda: logit_lead(1.0, 0, 1),
    "distance must be at least 0, got -1": lambda: logit_lead(1.0, -1, 9),
    "distance must be below 9, the number of keys, got 9": lambda: logit_lead(1.0, 9, 9),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()
