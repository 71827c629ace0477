"""Transformer-XL and XLNet: printed facts, properties, oracles and errors; the claims."""

import math
import re

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import XLNetConfig, XLNetModel
from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as conformer
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from posenc.equations.attention import softmax
from posenc.equations.sinusoidal import sinusoidal
from posenc.equations.xlnet import (
    column_offsets,
    factorisation_mask,
    logits,
    offset_vectors,
    segment_term,
    shift,
    shift_loop,
    terms,
    turned_scores,
)
from posenc.layers.attention import Attention
from posenc.layers.sinusoidal import Sinusoidal
from posenc.layers.xlnet import TransformerXL, from_xlnet
from posenc.layers.xlnet import shift as shift_view

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
reals = st.floats(-50, 50)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def largest(x):
    return float(abs(x).max())


def drawn(*shapes, seed=0):
    """Arrays of normal numbers."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def head(n_q=5, n_k=7, d=6, seed=0):
    """Arguments of `terms`: q, k, r, u, v."""
    return drawn((n_q, d), (n_k, d), (n_q, n_k, d), (d,), (d,), seed=seed)


# --- printed facts -----------------------------------------------------------------------------


def test_the_same_place_is_zeros_and_ones():
    np.testing.assert_array_equal(offset_vectors(0, 6), [0, 0, 0, 1, 1, 1])


def test_sines_come_first():
    got = offset_vectors(np.pi / 2, 4, base=4)
    np.testing.assert_allclose(got, [1, np.sin(np.pi / 4), 0, np.cos(np.pi / 4)], atol=1e-15)


def test_a_limit_stands_on_both_sides_and_is_reached():
    got = offset_vectors([-9, -3, -2, 3, 9], 4, clamp=3)
    np.testing.assert_array_equal(got, offset_vectors([-3, -3, -2, 3, 3], 4))
    np.testing.assert_array_equal(offset_vectors(1, 2, clamp=1), offset_vectors(1, 2))


def test_columns_fall_from_the_number_of_keys():
    assert column_offsets(2, 4).tolist() == [4, 3, 2, 1, 0, -1]
    assert column_offsets(1, 1).tolist() == [1, 0]
    assert column_offsets(4, 2).tolist() == [2, 1, 0, -1, -2, -3]
    assert column_offsets(2, 3, start=7).tolist() == [9, 8, 7, 6, 5]
    assert column_offsets(2, 3, start=np.int64(-1)).tolist() == [1, 0, -1, -2, -3]


def test_four_terms_of_width_one():
    q, k, r = np.array([[2.0], [3.0]]), np.array([[5.0]]), np.array([[[7.0]], [[11.0]]])
    got = terms(q, k, r, np.array([13.0]), np.array([17.0]))
    np.testing.assert_array_equal(got[..., 0], [[10, 15], [14, 33], [65, 65], [119, 187]])
    want = np.array([[10 + 14 + 65 + 119], [15 + 33 + 65 + 187]])
    np.testing.assert_array_equal(logits(q, k, r, np.array([13.0]), np.array([17.0])), want)


def test_logits_are_divided_by_the_root_of_the_width():
    q, k, r, u, v = head(d=4)
    np.testing.assert_allclose(logits(q, k, r, u, v), terms(q, k, r, u, v).sum(0) / 2, rtol=1e-15)


def test_one_query_reads_all_columns_but_the_first():
    np.testing.assert_array_equal(shift([[9, 1, 2, 3]]), [[1, 2, 3]])
    np.testing.assert_array_equal(shift([[9, 1], [2, 3], [4, 5], [6, 7]][:1]), [[1]])


def test_orders_of_three():
    content = factorisation_mask([1, 2, 0])
    np.testing.assert_array_equal(content, [[1, 1, 1], [0, 1, 0], [0, 1, 1]])
    query = factorisation_mask([1, 2, 0], stream="query")
    np.testing.assert_array_equal(query, [[0, 1, 1], [0, 0, 0], [0, 1, 0]])


def test_own_and_other_segments_have_a_vector_each():
    q, table, w = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 10.0]]), np.array([0.5, 0.0])
    np.testing.assert_array_equal(
        segment_term(q, np.array([[True, False]]), table, w), [[1.5, 20.0]]
    )


# --- properties --------------------------------------------------------------------------------


@given(sizes, st.integers(-40, 40))
def test_the_columns_hold_the_offset_of_every_pair(n, start):
    n_q, n_k = n
    rows = np.tile(column_offsets(n_q, n_k, start), (n_q, 1))
    want = [[start + i - j for j in range(n_k)] for i in range(n_q)]
    np.testing.assert_array_equal(shift_loop(rows), want)


@given(sizes, st.integers(0, 99))
def test_the_fold_is_the_loop_bit_for_bit(n, seed):
    (scores,) = drawn((2, 3, n[0], sum(n)), seed=seed)
    np.testing.assert_array_equal(shift(scores), shift_loop(scores))


@given(sizes, st.integers(0, 99))
def test_column_zero_is_never_read(n, seed):
    (scores,) = drawn((n[0], sum(n)), seed=seed)
    other = scores.copy()
    other[:, 0] = 99
    np.testing.assert_array_equal(shift(scores), shift(other))


@given(st.lists(reals, min_size=1, max_size=5), st.integers(1, 8), st.floats(1.5, 1e6))
def test_vectors_of_offsets_are_sinusoids_in_halves(offsets, half, base):
    got = offset_vectors(offsets, 2 * half, base)
    pairs = sinusoidal(offsets, 2 * half, base).reshape(len(offsets), half, 2)
    np.testing.assert_array_equal(got, np.concatenate([pairs[..., 0], pairs[..., 1]], axis=-1))


@given(st.integers(0, 99))
def test_the_terms_are_linear_in_what_they_share(seed):
    q, k, r, u, v = head(seed=seed)
    a, b, c, d = terms(q, k, r, u, v)
    zero = np.zeros(6)
    np.testing.assert_allclose(terms(q + u, k, r, zero, zero)[0], a + c, atol=1e-12)
    np.testing.assert_allclose(terms(q + v, k, r, zero, zero)[1], b + d, atol=1e-12)


@given(st.permutations(range(6)))
def test_a_factorisation_is_a_causal_mask_in_its_own_order(order):
    for stream, wanted in (("content", np.tri(6)), ("query", np.tri(6, k=-1))):
        mask = factorisation_mask(order, stream=stream)
        np.testing.assert_array_equal(mask[np.ix_(order, order)], wanted)


def test_axes_in_front_broadcast():
    q, k, r, u, v = head()
    many = terms(np.stack([q, 2 * q]), k, r, u, v)
    assert many.shape == (4, 2, 5, 7)
    np.testing.assert_allclose(many[:, 1], terms(2 * q, k, r, u, v), rtol=1e-14)
    np.testing.assert_allclose(
        terms(q, np.stack([k, -k]), r, u, v)[:, 1], terms(q, -k, r, u, v), rtol=1e-14
    )
    np.testing.assert_allclose(
        logits(q, k, np.stack([r, -r]), u, v)[1], logits(q, k, -r, u, v), rtol=1e-14
    )
    got = turned_scores(np.stack([q, 2 * q]), np.arange(5), np.arange(3))
    np.testing.assert_allclose(got[1], 2 * got[0], rtol=1e-14)


def test_arguments_are_not_changed():
    arrays = head()
    copies = [array.copy() for array in arrays]
    logits(*arrays)
    scores = np.ones((2, 5))
    shift(scores)[:] = 7
    shift_loop(scores)
    for array, copy in zip([*arrays, scores], [*copies, np.ones((2, 5))], strict=True):
        np.testing.assert_array_equal(array, copy)


# --- oracles -----------------------------------------------------------------------------------


def test_one_vector_equals_mpmath():
    with mpmath.workdps(40):
        theta = [mpmath.mpf(10000) ** (-mpmath.mpf(2 * m) / 8) for m in range(4)]
        want = [float(f(-77 * t)) for f in (mpmath.sin, mpmath.cos) for t in theta]
    np.testing.assert_allclose(offset_vectors(-77, 8), want, rtol=0, atol=1e-14)


def test_terms_equal_a_loop():
    q, k, r, u, v = head()
    got = terms(q, k, r, u, v)
    for i in range(5):
        for j in range(7):
            a = sum(q[i, c] * k[j, c] for c in range(6))
            b = sum(q[i, c] * r[i, j, c] for c in range(6))
            c_ = sum(u[c] * k[j, c] for c in range(6))
            d = sum(v[c] * r[i, j, c] for c in range(6))
            np.testing.assert_allclose(got[:, i, j], [a, b, c_, d], rtol=0, atol=1e-13)


def hf(d=64, n_heads=4, **more):
    """One attention layer of XLNet in transformers, with weights of some size."""
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=5, d_model=d, n_head=n_heads, n_layer=1, dropout=0.0, **more)
    layer = XLNetRelativeAttention(config).double().eval()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(std=d**-0.5 if p.ndim == 3 else 1.0)
    return layer, XLNetModel(config).eval()


@pytest.mark.parametrize("clamp", [-1, 3])
@pytest.mark.parametrize(("n_q", "n_k"), [(4, 4), (3, 8), (1, 5)])
def test_columns_and_vectors_are_those_of_transformers(n_q, n_k, clamp):
    _, model = hf(clamp_len=clamp)
    theirs = model.relative_positional_encoding(n_q, n_k, bsz=1)[:, 0].numpy()
    ours = offset_vectors(column_offsets(n_q, n_k), 64, clamp=None if clamp < 0 else clamp)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("n_q", "n_k"), [(4, 4), (3, 8), (1, 5), (5, 2)])
def test_the_shift_is_that_of_xlnet(n_q, n_k):
    (scores,) = drawn((2, 3, n_q, n_q + n_k))
    theirs = XLNetRelativeAttention.rel_shift_bnij(torch.tensor(scores), n_k)
    np.testing.assert_array_equal(shift(scores), theirs.numpy())


def test_the_shift_is_that_of_the_conformer():
    """It has no column that nobody reads, and as many queries as keys."""
    n, d = 5, 8
    (q, k, at), (v,) = drawn((2, 3, n, d), (2, 3, n, d), (1, 2 * n - 1, 3 * d)), drawn((3, d))
    holder = torch.nn.Module()
    holder.linear_pos, holder.head_size, holder.scaling = torch.nn.Identity(), d, 1.0
    holder.pos_bias_u = holder.pos_bias_v = torch.tensor(v)
    parts = torch.tensor(q), torch.tensor(k), torch.tensor(at)
    theirs = conformer._apply_relative_position_encoding(holder, *parts)[1]
    r = at.reshape(2 * n - 1, 3, d).transpose(1, 2, 0)
    scores = (q + v[:, None]) @ r
    ours = shift(np.concatenate([np.full((2, 3, n, 1), 99.0), scores], axis=-1))
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=0, atol=1e-13)


def probabilities(x, context, layer):
    """Weights of XLNet's attention with the vectors of our offsets, (heads, n_q, n_k)."""
    R = torch.tensor(offset_vectors(column_offsets(len(x), len(context)), x.shape[1]))
    with torch.no_grad():
        q, k, v = (
            torch.einsum("ih,hnd->ind", torch.tensor(t), w)[:, None]
            for t, w in ((x, layer.q), (context, layer.k), (context, layer.v))
        )
        r = torch.einsum("ih,hnd->ind", R, layer.r)[:, None]
        _, found = layer.rel_attn_core(q, k, v, r, output_attentions=True)
    return found[:, :, 0].permute(2, 0, 1).numpy()


