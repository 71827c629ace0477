"""The experiment: facts, oracles and errors of its exact numbers; the claims, also on its data."""

import itertools
import math
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.extrapolation import (
    bos_weight,
    chain,
    counted_entropy,
    divergence,
    order_entropies,
    pair_law,
)
from posenc.layers.attention import Attention
from scripts.sitegen import results

LAW = np.random.default_rng(3).dirichlet(np.ones(4), size=(4, 4))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def data():
    return results.load()


def markov_law():
    """The law of the experiment, which says in its data what it was."""
    weights = np.exp(1.5 * np.random.default_rng(0).standard_normal((8, 8, 8)))
    return weights / weights.sum(-1, keepdims=True)


# --- the laws ------------------------------------------------------------------------------------


def walked(law, steps=2000):
    """Law of the pairs after many steps, one pair and one step at a time."""
    S = len(law)
    pairs = {(a, b): 1 / S**2 for a in range(S) for b in range(S)}
    for _ in range(steps):
        after = Counter()
        for (a, b), p in pairs.items():
            for c in range(S):
                after[b, c] += p * law[a, b, c]
        pairs = after
    return np.array([[pairs[a, b] for b in range(S)] for a in range(S)])


def test_the_law_of_pairs_is_where_many_steps_lead():
    np.testing.assert_allclose(pair_law(LAW), walked(LAW, 200), rtol=0, atol=1e-12)


@given(SEEDS)
def test_pairs_begin_as_often_as_they_end(seed):
    pairs = pair_law(np.random.default_rng(seed).dirichlet(np.ones(3), size=(3, 3)) + 0.0)
    np.testing.assert_allclose(pairs.sum(0), pairs.sum(1), rtol=0, atol=1e-9)
    assert pairs.sum() == pytest.approx(1)


@given(SEEDS)
def test_to_know_more_is_never_worse(seed):
    law = np.random.default_rng(seed).dirichlet(np.ones(3), size=(3, 3)) * 0.97 + 0.01
    entropies = order_entropies(law)
    assert np.all(np.diff(entropies) <= 1e-12)
    assert entropies[2] >= 0
    assert entropies[0] <= math.log(3) + 1e-12


def spelled_out(law):
    """H_0, H_1, H_2 from a table of triples, with dictionaries."""
    S, pairs = len(law), walked(law, 300)
    triples = {
        (a, b, c): pairs[a, b] * law[a, b, c] for a, b, c in itertools.product(range(S), repeat=3)
    }
    found = []
    for k in range(3):
        joint, known = Counter(), Counter()
        for (a, b, c), p in triples.items():
            joint[(a, b, c)[2 - k :]] += p
            known[(a, b, c)[2 - k : 2]] += p
        found.append(-sum(p * math.log(p / known[seen[:-1]]) for seen, p in joint.items()))
    return found


def test_entropies_are_those_of_the_triples():
    np.testing.assert_allclose(order_entropies(LAW), spelled_out(LAW), rtol=0, atol=1e-12)


def test_the_chain_follows_its_law():
    """Counts of 400 000 triples, at the beginning of sequences and further on."""
    x = chain(LAW, np.random.default_rng(0).random((20_000, 22)))
    expected = pair_law(LAW)[..., None] * LAW
    for part in (x[:, :3], x):
        triples = np.stack([part[:, k : part.shape[1] - 2 + k].ravel() for k in range(3)])
        counts = np.zeros((4, 4, 4))
        np.add.at(counts, tuple(triples), 1 / triples.shape[1])
        np.testing.assert_allclose(counts, expected, rtol=0, atol=0.01)


def test_the_chain_steps_by_the_inverse_of_the_distribution():
    """One symbol at a time, counting up the probabilities."""
    u = np.random.default_rng(1).random(50)
    x = chain(LAW, u).tolist()
    for t in range(2, 50):
        c, total = 0, LAW[x[t - 2], x[t - 1], 0]
        while u[t] >= total:
            c, total = c + 1, total + LAW[x[t - 2], x[t - 1], c + 1]
        assert x[t] == c


def test_divergence_is_the_extra_loss():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), size=2)
    drawn = rng.choice(5, size=200_000, p=p)
    extra = np.log(p[drawn]).mean() - np.log(q[drawn]).mean()
    assert divergence(p, np.log(q)) == pytest.approx(extra, abs=0.02)


@given(SEEDS)
def test_divergence_is_never_negative(seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(4), size=2) * 0.99 + 0.0025
    assert divergence(p, np.log(q)) >= 0
    assert divergence(p, np.log(p)) == 0


