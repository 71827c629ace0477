"""Relative position vectors: printed facts, properties, oracles and errors; the claims."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from posenc.equations.attention import softmax
from posenc.equations.relative import offsets
from posenc.equations.shaw import (
    bucket_weights,
    clip_offsets,
    gather_logits,
    relative_logits,
    relative_values,
    sinusoidal_table,
    skew,
)
from posenc.equations.sinusoidal import shift_matrix
from posenc.layers.attention import Attention
from posenc.layers.shaw import Shaw, ShawKeys

sizes = st.integers(1, 9)
reaches = st.one_of(st.integers(0, 6), st.tuples(st.integers(0, 6), st.integers(0, 6)))


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def sides(reach):
    return reach if isinstance(reach, tuple) else (reach, reach)


def by_hand(offset, reach):
    """One offset, with a question instead of a minimum and a maximum."""
    left, right = sides(reach)
    if offset < -left:
        return -left
    return right if offset > right else offset


def logits_by_loops(q, table, start, n_keys, reach):
    """Pair by pair and number by number, in exact fractions; the vectors kept by their offset."""
    d, left = table.shape[1], sides(reach)[0]
    vector = {row - left: [Fraction(float(x)) for x in w] for row, w in enumerate(table)}
    made = np.zeros((len(q), n_keys))
    for row, query in enumerate(q):
        for j in range(n_keys):
            w = vector[by_hand(j - (start + row), reach)]
            total = sum(Fraction(float(x)) * y for x, y in zip(query, w, strict=True))
            made[row, j] = float(total) / math.sqrt(d)
    return made


def values_by_loops(weights, table, start, reach):
    left, made = sides(reach)[0], np.zeros((len(weights), table.shape[1]))
    vector = {row - left: w for row, w in enumerate(table)}
    for row, alphas in enumerate(weights):
        for j, alpha in enumerate(alphas):
            made[row] += alpha * vector[by_hand(j - (start + row), reach)]
    return made


def head(x, parts, reach, t=None):
    """One head with both terms, on row vectors; returns logits and outputs."""
    q, k, v = (x @ W for W in parts["maps"])
    t = offsets(len(x), len(x)) if t is None else t
    e = q @ k.T / math.sqrt(q.shape[1]) + relative_logits(q, parts["key"], t, reach)
    alpha = softmax(e)
    return e, alpha @ v + relative_values(alpha, parts["value"], t, reach)


def some_head(d=8, rows=7, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "maps": rng.normal(size=(3, d, d)) / math.sqrt(d),
        "key": rng.normal(size=(rows, d)),
        "value": rng.normal(size=(rows, d)),
    }


# --- printed facts -----------------------------------------------------------------------------

EDGES = [(2, 1), (2, 4), (4, 9)]  # the arcs of the paper's figure, positions counted from 1, n = 9


def test_the_paper_keeps_thirty_three_vectors_of_each_kind():
    assert np.unique(clip_offsets(offsets(100, 100), 16)).size == 2 * 16 + 1


def test_the_first_query_sees_the_right_side_and_the_last_the_left():
    clipped = clip_offsets(offsets(9, 9), 3)
    np.testing.assert_array_equal(clipped[0], [0, 1, 2, 3, 3, 3, 3, 3, 3])
    np.testing.assert_array_equal(clipped[-1], [-3, -3, -3, -3, -3, -3, -2, -1, 0])


def test_wav2vec2_bert_tells_sixty_four_offsets_apart_on_one_side_and_eight_on_the_other():
    clipped = clip_offsets(offsets(100, 100), (64, 8))
    assert (clipped.min(), clipped.max(), np.unique(clipped).size) == (-64, 8, 73)


def test_a_sinusoidal_table_is_the_encoding_of_negative_and_positive_positions():
    table = sinusoidal_table(6, (2, 3), base=100)
    for row, t in enumerate(range(-2, 4)):
        want = [f(t / 100 ** (2 * m / 6)) for m in range(3) for f in (math.sin, math.cos)]
        np.testing.assert_allclose(table[row], want, rtol=0, atol=1e-15)


def test_offsets_of_opposite_sign_share_their_cosines():
    table = sinusoidal_table(8, 5)
    np.testing.assert_allclose(table[::-1, 1::2], table[:, 1::2], rtol=0, atol=1e-15)
    np.testing.assert_allclose(table[::-1, ::2], -table[:, ::2], rtol=0, atol=1e-15)


def test_buckets_of_uniform_weights_count_keys():
    got = bucket_weights(np.full((5, 5), 0.2), offsets(5, 5), 1)
    np.testing.assert_allclose(5 * got, [[0, 1, 4], [1, 1, 3], [2, 1, 2], [3, 1, 1], [4, 1, 0]])


# --- properties --------------------------------------------------------------------------------


@given(st.lists(st.integers(-99, 99), min_size=1), reaches)
def test_clipping_twice_is_clipping_once(t, reach):
    once = clip_offsets(t, reach)
    np.testing.assert_array_equal(clip_offsets(once, reach), once)
    assert once.dtype == np.int64


@given(st.integers(-99, 99), reaches)
def test_turning_the_offset_around_swaps_the_sides(t, reach):
    assert clip_offsets(-t, reach) == -clip_offsets(t, sides(reach)[::-1])


@given(sizes, reaches, st.integers(0, 99))
def test_clipped_offsets_are_a_toeplitz_matrix_wherever_the_text_stands(n, reach, start):
    at = np.arange(start, start + n)
    clipped = clip_offsets(at - at[:, None], reach)
    np.testing.assert_array_equal(clipped[1:, 1:], clipped[:-1, :-1])
    np.testing.assert_array_equal(clipped, clip_offsets(offsets(n, n), reach))


@given(sizes, sizes)
def test_a_reach_of_the_whole_text_clips_nothing(n, m):
    np.testing.assert_array_equal(clip_offsets(offsets(n, m), max(n, m)), offsets(n, m))


@given(sizes, sizes, reaches)
def test_buckets_keep_the_sum_of_the_weights(n, m, reach):
    weights = softmax(normal(2, n, m))
    np.testing.assert_allclose(
        bucket_weights(weights, offsets(n, m), reach).sum(-1), np.ones((2, n)), rtol=1e-14
    )


def test_leading_axes_are_batches_and_heads():
    q, table, t = normal(2, 3, 4, 6), normal(5, 6, seed=1), offsets(4, 7)
    weights = softmax(normal(2, 3, 4, 7))
    for got, one in (
        (relative_logits(q, table, t, 2), relative_logits(q[1, 2], table, t, 2)),
        (gather_logits(q, table, t, 2), gather_logits(q[1, 2], table, t, 2)),
        (relative_values(weights, table, t, 2), relative_values(weights[1, 2], table, t, 2)),
        (bucket_weights(weights, t, 2), bucket_weights(weights[1, 2], t, 2)),
        (skew(normal(2, 3, 4, 10), 7), skew(normal(2, 3, 4, 10)[1, 2], 7)),
    ):
        assert got.shape == (2, 3, *one.shape)
        np.testing.assert_allclose(got[1, 2], one, rtol=0, atol=1e-14)


def test_arguments_are_not_changed_and_results_are_float64():
    q, table, t = np.ones((3, 2), np.float32), np.ones((3, 2), np.float32), offsets(3, 3)
    kept = q.copy(), table.copy(), t.copy()
    assert (
        relative_logits(q, table, t, 1).dtype == gather_logits(q, table, t, 1).dtype == np.float64
    )
    assert skew(np.ones((3, 5), np.float32), 3).dtype == np.float64
    assert relative_values(np.ones((3, 3), np.float32), table, t, 1).dtype == np.float64
    assert bucket_weights(np.ones((3, 3), np.float32), t, 1).dtype == np.float64
    for now, before in zip((q, table, t), kept, strict=True):
        np.testing.assert_array_equal(now, before)


# --- oracles -----------------------------------------------------------------------------------


@given(st.lists(st.integers(-99, 99), min_size=1), reaches)
def test_clipping_equals_asking(t, reach):
    np.testing.assert_array_equal(clip_offsets(t, reach), [by_hand(x, reach) for x in t])


@given(sizes, sizes, st.integers(0, 5), reaches)
def test_both_key_terms_equal_loops_in_exact_fractions(n, m, start, reach):
    q, table, t = normal(n, 3), normal(sum(sides(reach)) + 1, 3, seed=1), offsets(n, m, start)
    want = logits_by_loops(q, table, start, m, reach)
    for term in (relative_logits, gather_logits):
        np.testing.assert_allclose(term(q, table, t, reach), want, rtol=0, atol=1e-14)


@given(sizes, sizes, st.integers(0, 5), reaches)
def test_the_value_term_equals_loops_and_so_do_its_buckets(n, m, start, reach):
    weights, table = softmax(normal(n, m)), normal(sum(sides(reach)) + 1, 3, seed=1)
    t, want = offsets(n, m, start), values_by_loops(weights, table, start, reach)
    got = relative_values(weights, table, t, reach)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)
    np.testing.assert_allclose(bucket_weights(weights, t, reach) @ table, want, rtol=0, atol=1e-13)


@given(sizes, sizes)
def test_skewing_equals_a_loop(n, m):
    s = normal(n, n + m - 1)
    want = [[s[i, j - i + n - 1] for j in range(m)] for i in range(n)]
    np.testing.assert_array_equal(skew(s, m), want)


def test_the_key_term_equals_the_librarys():
    """Wav2Vec2-BERT clips at 64 on the left and 8 on the right."""
    got, want, _ = wav2vec2_bert()
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def wav2vec2_bert(n=100, d=16, reach=(64, 8), seed=0):
    """Bias of ours and of the library's function, for the weights of its layer; and the layer."""
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as hf

    torch.manual_seed(seed)
    config = Wav2Vec2BertConfig(hidden_size=4 * d, num_attention_heads=4)
    layer = hf.Wav2Vec2BertSelfAttention(config)
    table = layer.distance_embedding.weight.detach().double().numpy()
    q = torch.randn(1, 4, n, d)
    with torch.no_grad():
        _, want = hf._apply_relative_key_position_encoding(layer, q, q)
    got = gather_logits(q.double().numpy(), table, offsets(n, n), reach)
    return got, want.double().numpy(), (q, table)


