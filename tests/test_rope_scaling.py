"""Scaled RoPE: printed facts, properties, the Transformers library and errors; the claims."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from transformers import DeepseekV3Config, LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.llama import modeling_llama as llama

from posenc.equations.rope import rotate
from posenc.equations.rope_scaling import (
    DynamicNtk,
    Llama3,
    LongRope,
    NtkAware,
    NtkByParts,
    PositionInterpolation,
    Proportional,
    RopeScaling,
    Yarn,
    dynamic_factor,
    ntk_base,
    overshoot,
    ramp_by_index,
    ramp_by_turns,
    yarn_factor,
)
from posenc.equations.sinusoidal import frequencies
from posenc.layers.attention import Attention
from posenc.layers.rope import Rope
from posenc.layers.rope_scaling import ScaledRope, from_hf
from scripts.figures.rope_scaling import PHI

bases = st.sampled_from([100.0, 10_000.0, 500_000.0, 1e6])
widths = st.sampled_from([4, 16, 64, 80, 128])
factors = st.floats(1, 64, width=32)
lengths = st.integers(512, 65_536)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def relative(got, want):
    """Largest relative difference, with 0 where both are 0."""
    got, want = np.asarray(got, float), np.asarray(want, float)
    return float((np.abs(got - want) / np.maximum(np.abs(want), 1e-30)).max())


def config(d=64, base=10_000.0, longest=131_072, **rope):
    return LlamaConfig(
        hidden_size=2 * d,
        num_attention_heads=2,
        head_dim=d,
        max_position_embeddings=longest,
        rope_parameters={"rope_theta": base, **rope},
    )


def library(given, length=None):
    """Frequencies and factor of the Transformers library."""
    kind = given.rope_parameters["rope_type"]
    theta, factor = ROPE_INIT_FUNCTIONS[kind](given, "cpu", seq_len=length)
    return theta.double().numpy(), float(factor)


def ours(given, length=None):
    layer = from_hf(given)
    theta = layer.scaling.frequencies(layer.d_rotary, layer.base, length)
    return theta, layer.scaling.attention_factor


def apart(given, length=None):
    """Largest relative difference of frequencies and factor between the library and ours."""
    (a, x), (b, y) = library(given, length), ours(given, length)
    return max(relative(b, a), abs(x - y))


# --- printed facts -----------------------------------------------------------------------------


def test_the_bases_of_the_audit():
    """The audit of the notes prints them for d = 128, b = 10000."""
    assert [round(ntk_base(10_000, s, 128)) for s in (2, 4, 8)] == [20_221, 40_890, 82_685]


def test_yarn_prints_its_factor_at_eight():
    assert yarn_factor(8) == pytest.approx(1.208, abs=5e-4)


def test_deepseek_prints_its_slope():
    """0.0707 ln s + 1, with mscale 0.707."""
    assert yarn_factor(40, 0.707) == pytest.approx(0.0707 * math.log(40) + 1, abs=1e-12)


def test_the_dynamic_factor_is_one_at_the_original_length_and_rises_with_the_slope_of_its_factor():
    assert dynamic_factor(3, 100, 100) == 1
    assert dynamic_factor(3, 100, 200) - dynamic_factor(3, 100, 100) == 3
    assert dynamic_factor(3, 100, 1) == 1


def test_a_ramp_without_width_is_a_step():
    """Both ends are held at d - 1: the program adds 0.001."""
    assert ramp_by_index(2, 16, 2 * np.pi * 40, 1, 2).tolist() == [1]


def test_the_ends_of_the_ramp_are_held_within_the_pairs():
    assert ramp_by_index(8, 10_000, 100, 1, 1000, truncate=False)[0] == 1
    assert ramp_by_index(4, 2, 2 * np.pi * 1000, 1, 2, truncate=False).tolist() == [0, 0]


def test_proportional_keeps_the_first_pairs():
    got = Proportional(0.3, 2).frequencies(20)
    np.testing.assert_array_equal(got[:3], frequencies(20)[:3] / 2)
    assert not got[3:].any()
    assert not Proportional(0).frequencies(8).any()


def test_the_lists_of_phi_are_those_of_its_configuration():
    assert (len(PHI.short), len(PHI.long)) == (48, 48)
    assert list(PHI.long) == sorted(PHI.long)
    assert list(PHI.short) == sorted(PHI.short)


# --- properties --------------------------------------------------------------------------------


@given(bases, widths, factors)
def test_the_first_frequency_stays_and_the_last_is_divided(base, d, s):
    theta, scaled = frequencies(d, base), NtkAware(s).frequencies(d, base)
    assert scaled[0] == 1
    assert scaled[-1] * s == pytest.approx(theta[-1], rel=1e-12)
    assert (scaled <= theta * (1 + 1e-14)).all()


@given(bases, widths, factors, lengths)
def test_blends_lie_between_both_ends(base, d, s, length):
    theta = frequencies(d, base)
    for ramp in ("turns", "index", "truncated"):
        scaled = Yarn(s, length, ramp=ramp).frequencies(d, base)
        assert (scaled <= theta * (1 + 1e-14)).all()
        assert (scaled >= theta / s * (1 - 1e-14)).all()


@given(bases, widths, lengths)
def test_factor_one_changes_nothing(base, d, length):
    theta = frequencies(d, base)
    ones = (1.0,) * (d // 2)
    for scaling in (
        PositionInterpolation(1),
        NtkAware(1),
        DynamicNtk(7, length),
        NtkByParts(1, length),
        Yarn(1, length),
        Llama3(1, length),
        LongRope(ones, ones, length, 1),
        Proportional(1),
    ):
        np.testing.assert_allclose(scaling.frequencies(d, base), theta, rtol=1e-14)
        assert scaling.attention_factor == 1


# --- the Transformers library ------------------------------------------------------------------


@given(bases, widths, factors)
def test_linear(base, d, s):
    assert apart(config(d, base, rope_type="linear", factor=s)) < 2e-6


@given(bases, widths, factors, lengths, st.floats(0.1, 8))
def test_dynamic(base, d, f, longest, ratio):
    given = config(d, base, longest, rope_type="dynamic", factor=f)
    assert apart(given, max(1, int(ratio * longest))) < 1e-4  # the power is in float32


@given(bases, widths, factors, lengths, st.booleans(), st.floats(0.5, 4), st.floats(1.5, 16))
def test_yarn(base, d, s, length, truncate, slow, ratio):
    given = config(
        d,
        base,
        rope_type="yarn",
        factor=s,
        original_max_position_embeddings=length,
        truncate=truncate,
        beta_slow=slow,
        beta_fast=slow * ratio,
    )
    assert apart(given) < 1e-5


@given(widths, factors, lengths, st.integers(0, 2**32 - 1), st.floats(0.5, 2))
def test_longrope(d, s, length, seed, ratio):
    short, long = np.random.default_rng(seed).uniform(1, 64, (2, d // 2)).tolist()
    given = config(
        d,
        rope_type="longrope",
        factor=s,
        short_factor=short,
        long_factor=long,
        original_max_position_embeddings=length,
    )
    assert apart(given, int(ratio * length)) < 2e-6


@given(bases, widths, factors, lengths, st.floats(0.5, 4), st.floats(1.5, 16))
def test_llama3(base, d, s, length, slow, ratio):
    given = config(
        d,
        base,
        rope_type="llama3",
        factor=s,
        low_freq_factor=slow,
        high_freq_factor=slow * ratio,
        original_max_position_embeddings=length,
    )
    assert apart(given) < 1e-5


@given(bases, widths, factors, st.floats(0, 1))
def test_proportional(base, d, s, share):
    given = config(d, base, rope_type="proportional", factor=s, partial_rotary_factor=share)
    assert apart(given) < 2e-6


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: PositionInterpolation(0), "factor must be between 1 and inf, got 0"),
        (lambda: NtkByParts(2, 1), "original_length must be between 2 and inf, got 1"),
        (lambda: NtkByParts(2, 64, -1), "slow must be between 0 and inf, got -1"),
        (lambda: Yarn(2, 64, attention=-1.0), "attention must be between 0 and inf, got -1.0"),
        (lambda: Proportional(1.5), "share must be between 0 and 1, got 1.5"),
        (lambda: ntk_base(1, 2, 4), "base must be above 1, got 1"),
        (lambda: ntk_base(10, 2, 5), "d_rotary must be a multiple of 2, got 5"),
        (lambda: dynamic_factor(1, 0, 4), "original_length must be above 0, got 0"),
        (lambda: ramp_by_turns(np.ones(2), 0), "length must be above 0, got 0"),
        (lambda: ramp_by_index(8, 10, 6), "length must be above 6.28.*, got 6"),
        (lambda: RopeScaling().frequencies(3), "d_rotary must be a multiple of 2, got 3"),
        (lambda: dynamic_factor(1, 4, math.nan), "length must be finite, got nan"),
        (lambda: overshoot(np.zeros(2), np.ones(2), 1, 1), "smallest number of theta must be abo"),
        (lambda: overshoot(np.ones(2), np.ones(2), 1, 0), "new_length must be above 0, got 0"),
        (lambda: overshoot(np.ones(2), np.ones(3), 1, 1), r"scaled must have shape \(2,\)"),
        (
            lambda: LongRope((1.0, 0.0), (1.0, 1.0), 64, 4).frequencies(4),
            "smallest number of short must be above 0, got 0.0",
        ),
    ],
)
def test_what_is_not_allowed_is_named(make, error):
    with pytest.raises(ValueError, match=error):
        make()


def test_a_factor_must_be_a_number():
    with pytest.raises(TypeError, match="factor must hold real numbers"):
        NtkAware("4")  # ty: ignore


# --- claims: frequencies -----------------------------------------------------------------------


@claim("rope_scaling.interpolation")
def test_dividing_frequencies_is_dividing_positions():
    """RoPE at real positions i / s, from the equation that takes any real position."""
    x, at, s = np.random.default_rng(0).normal(size=(50, 64)), np.arange(50) * 37, 8
    layer = ScaledRope(64, PositionInterpolation(s))
    got = layer(torch.tensor(x)[None, None], torch.tensor(at))[0, 0].numpy()
    step = frequencies(64)[0] / s
    return at_most(
        1e-12,
        right=largest(got - rotate(x, at / s)),
        wrong=largest(got - rotate(x, at)),
        step=step,
        closest=float(np.cos(step)),
        before=float(np.cos(1)),
    )


@claim("rope_scaling.ntk")
def test_two_conditions_leave_one_base():
    """Solved numerically at 40 digits: b'^(-(d-2)/d) = b^(-(d-2)/d) / s; b'^0 = 1 always holds."""
    worst = wrong = 0.0
    with mpmath.workdps(40):
        for d, b, s in [(128, 10_000, 4), (128, 10_000, 2), (64, 500_000, 8), (4, 100, 3.5)]:
            last = mpmath.mpf(2 - d) / d
            want = mpmath.power(b, last) / s
            root = mpmath.exp(
                mpmath.findroot(lambda x, k=last, t=want: k * x - mpmath.log(t), mpmath.log(b))
            )
            worst = max(worst, float(abs(ntk_base(b, s, d) / root - 1)))
            wrong = max(wrong, float(abs(b * s / root - 1)))
    bases = {f"s{s}": ntk_base(10_000, s, 128) for s in (2, 4, 8)}
    theta = frequencies(128)
    plain = frequencies(128, 40_000)[-1] / theta[-1]
    return at_most(1e-13, right=worst, wrong=wrong, plain=plain, **bases)


@claim("rope_scaling.ratio")
def test_every_pair_is_divided_by_a_power_of_the_factor():
    """Exactly, in fractions: d = 8, b = 16, s = 8 gives b' = 256."""
    before = [Fraction(1, 2**m) for m in range(4)]
    after = [Fraction(1, 4**m) for m in range(4)]
    exact = [float(a / b) for a, b in zip(before, after, strict=True)]  # 8^(m / 3) = 2^m
    got = frequencies(8, 16) / NtkAware(8).frequencies(8, 16)
    return at_most(
        1e-13,
        right=max(largest(got / exact - 1), abs(ntk_base(16, 8, 8) / 256 - 1)),
        wrong=largest(got / 8 - 1),
    )


