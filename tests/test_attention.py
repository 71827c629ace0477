"""Attention: printed facts, properties, oracles and errors of the equations; the claims."""

import itertools
import math
import re

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from posenc.equations.attention import (
    attention,
    attention_logits,
    attention_weights,
    bos_weight,
    causal_mask,
    linear_recurrence,
    mixed_difference,
    second_order_terms,
    softmax,
)
from posenc.layers.attention import Attention, PositionEncoding

numbers = st.floats(-30, 30)


@st.composite
def tokens(draw, n=None, d=None):
    n, d = st.integers(1, 6) if n is None else n, st.integers(1, 5) if d is None else d
    return draw(arrays(np.float64, (draw(n), draw(d)), elements=numbers))


def attend(X, W, mask=None):
    """Self-attention of the rows of X with W = (W_Q, W_K, W_V)."""
    W_Q, W_K, W_V = W
    return attention(X @ W_Q, X @ W_K, X @ W_V, mask=mask)


def projections(rng, d, d_head=None):
    return rng.standard_normal((3, d, d_head or d)) / math.sqrt(d)


def largest(x):
    return float(np.abs(x).max())


# --- printed facts -----------------------------------------------------------------------------


def test_equal_logits_share_equally():
    np.testing.assert_array_equal(softmax(np.zeros(8)), np.full(8, 1 / 8))


def test_logits_of_the_logarithms_give_the_proportions():
    np.testing.assert_allclose(softmax(np.log([1, 2, 5])), [1 / 8, 2 / 8, 5 / 8], rtol=1e-15)


def test_softmax_runs_over_the_last_axis():
    logits = np.log([[[1, 3], [1, 1]]])
    np.testing.assert_allclose(softmax(logits), [[[0.25, 0.75], [0.5, 0.5]]], rtol=1e-15)


def test_scale_is_the_root_of_the_width():
    ones = np.ones((1, 16))
    np.testing.assert_array_equal(attention_logits(ones, ones), [[4.0]])


def test_one_key_gets_everything():
    np.testing.assert_array_equal(attention([[5.0]], [[-7.0]], [[3.0, 4.0]]), [[3.0, 4.0]])


def test_causal_mask_without_cache_is_a_lower_triangle():
    np.testing.assert_array_equal(causal_mask(5), np.tri(5, dtype=bool))


def test_last_query_sees_the_last_key():
    for n_keys in range(3, 7):
        seen = causal_mask(3, n_keys).sum(axis=1)
        np.testing.assert_array_equal(seen, [n_keys - 2, n_keys - 1, n_keys])


def test_bos_keeps_all_of_its_own_weight():
    assert bos_weight(0.0, -3.0, 4.0) == 1.0


def test_bos_weight_of_the_farthest_logits_is_still_a_number():
    assert bos_weight(0.0, -350.0, 350.0) == 1.0
    assert bos_weight(1.0, 700.0, 0.0) == 1.0
    assert 0 < bos_weight(1.0, 0.0, 700.0) < 1e-300


def test_a_single_token_is_its_own_state():
    np.testing.assert_array_equal(linear_recurrence([[9.0]], [[2.0]]), [[2.0]])


def test_a_rotation_of_a_quarter_returns_after_four_steps():
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    inputs = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    want = [[1, 0], [0, 1], [-1, 0], [0, -1], [1, 0]]  # rows turn by x A, not by A x
    np.testing.assert_array_equal(linear_recurrence(quarter, inputs), want)


def test_second_order_terms_come_in_the_order_of_the_formula():
    g, H = np.array([1.0, 10.0]), np.array([[2.0, 100.0], [-5.0, 2000.0]])
    terms = second_order_terms(7.0, g, H, np.array([3.0]), np.array([1.0]))
    np.testing.assert_array_equal(terms, [7, 3, 10, 9, 1000, 300])


def test_mixed_difference_of_one_shift_is_the_plain_difference():
    assert mixed_difference(np.sum, np.array([1.0, 2.0]), np.ones((1, 2))) == 2.0
    np.testing.assert_array_equal(mixed_difference(np.negative, np.ones(2), np.ones((1, 2))), -1)


# --- properties --------------------------------------------------------------------------------


@given(tokens(), numbers)
def test_a_constant_added_to_all_logits_changes_nothing(logits, constant):
    np.testing.assert_allclose(softmax(logits + constant), softmax(logits), atol=1e-12)


@given(tokens(n=st.integers(1, 4), d=st.integers(2, 6)), st.data())
def test_a_masked_key_might_as_well_not_exist(logits, data):
    n = logits.shape[1]
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any)))
    got = softmax(logits, mask=keep)
    np.testing.assert_allclose(got[:, keep], softmax(logits[:, keep]), rtol=1e-12)
    np.testing.assert_array_equal(got[:, ~keep], 0)