# --- the key -------------------------------------------------------------------------------------


def enumerated(n, S):
    """Entropy of the key given the counts, over all keys and all noise, in fractions."""
    joint = Counter()
    for key in range(S):
        for noise in itertools.product(range(S), repeat=n - 1):
            counts = tuple(sorted(Counter((key, *noise)).items()))
            joint[counts, key] += Fraction(1, S**n)
    counts = Counter()
    for (seen, _), p in joint.items():
        counts[seen] += p
    return -sum(float(p) * math.log(p / counts[seen]) for (seen, _), p in joint.items())


@pytest.mark.parametrize(("n", "S"), [(1, 3), (2, 3), (5, 3), (7, 2), (4, 4), (3, 1)])
def test_who_counts_knows_what_all_sequences_say(n, S):
    assert counted_entropy(n, S) == pytest.approx(enumerated(n, S), abs=1e-12)


def test_counting_helps_less_and_less():
    entropies = [counted_entropy(n, 8) for n in (1, 2, 8, 64, 512, 4096)]
    assert np.all(np.diff(entropies) > 0)
    assert entropies[-1] == pytest.approx(math.log(8), abs=1e-3)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: pair_law(np.ones((2, 2))), "law must have at least 3"),
        (lambda: pair_law(np.full((2, 2, 3), 1 / 3)), "law must have shape (2, 2, 2)"),
        (lambda: order_entropies(np.full((2, 2, 2), 0.4)), "law must be above 0 and sum to 1"),
        (
            lambda: chain(np.broadcast_to([0.0, 1.0], (2, 2, 2)), np.zeros(3)),
            "law must be above 0 and sum to 1 along its last axis, got 0.0 and sums up to 1.0",
        ),
        (lambda: chain(LAW, np.array([0.5])), "number of symbols of u must be at least 2, got 1"),
        (lambda: chain(LAW, np.array([0.5, -0.5])), "u must be in [0, 1), got -0.5"),
        (lambda: divergence(np.ones(2), np.ones(3)), "log_q must have shape (2,), got (3,)"),
        (lambda: divergence(np.array([1.0, 0.0]), np.ones(2)), "p must be above 0, got 0.0"),
        (lambda: counted_entropy(0, 8), "n must be at least 1, got 0"),
        (lambda: counted_entropy(8, 0), "n_symbols must be at least 1, got 0"),
        (lambda: bos_weight(np.array([0, -2]), 0, 0), "t must be at least 0, got -2.0"),
        (lambda: bos_weight(0, np.inf, 0), "bos must be finite"),
    ],
)
def test_errors_name_the_argument_and_the_value(call, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        call()


# --- claims: what is exact -----------------------------------------------------------------------


@claim("extrapolation.orders")
def test_who_knows_less_loses_the_difference_of_entropies():
    """Against a sum over all triples; and no other guess from as little does better."""
    law = markov_law()
    entropies, pairs = order_entropies(law), walked(law, 600)
    worst, better = 0.0, -math.inf
    rng = np.random.default_rng(0)
    for k in range(2):
        joint = pairs[..., None] * law
        guess = joint.sum(tuple(range(2 - k)))
        guess = guess / guess.sum(-1, keepdims=True)
        other = guess * np.exp(0.1 * rng.standard_normal(guess.shape))
        other = other / other.sum(-1, keepdims=True)

        def lost(q):
            return sum(
                pairs[a, b] * divergence(law[a, b], np.log(np.broadcast_to(q, law.shape)[a, b]))
                for a in range(8)
                for b in range(8)
            )

        worst = max(worst, abs(lost(guess) - (entropies[k] - entropies[2])))
        better = max(better, lost(guess) - lost(other))
    assert better < 0
    uniform = math.log(8) - entropies[2]
    return at_most(
        1e-9,
        right=worst,
        wrong=abs(uniform - (entropies[0] - entropies[2])),
        rate=entropies[2],
        one=entropies[1] - entropies[2],
        none=entropies[0] - entropies[2],
        uniform=uniform,
    )


@claim("extrapolation.counted")
def test_who_only_counts_learns_little_about_the_key():
    cases = [(2, 3), (5, 3), (7, 2), (4, 4)]
    found = max(abs(counted_entropy(n, S) - enumerated(n, S)) for n, S in cases)
    blind = min(abs(math.log(S) - enumerated(n, S)) for n, S in cases)
    return at_most(
        1e-12,
        right=found,
        wrong=blind,
        at_64=counted_entropy(64, 8),
        at_1024=counted_entropy(1024, 8),
        log=math.log(8),
    )


@claim("extrapolation.bos")
def test_a_causal_head_without_positions_tells_them_by_the_first_token():
    """Our layer with a first token of its own; without the mask every query sees the same."""
    x = torch.zeros(1, 12, 2, dtype=torch.float64)
    x[0, 0, 0] = 1
    x[0, 1:, 1] = 1
    seen = {}
    for causal in (True, False):
        layer = Attention(2, n_heads=1, causal=causal).double()
        with torch.no_grad():
            layer.query.weight.copy_(torch.tensor([[1, 1], [0, 0]]))
            layer.key.weight.copy_(torch.tensor([[0, math.sqrt(2)], [0, 0]], dtype=torch.double))
            layer.value.weight.copy_(torch.eye(2))
            layer.output.weight.copy_(torch.eye(2))
            seen[causal] = layer(x)[0, :, 0].numpy()
    exact = bos_weight(np.arange(12), 0.0, 1.0)
    return at_most(
        1e-12,
        right=np.abs(seen[True] - exact).max(),
        wrong=np.abs(seen[False] - exact).max(),
        at_1=exact[1],
        at_2=exact[2],
        at_3=exact[3],
        spread=np.ptp(seen[False]),
    )


# --- claims: what the committed results say (test_extrapolation_runs makes a row of them anew) ----

INSIDE, NEAR, FAR = results.TRAINED, results.RANGES[1], results.FAR
RELATIVE = ("alibi", "xlnet", "shaw", "shaw_keys", "deberta")
ABSOLUTE = ("sinusoidal", "learned", "complex_order", "floater")


def seeds(data, name, where, way="plain", task="markov"):
    return results.values(data, task, name, way, *where)


def average(data, name, where, way="plain", task="markov"):
    return np.mean(seeds(data, name, where, way, task))


@claim("extrapolation.absolute")
def test_absolute_encodings_break_within_the_next_stretch_and_alibi_does_not(data):
    return at_most(
        0.03,
        right=max(seeds(data, "alibi", NEAR)),
        wrong=min(x for name in ABSOLUTE for x in seeds(data, name, NEAR)),
        inside=average(data, "sinusoidal", INSIDE),
        near=average(data, "sinusoidal", NEAR),
        far=average(data, "sinusoidal", FAR),
        learned_inside=average(data, "learned", INSIDE),
        learned_near=average(data, "learned", NEAR),
        alibi=average(data, "alibi", NEAR),
    )


@claim("extrapolation.rope")
def test_rope_is_good_within_the_length_and_breaks_beyond(data):
    beyond = results.RANGES[2]
    return at_most(
        0.02,
        right=max(seeds(data, "rope", INSIDE)),
        wrong=min(seeds(data, "rope", beyond)),
        inside=average(data, "rope", INSIDE),
        near=average(data, "rope", NEAR),
        beyond=average(data, "rope", beyond),
        far=average(data, "rope", FAR),
    )


@claim("extrapolation.relative")
def test_five_relative_encodings_hold_to_sixteen_times_the_length(data):
    right = {name: max(seeds(data, name, FAR)) for name in RELATIVE}
    return at_most(
        0.03,
        right=max(right.values()),
        wrong=min(x for name in (*ABSOLUTE, "rope") for x in seeds(data, name, FAR)),
        best=min(average(data, name, FAR) for name in RELATIVE),
        t5_inside=average(data, "t5", INSIDE),
        t5_far=average(data, "t5", FAR),
        t5_window=average(data, "t5", FAR, "window"),
        tupe_inside=average(data, "tupe", INSIDE),
        tupe_far=average(data, "tupe", FAR),
        shaw_inside=average(data, "shaw", INSIDE),
        shaw_far=average(data, "shaw", FAR),
        none_inside=average(data, "none", INSIDE),
        none_far=average(data, "none", FAR),
    )


@claim("extrapolation.window")
def test_a_window_repairs_rope_and_not_the_absolute_encodings(data):
    return at_most(
        0.02,
        right=max(x for name in ("rope", "urpe") for x in seeds(data, name, FAR, "window")),
        wrong=min(x for name in ABSOLUTE for x in seeds(data, name, FAR, "window")),
        rope=average(data, "rope", FAR, "window"),
        before=average(data, "rope", FAR),
        sinusoidal=average(data, "sinusoidal", FAR, "window"),
        learned=average(data, "learned", FAR, "window"),
        tupe=average(data, "tupe", FAR, "window"),
    )


@claim("extrapolation.restart")
def test_restarts_bring_every_encoding_back_to_its_level(data):
    def off(name, way):
        level = seeds(data, name, (32, 64))
        return [abs(x - y) for x, y in zip(seeds(data, name, FAR, way), level, strict=True)]

    return at_most(
        0.06,
        right=max(x for name in results.PAGES for x in off(name, "restart")),
        wrong=min(off("sinusoidal", "plain")),
        sinusoidal=average(data, "sinusoidal", FAR, "restart"),
        rope=average(data, "rope", FAR, "restart"),
        none=average(data, "none", FAR, "restart"),
    )


@claim("extrapolation.local")
def test_ntk_keeps_local_order_and_interpolation_loses_it(data):
    return at_most(
        0.02,
        right=max(seeds(data, "rope", INSIDE, "ntk_4")),
        wrong=min(seeds(data, "rope", INSIDE, "pi_4")),
        rope=average(data, "rope", INSIDE),
        ntk=average(data, "rope", INSIDE, "ntk_4"),
        pi=average(data, "rope", INSIDE, "pi_4"),
        yarn=average(data, "rope", INSIDE, "yarn_4"),
        long_inside=average(data, "rope", INSIDE, "long_rope"),
        long_far=average(data, "rope", FAR, "long_rope"),
        llama3=average(data, "rope", INSIDE, "llama3_4"),
        ntk_near=average(data, "rope", NEAR, "ntk_4"),
        ntk_four=average(data, "rope", results.RANGES[2], "ntk_4"),
    )


def test_the_search_finds_one_list_for_the_chain_and_with_it_the_least_divergence(data):
    runs = [r for r in data["runs"] if (r["task"], r["encoding"]) == ("markov", "rope")]
    assert [run["divisors"] for run in runs] == 3 * [[1, 4, 16, 16, 16, 16]]
    scalings = [*data["scalings"], "long_rope"]
    assert set(scalings) == set(runs[0]["tests"]) - {"plain", "window", "restart"}
    far = {way: average(data, "rope", FAR, way) for way in scalings}
    assert min(far, key=lambda way: far[way]) == "long_rope"


def missed(data, name, where, way="plain"):
    return [1 - x for x in seeds(data, name, where, way, "recall")]


@claim("extrapolation.reach")
def test_interpolation_finds_the_key_at_sixteen_times_the_length(data):
    return at_most(
        0.02,
        right=max(missed(data, "rope", FAR, "pi_16")),
        wrong=min(missed(data, "rope", FAR)),
        rope=average(data, "rope", FAR, task="recall"),
        pi_4=average(data, "rope", FAR, "pi_4", "recall"),
        ntk_4=average(data, "rope", FAR, "ntk_4", "recall"),
        pi_16=average(data, "rope", FAR, "pi_16", "recall"),
        ntk_16=average(data, "rope", FAR, "ntk_16", "recall"),
    )


@claim("extrapolation.recall")
def test_alibi_and_nope_find_the_key_where_rope_does_not(data):
    return at_most(
        0.05,
        right=max(x for name in ("alibi", "none") for x in missed(data, name, FAR)),
        wrong=min(missed(data, "rope", FAR)),
        alibi=average(data, "alibi", FAR, task="recall"),
        none=average(data, "none", FAR, task="recall"),
        rope=average(data, "rope", FAR, task="recall"),
        sinusoidal=average(data, "sinusoidal", FAR, task="recall"),
        learned=average(data, "learned", FAR, task="recall"),
    )


@claim("extrapolation.forgets")
def test_with_a_window_no_model_finds_the_key(data):
    return at_most(
        0.05,
        right=max(missed(data, "alibi", FAR)),
        wrong=min(missed(data, "alibi", FAR, "window")),
        plain=average(data, "alibi", FAR, task="recall"),
        window=average(data, "alibi", FAR, "window", "recall"),
        best=max(average(data, name, FAR, "window", "recall") for name in results.PAGES),
    )


@claim("extrapolation.text")
def test_on_text_alibi_loses_nothing_beyond_the_length_and_the_sinusoid_does(data):
    return at_most(
        0.05,
        right=max(abs(x) for x in seeds(data, "alibi", FAR, task="text")),
        wrong=min(seeds(data, "sinusoidal", FAR, task="text")),
        alibi=average(data, "alibi", FAR, task="text"),
        sinusoidal=average(data, "sinusoidal", FAR, task="text"),
        rope=average(data, "rope", FAR, task="text"),
        none=average(data, "none", FAR, task="text"),
        rope_window=average(data, "rope", FAR, "window", "text"),
    )


def test_on_text_those_that_learnt_positions_break_and_the_others_have_little_to_break(data):
    """The loss of NoPE tells who has not learnt to use positions."""
    level = min(seeds(data, "none", FAR, "restart", "text")) - 0.02
    unlearnt = []
    for name in (*ABSOLUTE, "multiplicative", "multiplicative_sinusoidal"):
        loss = seeds(data, name, FAR, "restart", "text")
        lost = seeds(data, name, FAR, task="text")
        unlearnt += [name for x in loss if x > level]
        assert all(y < 0.2 if x > level else y > 0.5 for x, y in zip(loss, lost, strict=True))
    expected = ["learned"] + 3 * ["multiplicative"] + 3 * ["multiplicative_sinusoidal"]
    assert unlearnt == expected


def test_on_the_chain_all_absolute_encodings_break_with_a_window_or_without(data):
    worst = max(max(seeds(data, name, INSIDE)) for name in ABSOLUTE)
    assert worst < 0.05
    for name in (*ABSOLUTE, "multiplicative", "multiplicative_sinusoidal", "tupe"):
        for way in ("plain", "window"):
            far, inside = (seeds(data, name, where, way) for where in (FAR, INSIDE))
            assert all(x > 0.5 and x > 3 * y for x, y in zip(far, inside, strict=True))


def test_nobody_finds_a_key_that_is_out_of_reach(data):
    """Three in 16, which is luck, is the most."""
    for name in results.PAGES:
        assert max(seeds(data, name, FAR, "window", "recall")) <= 3 / 16


def probed(data, name, task="markov"):
    """R² of every seed, layer by layer."""
    runs = [run for run in data["runs"] if (run["task"], run["encoding"]) == (task, name)]
    return np.array([run["probe"] for run in runs])


@claim("extrapolation.probe")
def test_without_an_encoding_a_layer_makes_position_readable(data):
    found = {name: probed(data, name) for name in ("none", "sinusoidal", "rope", "t5")}
    none = found["none"]
    return at_most(
        0.02,
        right=np.abs(none[:, 0]).max(),
        wrong=none[:, 1].min(),
        none_0=none[:, 0].mean(),
        none_1=none[:, 1].mean(),
        none_2=none[:, 2].mean(),
        t5_1=found["t5"][:, 1].mean(),
        rope_1=found["rope"][:, 1].mean(),
        sinusoidal_0=found["sinusoidal"][:, 0].mean(),
        sinusoidal_1=found["sinusoidal"][:, 1].mean(),
        sinusoidal_2=found["sinusoidal"][:, 2].mean(),
        recall_none=probed(data, "none", "recall")[:, 1].mean(),
        recall_rope=probed(data, "rope", "recall")[:, 1].mean(),
    )


# --- the table -----------------------------------------------------------------------------------


def test_every_cell_has_all_seeds(data):
    assert len(data["runs"]) == 3 * len(results.PAGES) * 3
    assert set(data["encodings"]) == set(results.PAGES)
    for task in results.SCORES:
        for name in results.PAGES:
            for one in results.columns(task):
                assert len(results.values(data, task, name, *one)) == 3


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_table_has_a_row_for_every_encoding(language):
    lines = results.table("markov", language).splitlines()
    assert len(lines) == 2 + len(results.PAGES)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[-1].startswith("| [FLOATER](floater.md) |")


def test_the_table_shows_mean_and_standard_deviation(data):
    line = next(x for x in results.table("markov", "en").splitlines() if "[RoPE]" in x)
    runs = [r for r in data["runs"] if (r["task"], r["encoding"]) == ("markov", "rope")]
    kl = [np.average(r["tests"]["plain"]["kl"][-2:], weights=[256, 256]) for r in runs]
    assert f"{np.mean(kl):.2f}\xa0±\xa0{np.std(kl, ddof=1):.2f}" in line


def test_unknown_tasks_and_limits_are_refused():
    with pytest.raises(ValueError, match="no task 'sums'; there are markov, recall, text"):
        results.table("sums", "en")
    with pytest.raises(ValueError, match="3 and 8 must be limits of buckets"):
        results.average([1.0, 4.0], [2, 8, 10], 3, 8)