def arcs(theta, scaled, length, new_length, bins=20_000):
    """Overshoot by brute force: bins of the circle that the offsets of either length fall into."""
    ratios = []
    for before, after in zip(theta, scaled, strict=True):
        seen, needed = (
            np.floor((np.arange(0, n, 1 / 16) * f) % (2 * np.pi) * bins / (2 * np.pi)).max() + 1
            for n, f in ((length, before), (new_length, after))
        )
        ratios.append(needed / seen)
    return np.array(ratios)


@claim("rope_scaling.overshoot")
def test_with_the_wanted_ratio_as_factor_the_middle_pairs_overshoot():
    d, L, s = 128, 2048, 4
    theta = frequencies(d)
    scaled = NtkAware(s).frequencies(d)
    ratios, counted = overshoot(theta, scaled, L, s * L), arcs(theta, scaled, L, s * L)
    whole = L * theta >= 2 * np.pi
    return at_most(
        0.01,
        right=largest(ratios - counted),
        wrong=largest(np.ones_like(counted) - counted),
        whole=whole.sum(),
        rest=(~whole).sum(),
        over=(ratios > 1 + 1e-9).sum(),
        largest=ratios.max(),
        pair=ratios.argmax(),
        angle=(s * scaled / theta)[~whole].max(),
        untouched=overshoot(theta, theta, L, s * L).max(),
    )