@given(tokens(n=st.integers(2, 6)), st.randoms(use_true_random=False))
def test_shuffled_tokens_give_shuffled_outputs(X, random):
    order = list(range(len(X)))
    random.shuffle(order)
    np.testing.assert_allclose(attention(X, X, X)[order], attention(*[X[order]] * 3), atol=1e-9)


@given(tokens(), st.integers(1, 3))
def test_outputs_stay_between_the_values(X, d_v):
    V = np.arange(len(X) * d_v).reshape(-1, d_v)
    Z = attention(X, X, V)
    assert (V.min(axis=0) - 1e-9 <= Z).all()
    assert (V.max(axis=0) + 1e-9 >= Z).all()


@given(st.integers(1, 6), st.integers(0, 6))
def test_causal_mask_is_the_end_of_the_longer_one(n_queries, past):
    n = n_queries + past
    np.testing.assert_array_equal(causal_mask(n_queries, n), np.tri(n, dtype=bool)[past:])


@given(st.integers(0, 50), numbers, numbers)
def test_bos_weight_is_a_softmax_over_what_is_seen(t, s, other):
    want = softmax(np.array([s, *[other] * t]))[0]
    np.testing.assert_allclose(bos_weight(t, s, other), want, rtol=1e-9)


@given(st.integers(1, 3), st.data())
def test_second_order_terms_are_exact_for_a_quadratic(d, data):
    def draw(*shape):
        return data.draw(arrays(np.float64, shape, elements=st.integers(-8, 8)))

    H, g, x, shift = draw(2 * d, 2 * d), draw(2 * d), draw(2 * d), draw(2 * d)
    H = H + H.T

    def f(x):
        return g @ x + x @ H @ x / 2

    terms = second_order_terms(f(x), g + H @ x, H, shift[:d], shift[d:])
    assert terms.sum() == f(x + shift)  # small integers and halves: no rounding
    assert terms[5] == mixed_difference(f, x, [[*shift[:d], *[0] * d], [*[0] * d, *shift[d:]]])


@given(tokens(n=st.integers(2, 2), d=st.integers(1, 3)))
def test_the_order_of_the_shifts_does_not_matter(shifts):
    def f(x):
        return np.cumsum(np.sin(x))

    x = np.arange(float(shifts.shape[1]))
    ahead, behind = mixed_difference(f, x, shifts), mixed_difference(f, x, shifts[::-1])
    np.testing.assert_allclose(ahead, behind, atol=1e-12)


# --- oracles -----------------------------------------------------------------------------------


@given(st.lists(numbers, min_size=1, max_size=6))
def test_softmax_equals_mpmath(logits):
    with mpmath.workdps(50):
        e = [mpmath.e ** mpmath.mpf(x) for x in logits]
        want = [float(x / mpmath.fsum(e)) for x in e]
    np.testing.assert_allclose(softmax(np.array(logits)), want, rtol=1e-13)


@given(st.integers(0, 10**6), numbers, numbers)
def test_bos_weight_equals_mpmath(t, s, other):
    with mpmath.workdps(50):
        want = float(mpmath.exp(s) / (mpmath.exp(s) + t * mpmath.exp(other)))
    np.testing.assert_allclose(bos_weight(t, s, other), want, rtol=1e-13)


def test_attention_equals_explicit_loops():
    rng = np.random.default_rng(0)
    Q, K, V = rng.standard_normal((4, 3)), rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    M = causal_mask(4, 5)
    want = np.zeros((4, 2))
    for i in range(4):
        seen = [j for j in range(5) if M[i, j]]
        e = {j: sum(Q[i, a] * K[j, a] for a in range(3)) / 3**0.5 for j in seen}
        total = sum(math.exp(e[j]) for j in seen)
        for j, c in itertools.product(seen, range(2)):
            want[i, c] += math.exp(e[j]) / total * V[j, c]
    np.testing.assert_allclose(attention(Q, K, V, mask=M), want, rtol=1e-13)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torch_with_leading_axes(masked):
    rng = np.random.default_rng(1)
    Q, K = rng.standard_normal((2, 3, 4, 8)), rng.standard_normal((3, 6, 8))
    V = rng.standard_normal((2, 1, 6, 5))
    M = rng.random((2, 1, 4, 6)) < 0.5 if masked else None
    if masked:
        M[..., 0] = True
    wanted = torch.nn.functional.scaled_dot_product_attention(
        torch.tensor(Q),
        torch.tensor(K).expand(2, 3, 6, 8),
        torch.tensor(V).expand(2, 3, 6, 5),
        torch.tensor(M) if masked else None,
    )
    np.testing.assert_allclose(attention(Q, K, V, mask=M), wanted, rtol=1e-12)
    np.testing.assert_allclose(attention_weights(Q, K, mask=M) @ V, wanted, rtol=1e-12)


