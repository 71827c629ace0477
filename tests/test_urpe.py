"""URPE: facts, properties, oracles and errors of the equations; the claims."""

import re
from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from posenc.equations.attention import attention, attention_logits, causal_mask, softmax
from posenc.equations.urpe import (
    factors_with_means,
    nearest_factors,
    row_means,
    spread,
    toeplitz,
    urpe,
)
from posenc.layers.attention import Attention
from posenc.layers.learned import Learned
from posenc.layers.urpe import Urpe
from scripts.figures import urpe as figures

numbers = st.floats(-10, 10, allow_subnormal=False)
means = st.integers(1, 9).flatmap(lambda n: arrays(float, n, elements=numbers))


def largest(x):
    return float(np.abs(np.asarray(x)).max())


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_loop(q, k, v, g, bias, looks):
    """One pair of tokens at a time."""
    n, d = q.shape
    out = np.zeros_like(v)
    for i in range(n):
        e = [q[i] @ k[j] / d**0.5 + bias[i, j] if looks[i, j] else -np.inf for j in range(n)]
        total = sum(np.exp(e))
        for j in range(n):
            out[i] += np.exp(e[j]) / total * g[n - 1 + i - j] * v[j]
    return out


# --- the equations -----------------------------------------------------------------------------


@given(st.integers(1, 9))
def test_the_matrix_is_that_of_scipy(n):
    g = random(2 * n - 1, seed=n)
    np.testing.assert_array_equal(toeplitz(g), scipy.linalg.toeplitz(g[n - 1 :], g[n - 1 :: -1]))


def test_every_head_may_have_its_own_factors():
    g = random(3, 2, 7)
    for a in range(3):
        for b in range(2):
            np.testing.assert_array_equal(toeplitz(g)[a, b], toeplitz(g[a, b]))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_with_factors_is_the_loop(causal):
    q, k, v, bias, g = random(5, 4), random(5, 4, seed=1), random(5, 3), random(5, 5), random(9)
    looks = causal_mask(5) if causal else np.ones((5, 5), bool)
    want = by_loop(q, k, v, g, bias, looks)
    np.testing.assert_allclose(urpe(q, k, v, g, bias=bias, mask=looks), want, atol=1e-13)


def test_a_batch_of_heads_is_each_head():
    q, k, v, g = random(2, 3, 5, 4), random(2, 3, 5, 4), random(2, 3, 5, 4), random(3, 9)
    got = urpe(q, k, v, g)
    for b in range(2):
        for h in range(3):
            np.testing.assert_allclose(got[b, h], urpe(q[b, h], k[b, h], v[b, h], g[h]))


def test_factors_of_one_change_nothing():
    q, k, v = random(5, 4), random(5, 4, seed=1), random(5, 3, seed=2)
    np.testing.assert_array_equal(urpe(q, k, v, np.ones(9)), attention(q, k, v))


@given(st.integers(1, 9), st.booleans())
def test_row_means_are_those_of_fractions(n, causal):
    g = np.random.default_rng(n).integers(-9, 9, 2 * n - 1)
    want = []
    for i in range(n):
        keys = range(i + 1 if causal else n)
        want.append(float(sum(Fraction(int(g[n - 1 + i - j])) for j in keys) / len(keys)))
    np.testing.assert_allclose(row_means(g, causal=causal), want, atol=1e-12)


@given(means, st.booleans())
def test_any_means_have_factors(y, causal):
    g = factors_with_means(y, causal=causal)
    assert (g[: len(y) - 1] == 0).all()
    np.testing.assert_allclose(row_means(g, causal=causal), y, atol=1e-12)


@given(means)
def test_nearest_factors_have_the_means_and_are_not_farther_than_the_simple_ones(y):
    g = nearest_factors(y)
    np.testing.assert_allclose(row_means(g), y, atol=1e-11)
    simple = factors_with_means(y)
    assert np.linalg.norm(g - 1) <= np.linalg.norm(simple - 1) + 1e-9


def test_rows_of_a_batch_are_solved_one_by_one():
    y = random(2, 3, 6)
    for solve in (factors_with_means, nearest_factors, lambda y: row_means(y[..., 1:])):
        for a in range(2):
            for b in range(3):
                np.testing.assert_array_equal(solve(y)[a, b], solve(y[a, b]))


def test_spread_is_the_largest_gap_of_one_number():
    z = np.array([[[0.0, 9.0], [2.0, 8.5]], [[0.0, 0.0], [-3.5, 0.0]]])
    assert spread(z) == 3.5
    assert spread(z[0]) == 2.0


# --- the claims: why nothing inside the softmax tells a position --------------------------------