@claim("rope_scaling.reach")
def test_how_far_a_factor_reaches_is_a_power_below_one():
    """Bisection for the longest ratio without a new angle, against the closed form."""
    d, L = 128, 2048
    theta = frequencies(d)
    first = int((L * theta >= 2 * np.pi).sum())

    def reach(s):
        scaled = NtkAware(s).frequencies(d)
        low, high = 1.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            fits = overshoot(theta, scaled, L, middle * L).max() <= 1 + 1e-12
            low, high = (middle, high) if fits else (low, middle)
        return low

    powers = {s: s ** (first / (d / 2 - 1)) for s in (2, 4, 8, 16)}
    needed = 4 ** ((d / 2 - 1) / first)
    return at_most(
        1e-9,
        right=max(abs(reach(s) / p - 1) for s, p in powers.items()),
        wrong=max(abs(reach(s) / s - 1) for s in powers),
        first=first,
        four=powers[4],
        eight=powers[8],
        needed=needed,
        again=reach(needed),
    )


@claim("rope_scaling.parts")
def test_by_parts_no_pair_overshoots():
    cases = [(d, b, L, s) for d in (64, 128) for b in (1e4, 5e5, 1e6) for L in (512, 8192, 40_000)
             for s in (2, 8, 40)]  # fmt: skip

    def worst(slow, ramps):
        found = 0.0
        for d, b, L, s in cases:
            theta = frequencies(d, b)
            for ramp in ramps:
                scaled = Yarn(s, L, slow, 32, ramp).frequencies(d, b)
                found = max(found, overshoot(theta, scaled, L, s * L).max() - 1)
        return float(found)

    every = ("turns", "index", "truncated")
    return at_most(
        1e-12,
        right=max(worst(1, every), worst(1.5, every), 0.0),
        wrong=worst(0.25, ("turns",)),
        cases=len(cases) * 6,
    )