def test_recurrence_equals_the_unrolled_loop():
    rng = np.random.default_rng(2)
    A, x = rng.standard_normal((3, 3)), rng.standard_normal((5, 3))
    h = np.zeros(3)
    for t, state in enumerate(linear_recurrence(A, x)):
        h = [sum(h[a] * A[a, b] for a in range(3)) + x[t, b] for b in range(3)]
        np.testing.assert_allclose(state, h, rtol=1e-12)


def test_mixed_difference_of_a_cube_is_the_product_of_its_shifts():
    def cube(x):
        return x**3

    got = mixed_difference(cube, np.array(2.0), np.array([1.0, 2.0, 5.0]))
    assert got == 6 * 1 * 2 * 5  # third difference of x^3, wherever x is


# --- input -------------------------------------------------------------------------------------


def test_integers_and_float32_are_computed_in_float64():
    for dtype in (np.int64, np.uint8, np.float16, np.float32):
        got = attention(*[np.array([[1, 2]], dtype)] * 3)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, [[1.0, 2.0]])


def test_arguments_are_not_changed():
    X = np.array([[1.0, 2.0], [3.0, 5.0]])
    kept = X.copy()
    attention(X, X, X, mask=causal_mask(2))
    linear_recurrence(X, X)
    mixed_difference(np.sum, X, X[None])
    np.testing.assert_array_equal(X, kept)


ONE, TWO = np.ones((1, 1)), np.ones((2, 2))

TYPE_ERRORS = {
    "logits must hold real numbers, got dtype complex128": lambda: softmax(np.ones(2, complex)),
    "logits must hold real numbers, got dtype bool": lambda: softmax(np.ones(2, bool)),
    "logits must hold real numbers, got dtype object": lambda: softmax(np.ones(2, object)),
    "logits must hold real numbers, got dtype <U1": lambda: softmax(["a"]),
    "queries must hold real numbers, got dtype complex64": lambda: attention_logits(
        TWO.astype(np.complex64), TWO
    ),
    "keys must hold real numbers, got dtype bool": lambda: attention_weights(TWO, TWO > 0),
    "values must hold real numbers, got dtype complex128": lambda: attention(TWO, TWO, TWO * 1j),
    "mask must be boolean, got dtype float64": lambda: softmax(TWO, mask=TWO),
    "mask must be boolean, got dtype int64": lambda: attention(
        TWO, TWO, TWO, mask=[[1, 0], [1, 1]]
    ),
    "n_queries must be an integer, got 2.0": lambda: causal_mask(2.0),
    "n_queries must be an integer, got True": lambda: causal_mask(True),
    "n_queries must be an integer, got np.True_": lambda: causal_mask(np.True_),
    "n_keys must be an integer, got '3'": lambda: causal_mask(2, "3"),
    "position must hold real numbers, got dtype complex128": lambda: bos_weight(1j, 0, 0),
    "bos_logit must hold real numbers, got dtype bool": lambda: bos_weight(0, True, 0),
    "other_logit must hold real numbers, got dtype object": lambda: bos_weight(0, 0, None),
    "transition must hold real numbers, got dtype complex128": lambda: linear_recurrence(
        [[1j]], ONE
    ),
    "inputs must hold real numbers, got dtype bool": lambda: linear_recurrence(ONE, ONE > 0),
    "x must hold real numbers, got dtype bool": lambda: mixed_difference(np.sum, ONE > 0, [ONE]),
    "shifts must hold real numbers, got dtype complex128": lambda: mixed_difference(
        np.sum, ONE, [ONE * 1j]
    ),
    "value must hold real numbers, got dtype complex128": lambda: second_order_terms(
        1j, [1, 1], TWO, [1], [1]
    ),
    "gradient must hold real numbers, got dtype bool": lambda: second_order_terms(
        1, [True, True], TWO, [1], [1]
    ),
    "hessian must hold real numbers, got dtype bool": lambda: second_order_terms(
        1, [1, 1], TWO > 0, [1], [1]
    ),
    "p_m must hold real numbers, got dtype bool": lambda: second_order_terms(
        1, [1, 1], TWO, [True], [1]
    ),
    "p_n must hold real numbers, got dtype bool": lambda: second_order_terms(
        1, [1, 1], TWO, [1], [True]
    ),
}

