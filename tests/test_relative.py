"""Four terms of a logit: printed facts, properties, oracles and errors; the claims."""

import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve1d

from posenc.equations.attention import attention, attention_weights, softmax
from posenc.equations.kernel import four_terms
from posenc.equations.relative import convolve, dependence, offsets, score_terms, tupe_logits
from posenc.equations.sinusoidal import sinusoidal
from posenc.layers.attention import Attention
from posenc.layers.relative import Tupe
from posenc.layers.sinusoidal import Sinusoidal
from scripts.figures import relative as figures

counts = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


# --- claims ------------------------------------------------------------------------------------


@claim("relative.terms")
def test_taking_content_away_finds_the_four_terms():
    x, p, W_Q, W_K = normal(4, 8, 8)
    want = four_terms(x, p, W_Q, W_K)

    def score(x, y):
        return ((x + p) @ W_Q) @ ((y + p) @ W_K).T / math.sqrt(8)

    got = score_terms(score, x, x)
    return at_most(1e-12, right=largest(got - want), wrong=largest(got[[0, 2, 1, 3]] - want))


@claim("relative.chain")
def test_the_notes_chain_with_scale_and_softmax_is_the_attention_layer():
    torch.manual_seed(0)
    layer = Attention(16, 1, encoding=Sinusoidal(16)).double()
    x, p = normal(9, 16), sinusoidal(np.arange(9), 16)
    with torch.no_grad():
        want = layer(torch.from_numpy(x)[None])[0].numpy()
        maps = [m.weight.numpy().T for m in (layer.query, layer.key, layer.value, layer.output)]
    W_Q, W_K, W_V, W_O = maps

    def notes(scale):
        e = four_terms(x, p, W_Q, W_K).sum(axis=0) * scale
        return softmax(e) @ (x @ W_V + p @ W_V) @ W_O

    q, k = normal(2, 64, 64)
    return at_most(
        1e-12,
        right=largest(notes(1) - want),
        wrong=largest(notes(4) - want),
        scaled=attention_weights(q, k).max(axis=1).mean(),
        unscaled=attention_weights(8 * q, k).max(axis=1).mean(),
    )


@claim("relative.dependence")
def test_the_picture_of_the_chapter_is_what_the_formulas_say():
    want = {
        "nope": ("none", "absent", "absent", "absent"),
        "absolute": ("none", "key", "query", "both"),
        "shaw": ("none", "offset", "absent", "absent"),
        "xlnet": ("none", "offset", "none", "offset"),
        "t5": ("none", "absent", "absent", "offset"),
        "deberta": ("none", "offset", "offset", "absent"),
        "urpe": ("none", "absent", "absent", "offset"),
        "rope": ("offset", "absent", "absent", "absent"),
        "tupe": ("none", "absent", "absent", "both"),
    }
    found = {name: words[:4] for name, words in figures.choices_data().items()}
    pairs = [(a, b) for name in want for a, b in zip(found[name], want[name], strict=True)]
    swapped = [b for words in want.values() for b in (words[0], words[2], words[1], words[3])]
    return at_most(
        0.1,
        right=float(sum(a != b for a, b in pairs)),
        wrong=float(sum(a != b for (a, _), b in zip(pairs, swapped, strict=True))),
        terms=len(pairs),
        offsets=sum(a == "offset" for a, _ in pairs),
    )


def triple(score):
    """Mixed difference of a logit in the content of the query and in both positions."""
    x, y = normal(2, 1, figures.WIDTH, seed=4)
    total = 0.0
    for content, i, j in itertools.product((0, 1), (3, 8), (5, 6)):
        sign = (-1) ** (content + (i == 8) + (j == 6))
        total += sign * score(content * x, y, np.array([i]), np.array([j])).item()
    return abs(total)


@claim("relative.no_distance")
def test_token_plus_position_lets_no_word_choose_a_distance():
    found = {name: triple(score) for name, score in figures.schemes().items()}
    blind = ("nope", "absolute", "t5", "urpe", "tupe")
    seeing = ("shaw", "xlnet", "deberta", "rope")
    return at_most(
        1e-12,
        right=max(found[name] for name in blind),
        wrong=min(found[name] for name in seeing),
    )