@claim("rope_scaling.llama")
def test_llama_is_by_parts_with_other_ends():
    """The library's program for Llama 3.1 against NTK-by-parts from 1 to 4 turns."""
    given = config(
        128,
        500_000.0,
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    theta, _ = library(given)
    plain = frequencies(128, 500_000)
    kept, cut = np.isclose(theta, plain, rtol=1e-6), np.isclose(theta, plain / 8, rtol=1e-6)
    parts = NtkByParts(8, 8192, 1, 4).frequencies(128, 500_000)
    return at_most(
        2e-6,
        right=relative(parts, theta),
        wrong=relative(NtkByParts(8, 8192, 1, 32).frequencies(128, 500_000), theta),
        kept=kept.sum(),
        cut=cut.sum(),
        between=64 - kept.sum() - cut.sum(),
    )


SIX = {
    "linear": {"factor": 8.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32_768},
    "longrope": {
        "factor": 32.0,
        "short_factor": [*PHI.short],
        "long_factor": [*PHI.long],
        "original_max_position_embeddings": 4096,
    },
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "proportional": {"factor": 1.0, "partial_rotary_factor": 0.25},
}


def six(longest=131_072):
    for kind, rope in SIX.items():
        yield kind, config(96, 10_000.0, longest, rope_type=kind, **rope)


@claim("rope_scaling.library")
def test_six_types_are_those_of_the_library():
    """Frequencies and factors, at a length below and above every original length."""
    worst = max(apart(given, n) for _, given in six() for n in (100, 262_144))
    given = dict(six())
    theta, _ = library(given["yarn"])
    paper = Yarn(4.0, 32_768).frequencies(96)
    return at_most(
        1e-5,
        right=worst,
        wrong=relative(paper, theta),
        yarn=library(given["yarn"])[1],
        longrope=library(given["longrope"])[1],
    )


@claim("rope_scaling.ramps")
def test_the_ramp_of_programs_is_linear_in_the_logarithm_of_the_turns():
    """From the library's frequencies, without rounding of the ends: the share that is kept."""
    d, b, L, s = 128, 1e6, 32_768, 4.0
    rope = {"factor": s, "original_max_position_embeddings": L, "truncate": False}
    theta, _ = library(config(d, b, rope_type="yarn", **rope))
    plain = frequencies(d, b)
    kept = (theta / plain - 1 / s) / (1 - 1 / s)
    r = L * plain / (2 * np.pi)
    logs = np.clip(np.log(r) / np.log(32), 0, 1)
    turns = np.clip((r - 1) / 31, 0, 1)
    where = 31 / math.log(32)  # where the two differ most
    gap = math.log(where) / math.log(32) - (where - 1) / 31
    ratio = (logs + (1 - logs) / s) / (turns + (1 - turns) / s)
    return at_most(
        1e-5,
        right=largest(kept - logs),
        wrong=largest(kept - turns),
        where=where,
        gap=gap,
        ratio=ratio.max(),
        pairs=((r > 1) & (r < 32)).sum(),
    )


@claim("rope_scaling.dynamic_base")
def test_the_dynamic_base_is_that_of_the_library():
    """Its base, read back from the second frequency; the wrong variant is the ratio alone."""
    d, b, L, f = 64, 10_000.0, 2048, 2.0
    given = config(d, b, L, rope_type="dynamic", factor=f)
    worst = wrong = 0.0
    for n in (L, 3000, 4096, 16_384):
        theta, _ = library(given, n)
        base = theta[1] ** (-d / 2)
        worst = max(worst, abs(ntk_base(b, dynamic_factor(f, L, n), d) / base - 1))
        wrong = max(wrong, abs(ntk_base(b, f * n / L, d) / base - 1))
    return at_most(1e-4, right=worst, wrong=wrong, double=dynamic_factor(f, L, 2 * L))


@claim("rope_scaling.still")
def test_still_pairs_make_a_score_without_positions():
    """With all but the kept pairs zero or not: the rest of the score is one number everywhere."""
    d, share = 64, 0.25
    layer = ScaledRope(d, Proportional(share))
    q, k = torch.randn(2, 1, 1, 1, d, dtype=torch.float64)
    q[..., : int(d * share)] = 0
    at = torch.tensor([0, 1, 500, 100_000])
    keys = layer(k.expand(1, 1, 4, d), at)
    scores = (layer(q, torch.tensor([7])) @ keys.mT).flatten()
    theta = frequencies(d)
    plain = Rope(d)
    other = (plain(q, torch.tensor([7])) @ plain(k.expand(1, 1, 4, d), at).mT).flatten()
    return at_most(
        1e-12,
        right=float((scores - scores[0]).abs().max()),
        wrong=float((other - other[0]).abs().max()),
        turning=int(share * d / 2),
        slowest=2 * np.pi / theta[int(share * d / 2) - 1],
    )


# --- claims: the factor ------------------------------------------------------------------------


@claim("rope_scaling.temperature")
def test_the_factor_on_the_tables_is_a_temperature_of_the_softmax():
    """Weights by softmax(q k / (t sqrt d)) with turned but not stretched queries and keys."""
    d, n, s = 64, 50, 8
    scaling = Yarn(s, 1024)
    q, k = torch.randn(2, 1, 1, n, d, dtype=torch.float64)
    at = torch.arange(n)
    turned = ScaledRope(d, Yarn(s, 1024, attention=1.0)).rotate(q, k, at, at)
    scores = turned[0] @ turned[1].mT / math.sqrt(d)
    a, b = ScaledRope(d, scaling).rotate(q, k, at, at)
    got = torch.softmax(a @ b.mT / math.sqrt(d), -1)
    t = 1 / (0.1 * math.log(s) + 1) ** 2
    once = torch.softmax(scores * math.sqrt(1 / t), -1)
    return at_most(
        1e-12,
        right=float((got - torch.softmax(scores / t, -1)).abs().max()),
        wrong=float((got - once).abs().max()),
        factor=scaling.attention_factor,
        square=1 / t,
    )


@claim("rope_scaling.partial_factor")
def test_with_a_partial_rotation_the_rest_of_the_logit_is_not_scaled():
    d, r, s = 64, 16, 8
    q, k = torch.randn(2, 1, 1, 1, d, dtype=torch.float64)
    layer, at = ScaledRope(d, Yarn(s, 1024), d_rotary=r), torch.tensor([5])
    got = (layer(q, at) @ layer(k, at).mT).item()
    parts = [float((q[..., c] @ k[..., c].mT).item()) for c in (slice(r), slice(r, d))]
    a = yarn_factor(s)
    return at_most(
        1e-12,
        right=abs(got - (a * a * parts[0] + parts[1])),
        wrong=abs(got - a * a * sum(parts)),
    )


@claim("rope_scaling.deepseek")
def test_deepseek_has_the_temperature_in_the_scale():
    """The library's layer with both mscale: tables with factor 1, scale times the square."""
    rope = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 40.0, "mscale": 1.0}
    rope |= {"mscale_all_dim": 1.0, "original_max_position_embeddings": 4096}
    given = DeepseekV3Config(
        hidden_size=64,
        num_attention_heads=2,
        num_key_value_heads=2,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=16,
        qk_nope_head_dim=32,
        v_head_dim=16,
        max_position_embeddings=163_840,
        rope_parameters=rope,
    )
    layer = deepseek.DeepseekV3Attention(given, 0)
    tables = deepseek.DeepseekV3RotaryEmbedding(given)
    a = yarn_factor(40)
    measured = layer.scaling * math.sqrt(48)
    return at_most(
        1e-12,
        right=max(abs(measured - a * a), abs(tables.attention_scaling - 1)),
        wrong=abs(measured - a),
        square=measured,
        turning=16,
        all=48,
    )