VALUE_ERRORS = {
    "logits must have at least 1 axes, got shape ()": lambda: softmax(1.0),
    "logits must not be empty, got shape (3, 0)": lambda: softmax(np.ones((3, 0))),
    "logits must be finite, got nan": lambda: softmax([0.0, math.nan, math.inf]),
    "logits must be finite, got -inf": lambda: softmax([0.0, -math.inf]),
    "queries must have at least 2 axes, got shape (2,)": lambda: attention_logits([1, 2], TWO),
    "queries must be finite, got inf": lambda: attention_logits([[math.inf]], ONE),
    "keys must have at least 2 axes, got shape (2,)": lambda: attention_logits(TWO, [1, 2]),
    "keys must not be empty, got shape (0, 2)": lambda: attention_logits(TWO, TWO[:0]),
    "keys must be finite, got nan": lambda: attention_logits(ONE, [[math.nan]]),
    "keys must have shape (5, 2), got (5, 3)": lambda: attention_logits(TWO, np.ones((5, 3))),
    "leading axes of queries, keys must broadcast, got (2,), (3,)": lambda: attention_logits(
        np.ones((2, 1, 1)), np.ones((3, 1, 1))
    ),
    "values must have at least 2 axes, got shape (2,)": lambda: attention(TWO, TWO, [1, 2]),
    "values must have shape (2, 4), got (3, 4)": lambda: attention(TWO, TWO, np.ones((3, 4))),
    "values must be finite, got inf": lambda: attention(ONE, ONE, [[math.inf]]),
    "leading axes of queries_and_keys, values must broadcast, got (2,), (3,)": lambda: attention(
        np.ones((2, 1, 1)), ONE, np.ones((3, 1, 1))
    ),
    "mask must broadcast to (2, 2), got shape (3,)": lambda: softmax(TWO, mask=[True] * 3),
    "mask must broadcast to (2,), got shape (1, 2)": lambda: softmax([0, 1], mask=[[True, True]]),
    "mask must be True somewhere in every row, got a row of False": lambda: attention(
        TWO, TWO, TWO, mask=np.array([[True, False], [False, False]])
    ),
    "n_queries must be at least 1, got 0": lambda: causal_mask(0),
    "n_queries must be at least 1, got -2": lambda: causal_mask(np.int32(-2)),
    "n_keys must be at least 3, got 2": lambda: causal_mask(3, 2),
    "position must be at least 0, got -0.5": lambda: bos_weight([1.0, -0.5], 0, 0),
    "position must be finite, got nan": lambda: bos_weight(math.nan, 0, 0),
    "bos_logit must be finite, got inf": lambda: bos_weight(0, math.inf, 0),
    "other_logit must be finite, got -inf": lambda: bos_weight(0, 0, -math.inf),
    "bos_logit must be within 700 of other_logit, got 701.0": lambda: bos_weight(0, [0, 1], 701),
    "bos_logit must be within 700 of other_logit, got 700.5": lambda: bos_weight(0, 700.5, 0),
    "inputs must have at least 2 axes, got shape (3,)": lambda: linear_recurrence(ONE, [1, 2, 3]),
    "inputs must have shape (1, 1), got (1, 1, 1)": lambda: linear_recurrence(ONE, [ONE]),
    "inputs must not be empty, got shape (0, 1)": lambda: linear_recurrence(ONE, ONE[:0]),
    "inputs must be finite, got inf": lambda: linear_recurrence(ONE, [[math.inf]]),
    "transition must have shape (2, 2), got (1, 1)": lambda: linear_recurrence(ONE, TWO),
    "transition must be finite, got nan": lambda: linear_recurrence([[math.nan]], ONE),
    "x must be finite, got nan": lambda: mixed_difference(np.sum, [math.nan], [[1.0]]),
    "x must not be empty, got shape (0,)": lambda: mixed_difference(np.sum, [], [[]]),
    "shifts must not be empty, got shape (0,)": lambda: mixed_difference(np.sum, [1.0], []),
    "shifts must have at least 1 axes, got shape ()": lambda: mixed_difference(np.sum, [1.0], 1.0),
    "shifts must have shape (2, 1, 1), got (2, 2)": lambda: mixed_difference(np.sum, ONE, TWO),
    "shifts must be finite, got inf": lambda: mixed_difference(np.sum, [1.0], [[math.inf]]),
    "value must be finite, got nan": lambda: second_order_terms(math.nan, [1, 1], TWO, [1], [1]),
    "value must have shape (), got (1,)": lambda: second_order_terms([1], [1, 1], TWO, [1], [1]),
    "gradient must be finite, got nan": lambda: second_order_terms(1, [1, math.nan], TWO, [1], [1]),
    "gradient must have shape (2,), got (3,)": lambda: second_order_terms(
        1, [1, 1, 1], TWO, [1], [1]
    ),
    "hessian must be finite, got inf": lambda: second_order_terms(
        1, [1, 1], TWO * math.inf, [1], [1]
    ),
    "hessian must have shape (2, 2), got (1, 1)": lambda: second_order_terms(
        1, [1, 1], ONE, [1], [1]
    ),
    "p_m must have at least 1 axes, got shape ()": lambda: second_order_terms(
        1, [1, 1], TWO, 1, [1]
    ),
    "p_m must have shape (2,), got (2, 1)": lambda: second_order_terms(
        1, [1, 1], TWO, [[1], [1]], [1]
    ),
    "logits must be exact in float64, got 9007199254740993": lambda: softmax([1, 2**53 + 1]),
    "logits must be exact in float64, got 9223372036854775807": lambda: softmax([2**63 - 1]),
    "value must be exact in float64, got -9007199254740993": lambda: second_order_terms(
        -(2**53) - 1, [1, 1], TWO, [1], [1]
    ),
    "p_m must be finite, got inf": lambda: second_order_terms(1, [1, 1], TWO, [math.inf], [1]),
    "p_n must have at least 1 axes, got shape ()": lambda: second_order_terms(
        1, [1, 1], TWO, [1], 1
    ),
    "p_n must have shape (1,), got (2,)": lambda: second_order_terms(1, [1, 1], TWO, [1], [1, 1]),
    "p_n must be finite, got nan": lambda: second_order_terms(1, [1, 1], TWO, [1], [math.nan]),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float16, np.float32, np.longdouble])