def constant(n=12, d=6, seed=3):
    return np.tile(random(1, d, seed=seed), (n, 1))


@claim("urpe.row_sums")
def test_equal_tokens_leave_attention_multiplied_by_the_sum_of_their_row():
    X, A, W = constant(), random(12, 12), random(6, 6, seed=4)
    got = A @ (X @ W)
    want = np.array([[float(sum(map(Fraction, row))) * c for c in (X @ W)[0]] for row in A])
    return at_most(1e-12, right=largest(got - want), wrong=largest(got - X @ W))


BLIND = ("nope", "rope", "bias", "keys", "absolute_in_logits", "ones")
SEEING = ("sinusoidal", "values", "urpe")


@claim("urpe.blind")
def test_schemes_inside_the_softmax_give_equal_tokens_equal_outputs():
    values = {}
    for scheme in BLIND + SEEING:
        for causal in (False, True):
            name = f"{scheme}_{'causal' if causal else 'full'}"
            values[name] = spread(figures.outputs(scheme, causal, False))
            values[f"{name}_six"] = spread(figures.outputs(scheme, causal, False, 6))
    return at_most(
        1e-12,
        right=max(v for name, v in values.items() if name.startswith(BLIND)),
        wrong=min(v for name, v in values.items() if name.startswith(SEEING)),
        deep=max(values[f"{scheme}_{m}_six"] for scheme in BLIND for m in ("full", "causal")),
        **values,
    )


@claim("urpe.bos")
def test_one_token_that_differs_is_enough_unless_nothing_else_knows_a_position():
    values = {
        f"{scheme}_{'causal' if causal else 'full'}": spread(figures.outputs(scheme, causal, True))
        for scheme in BLIND + SEEING
        for causal in (False, True)
    }
    blind = values["nope_full"]
    return at_most(
        1e-12, right=blind, wrong=min(v for v in values.values() if v is not blind), **values
    )


def attend(weights, n=12):
    """Spread of what these weights make of equal tokens."""
    return spread(weights @ constant(n) @ random(6, 6, seed=4))


@claim("urpe.cause")
def test_row_sums_decide_and_neither_the_softmax_nor_the_values():
    n = 12
    X = constant(n)
    e = attention_logits(X @ random(6, 6, seed=5), X @ random(6, 6, seed=6)) / 10
    bias = toeplitz(random(2 * n - 1, seed=7))
    looks = causal_mask(n)
    positive = (np.maximum(bias, 0) + 0.1) * (1 + e**2)  # no exponential in it
    signed = bias / bias.sum(axis=1, keepdims=True)
    circulant = toeplitz(random(n, seed=8)[np.arange(1, 2 * n) % n])
    powers = np.exp(e + bias)
    blind = {
        "normalised": attend(positive / positive.sum(axis=1, keepdims=True)),
        "signed": attend(signed),
        "masked": attend(softmax(e + bias, mask=looks)),
        "circulant": attend(softmax(e) * circulant),
        "twice": attend(2 * softmax(e + bias)),
        "sigmoid_alone": attend(1 / (1 + np.exp(-e))),
    }
    seeing = {
        "sigmoid": attend(1 / (1 + np.exp(-e - bias)) / n),
        "sigmoid_masked": attend(looks / (1 + np.exp(-e)) / n),
        "one_more": attend(powers / (1 + powers.sum(axis=1, keepdims=True))),
        "factor": attend(softmax(e + bias) * toeplitz(random(2 * n - 1, seed=9))),
    }
    sums = np.abs((softmax(e) * circulant).sum(axis=1) - 1)
    return at_most(
        1e-12,
        right=max(blind.values()),
        wrong=min(seeing.values()),
        circulant_sum=sums.min(),
        **blind,
        **seeing,
    )


@claim("urpe.learnt")
def test_training_cannot_beat_the_variance_inside_the_softmax_and_factors_do():
    variance = figures.targets().var(axis=0).mean()
    runs = (("rope", True), ("bias", False))
    inside = [figures.trained(*run)[1] / variance for run in runs]
    after = [figures.trained("ones", causal)[1][-1] / variance for causal in (False, True)]
    short = max(0.0, max(1 - errors.min() for errors in inside))
    return at_most(
        1e-9,
        right=short,
        wrong=1 - max(after),
        end=max(errors[-1] for errors in inside),
        full=after[0],
        causal=after[1],
        steps=figures.STEPS,
        variance=variance,
    )


# --- the claims: what the factors can do --------------------------------------------------------