# --- claims: a layer, a cache ------------------------------------------------------------------


def llama_layer(given):
    """The library's attention, its tables, and what it computes for 120 tokens."""
    theirs = llama.LlamaAttention(given, 0).eval()
    n, width = 120, given.hidden_size
    x, at = torch.randn(2, n, width), torch.arange(n)
    tables = llama.LlamaRotaryEmbedding(given)(x, at.expand(2, n))
    future = torch.full((n, n), -torch.inf).triu(1).expand(2, 1, n, n)
    with torch.no_grad():
        return theirs, x, theirs(x, tables, future)[0]


@claim("rope_scaling.peer")
def test_attention_with_the_weights_of_the_library_gives_its_output():
    """All six types, read from the configuration, at more than the original length."""
    worst, wrong = 0.0, math.inf
    lists = {"short_factor": [1.0] * 8, "long_factor": [1.0 + m for m in range(8)]}
    short = {"original_max_position_embeddings": 32}
    for kind, rope in SIX.items():
        rope = rope | (short if "original_max_position_embeddings" in rope else {})
        rope = rope | (lists if kind == "longrope" else {})
        rope = rope | {"partial_rotary_factor": 0.5} if kind == "proportional" else rope
        given = LlamaConfig(
            hidden_size=64,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=32 if kind == "dynamic" else 128,
            attn_implementation="eager",
            rope_parameters={"rope_type": kind, "rope_theta": 10_000.0, **rope},
        )
        theirs, x, want = llama_layer(given)
        for encoding in (from_hf(given), Rope(16, layout="halves")):
            layer = Attention(64, 4, encoding, causal=True)
            for name in ("query", "key", "value", "output"):
                peer = getattr(theirs, f"{name[0]}_proj")
                getattr(layer, name).load_state_dict(peer.state_dict())
            with torch.no_grad():
                off = float((layer(x) - want).abs().max())
            if isinstance(encoding, ScaledRope):
                worst = max(worst, off)
            else:
                wrong = min(wrong, off)
    return at_most(1e-5, right=worst, wrong=wrong, tokens=120)