def test_real_numbers_of_every_dtype_are_welcome_if_nothing_is_lost(dtype):
    got = softmax(np.array([1, 1, 1, 1], dtype))
    np.testing.assert_array_equal(got, [0.25] * 4, strict=True)


def test_a_number_between_two_of_float64_is_refused():
    third = 1 / np.longdouble(3)
    if third == np.float64(third):
        pytest.skip("this machine's long double is no longer than float64")
    with pytest.raises(ValueError, match="logits must be exact in float64"):
        softmax(np.array([third]))


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_what_is_not_a_real_number_is_refused(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_or_shape_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- claims ------------------------------------------------------------------------------------


def shuffles(rng, n, count=20):
    """Random orders of n rows, none of them the old one."""
    orders = (rng.permutation(n) for _ in range(10 * count))
    return list(itertools.islice((o for o in orders if (o != np.arange(n)).any()), count))


def layer_norm(X):
    return (X - X.mean(axis=-1, keepdims=True)) / X.std(axis=-1, keepdims=True)


def stack(X, layers):
    """Pre-LN Transformer without positions; a layer is (W, W_in, W_out)."""
    for W, W_in, W_out in layers:
        X = X + attend(layer_norm(X), W)
        X = X + np.maximum(layer_norm(X) @ W_in, 0) @ W_out
    return X


def causal_stack(X, layers):
    for W in layers:
        X = X + attend(X, W, mask=causal_mask(len(X)))
    return X


@claim("attention.stochastic")
def test_weights_of_a_query_sum_to_one():
    rng = np.random.default_rng(0)
    Q, K = 3 * rng.standard_normal((2, 4, 10, 8))
    rows = attention_weights(Q, K).sum(axis=-1)
    raw = np.exp(attention_logits(Q, K)).sum(axis=-1)
    return at_most(1e-12, right=largest(rows - 1), wrong=float(np.abs(raw - 1).min()))


@claim("attention.scale")
def test_scale_keeps_the_variance_of_the_logits_at_one():
    rng = np.random.default_rng(1)
    q, k = rng.standard_normal((2, 50_000, 1, 64))
    scaled = attention_logits(q, k).var()
    unscaled = (q * k).sum(axis=-1).var()
    return at_most(0.05, right=abs(scaled - 1), wrong=abs(unscaled - 1), unscaled=unscaled)


@claim("attention.equivariant")
def test_shuffling_the_tokens_shuffles_the_outputs():
    rng = np.random.default_rng(2)
    X, W = 2 * rng.standard_normal((8, 16)), projections(rng, 16)
    Z, orders = attend(X, W), shuffles(rng, 8)
    equivariant = [largest(attend(X[o], W) - Z[o]) for o in orders]
    invariant = [largest(attend(X[o], W) - Z) for o in orders]
    return at_most(
        1e-12, right=max(equivariant), wrong=min(invariant), largest_change=max(invariant)
    )


@claim("attention.stack")
def test_a_whole_stack_of_layers_is_equivariant():
    rng = np.random.default_rng(3)
    X, P = rng.standard_normal((2, 8, 16))
    layers = [
        (projections(rng, 16), rng.standard_normal((16, 32)) / 4, rng.standard_normal((32, 16)) / 6)
        for _ in range(3)
    ]
    orders = shuffles(rng, 8, count=5)

    def error(X, n_layers, positions):
        Z = stack(X + positions, layers[:n_layers])
        return [largest(stack(X[o] + positions, layers[:n_layers]) - Z[o]) for o in orders]

    right = max(max(error(X, n, 0)) for n in (1, 2, 3))
    wrong = min(min(error(X, n, P)) for n in (1, 2, 3))
    return at_most(1e-12, right=right, wrong=wrong, layers=len(layers))


@claim("attention.pooled")
def test_mean_over_the_positions_does_not_notice_a_shuffle():
    rng = np.random.default_rng(4)
    X, W = rng.standard_normal((8, 16)), projections(rng, 16)
    Z = attend(X, W)
    orders = [o for o in shuffles(rng, 8) if o[0] != 0]
    right = max(largest(attend(X[o], W).mean(axis=0) - Z.mean(axis=0)) for o in orders)
    wrong = min(largest(attend(X[o], W)[0] - Z[0]) for o in orders)
    return at_most(1e-12, right=right, wrong=wrong)


@claim("attention.cls")
def test_a_fixed_slot_does_not_notice_a_shuffle_of_the_others():
    rng = np.random.default_rng(5)
    X, W = rng.standard_normal((8, 16)), projections(rng, 16)
    orders = shuffles(rng, 7)
    others = [np.concatenate([[0], 1 + o]) for o in orders]
    everyone = [np.roll(o, 1) for o in others]
    right = max(largest(attend(X[o], W)[0] - attend(X, W)[0]) for o in others)
    wrong = min(largest(attend(X[o], W)[0] - attend(X, W)[0]) for o in everyone)
    return at_most(1e-12, right=right, wrong=wrong)


@claim("attention.cat_mouse")
def test_the_cat_is_the_same_cat_in_both_sentences():
    """Cat catches mouse, mouse catches cat: the cat is in slot 0, then in slot 2."""
    rng = np.random.default_rng(6)
    sentence, P = rng.standard_normal((2, 3, 8))
    W = projections(rng, 8)
    hunt, chase = attend(sentence, W), attend(sentence[::-1], W)
    hunt_at, chase_at = attend(sentence + P, W), attend(sentence[::-1] + P, W)
    return at_most(
        1e-12,
        right=largest(hunt[0] - chase[2]),
        wrong=largest(hunt_at[0] - chase_at[2]),
        slot0=largest(hunt[0] - chase[0]),
        pooled=largest(hunt.mean(axis=0) - chase.mean(axis=0)),
        pooled_with_positions=largest(hunt_at.mean(axis=0) - chase_at.mean(axis=0)),
    )


@claim("attention.set_function")
def test_attention_is_more_than_an_additive_bag_of_words():
    """Exchange three tokens for others: what do the three exchanges change only together?"""
    rng = np.random.default_rng(7)
    X, W = 2 * rng.standard_normal((6, 8)), projections(rng, 8)
    exchanges = np.zeros((3, 6, 8))
    for s in range(3):
        exchanges[s, s] = 2 * rng.standard_normal(8) - X[s]

    def bag(X):
        return np.tanh(X @ W[0]).sum(axis=0)

    def pooled(X):
        return attend(X, W).mean(axis=0)

    interaction = float(np.linalg.norm(mixed_difference(pooled, X, exchanges)))
    right = largest(mixed_difference(bag, X, exchanges))
    return at_most(1e-12, right=right, wrong=interaction, interaction=interaction)


@claim("attention.rnn")
def test_a_recurrence_weighs_a_token_by_its_age():
    rng = np.random.default_rng(8)
    n, d = 12, 6
    A, x = rng.standard_normal((d, d)) / math.sqrt(d), rng.standard_normal((n, d))
    ages = range(n - 1, -1, -1)
    want = sum(x_t @ np.linalg.matrix_power(A, age) for x_t, age in zip(x, ages, strict=True))
    swapped = x[[1, 0, *range(2, n)]]
    return at_most(
        1e-12,
        right=largest(linear_recurrence(A, x)[-1] - want),
        wrong=largest(linear_recurrence(np.eye(d), x)[-1] - want),
        swap_changes=largest(linear_recurrence(A, x)[-1] - linear_recurrence(A, swapped)[-1]),
    )


@claim("attention.causal_one_layer")
def test_one_causal_layer_is_still_blind_to_the_order_of_the_past():
    rng = np.random.default_rng(9)
    X, layers = rng.standard_normal((8, 16)), [projections(rng, 16) for _ in range(2)]

    def changes(n_layers):
        last = causal_stack(X, layers[:n_layers])[-1]
        orders = [[*order, 7] for order in shuffles(np.random.default_rng(10), 7)]
        return [largest(causal_stack(X[o], layers[:n_layers])[-1] - last) for o in orders]

    one, two = changes(1), changes(2)
    return at_most(1e-12, right=max(one), wrong=min(two), two_layers=max(two))


def bos_attention(n, mask):
    """Weight on BOS that a layer without positions computes, read off its outputs.

    Tokens differ in all but one direction; queries and keys see only that one, values say who is
    BOS.
    """
    rng = np.random.default_rng(11)
    X = np.column_stack([np.full(n, 0.5), np.zeros(n), rng.standard_normal((n, 2))])
    X[0, :2] = -0.5, 1.0
    W_Q, W_K, W_V = np.zeros((3, 4, 1))
    W_K[0] = 1.0
    W_V[1] = 1.0
    queries = X @ W_Q + 1.0  # a bias of the queries, the same for all
    return attention(queries, X @ W_K, X @ W_V, mask=mask)[:, 0]


@claim("attention.bos")
def test_a_causal_mask_gives_the_position_away_through_bos():
    n, t = 513, np.arange(513)
    want = bos_weight(t, bos_logit=-0.5, other_logit=0.5)
    causal, open_ = bos_attention(n, causal_mask(n)), bos_attention(n, None)
    return at_most(
        1e-12,
        right=largest(causal - want),
        wrong=largest(open_ - want),
        first=causal[1],
        second=causal[2],
        third=causal[3],
    )


@claim("attention.bos_position")
def test_the_position_can_be_read_off_the_weight_of_bos():
    n, t = 513, np.arange(513)

    def read(weight):
        return (1 / weight - 1) / math.exp(0.5 - -0.5)

    causal, open_ = bos_attention(n, causal_mask(n)), bos_attention(n, None)
    return at_most(1e-6, right=largest(read(causal) - t), wrong=largest(read(open_) - t))


@claim("attention.removable")
def test_positions_that_all_three_maps_remove_leave_no_trace():
    rng = np.random.default_rng(12)
    X, W = rng.standard_normal((6, 12)), projections(rng, 12, d_head=3)
    unseen = np.linalg.svd(np.hstack(list(W)).T)[2][9:]  # 12 directions, 9 of them are read
    P = rng.standard_normal((6, 3)) @ unseen
    generic = rng.standard_normal((6, 12))
    generic *= np.linalg.norm(P, axis=1, keepdims=True) / np.linalg.norm(
        generic, axis=1, keepdims=True
    )
    right = largest(attend(X + P, W) - attend(X, W))
    return at_most(1e-12, right=right, wrong=largest(attend(X + generic, W) - attend(X, W)))


class TwoTokens:
    """Scalar function of two tokens, with derivatives from another implementation (torch)."""

    def __init__(self):
        rng = np.random.default_rng(13)
        self.d = 4
        self.W, self.u = projections(rng, self.d), rng.standard_normal(self.d)
        self.x, self.p = rng.standard_normal((2, 2, self.d))
        self.p /= np.linalg.norm(self.p, axis=1, keepdims=True)

    def __call__(self, x):
        return float(attend(x, self.W).mean(axis=0) @ self.u)

    def torch_function(self, flat):
        W_Q, W_K, W_V = torch.tensor(self.W)
        X = flat.reshape(2, self.d)
        scores = (X @ W_Q) @ (X @ W_K).T / 2  # root of the width 4
        return (scores.softmax(-1) @ X @ W_V).mean(0) @ torch.tensor(self.u)

    def terms(self, eps):
        flat = torch.tensor(self.x.ravel())
        gradient = torch.autograd.functional.jacobian(self.torch_function, flat).numpy()
        hessian = torch.autograd.functional.hessian(self.torch_function, flat).numpy()
        return second_order_terms(self(self.x), gradient, hessian, *(eps * self.p))


@claim("attention.taylor")
def test_with_both_halves_the_error_is_of_third_order():
    f, sizes = TwoTokens(), np.logspace(-3, -1, 9)

    def errors(weights):
        return [abs(f(f.x + eps * f.p) - weights @ f.terms(eps)) for eps in sizes]

    def slope(errors):
        return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])

    with_halves, without = errors(np.ones(6)), errors(np.array([1, 1, 1, 2, 2, 1]))
    return at_most(
        0.05,
        right=abs(slope(with_halves) - 3),
        wrong=abs(slope(without) - 3),
        slope=slope(with_halves),
        slope_without=slope(without),
        error_at_1e_3=with_halves[0],
        error_without_at_1e_3=without[0],
    )