@claim("urpe.logits")
def test_positive_factors_are_a_bias_inside_and_a_length_outside():
    n = 9
    e, g = random(n, n), np.exp(random(2 * n - 1, seed=1))
    got = softmax(e) * toeplitz(g)
    inside = softmax(e + np.log(toeplitz(g)))
    return at_most(
        1e-12,
        right=largest(got - got.sum(axis=1, keepdims=True) * inside),
        wrong=largest(got - inside),
    )


@claim("urpe.window")
def test_row_sums_of_neighbours_differ_by_what_enters_and_what_leaves():
    n, g = 16, random(31)
    steps = n * np.diff(row_means(g))
    want = np.array([g[n - 1 + i] - g[i - 1] for i in range(1, n)])
    return at_most(1e-12, right=largest(steps - want), wrong=largest(steps - g[n:]))


@claim("urpe.solved")
def test_factors_for_the_position_itself():
    i = np.arange(16.0)
    q = np.zeros((16, 4))
    got = [urpe(q, q, np.ones((16, 1)), factors_with_means(i))[:, 0]]
    causal = factors_with_means(i, causal=True)
    got.append(urpe(q, q, np.ones((16, 1)), causal, mask=causal_mask(16))[:, 0])
    taken = np.concatenate([np.zeros(15), i])
    return at_most(
        1e-12,
        right=max(largest(z - i) for z in got),
        wrong=largest(row_means(taken) - i),
    )


@claim("urpe.nearest")
def test_nearest_factors_are_those_of_least_squares():
    y, n = figures.targets().T, figures.N
    A = np.array([[float(0 <= n - 1 + i - t < n) for t in range(2 * n - 1)] for i in range(n)]) / n
    want = [1 + np.linalg.lstsq(A, row - 1, rcond=None)[0] for row in y]
    return at_most(
        1e-9,
        right=largest(nearest_factors(y) - want),
        wrong=largest(factors_with_means(y) - want),
    )


@claim("urpe.descent")
def test_gradient_descent_from_ones_ends_at_the_nearest_factors():
    found, nearest = figures.factors_data()
    ramp = found[0]
    return at_most(
        1e-9,
        right=largest(found - nearest),
        wrong=largest(found - factors_with_means(figures.targets().T)),
        before=ramp[-1],
        after=ramp[0],
        own=ramp[15],
        parity=largest(found[1]),
    )


@claim("urpe.circulant")
def test_factors_that_repeat_after_n_offsets_tell_no_position():
    n = 12
    repeated = random(n)[np.arange(1, 2 * n) % n]
    one_off = repeated.copy()
    one_off[-1] += 1
    C = toeplitz(repeated)
    assert scipy.linalg.circulant(C[:, 0]) == pytest.approx(C)
    return at_most(
        1e-12,
        right=np.ptp(row_means(repeated)),
        wrong=np.ptp(row_means(one_off)),
        mean=row_means(repeated)[0],
    )