def decode(encoding, keys_turned, n=96):
    """Outputs of a causal layer token by token, with a cache of keys before or after turning."""
    layer = Attention(64, 4, Rope(16), causal=True)
    x, at = torch.randn(1, n, 64), torch.arange(n)
    parts = (layer.query, layer.key, layer.value)
    with torch.no_grad():
        q, k, v = (part(x).view(1, n, 4, 16).transpose(1, 2) for part in parts)
        k_cache, rows = torch.empty(1, 4, 0, 16), []
        for i in range(n):
            now, new = slice(i, i + 1), k[:, :, i : i + 1]
            k_cache = torch.cat((k_cache, encoding(new, at[now]) if keys_turned else new), 2)
            if keys_turned:
                turned, keys = encoding(q[:, :, now], at[now]), k_cache
            else:
                turned, keys = encoding.rotate(q[:, :, now], k_cache, at[now], at[: i + 1])
            rows.append(torch.softmax(turned @ keys.mT / 4, -1) @ v[:, :, : i + 1])
        decoded = layer.output(torch.cat(rows, 2).transpose(1, 2).flatten(2))
        layer.encoding = encoding
        return decoded, layer(x), layer, x


@claim("rope_scaling.decode")
def test_a_cache_of_keys_before_turning_gives_what_a_reader_of_the_whole_text_computes():
    """Every step against the same layer on all tokens so far; the wrong cache holds turned keys."""
    errors = {}
    for turned in (False, True):
        torch.manual_seed(1)
        decoded, _, layer, x = decode(ScaledRope(16, DynamicNtk(1, 32)), turned)
        with torch.no_grad():
            steps = [(decoded[:, i] - layer(x[:, : i + 1])[:, -1]).abs().max() for i in range(96)]
        errors[turned] = torch.stack(steps)
    return at_most(
        1e-5,
        right=float(errors[False].max()),
        wrong=float(errors[True].max()),
        before=float(errors[True][:32].max()),
        first=float(errors[True].gt(1e-4).nonzero()[0, 0]),
    )