@claim("attention.interaction")
def test_the_sixth_term_is_what_two_positions_do_only_together():
    f, eps = TwoTokens(), 1e-3
    shifts = np.zeros((2, 2, f.d))
    shifts[0, 0], shifts[1, 1] = eps * f.p
    together, sixth = mixed_difference(f, f.x, shifts), f.terms(eps)[5]
    return at_most(0.05, right=abs(together - sixth) / abs(sixth), wrong=abs(together / sixth))


def spread(scores):
    """Largest difference between two scores of the same offset."""
    n = len(scores)
    return max(float(np.ptp(np.diagonal(scores, offset))) for offset in range(1 - n, n))


@claim("attention.relative_needs_more")
def test_the_sixth_term_is_relative_only_for_special_hessians():
    angles = 0.3 * np.arange(10)
    P = np.column_stack([np.cos(angles), np.sin(angles)])
    H = np.random.default_rng(14).standard_normal((2, 2))
    return at_most(1e-12, right=spread(P @ np.eye(2) @ P.T), wrong=spread(P @ H @ P.T))


@claim("attention.third_class")
def test_absolute_rotations_give_relative_scores():
    rng = np.random.default_rng(15)
    (q, k), angles = rng.standard_normal((2, 2)), 0.3 * np.arange(10)
    turn = np.exp(1j * angles)

    def turned(x):
        z = complex(*x) * turn
        return np.column_stack([z.real, z.imag])

    P = np.column_stack([turn.real, turn.imag])
    right = spread(attention_logits(turned(q), turned(k)))
    return at_most(1e-12, right=right, wrong=spread(attention_logits(q + P, k + P)))


