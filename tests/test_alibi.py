"""ALiBi: printed facts, properties, oracles and errors; the claims."""

import math
import re
import warnings
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from transformers import BloomConfig, FalconConfig, MptConfig
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor
from transformers.models.falcon.modeling_falcon import FalconAttention
from transformers.models.falcon.modeling_falcon import build_alibi_tensor as build_falcon_tensor
from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor

from posenc.equations.alibi import head_slopes, horizon, linear_bias, logit_lead, mass_within
from posenc.equations.relative import offsets
from posenc.layers.alibi import Alibi
from posenc.layers.attention import Attention
from scripts.bench import peak
from scripts.figures.alibi import recall_data

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


# --- helpers of the claims ---------------------------------------------------------------------


def softmax(e):
    weights = np.exp(e - e.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attend(q, k, v, bias, scale=1.0):
    """One head, row by row, with the softmax spelt out."""
    rows = []
    for query, row in zip(q, bias, strict=True):
        weights = np.exp(scale * (k @ query) + row)
        rows.append(weights @ v / weights.sum())
    return np.array(rows)


def rounded(x):
    """The nearest numbers that bfloat16 has."""
    return torch.as_tensor(np.asarray(x), dtype=torch.float32).bfloat16().double().numpy()


def causal(n):
    return np.where(offsets(n, n) > 0, -np.inf, 0.0)


# --- claims: the slopes ------------------------------------------------------------------------


@claim("alibi.additive")
def test_position_and_content_only_add_up():
    """Mixed difference over contents and offsets; wrong: the slope depends on the query."""
    rng = np.random.default_rng(0)

    def logits(x, y, t, kept):
        return x @ y / 8**0.5 + linear_bias([0.25 * (1 + kept * x[0] ** 2)], [t])[0, 0]

    def interaction(kept):
        x, y, u, v = rng.normal(size=(4, 8))
        near, far = (logits(x, y, t, kept) - logits(u, v, t, kept) for t in (-2, -9))
        return near - far

    return at_most(
        1e-12,
        right=max(abs(interaction(0)) for _ in range(20)),
        wrong=max(abs(interaction(1)) for _ in range(20)),
    )


@claim("alibi.spaced")
def test_horizons_are_evenly_spaced_on_a_logarithmic_axis():
    """Every 1/m is 2^(8/H) times the one before; wrong: twelve heads, which leave gaps."""

    def uneven(H):
        steps = np.diff(np.log2(np.sort(1 / head_slopes(H))))
        return largest(steps - 8 / H)

    return at_most(
        1e-12,
        right=max(uneven(H) for H in (2, 4, 8, 16, 32, 64)),
        wrong=uneven(12),
        **{f"ratio_{H}": 2 ** (8 / H) for H in (8, 16, 32)},
    )


@claim("alibi.libraries")
def test_three_libraries_have_these_slopes_in_this_order():
    """Bloom, MPT and x-transformers, 1 to 128 heads; wrong: 2^(-8h/H) for every H."""
    right, wrong, mask = 0.0, math.inf, torch.ones(1, 2)
    for H in range(1, 129):
        m = head_slopes(H)
        found = [
            build_alibi_tensor(mask, H, torch.float32)[:, 0, 1],
            -build_mpt_alibi_tensor(H, 2)[:, 0, 0],
            -x_transformers(H)(1, 2)[:, 0, 0],
        ]
        right = max(right, *(largest(other.numpy() / m - 1) for other in found))
        if H & (H - 1):
            naive = 2.0 ** (-8 * np.arange(1, H + 1) / H)
            wrong = min(wrong, largest(naive / m - 1))
    return at_most(1e-5, right=right, wrong=wrong, heads=128)


@claim("alibi.subset")
def test_other_numbers_of_heads_skip_the_flattest_of_the_new_slopes():
    """The r-th extra head has the (2r - 1)-th slope of twice the power of two; wrong: the r-th."""
    right = wrong = 0.0
    for H in range(3, 129):
        P = 1 << (H.bit_length() - 1)
        double = head_slopes(2 * P)
        extra = head_slopes(H)[P:]
        if len(extra):
            right = max(right, largest(extra - double[: 2 * (H - P) : 2]))
            wrong = max(wrong, largest(extra - double[: H - P]))
    return at_most(1e-15, right=right, wrong=wrong)


# --- claims: how far a head sees ---------------------------------------------------------------


@claim("alibi.mass")
def test_the_share_of_the_last_tokens_is_a_closed_form():
    """Against the softmax over 2048 keys of equal content; wrong: one token too few."""
    right = wrong = 0.0
    for m in head_slopes(8):
        weights = softmax(linear_bias([m], -np.arange(2048))[0])
        sums = np.cumsum(weights)
        right = max(right, largest(mass_within(m, np.arange(1, 2049), 2048) - sums))
        wrong = max(wrong, largest(mass_within(m, np.arange(2048), 2048) - sums))
    return at_most(
        1e-12,
        right=right,
        wrong=wrong,
        own=100 * mass_within(0.5, 1),
        one=100 * mass_within(2**-8, 256),
        cut=100 - 100 * mass_within(2**-8, 1024),
    )


@claim("alibi.horizons")
def test_ninety_nine_percent_of_the_mass_is_near():
    """Found by adding up weights one by one; wrong: 1/m, which covers 63 %."""
    found = []
    for m in EIGHT:
        with mpmath.workdps(40):
            step, total, L = mpmath.exp(-mpmath.mpf(float(m))), mpmath.mpf(0), 0
            while total < mpmath.mpf("0.99"):
                total += (1 - step) * step**L
                L += 1
        found.append(L)
    return at_most(
        0.5,
        right=largest(horizon(head_slopes(8)) - found),
        wrong=largest(1 / head_slopes(8) - found),
        ratio=-math.log(0.01),
        **{f"head_{h}": L for h, L in enumerate(found, 1)},
    )


@claim("alibi.bound")
def test_bounded_contents_leave_so_much_to_far_keys():
    """The worst contents: C for all far keys, -C for all near ones. Wrong: C in place of 2 C."""
    n, over, under, closest = 4096, 0.0, math.inf, math.inf
    for m in head_slopes(8)[1:]:
        for C in (0.0, 1.0, 3.0):
            for D in (8, 64, 300):
                content = np.where(np.arange(n) >= D, C, -C)
                weights = softmax(content + linear_bias([m], -np.arange(n))[0])
                far, bound = math.log(weights[D:].sum()), 2 * C - m * D
                over = max(over, far - bound)
                if C == 3 and bound < -2:
                    under = min(under, far - (C - m * D))
                    closest = min(closest, bound - far)
    return at_most(1e-9, right=max(over, 0), wrong=under, reached=math.exp(-closest))


@claim("alibi.lead")
def test_a_key_with_a_lead_gets_its_share_from_afar():
    """Weight of one key among 2048, for the leads of the equation; wrong: the lead m D alone."""
    right, wrong, found = 0.0, math.inf, {}
    for D in (64, 512, 1023, 2000):
        m = 2.0**-8
        e = linear_bias([m], -np.arange(2048))[0]
        shares = []
        for lead in (logit_lead(m, D, 2048), m * D):
            content = np.where(np.arange(2048) == D, lead, 0.0)
            shares.append(softmax(e + content)[D])
        right, wrong = max(right, abs(shares[0] - 0.5)), min(wrong, abs(shares[1] - 0.5))
        found[f"lead_{D}"] = logit_lead(m, D, 2048)
        found[f"penalty_{D}"] = m * D
    return at_most(
        1e-12,
        right=right,
        wrong=wrong,
        crowd=math.log(mass_within(2.0**-8, 2048) / -math.expm1(-(2.0**-8))),
        steep=logit_lead(0.5, 1023, 2048),
        **found,
    )


# --- claims: what a flat loss shows ------------------------------------------------------------


@claim("alibi.flat")
def test_the_loss_is_flat_whether_or_not_far_tokens_are_used():
    """Loss of the model without a lead at 128 and at 8192 tokens; wrong: its loss in recall.

    The task and both models are those of `scripts.figures.alibi.recall_data`.
    """
    lengths, losses, recalls = recall_data()
    blind, seeing = losses
    at = list(lengths).index(1024)
    return at_most(
        1e-3,
        right=float(np.ptp(blind)),
        wrong=-math.log(recalls[0][at]) + math.log(recalls[1][at]),
        gap=float(np.abs(blind - seeing).max()),
        loss=float(blind[-1]),
        blind=100 * recalls[0][at],
        seeing=100 * recalls[1][at],
        last=100 * recalls[1][-1],
        shortest=lengths[0],
        longest=lengths[-1],
    )


# --- claims: the row form ----------------------------------------------------------------------


@claim("alibi.row")
def test_under_a_causal_mask_one_row_per_head_is_enough():
    """Weights with m j against those with -m (i - j), 60 tokens; wrong: the row without a mask."""
    e = normal(60, 60)
    m = head_slopes(8)
    bias, row = linear_bias(m, offsets(60, 60)), m[:, None, None] * np.arange(60)
    mask = causal(60)
    wrong = softmax(e + row) - softmax(e + bias)
    return at_most(
        1e-12,
        right=largest(softmax(e + row + mask) - softmax(e + bias + mask)),
        wrong=largest(wrong),
    )


@claim("alibi.coordinate")
def test_the_row_form_is_one_more_coordinate():
    """Plain causal attention over d + 1 coordinates; wrong: a key's coordinate without 1/scale."""
    q, k, v = torch.randn(3, 1, 4, 50, 8, dtype=torch.float64)
    at = torch.arange(50.0, dtype=torch.float64)
    m, scale = torch.from_numpy(head_slopes(4)), 8**-0.5
    layer = Alibi(4)
    want = layer.attend(q, k, v, scale, True)

    def longer(last):
        ones = torch.ones(1, 4, 50, 1, dtype=torch.float64)
        column = (last * m[:, None] * at).view(1, 4, 50, 1)
        wide = torch.cat([q, ones], -1), torch.cat([k, column], -1)
        attention = torch.nn.functional.scaled_dot_product_attention
        return attention(*wide, v, is_causal=True, scale=scale)

    return at_most(
        1e-12,
        right=largest(longer(1 / scale) - want),
        wrong=largest(longer(1) - want),
    )


@claim("alibi.bfloat16")
def test_in_bfloat16_the_row_form_loses_what_is_near():
    """Errors of the differences between the last 64 biases, 2048 keys; wrong: Bloom's row."""
    m = head_slopes(8)[:, None]
    near = -np.arange(64)[::-1]
    exact = m * near

    def error(bias):
        return largest((bias - bias[:, -1:]) - exact)

    rows = {n: bloom_row(n)[:, -64:] for n in (256, 2048, 8192)}
    kinds = {n: max(len(np.unique(head)) for head in row) for n, row in rows.items()}
    middle = rounded(m * (np.arange(2048) - 2047))[:, 960:1024]  # MPT's row, for query 1023
    return at_most(
        1e-9,
        right=error(rounded(linear_bias(m[:, 0], near))),
        wrong=error(rows[2048]),
        offset=64,
        short=kinds[256],
        distinct_2048=kinds[2048],
        distinct_8192=kinds[8192],
        error_256=error(rows[256]),
        error_2048=error(rows[2048]),
        error_8192=error(rows[8192]),
        mpt=error(middle),
    )


def bloom_row(n):
    """The library's row for eight heads and n keys, in bfloat16."""
    return build_alibi_tensor(torch.ones(1, n), 8, torch.bfloat16)[:, 0].double().numpy()


@claim("alibi.merged")
def test_neighbours_merge_from_256_on():
    """Runs of keys with one bias in the row form; wrong: runs in the offset form, as long."""
    n = 8192
    row = rounded(0.5 * np.arange(n))
    right = 0.0
    for k in range(8, 13):
        part = row[2**k : 2 ** (k + 1)]
        runs = (2**k - 1) / len(np.unique(part)[1:])  # the first and last run are cut in half
        right = max(right, abs(runs / 2 ** (k - 7) - 1))
    first = int(np.nonzero(np.diff(row) == 0)[0][0])
    last = np.unique(rounded(-0.5 * np.arange(64)))
    return at_most(0.02, right=right, wrong=abs(64 / len(last) / 2 - 1), first=first, run=2**5)


@claim("alibi.weights")
def test_what_the_rounded_row_does_to_the_weights():
    """Total variation from the exact weights of the last query, 8192 keys of equal content."""
    m = head_slopes(8)[:, None]
    d = np.arange(8192)[::-1]
    exact = softmax(-m * d)
    offset, row = softmax(rounded(-m * d)), softmax(bloom_row(8192))
    right, wrong = (np.abs(w - exact).sum(-1) / 2 for w in (offset, row))
    return at_most(
        0.01,
        right=largest(right),
        wrong=largest(wrong),
        steep=wrong[0],
        own=100 * exact[0, -1],
        own_row=100 * row[0, -1],
    )


# --- claims: positions -------------------------------------------------------------------------


@claim("alibi.direction")
def test_one_slope_for_both_sides_cannot_tell_a_text_from_its_mirror_image():
    """Reverse the tokens: the output is reversed, and nothing else; wrong: two slopes."""
    q, k, v = normal(3, 20, 8)
    t = offsets(20, 20)

    def gap(bias):
        forwards = attend(q, k, v, bias)
        return largest(attend(q[::-1], k[::-1], v[::-1], bias)[::-1] - forwards)

    return at_most(
        1e-13,
        right=gap(linear_bias([0.25], t)[0]),
        wrong=gap(linear_bias([0.25], t, [1.0])[0]),
    )


@claim("alibi.padding")
def test_left_padding_that_is_masked_needs_no_positions_of_its_own():
    """Six padded rows before 30 tokens, and positions 0 .. 35; wrong: the six in the middle."""
    layer, x = Attention(16, 4, Alibi(4), causal=True), torch.randn(1, 30, 16)
    padding = torch.randn(1, 6, 16)
    with torch.no_grad():
        want = layer(x)
        real = torch.arange(36) >= 6
        left = layer(torch.cat([padding, x], 1), mask=real & real[:, None])[:, 6:]
        parts = x.split([20, 10], dim=1)
        real = (torch.arange(36) < 20) | (torch.arange(36) >= 26)
        holed = torch.cat([parts[0], padding, parts[1]], 1)
        middle = layer(holed, mask=real & real[:, None])[:, real]
        at = (real.cumsum(0) - 1).clamp(min=0)
        counted = layer(holed, at, mask=real & real[:, None])[:, real]
    return at_most(
        1e-6,
        right=max(largest(left - want), largest(counted - want)),
        wrong=largest(middle - want),
    )


# --- claims: layers of the libraries -----------------------------------------------------------


def bloom_layer(d, H, n):
    """A layer of Bloom, its inputs and its output for n tokens; the weights as ours has them."""
    torch.manual_seed(0)
    layer = BloomAttention(BloomConfig(hidden_size=d, n_head=H), layer_idx=0).eval()
    torch.nn.init.normal_(layer.query_key_value.weight, std=2 * d**-0.5)
    for part in (layer.query_key_value, layer.dense):
        torch.nn.init.zeros_(part.bias)
    weight = layer.query_key_value.weight.unflatten(0, (H, 3, d // H))
    weights = [weight[:, part].flatten(0, 1) for part in range(3)]
    x = torch.randn(2, n, d)
    alibi = build_alibi_tensor(torch.ones(2, n), H, torch.float32)
    mask = torch.full((n, n), -torch.inf).triu(1)[None, None]
    out = layer(x, torch.zeros_like(x), alibi, mask)[0]
    return x, out, [*weights, layer.dense.weight]


def mpt_layer(d, H, n):
    torch.manual_seed(1)
    config = MptConfig(d_model=d, n_heads=H, max_seq_len=n)
    layer = MptAttention(config, layer_idx=0).eval()
    torch.nn.init.normal_(layer.Wqkv.weight, std=2 * d**-0.5)
    x = torch.randn(2, n, d)
    mask = torch.ones(n, n, dtype=torch.bool).triu(1)[None, None]
    out = layer(x, build_mpt_alibi_tensor(H, n), attention_mask=mask)[0]
    return x, out, [*layer.Wqkv.weight.chunk(3), layer.out_proj.weight]


def falcon_layer(d, H, n):
    torch.manual_seed(2)
    config = FalconConfig(
        hidden_size=d, num_attention_heads=H, alibi=True, multi_query=False,
        new_decoder_architecture=False, bias=False, attn_implementation="eager",
    )  # fmt: skip
    layer = FalconAttention(config, layer_idx=0).eval()
    torch.nn.init.normal_(layer.query_key_value.weight, std=2 * d**-0.5)
    weight = layer.query_key_value.weight.unflatten(0, (H, 3, d // H))
    weights = [weight[:, part].flatten(0, 1) for part in range(3)]
    x = torch.randn(2, n, d)
    alibi = build_falcon_tensor(torch.ones(2, n), H, torch.float32)
    mask = torch.full((n, n), -torch.inf).triu(1)[None, None]
    out = layer(x, alibi, mask)[0]
    return x, out, [*weights, layer.dense.weight]


def ours(weights, encoding, fused=False):
    d = weights[0].shape[1]
    layer = Attention(d, len(encoding.slopes), encoding, causal=True, fused=fused)
    names = ("query", "key", "value", "output")
    with torch.no_grad():
        for name, weight in zip(names, weights, strict=True):
            layer.get_submodule(name).weight.copy_(weight)
    return layer


@claim("alibi.peer")
@torch.no_grad()
def test_loaded_with_their_weights_the_layer_is_that_of_the_libraries():
    """Bloom and MPT, four and six heads, 150 tokens; wrong: the bias divided by sqrt(d) too."""
    right, wrong = 0.0, math.inf
    for make in (bloom_layer, mpt_layer):
        for H in (4, 6):
            x, want, weights = make(48, H, 150)
            for fused in (False, True):
                right = max(right, largest(ours(weights, Alibi(H), fused)(x) - want))
            flatter = Alibi(H, slopes=head_slopes(H) * (48 // H) ** -0.5)
            wrong = min(wrong, largest(ours(weights, flatter)(x) - want))
    return at_most(1e-5, right=right, wrong=wrong)


@claim("alibi.falcon")
@torch.no_grad()
def test_falcon_divides_the_bias_as_well():
    """Its layer against ours with slopes m / sqrt(d); wrong: the slopes of the paper."""
    x, want, weights = falcon_layer(64, 4, 150)
    flatter = Alibi(4, slopes=head_slopes(4) / 4)
    return at_most(
        1e-5,
        right=largest(ours(weights, flatter)(x) - want),
        wrong=largest(ours(weights, Alibi(4))(x) - want),
        times=64**0.5,
        horizon=int(horizon(head_slopes(8)[0] / 8)),
    )


@claim("alibi.layer")
@torch.no_grad()
def test_the_layer_equals_the_equation():
    """Attention in float32 against the equations in float64, 200 tokens, any positions."""
    layer = Attention(16, 2, Alibi(2, after=[0.5, 0.25]))
    x = torch.randn(1, 200, 16)
    at = torch.randperm(1000)[:200] - 300
    t = (at[None] - at[:, None]).numpy()
    parts = (layer.query, layer.key, layer.value)
    q, k, v = (part(x)[0].double().numpy() for part in parts)
    m, found = head_slopes(2), []
    for bias in (linear_bias(m, t, [0.5, 0.25]), linear_bias(m, -t, [0.5, 0.25])):
        heads = [
            attend(q[:, s], k[:, s], v[:, s], bias[h], 8**-0.5)
            for h, s in enumerate((slice(0, 8), slice(8, 16)))
        ]
        want = np.concatenate(heads, axis=1) @ layer.output.weight.double().numpy().T
        found.append(largest(layer(x, at)[0].numpy() - want))
    return at_most(1e-5, right=found[0], wrong=found[1])


@claim("alibi.memory")
def test_the_shorter_way_adds_twice_the_queries_at_most_at_any_length():
    """Peak of a forward and a backward pass, in sizes of q, more than without a bias.

    Two heads of width 32, causal; wrong: the whole matrix as a bias, at the smaller length.
    """
    more = {n: memory_of(n) for n in (512, 1024)}
    return at_most(
        2,
        right=max(each["ours"] for each in more.values()),
        wrong=more[512]["whole"],
        **{f"whole_{n}": each["whole"] for n, each in more.items()},
    )


def memory_of(n, H=2, d=32):
    """Peak memory of causal attention and its gradients beyond that without a bias."""
    q, k, v, g = (torch.randn(1, H, n, d) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    encoding, at = Alibi(H), torch.arange(n)
    fused = torch.nn.functional.scaled_dot_product_attention

    def whole():
        bias = encoding.bias(q, k, at, at).where(at <= at[:, None], -torch.inf)
        return fused(q, k, v, bias[None])

    calls = {
        "plain": lambda: fused(q, k, v, is_causal=True),
        "ours": lambda: encoding.attend(q, k, v, d**-0.5, True),
        "whole": whole,
    }

    def step(name):
        return torch.autograd.grad(calls[name](), inputs, g)

    for name in calls:
        step(name)  # what is made once does not count
    found = {name: peak(lambda name=name: step(name)) / q.nbytes for name in calls}
    return {name: size - found["plain"] for name, size in found.items()}