@claim("rope_scaling.fixed_length")
def test_a_fixed_length_lets_turned_keys_stay():
    worst = wrong = 0.0
    for scaling in (DynamicNtk(1, 32), LongRope((1.0,) * 8, (4.0,) * 8, 32, 4)):
        for length in (96, None):
            decoded, whole, _, _ = decode(ScaledRope(16, scaling, length=length), True)
            off = float((decoded - whole).abs().max())
            worst, wrong = (max(worst, off), wrong) if length else (worst, max(wrong, off))
    return at_most(1e-5, right=worst, wrong=wrong)


@claim("rope_scaling.history")
def test_what_was_read_before_does_not_count():
    """A text of 100 tokens after one of 400: ours, and the library's, whose base stays grown."""
    given = config(16, 10_000.0, 64, rope_type="dynamic", factor=2.0)
    short, long = torch.arange(100)[None], torch.arange(400)[None]
    layer, peer = from_hf(given), llama.LlamaRotaryEmbedding(given)
    first = layer.tables(short)[0]
    fresh = peer(torch.zeros(1), short)[0]
    layer.tables(long)
    peer(torch.zeros(1), long)
    again = peer(torch.zeros(1), short)[0]
    exact = torch.arange(64)[None]
    at_edge = peer(torch.zeros(1), exact)[0]
    new = llama.LlamaRotaryEmbedding(given)(torch.zeros(1), exact)[0]
    return at_most(
        1e-12,
        right=float((layer.tables(short)[0] - first).abs().max()),
        wrong=float((again - fresh).abs().max()),
        edge=float((at_edge - new).abs().max()),
    )


@claim("rope_scaling.switch")
def test_the_lists_change_after_the_original_length():
    """At exactly L tokens and at one more, against the library's layer; or one token early."""
    rope = {"factor": 4.0, "original_max_position_embeddings": 64}
    rope |= {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    given = config(16, 10_000.0, 256, rope_type="longrope", **rope)
    peer, layer = llama.LlamaRotaryEmbedding(given), from_hf(given)
    early = ScaledRope(16, LongRope((1.0,) * 8, (4.0,) * 8, 63, 4), layout="halves")
    early.attention_factor = layer.attention_factor
    worst = wrong = 0.0
    for n in (63, 64, 65):
        at = torch.arange(n)[None]
        want = peer(torch.zeros(1), at)[0][..., :8]
        worst = max(worst, float((layer.tables(at)[0][:, 0] - want).abs().max()))
        wrong = max(wrong, float((early.tables(at)[0][:, 0] - want).abs().max()))
    return at_most(
        2e-5, right=worst, wrong=wrong, short=max(PHI.short), long=max(PHI.long), fast=PHI.long[9]
    )