def ours(x, context, layer, shared=False, scaled=True):
    """The same by `logits`, one head at a time and one vector per pair."""
    n_q, n_k = len(x), len(context)
    at = np.arange(n_k - n_q, n_k)[:, None] - np.arange(n_k)
    R = offset_vectors(at, x.shape[1])
    found = []
    for h in range(layer.n_head):
        names = "q", "k", "k" if shared else "r", "r_w_bias", "r_r_bias"
        parts = {name: getattr(layer, name).detach().numpy() for name in names}
        W_q, W_k, W_r = (parts[name][:, h] for name in names[:3])
        u, v = parts["r_w_bias"][h], parts["r_r_bias"][h]
        e = logits(x @ W_q, context @ W_k, R @ W_r, u, v)
        found.append(softmax(e if scaled else e * np.sqrt(layer.d_head)))
    return np.array(found)


def test_segments_are_those_of_xlnet():
    layer, _ = hf()
    (x,) = drawn((6, 64))
    segment = np.array([0, 0, 1, 1, 1, 0])
    same = segment[:, None] == segment
    q = torch.einsum("ih,hnd->ind", torch.tensor(x), layer.q.detach())[:, None]
    ef = torch.einsum("ibnd,snd->ibns", q + layer.r_s_bias, layer.seg_embed)
    one_hot = torch.nn.functional.one_hot(torch.tensor(~same).long(), 2).double()[:, :, None]
    theirs = torch.einsum("ijbs,ibns->bnij", one_hot, ef)[0].detach().numpy()
    for h in range(4):
        table, w = layer.seg_embed[:, h].detach().numpy(), layer.r_s_bias[h].detach().numpy()
        got = segment_term(q[:, 0, h].numpy(), same, table, w)
        np.testing.assert_allclose(got, theirs[h], rtol=0, atol=1e-13)