class Distance(PositionEncoding):
    """A logits door that counts the tokens in between."""

    def bias(self, q, k, q_positions, k_positions):
        distance = (q_positions[..., :, None] - k_positions[..., None, :]).abs()
        return (-0.5 * distance).unsqueeze(-3).to(q.dtype)


def by_equation(layer, x, scale=1.0):
    """Output of a NoPE layer for one sequence, by the equation and in float64."""
    x = x.double().numpy()
    W = [m.weight.detach().double().numpy().T for m in (layer.query, layer.key, layer.value)]
    q, k, v = (np.split(x @ W_, layer.n_heads, axis=-1) for W_ in W)
    mask = causal_mask(len(x)) if layer.causal else None
    heads = [attention(scale * q[h], k[h], v[h], mask=mask) for h in range(layer.n_heads)]
    return np.concatenate(heads, axis=-1) @ layer.output.weight.detach().double().numpy().T


@claim("attention.layer")
def test_layer_equals_the_equation():
    torch.manual_seed(16)
    layer, x = Attention(32, n_heads=4, causal=True), 3 * torch.randn(1, 12, 32)
    got = layer(x)[0].detach().numpy()
    return at_most(
        1e-5,
        right=largest(got - by_equation(layer, x[0])),
        wrong=largest(got - by_equation(layer, x[0], scale=math.sqrt(8))),
    )