@claim("relative.shift")
def test_a_logit_is_relative_if_all_its_terms_are():
    x, y = normal(2, 6, figures.WIDTH, seed=5)
    i = np.arange(6)

    def moved(name):
        score = figures.schemes()[name]

        def at(s):
            return score_terms(lambda x, y: score(x, y, i + s, i + s), x, y)

        return [largest(at(40)[n] - at(0)[n]) for n in range(4)]

    relative = ("nope", "shaw", "xlnet", "t5", "deberta", "urpe", "rope")
    absolute = moved("absolute")
    return at_most(
        1e-12,
        right=max(max(moved(name)) for name in relative),
        wrong=min(absolute[1:]),
        content=absolute[0],
    )


@claim("relative.tupe")
def test_the_layer_of_untied_positions_is_the_equation_head_by_head():
    torch.manual_seed(0)
    layer = Tupe(9, 12, 3, class_token=True).double()
    torch.nn.init.normal_(layer.theta)
    attend = Attention(12, 3, encoding=layer).double()
    x, at = normal(7, 12), np.arange(7)

    def by_hand(class_token, factor=2):
        heads = []
        for h in range(3):
            rows = slice(4 * h, 4 * h + 4)
            q, k, v, u_q, u_k = (
                m.weight.detach().numpy()[rows].T
                for m in (attend.query, attend.key, attend.value, layer.query, layer.key)
            )
            theta = layer.theta.detach().numpy()[:, h] if class_token else None
            p = layer.weight.detach().numpy()[at]
            e = tupe_logits(x, p, q, k, u_q, u_k, theta=theta) * math.sqrt(2 / factor)
            heads.append(softmax(e) @ x @ v)
        return np.concatenate(heads, axis=1) @ attend.output.weight.detach().numpy().T

    with torch.no_grad():
        got = attend(torch.from_numpy(x)[None])[0].numpy()
    return at_most(
        1e-12,
        right=largest(got - by_hand(True)),
        wrong=min(largest(got - by_hand(False)), largest(got - by_hand(True, factor=1))),
    )


@claim("relative.variance")
def test_two_terms_need_the_root_of_two_to_keep_the_size_of_one():
    d, n = 64, 400
    x, p = normal(2, n, d)
    W = normal(4, d, d, seed=1) / math.sqrt(d)
    tupe = tupe_logits(x, p, *W)
    four = four_terms(x, p, W[0], W[1])
    shares = four.var(axis=(1, 2)) / four.var(axis=(1, 2)).sum()
    return at_most(
        0.08,
        right=abs(tupe.var() - 1),
        wrong=abs((tupe * math.sqrt(2)).var() - 1),
        tupe=tupe.var(),
        one=four[0].var(),
        four=four.sum(axis=0).var(),
        mixed=shares[1] + shares[2],
    )


@claim("relative.theta")
def test_what_the_class_token_gives_to_all_keys_alike_does_nothing():
    x, p, *maps = normal(6, 8, 8)

    def weights(first, second):
        return softmax(tupe_logits(x, p, *maps, theta=(first, second)))

    base = weights(0.5, -0.5)
    return at_most(
        1e-12,
        right=largest(weights(7.0, -0.5) - base),
        wrong=largest(weights(0.5, 0.5) - base),
    )


@claim("relative.tupe_parameters")
def test_untied_maps_cost_twice_the_square_of_the_width():
    def trained(**options):
        layer = Tupe(512, 768, 12, device="meta", **options)
        return sum(parameter.numel() for parameter in layer.parameters())

    maps = trained() - 512 * 768
    return at_most(
        0.5,
        right=abs(maps - 2 * 768**2),
        wrong=abs(maps - 2 * 768 * 64),  # one pair of maps for a single head
        maps=maps,
        table=512 * 768,
        theta=trained(class_token=True) - trained(),
        relative=trained(max_distance=128) - trained(),
    )


@claim("relative.constant")
def test_inside_the_softmax_identical_tokens_stay_identical():
    found = figures.constant_data()
    quiet = {name: found[name] for name in figures.INSIDE}
    more = ("t5_causal", "rope_causal", "t5_deep", "rope_deep", "bos_nope")
    return at_most(
        1e-12,
        right=max(*quiet.values(), *(found[name] for name in more)),
        wrong=min(found[name] for name in ("absolute", "shaw_values", "bos", "urpe")),
        **{name: found[name] for name in (*quiet, *more)},
    )