# --- errors ------------------------------------------------------------------------------------

Q, TABLE, T = np.ones((3, 2)), np.ones((5, 2)), offsets(3, 3)
WEIGHTS = np.full((3, 3), 1 / 3)
TYPE_ERRORS = {
    "offsets must hold integers, got dtype float64": lambda: clip_offsets([0.5], 2),
    "offsets must hold integers, got dtype bool": lambda: clip_offsets([True], 2),
    "max_distance must be an integer, got 2.0": lambda: clip_offsets(T, 2.0),
    "max_distance must be an integer, got True": lambda: clip_offsets(T, (2, True)),
    "max_distance must be one integer or two, got (1, 2, 3)": lambda: clip_offsets(T, (1, 2, 3)),
    "q must hold real numbers, got dtype complex128": lambda: relative_logits(1j * Q, TABLE, T, 2),
    "table must hold real numbers, got dtype bool": lambda: gather_logits(Q, TABLE > 0, T, 2),
    "weights must hold real numbers, got dtype bool": lambda: bucket_weights(T > 0, T, 2),
    "n_keys must be an integer, got 3.0": lambda: skew(np.ones((3, 5)), 3.0),
    "products must hold real numbers, got dtype complex128": lambda: skew(1j * np.ones((3, 5)), 3),
    "d_head must be an integer, got 2.0": lambda: sinusoidal_table(2.0, 1),
}
VALUE_ERRORS = {
    "offsets must not be empty, got shape (0,)": lambda: clip_offsets(T[0, :0], 2),
    "max_distance must be at least 0, got -1": lambda: clip_offsets(T, -1),
    "max_distance must be at least 0, got -2": lambda: sinusoidal_table(4, (3, -2)),
    "offsets must have shape (n_q, n_k), got (3,)": lambda: relative_logits(Q, TABLE, T[0], 2),
    "table must have shape (3, 2), got (5, 2)": lambda: relative_logits(Q, TABLE, T, 1),
    "table must have shape (4, 2), got (5, 2)": lambda: relative_values(WEIGHTS, TABLE, T, (1, 2)),
    "table must have at least 2 axes, got shape (5,)": lambda: gather_logits(Q, TABLE[:, 0], T, 2),
    "q must have shape (3, 2), got (4, 2)": lambda: gather_logits(np.ones((4, 2)), TABLE, T, 2),
    "q must have shape (3, 2), got (3, 1)": lambda: relative_logits(Q[:, :1], TABLE, T, 2),
    "q must have at least 2 axes, got shape (2,)": lambda: relative_logits(Q[0], TABLE, T, 2),
    "weights must have shape (3, 3), got (3, 2)": lambda: relative_values(
        WEIGHTS[:, :2], TABLE, T, 2
    ),
    "weights must have shape (3, 3), got (2, 3)": lambda: bucket_weights(WEIGHTS[:2], T, 2),
    "weights must have at least 2 axes, got shape (3,)": lambda: bucket_weights(WEIGHTS[0], T, 2),
    "weights must be finite, got nan": lambda: bucket_weights(math.nan * WEIGHTS, T, 2),
    "products must have shape (3, 5), got (3, 6)": lambda: skew(np.ones((3, 6)), 3),
    "products must have at least 2 axes, got shape (5,)": lambda: skew(np.ones(5), 3),
    "n_keys must be at least 1, got 0": lambda: skew(np.ones((3, 5)), 0),
    "base must be above 1, got 1": lambda: sinusoidal_table(4, 1, base=1),
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


@claim("shaw.edges")
def test_the_papers_three_arcs_need_key_minus_query():
    printed = {(2, 1): -1, (2, 4): 2, (4, 9): 3}
    wrong = [abs(clip_offsets(i - j, 3) - want) for (i, j), want in printed.items()]
    return at_most(
        0.1,
        right=max(abs(clip_offsets(j - i, 3) - want) for (i, j), want in printed.items()),
        wrong=max(wrong),
        off=sum(gap > 0 for gap in wrong),
        n=9,
        k=3,
    )


@claim("shaw.reversed")
def test_the_other_sign_is_the_same_model_once_both_tables_are_reversed():
    x, parts, t = normal(9, 8, seed=3), some_head(), offsets(9, 9)
    turned = {**parts, "key": parts["key"][::-1], "value": parts["value"][::-1]}
    want = head(x, parts, 3)[1]
    return at_most(
        1e-12,
        right=largest(head(x, turned, 3, -t)[1] - want),
        wrong=largest(head(x, parts, 3, -t)[1] - want),
    )


@claim("shaw.shift")
def test_logits_and_outputs_do_not_know_where_the_text_begins():
    x, parts = normal(9, 8, seed=3), some_head()
    at = np.arange(9) + 1000
    here, there = head(x, parts, 3), head(x, parts, 3, at - at[:, None])
    late = head(x, parts, 3, at - np.arange(999, 1008)[:, None])
    return at_most(
        1e-12,
        right=max(largest(a - b) for a, b in zip(here, there, strict=True)),
        wrong=largest(late[1] - here[1]),
    )


@claim("shaw.terms")
def test_two_of_the_four_terms_are_left():
    x, parts = normal(6, 8, seed=3), some_head()
    W_q, W_k, _ = parts["maps"]
    want = np.zeros((6, 6))
    for i in range(6):
        for j in range(6):
            key = x[j] @ W_k + parts["key"][by_hand(j - i, 3) + 3]
            want[i, j] = x[i] @ W_q @ key / math.sqrt(8)
    content = x @ W_q @ W_k.T @ x.T / math.sqrt(8)
    position = relative_logits(x @ W_q, parts["key"], offsets(6, 6), 3)
    return at_most(
        1e-12,
        right=largest(content + position - want),
        wrong=largest(content + math.sqrt(8) * position - want),
    )


@claim("shaw.gather")
def test_looking_up_equals_a_vector_for_every_pair():
    q, table, t = normal(4, 64, 32), normal(33, 32, seed=1), offsets(64, 64)
    want = relative_logits(q, table, t, 16)
    products = q @ table.T / math.sqrt(32)
    unshifted = np.broadcast_to(clip_offsets(t, 16), want.shape)
    return at_most(
        1e-12,
        right=largest(gather_logits(q, table, t, 16) - want),
        wrong=largest(np.take_along_axis(products, unshifted, -1) - want),
    )


@claim("shaw.skew")
def test_padding_and_reshaping_equals_a_vector_for_every_pair():
    q, table, n = normal(4, 64, 32), normal(33, 32, seed=1), 64
    want = relative_logits(q, table, offsets(n, n), 16)
    every = table[clip_offsets(np.arange(1 - n, n), 16) + 16]  # a row for every offset
    products = q @ every.T / math.sqrt(32)
    unpadded = products.reshape(4, -1)[:, n - 1 : n - 1 + n * n].reshape(4, n, n)
    return at_most(1e-12, right=largest(skew(products, n) - want), wrong=largest(unpadded - want))


@claim("shaw.buckets")
def test_weights_may_be_summed_before_they_meet_the_vectors():
    weights, table, t = softmax(normal(4, 64, 64)), normal(33, 32, seed=1), offsets(64, 64)
    want = relative_values(weights, table, t, 16)
    near = np.where(abs(t) <= 16, weights, 0)
    return at_most(
        1e-12,
        right=largest(bucket_weights(weights, t, 16) @ table - want),
        wrong=largest(bucket_weights(near, t, 16) @ table - want),
    )


class Largest(TorchDispatchMode):
    """Remember the largest tensor that any operation makes, in bytes of storage."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


def largest_tensor(call):
    with torch.no_grad(), Largest() as seen:
        call()
    return seen.bytes


@claim("shaw.memory")
def test_no_tensor_is_larger_than_the_logits_themselves():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as hf

    heads, n, d = 8, 256, 64
    config = Wav2Vec2BertConfig(hidden_size=heads * d, num_attention_heads=heads)
    peer, ours = hf.Wav2Vec2BertSelfAttention(config), Shaw(d, (64, 8))
    q, weights, at = torch.randn(1, heads, n, d), torch.rand(1, heads, n, n), torch.arange(n)
    logits = 4 * heads * n * n
    key = largest_tensor(lambda: ours.bias(q, q, at, at))
    value = largest_tensor(lambda: ours.combine(weights, q, at, at))
    theirs = largest_tensor(lambda: hf._apply_relative_key_position_encoding(peer, q, q))
    return at_most(
        0.01,
        right=abs(key / logits - 1),
        wrong=theirs / logits - 1,
        key=key / logits,
        value=value / logits,
        library=theirs / logits,
        pairs=4 * n * n * d / logits,
        paper_gib=4 * 4096**2 * 64 / 2**30,
        ours_mib=4 * 4096 * 33 / 2**20,
    )


@claim("shaw.parameters")
def test_two_tables_of_the_width_of_a_head_serve_all_heads():
    layer = Shaw(64, 16)
    attention = Attention(512, 8, encoding=layer)
    plain = Attention(512, 8)
    got = sum(p.numel() for p in attention.parameters())
    added = got - sum(p.numel() for p in plain.parameters())
    note = 2 * (2 * 16 + 1) * 512  # tables as wide as the token
    return at_most(
        0.5,
        right=abs(added - 2 * (2 * 16 + 1) * 64),
        wrong=abs(note - added),
        vectors=2 * (2 * 16 + 1),
        one=added,
        six=6 * added,
        note=note,
        share=added / got,
    )


@claim("shaw.clipped")
def test_most_pairs_of_a_long_text_are_clipped():
    def share(n, k):
        return (n - k) * (n - k - 1) / n**2

    n, k = 512, 16
    counted = sum(abs(j - i) > k for i in range(n) for j in range(n)) / n**2
    return at_most(
        1e-12,
        right=abs(share(n, k) - counted),
        wrong=abs(1 - (2 * k + 1) / n - counted),  # as if every query had k keys on either side
        share=share(n, k),
        hundred=share(100, k),
        nezha=share(512, 64),
    )


def blocks(n_layers, x, reach, seed=0):
    """Layers of attention with relative vectors and a residual connection, on row vectors."""
    for layer in range(n_layers):
        x = x + head(x, some_head(seed=seed + layer), reach)[1]
    return x


@claim("shaw.far_order")
def test_one_layer_does_not_see_the_order_of_far_tokens():
    x = normal(12, 8, seed=5)
    shuffled = x[[3, 0, 4, 1, 2, *range(5, 12)]]  # offsets -8 to -4 of the last but three
    one, two = (abs(blocks(n, x, 3) - blocks(n, shuffled, 3))[8].max() for n in (1, 2))
    near = x[[0, 1, 2, 3, 4, 6, 7, 5, *range(8, 12)]]
    return at_most(
        1e-12,
        right=one,
        wrong=two,
        near=abs(blocks(1, x, 3) - blocks(1, near, 3))[8].max(),
    )


@claim("shaw.constant")
def test_keys_alone_do_not_tell_equal_tokens_apart_and_values_do():
    torch.manual_seed(0)
    x = torch.randn(1, 1, 16, dtype=torch.float64).expand(1, 9, 16)

    def spread(scheme):
        torch.manual_seed(1)
        encoding = scheme(8, 3, std=1.0, dtype=torch.float64)
        layer = Attention(16, 2, encoding=encoding).double()
        with torch.no_grad():
            out = layer(x)[0]
        return float((out - out[0]).abs().max())

    return at_most(1e-12, right=spread(ShawKeys), wrong=spread(Shaw))


@claim("shaw.wav2vec2_bert")
def test_a_checkpoint_of_wav2vec2_bert_fits_as_it_stands():
    got, want, (q, table) = wav2vec2_bert()
    n = got.shape[-1]
    swapped = gather_logits(q.double().numpy(), table, offsets(n, n), (8, 64))
    return at_most(1e-5, right=largest(got - want), wrong=largest(swapped - want))


@claim("shaw.speecht5")
def test_a_checkpoint_of_speecht5_fits_once_its_rows_are_reversed():
    from transformers.models.speecht5.modeling_speecht5 import SpeechT5RelativePositionalEncoding

    torch.manual_seed(0)
    length, n = 5, 16
    peer, q = SpeechT5RelativePositionalEncoding(8, length), normal(n, 8)
    a = peer(torch.zeros(1, n, 8)).detach().double().numpy()
    want = np.einsum("id,ijd->ij", q, a) / math.sqrt(8)
    rows = peer.pe_k.weight.detach().double().numpy()
    right = gather_logits(q, rows[::-1], offsets(n, n), (length - 1, length))
    wrong = gather_logits(q, rows, offsets(n, n), (length - 1, length))
    return at_most(1e-6, right=largest(right - want), wrong=largest(wrong - want), rows=len(rows))


def nezha_rows(d, k):
    """The table of NEZHA's code, number by number: row 0 belongs to the offset -k."""
    return np.array(
        [
            [f(row / 10000 ** (2 * m / d)) for m in range(d // 2) for f in (math.sin, math.cos)]
            for row in range(2 * k + 1)
        ]
    )


@claim("shaw.nezha")
def test_the_code_of_nezha_is_its_paper_with_turned_weights():
    d, k, x, rng = 8, 5, normal(16, 8, seed=3), np.random.default_rng(0)
    *maps, W_o = rng.normal(size=(4, d, d)) / math.sqrt(d)
    printed, coded = sinusoidal_table(d, k), nezha_rows(d, k)
    R = shift_matrix(k, d)  # rows: PE(t) R = PE(t + k)
    want = head(x, {"maps": maps, "key": coded, "value": coded}, k)[1] @ W_o
    turned = [W @ R.T for W in maps]
    got = head(x, {"maps": turned, "key": printed, "value": printed}, k)[1] @ (R @ W_o)
    same = head(x, {"maps": maps, "key": printed, "value": printed}, k)[1] @ W_o
    return at_most(
        1e-12,
        right=largest(got - want),
        wrong=largest(same - want),
        apart=largest(coded - printed),
    )


@claim("shaw.cache")
def test_a_decoder_that_says_where_it_is_continues_as_before():
    torch.manual_seed(0)
    layer, x = Attention(16, 2, encoding=Shaw(8, 3, std=1.0)), torch.randn(1, 12, 16)
    with torch.no_grad():
        whole = layer(x)[:, -1]
        told, restarted = (layer(x[:, -1:], torch.tensor([at]), context=x)[:, 0] for at in (11, 0))
    return at_most(
        1e-5,
        right=float((told - whole).abs().max()),
        wrong=float((restarted - whole).abs().max()),
    )


@claim("shaw.bfloat16")
def test_weights_of_a_bucket_are_summed_in_float32():
    """All weights are equal, so that the far bucket of query 0 holds nearly all of their sum."""
    n, low = 4096, torch.bfloat16
    layer = Shaw(2, 0, dtype=low)
    layer.value_table = torch.nn.Parameter(torch.ones(1, 2, dtype=low))
    weights, at = torch.full((1, 1, 1, n), 1 / n, dtype=low), torch.arange(n)
    v = torch.zeros(1, 1, n, 2, dtype=low)
    with torch.no_grad():
        got = layer.combine(weights, v, at[:1], at)
    total = torch.zeros(1, dtype=low)
    for _ in range(n):
        total += weights[0, 0, 0, :1]
    return at_most(
        0.01,
        right=float((got.double() - 1).abs().max()),
        wrong=abs(float(total) - 1),
        halt=float(total),
        n=n,
    )