@claim("attention.fused")
def test_fused_layer_equals_the_reference():
    torch.manual_seed(17)
    layer = Attention(32, n_heads=4, encoding=Distance(), causal=True)
    fused = Attention(32, n_heads=4, encoding=Distance(), causal=True, fused=True)
    biasless = Attention(32, n_heads=4, causal=True, fused=True)
    fused.load_state_dict(layer.state_dict())
    biasless.load_state_dict(layer.state_dict())
    x = 3 * torch.randn(2, 12, 32)
    with torch.no_grad():
        want = layer(x).numpy()
        right, wrong = largest(fused(x).numpy() - want), largest(biasless(x).numpy() - want)
    return at_most(1e-5, right=right, wrong=wrong)


@claim("attention.offset")
@torch.no_grad()
def test_a_new_token_with_its_position_continues_the_full_pass():
    torch.manual_seed(18)
    layer = Attention(32, n_heads=4, encoding=Distance(), causal=True)
    x = 3 * torch.randn(2, 12, 32)
    want = layer(x)[:, -1:]
    right = layer(x[:, -1:], torch.tensor([11]), context=x)
    wrong = layer(x[:, -1:], torch.tensor([0]), context=x)
    return at_most(
        1e-5, right=largest((right - want).numpy()), wrong=largest((wrong - want).numpy())
    )