@claim("relative.ways_out")
def test_all_ways_out_let_identical_tokens_see_their_places():
    found = figures.constant_data()
    opened = ("absolute", "shaw_values", "bos", "bos_causal", "urpe")
    shut = ("in_queries", "shaw_keys", "t5", "bos_nope", "t5_deep")
    return at_most(
        1e-12,
        right=max(found[name] for name in shut),
        wrong=min(found[name] for name in opened),
        **{name: found[name] for name in opened},
    )


@claim("relative.row_sums")
def test_on_identical_tokens_an_output_is_the_value_times_the_sum_of_its_row():
    value, n = normal(5), 8
    weights = softmax(normal(n, n, seed=1)) * (1 + 0.5 * np.sin(offsets(n, n)))
    outputs = weights @ np.tile(value, (n, 1))
    sums = np.array([math.fsum(row) for row in weights.tolist()])
    kernel = np.full(3, 1 / 3)
    kept = np.array([min(i, 1) + 1 + min(n - 1 - i, 1) for i in range(n)]) / 3
    convolved = convolve(np.full(n, value[0]), kernel)
    right = max(largest(outputs - np.outer(sums, value)), largest(convolved - kept * value[0]))
    return at_most(
        1e-12,
        right=right,
        wrong=largest(outputs - value),
        least=sums.min(),
        most=sums.max(),
    )


def stays(n, start, steps):
    """Probability that a walk of steps −1, 0, 1 never leaves 0 .. n-1, in exact fractions."""
    mass = {start: Fraction(1)}
    for _ in range(steps):
        after: dict[int, Fraction] = {}
        for at, share in mass.items():
            for to in (at - 1, at, at + 1):
                if 0 <= to < n:
                    after[to] = after.get(to, Fraction(0)) + share / 3
        mass = after
    return float(sum(mass.values()))