# --- errors ------------------------------------------------------------------------------------

Q, K, R, U, V = head()
SAME = np.ones((5, 7), bool)

TYPE_ERRORS = {
    "offsets must hold real numbers, got dtype complex128": lambda: offset_vectors(1j, 2),
    "d_model must be an integer, got 2.0": lambda: offset_vectors(1, 2.0),
    "clamp must be an integer, got 1.5": lambda: offset_vectors(1, 2, clamp=1.5),
    "q must hold real numbers, got dtype bool": lambda: terms(Q > 0, K, R, U, V),
    "n_queries must be an integer, got 2.0": lambda: column_offsets(2.0, 2),
    "n_keys must be an integer, got True": lambda: column_offsets(2, True),
    "start must be an integer, got 0.5": lambda: column_offsets(2, 2, 0.5),
    "start must be an integer, got True": lambda: column_offsets(2, 2, True),
    "scores must hold real numbers, got dtype <U1": lambda: shift([["a", "b"]]),
    "g must hold real numbers, got dtype complex128": lambda: turned_scores(1j * Q, [0], [0]),
    "same must be boolean, got dtype float64": lambda: segment_term(Q, 1.0 * SAME, K[:2], U),
}

VALUE_ERRORS = {
    "d_model must be a multiple of 2, got 5": lambda: offset_vectors(1, 5),
    "clamp must be at least 1, got 0": lambda: offset_vectors(1, 2, clamp=0),
    "base must be above 1, got 1": lambda: offset_vectors(1, 2, 1),
    "offsets must be finite, got nan": lambda: offset_vectors(np.nan, 2),
    "q must have at least 2 axes, got shape (6,)": lambda: terms(Q[0], K, R, U, V),
    "k must have at least 2 axes, got shape (6,)": lambda: terms(Q, K[0], R, U, V),
    "k must have shape (7, 6), got (7, 5)": lambda: terms(Q, K[:, :5], R, U, V),
    "r must have at least 3 axes, got shape (7, 6)": lambda: terms(Q, K, R[0], U, V),
    "r must have shape (5, 7, 6), got (4, 7, 6)": lambda: terms(Q, K, R[:4], U, V),
    "u must have shape (6,), got (5,)": lambda: terms(Q, K, R, U[:5], V),
    "v must have shape (6,), got (1, 6)": lambda: logits(Q, K, R, U, V[None]),
    "leading axes of q, k must broadcast, got (2,), (3,)": lambda: terms(
        np.stack([Q] * 2), np.stack([K] * 3), R, U, V
    ),
    "leading axes of q, r must broadcast, got (2,), (3,)": lambda: terms(
        np.stack([Q] * 2), K, np.stack([R] * 3), U, V
    ),
    "n_queries must be at least 1, got 0": lambda: column_offsets(0, 2),
    "n_keys must be at least 1, got 0": lambda: column_offsets(2, 0),
    "scores must have at least 2 axes, got shape (3,)": lambda: shift([1, 2, 3]),
    "scores must have more columns than rows, got shape (3, 3)": lambda: shift_loop(np.eye(3)),
    "scores must not be empty, got shape (0, 3)": lambda: shift(np.ones((0, 3))),
    "d_model must be a multiple of 2, got 3": lambda: turned_scores(Q[:, :3], np.arange(5), [0]),
    "q_positions must have shape (5,), got (4,)": lambda: turned_scores(Q, np.arange(4), [0]),
    "k_positions must have shape (1,), got ()": lambda: turned_scores(Q, np.arange(5), 0),
    "q must have shape (5, 6), got (1, 5, 6)": lambda: segment_term(Q[None], SAME, K[:2], U),
    "same must have shape (5, 5), got (7, 4)": lambda: segment_term(
        Q, SAME[0:5, 0:4].repeat(2, axis=0)[:7], K[:2], U
    ),
    "same must have shape (5, 1), got ()": lambda: segment_term(Q, np.True_, K[:2], U),
    "same must have shape (5, 1), got (5, 0)": lambda: segment_term(Q, SAME[:, :0], K[:2], U),
    "table must have shape (2, 6), got (3, 6)": lambda: segment_term(Q, SAME, K[:3], U),
    "w must have shape (6,), got (5,)": lambda: segment_term(Q, SAME, K[:2], U[:5]),
    "order must be a permutation of 0 .. n-1, got [1 2]": lambda: factorisation_mask([1, 2]),
    "order must be a permutation of 0 .. n-1, got [0 0]": lambda: factorisation_mask([0, 0]),
    "stream must be 'content' or 'query', got 'both'": lambda: factorisation_mask(
        [0], stream="both"
    ),
}