def writer(P, n_heads):
    """Attention whose heads write the table P, of rank at most `n_heads`, whatever the tokens."""
    n, d = P.shape
    layer = Attention(d, n_heads, Urpe(None, n_heads, n - 1), bias=True).double()
    left, size, right = np.linalg.svd(P)
    means = (left[:, :n_heads] * size[:n_heads]).T
    with torch.no_grad():
        for part in (layer.query, layer.value, layer.output):
            part.weight.zero_()
            part.bias.zero_()
        layer.value.bias.fill_(1)
        layer.encoding.weight.copy_(torch.from_numpy(nearest_factors(means)))
        for h in range(n_heads):  # the first number of every head carries its row of the table
            layer.output.weight[:, h * (d // n_heads)] = torch.from_numpy(right[h])
    return layer


@claim("urpe.absolute")
def test_one_layer_writes_a_position_table_of_its_rank():
    torch.manual_seed(0)
    n, d, n_heads = 10, 8, 4
    P = random(n, n_heads) @ random(n_heads, d, seed=1)
    learned = Learned(n, d, dtype=torch.float64)
    learned.load_state_dict({"weight": torch.from_numpy(P)})
    layer = writer(P, n_heads)
    x = torch.randn(3, n, d, dtype=torch.float64)
    with torch.no_grad():
        got = x + layer(x)
        layer.encoding.reset_parameters()
        without = x + layer(x)
        want = learned(x)
    return at_most(
        1e-10,
        right=largest((got - want).numpy()),
        wrong=largest((without - want).numpy()),
        rank=np.linalg.matrix_rank(P),
    )


@claim("urpe.longer")
def test_a_ramp_marks_the_relative_place_and_not_the_position():
    """Two levels: whoever counts keys before and after finds the share of those before."""
    n, g = 16, nearest_factors(figures.targets().T[0])
    longer = np.concatenate([np.full(16, g[0]), g, np.full(16, g[-1])])
    got, want = row_means(longer), 2 * np.arange(32) / 31 - 1
    slope = (g[-1] - g[0]) / 2
    return at_most(
        0.1,
        right=largest(got - want),
        wrong=largest(got[:n] - figures.targets()[:, 0]),
        short=row_means(g)[8],
        long=got[8],
        slope=slope,
    )


# --- the claims: the layer ----------------------------------------------------------------------


@claim("urpe.layer")
def test_the_layer_is_the_equation():
    torch.manual_seed(0)
    n, d = 7, 8
    layer = Attention(d, 1, Urpe(None, 1, n - 1), causal=True).double()
    nn.init.normal_(layer.encoding.weight)
    x = torch.randn(1, n, d, dtype=torch.float64)
    parts = (layer.query, layer.key, layer.value)
    with torch.no_grad():
        q, k, v = (part(x)[0].numpy() for part in parts)
        g, out = layer.encoding.weight[0].numpy(), layer.output.weight.numpy().T
        got = layer(x)[0].numpy()
    mask = causal_mask(n)
    return at_most(
        1e-12,
        right=largest(got - urpe(q, k, v, g, mask=mask) @ out),
        wrong=largest(got - urpe(q, k, v, g[::-1], mask=mask) @ out),
    )


@claim("urpe.authors")
def test_the_table_of_the_authors_fits_transposed_and_turned_round():
    """Their row number is key minus query plus n - 1, their columns are the heads."""
    torch.manual_seed(0)
    n, n_heads = 9, 4
    theirs, weights = torch.randn(2 * n - 1, n_heads), torch.rand(1, n_heads, n, n)
    want = np.zeros((n_heads, n, n))
    for i in range(n):
        for j in range(n):
            want[:, i, j] = theirs[j - i + n - 1].numpy() * weights[0, :, i, j].numpy()
    layer, at = Urpe(None, n_heads, n - 1), torch.arange(n)
    gaps = []
    for table in (theirs.T.flip(1), theirs.T):
        layer.load_state_dict({"weight": table})
        gaps.append(largest(layer.reweight(weights, at, at)[0].detach().numpy() - want))
    return at_most(1e-6, right=gaps[0], wrong=gaps[1])


# --- errors ------------------------------------------------------------------------------------

Q = np.ones((3, 2))

VALUE_ERRORS = {
    "factors must have shape (..., 2 n - 1), got (4,)": lambda: toeplitz(np.ones(4)),
    "factors must have at least 1 axes, got shape ()": lambda: toeplitz(1.0),
    "factors must have shape (..., 2 n - 1), got (3, 2)": lambda: row_means(np.ones((3, 2))),
    "factors must be finite, got nan": lambda: toeplitz([np.nan]),
    "factors must have shape (5,), got (3,)": lambda: urpe(Q, Q, Q, np.ones(3)),
    "factors must have shape (4, 5), got (4, 3)": lambda: urpe(Q, Q, Q, np.ones((4, 3))),
    "keys must have shape (3, 2), got (4, 2)": lambda: urpe(Q, np.ones((4, 2)), Q, np.ones(5)),
    "keys must have shape (3, 2), got (3, 1)": lambda: urpe(Q, Q[:, :1], Q, np.ones(5)),
    "values must have shape (3, 2), got (2, 2)": lambda: urpe(Q, Q, Q[:2], np.ones(5)),
    "values must have at least 2 axes, got shape (3,)": lambda: urpe(Q, Q, Q[:, 0], np.ones(5)),
    "bias must be finite, got inf": lambda: urpe(Q, Q, Q, np.ones(5), bias=np.inf),
    "means must have at least 1 axes, got shape ()": lambda: factors_with_means(1.0),
    "means must not be empty, got shape (0,)": lambda: nearest_factors([]),
    "means must be finite, got nan": lambda: nearest_factors([np.nan]),
    "outputs must have at least 2 axes, got shape (3,)": lambda: spread(np.ones(3)),
}

TYPE_ERRORS = {
    "factors must hold real numbers, got dtype complex128": lambda: toeplitz([1j]),
    "factors must hold real numbers, got dtype bool": lambda: urpe(Q, Q, Q, [True] * 5),
    "values must hold real numbers, got dtype complex128": lambda: urpe(Q, Q, 1j * Q, np.ones(5)),
    "bias must hold real numbers, got dtype bool": lambda: urpe(Q, Q, Q, np.ones(5), bias=True),
    "means must hold real numbers, got dtype bool": lambda: factors_with_means([True]),
    "means must hold real numbers, got dtype <U1": lambda: nearest_factors(["a"]),
    "outputs must hold real numbers, got dtype complex128": lambda: spread([[1j]]),
}


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()