@claim("relative.padding")
def test_padded_mean_filters_give_the_chance_of_a_walk_to_stay_inside():
    n, layers, mean = 15, 6, np.full(3, 1 / 3)
    want = [stays(n, i, layers) for i in range(n)]
    got = convolve(np.ones(n), mean, layers=layers)
    circular = convolve(np.ones(n), mean, padding="circular", layers=layers)
    return at_most(
        1e-12,
        right=largest(got - want),
        wrong=largest(circular - want),
        edge=got[0],
        middle=got[n // 2],
        circular=largest(circular - 1),
    )


def touched(y):
    """How many positions, counted from the left end, differ from the middle."""
    return int((np.abs(y[: len(y) // 2] - y[len(y) // 2]) > 1e-12).sum())


@claim("relative.reach")
def test_each_layer_carries_the_border_one_radius_inwards():
    errors, naive = [], []
    for layers, r in itertools.product((1, 2, 3), (1, 2, 3)):
        kernel = np.arange(1.0, 2 * r + 2)
        got = touched(convolve(np.ones(61), kernel / kernel.sum(), layers=layers))
        errors.append(abs(got - layers * r))
        naive.append(abs(got - r))
    deep = convolve(np.ones(61), np.full(3, 1 / 3), layers=16)
    distinct = len(np.unique(deep[:30].round(13)))
    return at_most(
        0.5, right=float(max(errors)), wrong=float(max(naive)), reach=touched(deep), told=distinct
    )


# --- the offset --------------------------------------------------------------------------------


@given(counts, counts, st.integers(0, 9))
def test_an_offset_is_key_position_minus_query_position(n_q, n_k, start):
    got = offsets(n_q, n_k, start)
    want = [[j - i for j in range(n_k)] for i in range(start, start + n_q)]
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int64


# --- the four terms ----------------------------------------------------------------------------


@given(counts, counts, st.integers(1, 5), seeds)
def test_the_terms_add_up_for_any_function_even_if_it_is_not_affine(n_q, n_k, d, seed):
    q, k = normal(n_q, d, seed=seed), normal(n_k, d, seed=seed + 1)

    def score(q, k):
        return np.exp(q.sum(axis=1))[:, None] - np.cos(k.sum(axis=1))

    terms = score_terms(score, q, k)
    assert terms.shape == (4, n_q, n_k)
    np.testing.assert_allclose(terms.sum(axis=0), score(q, k), atol=1e-12)


@pytest.mark.parametrize("name", figures.schemes())
def test_every_scheme_of_the_picture_is_affine_in_query_and_key(name):
    score, i = figures.schemes()[name], np.arange(4)
    x, y, z = normal(3, 4, figures.WIDTH)

    def e(x, y):
        return score(x, y, i, i)

    np.testing.assert_allclose(e(0.3 * x + 0.7 * z, y), 0.3 * e(x, y) + 0.7 * e(z, y), atol=1e-12)
    np.testing.assert_allclose(e(x, 0.3 * y + 0.7 * z), 0.3 * e(x, y) + 0.7 * e(x, z), atol=1e-12)


WORDS = {
    "absent": lambda i, j: 0 * (i + j),
    "none": lambda i, j: 1.0 + 0 * (i + j),
    "query": lambda i, j: i**2 + 0 * j,
    "key": lambda i, j: j**2 + 0 * i,
    "offset": lambda i, j: np.abs(j - i),
    "both": lambda i, j: i * j,
}


@pytest.mark.parametrize("words", [*itertools.product(WORDS, repeat=2)])
def test_each_term_gets_the_word_of_its_own_positions(words):
    left, right = (WORDS[word] for word in words)

    def score(q, k, i, j):
        at = i[:, None], j
        return q * left(*at) + k.T * right(*at) + q * k.T * left(*at) + right(*at)

    q, k = normal(4, 1), normal(5, 1, seed=1)
    assert dependence(score, q, k) == (words[0], words[0], words[1], words[1])


def test_what_is_small_beside_the_largest_term_counts_as_nothing():
    def score(q, k, i, j):
        return q @ k.T + 1e-12 * j

    assert dependence(score, np.ones((2, 1)), np.ones((3, 1)))[3] == "absent"
    tiny = dependence(
        lambda q, k, i, j: 1e-12 * score(q, k, i, j), np.ones((2, 1)), np.ones((3, 1))
    )
    assert tiny[0] == "none"


def test_positions_start_at_one_and_move_by_one():
    seen = set()

    def score(q, k, i, j):
        seen.update([(*i.tolist(), *j.tolist())])
        return q @ k.T

    dependence(score, np.ones((1, 1)), np.ones((2, 1)))
    assert seen == {(1, 1, 2), (1, 2, 3), (2, 1, 2), (2, 2, 3)}


# --- untied positions --------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [None, (0.5, -1.5)])
def test_tupe_equals_a_loop_over_pairs(theta):
    x, p = normal(2, 5, 4)
    W_Q, W_K, U_Q, U_K = normal(4, 4, 3, seed=1)
    got = tupe_logits(x, p, W_Q, W_K, U_Q, U_K, theta=theta)
    for i, j in itertools.product(range(5), repeat=2):
        v = sum(
            p[i, a] * U_Q[a, c] * p[j, b] * U_K[b, c]
            for a, b, c in itertools.product(range(4), range(4), range(3))
        ) / math.sqrt(6)
        if theta and 0 in (i, j):
            v = theta[0] if i == 0 else theta[1]
        content = sum(
            x[i, a] * W_Q[a, c] * x[j, b] * W_K[b, c]
            for a, b, c in itertools.product(range(4), range(4), range(3))
        )
        assert got[i, j] == pytest.approx(content / math.sqrt(6) + v, abs=1e-12)


def test_tied_maps_and_no_mixed_terms_are_half_of_the_expansion():
    x, p, W_Q, W_K = normal(4, 6, 6)
    ee, _, _, pp = four_terms(x, p, W_Q, W_K)
    np.testing.assert_allclose(
        tupe_logits(x, p, W_Q, W_K, W_Q, W_K), (ee + pp) / math.sqrt(2), atol=1e-12
    )


# --- convolution -------------------------------------------------------------------------------


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("circular", "wrap")])
@given(n=st.integers(3, 12), r=st.integers(0, 2), layers=st.integers(1, 3), seed=seeds)
def test_convolution_equals_scipy(padding, mode, n, r, layers, seed):
    x, w = normal(n, seed=seed), normal(2 * r + 1, seed=seed + 1)
    want = x
    for _ in range(layers):
        want = convolve1d(want, w[::-1], mode=mode)
    np.testing.assert_allclose(convolve(x, w, padding=padding, layers=layers), want, atol=1e-10)


@pytest.mark.parametrize(("padding", "mode"), [("zeros", "zeros"), ("circular", "circular")])
def test_convolution_equals_torch(padding, mode):
    x, w = normal(9), normal(5, seed=1)
    layer = torch.nn.Conv1d(1, 1, 5, padding=2, padding_mode=mode, bias=False).double()
    layer.weight = torch.nn.Parameter(torch.from_numpy(w)[None, None])
    with torch.no_grad():
        want = layer(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(convolve(x, w, padding=padding), want, atol=1e-12)


@given(st.integers(0, 8), seeds)
def test_circular_convolution_commutes_with_shifts(s, seed):
    x, w = normal(9, seed=seed), normal(3, seed=seed + 1)
    shifted = convolve(np.roll(x, s), w, padding="circular")
    np.testing.assert_allclose(shifted, np.roll(convolve(x, w, padding="circular"), s), atol=1e-12)


def test_a_convolution_is_an_attention_whose_weights_know_offsets_only():
    x, w = normal(7), np.array([0.25, 0.5, 0.25])
    t = offsets(7, 7)
    weights = np.where(np.abs(t) < 2, w[np.clip(t, -1, 1) + 1], 0)
    np.testing.assert_allclose(convolve(x, w), weights @ x, atol=1e-15)
    assert (weights.sum(axis=1) == [0.75, *[1] * 5, 0.75]).all()
    logits = np.where(np.abs(t) < 2, np.log(w)[np.clip(t, -1, 1) + 1], -1e3)
    normalised = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(logits), normalised, atol=1e-15)
    np.testing.assert_allclose(
        attention(np.zeros((7, 1)), np.zeros((7, 1)), np.ones((7, 1))), 1, atol=1e-15
    )


# --- errors ------------------------------------------------------------------------------------

ONE, TWO = np.ones((1, 1)), np.ones((2, 2))

ERRORS = {
    "n_queries must be an integer, got 2.0": lambda: offsets(2.0, 3),
    "n_keys must be an integer, got True": lambda: offsets(2, True),
    "start must be an integer, got 0.5": lambda: offsets(2, 3, 0.5),
    "n_queries must be at least 1, got 0": lambda: offsets(0, 3),
    "n_keys must be at least 1, got 0": lambda: offsets(2, 0),
    "start must be at least 0, got -1": lambda: offsets(2, 3, -1),
    "queries must have at least 2 axes, got shape (2,)": lambda: score_terms(
        np.matmul, [1, 2], TWO
    ),
    "keys must hold real numbers, got dtype bool": lambda: score_terms(np.matmul, TWO, TWO > 0),
    "result of score must have shape (2, 1), got (2, 2)": lambda: score_terms(
        lambda q, k: TWO, np.ones((2, 1)), ONE
    ),
    "result of score must hold real numbers, got dtype complex128": lambda: score_terms(
        lambda q, k: q * 1j, ONE, ONE
    ),
    "queries must be finite, got inf": lambda: dependence(lambda q, k, i, j: q, np.inf * ONE, ONE),
    "keys must have shape (1, 1), got (1, 1, 1)": lambda: dependence(
        lambda q, k, i, j: q, ONE, ONE[None]
    ),
    "tokens must have at least 2 axes, got shape ()": lambda: tupe_logits(1, TWO, *[TWO] * 4),
    "position_vectors must have shape (2, 2), got (1, 1)": lambda: tupe_logits(
        TWO, ONE, *[TWO] * 4
    ),
    "w_query must have shape (2, 1), got (1, 1)": lambda: tupe_logits(TWO, TWO, ONE, *[TWO] * 3),
    "u_key must have shape (2, 2), got (1, 1)": lambda: tupe_logits(TWO, TWO, *[TWO] * 3, ONE),
    "theta must have shape (2,), got (3,)": lambda: tupe_logits(
        TWO, TWO, *[TWO] * 4, theta=[1, 2, 3]
    ),
    "signal must have shape (4,), got (2, 2)": lambda: convolve(TWO, [1.0]),
    "kernel must have shape (1,), got ()": lambda: convolve([1.0], 1.0),
    "width of kernel must be odd, got 2": lambda: convolve([1.0, 2.0], [1.0, 2.0]),
    "width of kernel must be below 4, got 5": lambda: convolve([1.0, 2.0], [1.0] * 5),
    "padding must be 'zeros' or 'circular', got 'same'": lambda: convolve(
        [1.0], [1.0], padding="same"
    ),
    "layers must be at least 1, got 0": lambda: convolve([1.0], [1.0], layers=0),
}


@pytest.mark.parametrize("message", ERRORS)
def test_a_wrong_argument_is_named(message):
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        ERRORS[message]()