@pytest.mark.parametrize("message", TYPE_ERRORS)
def test_a_wrong_type_is_named(message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        TYPE_ERRORS[message]()


@pytest.mark.parametrize("message", VALUE_ERRORS)
def test_a_wrong_value_is_named(message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VALUE_ERRORS[message]()


# --- the layer ---------------------------------------------------------------------------------

D, HEADS = 16, 2


def encoding(dtype=torch.float64, **more):
    """A layer whose parameters all matter."""
    return TransformerXL(D, HEADS, std=1.0, dtype=dtype, **more)


def attention(dtype=torch.float64, causal=False, **more):
    return Attention(D, HEADS, encoding(dtype, **more), causal=causal, dtype=dtype)


def twin(layer, **more):
    """The same weights, computed another way."""
    other = encoding(layer.u.dtype, **more)
    other.load_state_dict(layer.state_dict())
    return other


def heads(n_q, n_k, batch=2, dtype=torch.float64):
    size = D // HEADS
    return torch.randn(batch, HEADS, n_q, size).to(dtype), torch.randn(batch, HEADS, n_k, size).to(
        dtype
    )


def looped(layer, q, k, q_at, k_at, **more):
    """The equation, pair by pair of batch and head, in float64."""
    q, k = q.double().numpy(), k.double().numpy()
    W = layer.relative.weight.detach().double().numpy().reshape(HEADS, -1, D)
    u, v = (x.detach().double().numpy() for x in (layer.u, layer.v))
    q_at, k_at = (at.expand(len(q), -1).numpy() for at in (q_at, k_at))
    out = np.empty((*q.shape[:3], k.shape[2]))
    for b, h in np.ndindex(*q.shape[:2]):
        R = offset_vectors(q_at[b][:, None] - k_at[b], D, **more)
        out[b, h] = terms(q[b, h], k[b, h], R @ W[h].T, u[h], v[h])[1:].sum(0)
    return torch.tensor(out / math.sqrt(D // HEADS))


def moved(theirs, **more):
    layer = Attention(64, 4, TransformerXL(64, 4, dtype=torch.float64, **more), dtype=torch.float64)
    layer.load_state_dict(
        from_xlnet(
            theirs.rel_attn.state_dict() if hasattr(theirs, "rel_attn") else theirs.state_dict()
        )
    )
    return layer


def both_streams(theirs, h, g, memory, order, ours):
    """Outputs of transformers and of ours, both with residual and normalisation: two pairs."""
    n, past = h.shape[1], memory.shape[1]
    R = torch.tensor(offset_vectors(column_offsets(n, past + n), 64))[:, None].expand(-1, 2, -1)
    masks = [
        np.concatenate([np.ones((n, past), bool), factorisation_mask(order, stream=s)], axis=1)
        for s in ("content", "query")
    ]
    content, query = (torch.tensor(mask) for mask in masks)
    hidden = [(~mask).double()[:, :, None, None].expand(-1, -1, 2, 1) for mask in (content, query)]
    want = theirs(
        h.mT.permute(2, 0, 1), g.mT.permute(2, 0, 1), *hidden, R, None, mems=memory.transpose(0, 1)
    )
    at, context = past + torch.arange(n), torch.cat([memory, h], dim=1)
    got = [
        theirs.layer_norm(ours(x, at, context=context, mask=mask) + x)
        for x, mask in ((h, content), (g, query))
    ]
    return [w.transpose(0, 1) for w in want], got


def stack(layers, segments, memory_length):
    """Segments one after the other, each layer with the inputs of the last as its memory."""
    memories, found = [None] * len(layers), []
    for x in segments:
        for i, layer in enumerate(layers):
            old = memories[i]
            context = x if old is None else torch.cat([old, x], dim=1)
            past = context.shape[1] - x.shape[1]
            memories[i] = context[:, -memory_length:].detach()
            at = past + torch.arange(x.shape[1])
            x = x + layer(x, at, context=context)
        found.append(x)
    return found


# --- claims ------------------------------------------------------------------------------------


@claim("xlnet.key")
def test_offsets_have_a_key_matrix_of_their_own():
    layer, _ = hf()
    x, memory = drawn((6, 64), (5, 64))
    context = np.concatenate([memory, x])
    want = probabilities(x, context, layer)
    return at_most(
        1e-14,
        right=largest(ours(x, context, layer) - want),
        wrong=largest(ours(x, context, layer, shared=True) - want),
    )


@claim("xlnet.scale")
def test_all_four_terms_are_scaled():
    layer, _ = hf()
    x, memory = drawn((6, 64), (5, 64))
    context = np.concatenate([memory, x])
    want = probabilities(x, context, layer)
    return at_most(
        1e-14,
        right=largest(ours(x, context, layer) - want),
        wrong=largest(ours(x, context, layer, scaled=False) - want),
    )


@claim("xlnet.invariant")
def test_logits_do_not_know_where_the_text_starts():
    n, d = 6, 16
    x, W_q, W_k, W_r, u, v = drawn((n, d), (d, d), (d, d), (d, d), (d,), (d,))

    def at(start, absolute):
        place = start + np.arange(n)
        r = offset_vectors(place[:, None] - place, d) @ W_r
        e = logits(x @ W_q, x @ W_k, r, u, v)
        kept = sinusoidal(place, d) @ W_q @ (x @ W_k).T / np.sqrt(d)  # (c) with a query's place
        return e + kept if absolute else e

    right, wrong = (
        max(largest(at(start, absolute) - at(0, absolute)) for start in (1, 7, 1000))
        for absolute in (False, True)
    )
    return at_most(1e-12, right=right, wrong=wrong)


@claim("xlnet.merge")
def test_a_projected_constant_is_a_constant():
    n, d, d_head = 6, 16, 4
    x, W_q, W_k, u = drawn((n, d), (d, d_head), (d, d_head), (d,))
    k, zero = x @ W_k, np.zeros(d_head)
    r = np.zeros((n, n, d_head))
    want = np.tile(u @ W_q @ k.T, (n, 1))
    merged = terms(x @ W_q, k, r, u @ W_q, zero)[2]
    # u is wider than a head; what fits of it, taken for the vector of the head
    cut = terms(x @ W_q, k, r, u[:d_head], zero)[2]
    return at_most(1e-13, right=largest(merged - want), wrong=largest(cut - want))


@claim("xlnet.parameters")
def test_a_layer_has_five_matrices_and_two_vectors():
    d, layer = 64, hf()[0]
    counted = ("q", "k", "v", "o", "r", "r_w_bias", "r_r_bias")
    n = sum(getattr(layer, name).numel() for name in counted)
    return at_most(
        0.5,
        right=abs(n - (5 * d**2 + 2 * d)),
        wrong=abs(n - (4 * d**2 + 2 * d)),
        more=(d**2 + 2 * d) / (4 * d**2),
        more_768=(768**2 + 2 * 768) / (4 * 768**2),
    )


@claim("xlnet.sign")
def test_the_other_side_differs_in_the_sines():
    o, d = np.arange(1, 50), 32
    S = np.diag(np.repeat([-1.0, 1.0], d // 2))
    there = offset_vectors(-o, d)
    return at_most(
        1e-14,
        right=largest(offset_vectors(o, d) @ S - there),
        wrong=largest(offset_vectors(o, d) - there),
    )


@claim("xlnet.shift")
def test_dropping_and_folding_is_the_loop():
    right = wrong = 0.0
    for n_q, n_k in [(1, 1), (1, 6), (4, 4), (3, 8), (5, 2)]:
        (scores,) = drawn((2, n_q, n_q + n_k))
        want = shift_loop(scores)
        right = max(right, largest(shift(scores) - want))
        wrong = max(wrong, largest(scores[..., :n_k] - want))
    return at_most(1e-15, right=right, wrong=wrong)


@claim("xlnet.one_sided")
def test_without_columns_for_the_future_only_the_past_is_right():
    n_q, n_k = 4, 6
    (full,) = drawn((n_q, n_q + n_k))
    short = full[:, : n_k + 1]  # offsets n_k .. 0, as where a causal mask follows
    want, n = shift_loop(full), short.size
    flat = np.concatenate([short.ravel()[n_q:], np.zeros(n_q * n_k + n_q - n)])
    got = flat[: n_q * n_k].reshape(n_q, n_k)
    past = np.arange(n_k) <= np.arange(n_k - n_q, n_k)[:, None]
    return at_most(
        1e-15,
        right=largest((got - want)[past]),
        wrong=largest((got - want)[~past]),
        n_wrong=int((got != want).sum()),
        n_future=int((~past).sum()),
    )


@claim("xlnet.rope")
def test_inner_products_with_offsets_are_rope():
    n, d = 9, 16
    (g,) = drawn((n, d))
    rng = np.random.default_rng(1)
    at, to = rng.integers(0, 1000, n), rng.integers(0, 1000, 12)
    R = offset_vectors(at[:, None] - to, d)
    want = np.einsum("id,ijd->ij", g, R)
    return at_most(
        1e-11,
        right=largest(turned_scores(g, at, to) - want),
        wrong=largest(turned_scores(g, -at, -to) - want),
    )


@claim("xlnet.segment")
def test_the_segment_term_knows_same_or_not_and_no_more():
    n, d = 8, 6
    q, table, w = drawn((n, d), (2, d), (d,))
    segment = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    renamed = np.array([2, 0, 1])[segment]  # other numbers for the same three segments
    same, again = (s[:, None] == s for s in (segment, renamed))
    right = largest(segment_term(q, same, table, w) - segment_term(q, again, table, w))
    # as in BERT: a vector for each number, here of two of the three
    by_number = np.array([table[0], table[1], w])
    wrong = largest(q @ (by_number[segment] - by_number[renamed]).T)
    return at_most(1e-13, right=right, wrong=wrong)


@claim("xlnet.checkpoint")
def test_a_checkpoint_of_xlnet_moves():
    theirs = hf()[0]
    h, g, memory = (torch.randn(2, n, 64, dtype=torch.float64) for n in (5, 5, 3))
    right, wrong = moved(theirs), moved(theirs)
    wrong.encoding.u, wrong.encoding.v = wrong.encoding.v, wrong.encoding.u
    with torch.no_grad():
        errors = [
            max(
                largest(a - b)
                for a, b in zip(
                    *both_streams(theirs, h, g, memory, [3, 0, 4, 1, 2], ours), strict=True
                )
            )
            for ours in (right, wrong)
        ]
    return at_most(1e-12, right=errors[0], wrong=errors[1])


@claim("xlnet.layer")
def test_the_layer_in_float32_is_the_equation():
    layer = encoding(torch.float32)
    q, k = heads(4, 6, dtype=torch.float32)
    at, to = torch.tensor([7, 0, 10**7, 3]), torch.tensor([10**7, 5, 4, 3, 2, 1])
    want = looped(layer, q, k, at, to)
    single = (at[:, None] - to).float()  # angles in float32 instead
    theta = torch.tensor(10000.0) ** (-2 * torch.arange(D // 2) / D)
    angle = single[..., None] * theta
    R = torch.cat([angle.sin(), angle.cos()], -1)
    r = (R @ layer.relative.weight.T).unflatten(-1, (HEADS, -1))
    rough = torch.einsum("bhid,ijhd->bhij", q + layer.v[:, None], r)
    rough = (rough + (layer.u[:, None] @ k.mT)) / math.sqrt(D // HEADS)
    with torch.no_grad():
        got = layer.bias(q, k, at, to).double()
    return at_most(5e-6, right=largest(got - want), wrong=largest(rough.detach() - want))


@claim("xlnet.general")
def test_positions_in_any_order_are_right():
    layer = encoding()
    fast = twin(layer, consecutive=True)
    q, k = heads(6, 6)
    packed = torch.tensor([0, 1, 2, 0, 1, 2])
    want = looped(layer, q, k, packed, packed)
    with torch.no_grad():
        got = layer.bias(q, k, packed, packed)
        shifted = fast.bias(q, k, torch.arange(6), torch.arange(6))  # as though they went on
        loud = fast.bias(q, k, packed, packed)
    assert loud[:, :, 3:].isnan().all()
    assert loud[..., 3:].isnan().all()
    return at_most(1e-12, right=largest(got - want), wrong=largest(shifted - want))


def multiplications(call, *args):
    """Of matrix products, counted without computing them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(*args)
    return counter.get_total_flops() / 2


@claim("xlnet.cost")
def test_the_shift_saves_most_of_the_products():
    n, d, n_heads = 1024, 512, 8
    q = k = torch.empty(1, n_heads, n, d // n_heads, device="meta")
    at = torch.arange(n, device="meta")
    content = multiplications(lambda: q @ k.mT)
    fast, general = (
        multiplications(
            TransformerXL(d, n_heads, consecutive=consecutive, device="meta").bias, q, k, at, at
        )
        / content
        for consecutive in (True, False)
    )
    pairs = torch.empty(n * n, d, device="meta")
    W = torch.empty(d, d, device="meta")
    naive = multiplications(lambda: pairs @ W) / content + 1  # and one product with the query
    return at_most(
        3.1,
        right=fast,
        wrong=naive,
        general=general,
        pairs_gib=n * n * d * 4 / 2**30,
        columns_mib=2 * n * d * 4 / 2**20,
    )


@claim("xlnet.view")
def test_the_shift_copies_nothing():
    n = 64
    scores = torch.randn(1, 2, n, 2 * n)

    def new_bytes(y):
        mine = y.untyped_storage()
        return 0 if mine.data_ptr() == scores.untyped_storage().data_ptr() else mine.nbytes()

    theirs = XLNetRelativeAttention.rel_shift_bnij(scores, n)
    assert torch.equal(shift_view(scores), theirs)
    return at_most(1, right=new_bytes(shift_view(scores)), wrong=new_bytes(theirs))


@claim("xlnet.padding")
def test_padding_on_the_left_changes_nothing():
    x = torch.randn(1, 4, D, dtype=torch.float64)
    padded = torch.cat([torch.zeros(1, 3, D, dtype=torch.float64), x], dim=1)
    mask = torch.tensor([[[False] * 3 + [True] * 4]])
    relative, absolute = attention(), Attention(D, HEADS, Sinusoidal(D), dtype=torch.float64)
    with torch.no_grad():
        right, wrong = (
            largest(layer(padded, mask=mask)[:, 3:] - layer(x)) for layer in (relative, absolute)
        )
    return at_most(1e-13, right=right, wrong=wrong)


@claim("xlnet.recurrence")
def test_memory_makes_a_segment_part_of_the_whole():
    layer = attention(causal=True, consecutive=True)
    x = torch.randn(1, 12, D, dtype=torch.float64)
    old, new = x.split(6, dim=1)
    at = torch.arange(6)
    with torch.no_grad():
        want = layer(x)[:, 6:]
        got = layer(new, 6 + at, context=torch.cat([old.detach(), new], dim=1))
        # Positions that begin anew, as those of absolute encodings do: two tokens in each place.
        both = torch.cat([at, at])
        clash = twin(layer.encoding)
        restarted = Attention(D, HEADS, clash, dtype=torch.float64)
        restarted.load_state_dict(layer.state_dict())
        visible = torch.ones(6, 12, dtype=torch.bool).tril(6)
        wrong = restarted(
            new, at, context=torch.cat([old, new], 1), context_positions=both, mask=visible
        )
        alone = layer(new)
    return at_most(
        1e-13,
        right=largest(got - want),
        wrong=largest(wrong - want),
        alone=largest(alone - want),
    )


@claim("xlnet.reach")
def test_every_layer_reaches_one_memory_further():
    n_layers, length, n_segments = 3, 4, 6
    layers = [attention(causal=True, consecutive=True) for _ in range(n_layers)]
    x = torch.randn(1, n_segments * length, D, dtype=torch.float64)
    first = (n_segments - 1) * length  # of the last segment

    def last(x):
        with torch.no_grad():
            return stack(layers, x.split(length, dim=1), length)[-1]

    want = last(x)

    def change(places):
        other = x.clone()
        other[:, places] += 1
        return largest(last(other) - want)

    reached = first - n_layers * length
    return at_most(
        1e-13,
        right=change(slice(reached)),
        wrong=change(reached),
        layers=n_layers,
        memory=length,
        reach=first - reached,
    )


@claim("xlnet.streams")
def test_a_token_is_predicted_without_being_seen():
    order, n = [3, 0, 4, 1, 2], 5
    layers = [attention() for _ in range(2)]
    content, query = (
        torch.tensor(factorisation_mask(order, stream=s)) for s in ("content", "query")
    )
    x, start = torch.randn(1, n, D, dtype=torch.float64), torch.randn(D, dtype=torch.float64)

    def run(x, query):
        h, g = x, start.expand(1, n, D)  # the query stream begins with the same vector everywhere
        with torch.no_grad():
            for layer in layers:
                g = g + layer(g, context=h, mask=query)
                h = h + layer(h, mask=content)
        return h, g

    def leak(query):
        found, (h, g) = 0.0, run(x, query)
        for turn, place in enumerate(order):
            other = x.clone()
            other[:, place] += 1
            h2, g2 = run(other, query)
            found = max(found, largest((g2 - g)[:, order[: turn + 1]]))  # its own place included
            found = max(found, largest((h2 - h)[:, order[:turn]]) if turn else 0.0)
        return found

    return at_most(1e-13, right=leak(query), wrong=leak(content))
