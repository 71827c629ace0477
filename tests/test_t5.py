"""T5's bias: printed facts, properties, oracles and errors; the claims."""

import math
import re
import warnings
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from transformers import T5Config, UMT5Config
from transformers.models.t5.modeling_t5 import T5Attention, T5EncoderModel
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from posenc.equations.relative import offsets
from posenc.equations.t5 import (
    buckets,
    diagonal_sums,
    first_distances,
    hankel,
    logit_std,
    position_bias,
)
from posenc.layers.attention import Attention, PositionEncoding
from posenc.layers.t5 import T5, attend_by_offset
from scripts.bench import peak

ENCODER = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
DECODER = [*range(16), 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]

directions = st.booleans()
sizes = st.integers(2, 40)  # buckets of one direction


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def settings(B, above, bidirectional):
    """Arguments for B buckets per direction, and a maximal distance that far above the exact."""
    return {
        "n_buckets": 2 * B if bidirectional else B,
        "max_distance": B // 2 + above,
        "bidirectional": bidirectional,
    }


def by_logarithm(distance, B, M):
    """Rank of a distance among B buckets, from the logarithms at 60 digits."""
    m = B // 2
    if distance < m:
        return distance
    with mpmath.workdps(60):
        ratio = mpmath.log(mpmath.mpf(distance) / m) / mpmath.log(mpmath.mpf(M) / m)
        # Exact powers of the ratio are whole numbers but for the last digits.
        return min(m + int(mpmath.floor((B - m) * ratio + mpmath.mpf(10) ** -50)), B - 1)


def library(offsets, n_buckets=32, max_distance=128, *, bidirectional=True):
    """Buckets of the Transformers library, which computes the logarithm in float32."""
    t = torch.from_numpy(np.asarray(offsets))
    return T5Attention._relative_position_bucket(t, bidirectional, n_buckets, max_distance).numpy()


def one_by_one(table, n_q, n_k, start, rank):
    """Bias by a loop over pairs; `rank` gives the bucket of an offset."""
    bias = np.empty((table.shape[1], n_q, n_k))
    for h in range(table.shape[1]):
        for i in range(n_q):
            for j in range(n_k):
                bias[h, i, j] = table[rank(j - (start + i)), h]
    return bias


# --- printed facts -----------------------------------------------------------------------------


def test_the_encoder_has_eight_exact_distances_and_eight_ranges():
    assert first_distances().tolist() == ENCODER


def test_the_decoder_has_sixteen_exact_distances_and_sixteen_ranges():
    assert first_distances(bidirectional=False).tolist() == DECODER


def test_keys_after_the_query_have_the_upper_half():
    assert buckets([-7, -8, -11, -12, 7, 8, 11, 12]).tolist() == [7, 8, 8, 9, 23, 24, 24, 25]


def test_the_smallest_tables():
    assert first_distances(4, 2).tolist() == [0, 1]
    assert first_distances(2, 2, bidirectional=False).tolist() == [0, 1]
    assert first_distances(3, 9, bidirectional=False).tolist() == [0, 1, 3]


def test_buckets_may_be_empty_where_the_maximal_distance_is_small():
    assert first_distances(16, 5, bidirectional=True).tolist() == [0, 1, 2, 3, 4, 5, 5, 5]
    assert buckets([-4, -5, -6], 16, 5).tolist() == [4, 7, 7]


def test_a_range_grows_by_the_same_factor_every_time():
    """Four of the eight steps from 8 to 128 double twice: 8, 16, 32, 64 are exact."""
    assert first_distances()[8::2].tolist() == [8, 16, 32, 64]


def test_huge_distances_are_no_trouble():
    assert buckets([-(10**12), 10**12]).tolist() == [15, 31]
    assert first_distances(32, 10**9)[-1] == math.ceil(8 * (10**9 / 8) ** (7 / 8))


def test_the_windows_of_a_vector():
    values = np.arange(5.0)
    np.testing.assert_array_equal(hankel(values, 2), [[0, 1, 2, 3], [1, 2, 3, 4]])
    np.testing.assert_array_equal(hankel(values, 5), values[:, None])
    np.testing.assert_array_equal(hankel(values, 1), values[None])


def test_the_view_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        hankel(np.zeros(3), 2)[0, 0] = 1


def test_the_diagonals_of_a_wide_matrix():
    np.testing.assert_array_equal(diagonal_sums([[1, 2, 3], [10, 20, 30]]), [10, 1 + 20, 2 + 30, 3])


# --- properties --------------------------------------------------------------------------------


@given(sizes, st.integers(1, 500), directions)
def test_first_distances_rise_from_zero_and_end_before_the_maximum(B, above, bidirectional):
    given = settings(B, above, bidirectional)
    first = first_distances(**given)
    assert first.shape == (B,)
    assert first.dtype == np.int64
    assert first[: B // 2].tolist() == list(range(B // 2))
    assert (np.diff(first) >= 0).all()
    assert first[-1] <= given["max_distance"]


@given(sizes, st.integers(1, 500), directions)
def test_buckets_never_fall_with_the_distance(B, above, bidirectional):
    got = buckets(-np.arange(2 * above + B), **settings(B, above, bidirectional))
    assert got[0] == 0
    assert got[-1] == B - 1
    assert (np.diff(got) >= 0).all()


@given(sizes, st.integers(1, 500))
def test_after_the_query_is_before_it_plus_half_the_table(B, above):
    d = np.arange(1, 2 * above + B)
    given = settings(B, above, True)
    np.testing.assert_array_equal(buckets(d, **given), buckets(-d, **given) + B)


@given(sizes, st.integers(1, 500))
def test_a_decoder_sees_no_difference_after_the_query(B, above):
    assert not buckets(np.arange(50), **settings(B, above, False)).any()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2))
def test_the_view_read_backwards_is_the_bias(n_q, n_k, leading):
    shape = (2,) * leading
    values = normal(*shape, n_q + n_k - 1)
    matrix = hankel(values, n_q)[..., ::-1, :]
    assert matrix.shape == (*shape, n_q, n_k)
    for i in range(n_q):
        for j in range(n_k):
            np.testing.assert_array_equal(matrix[..., i, j], values[..., j - i + n_q - 1])


@given(st.integers(1, 6), st.integers(1, 6))
def test_diagonal_sums_are_the_transpose_of_the_view(n_q, n_k):
    values, matrix = normal(n_q + n_k - 1), normal(n_q, n_k, seed=1)
    forwards = (hankel(values, n_q)[::-1] * matrix).sum()
    np.testing.assert_allclose(forwards, values @ diagonal_sums(matrix), rtol=0, atol=1e-12)


def test_diagonal_sums_keep_leading_axes():
    matrix = normal(2, 3, 4, 5)
    got = diagonal_sums(matrix)
    assert got.shape == (2, 3, 8)
    np.testing.assert_array_equal(got[1, 2], diagonal_sums(matrix[1, 2]))


def test_arguments_are_not_changed():
    values, at = np.arange(5.0), np.array([3, -2])
    hankel(values, 2)
    buckets(at)
    np.testing.assert_array_equal(values, np.arange(5.0))
    np.testing.assert_array_equal(at, [3, -2])


def test_small_integers_do_not_overflow():
    assert buckets(np.array([-128, 127], np.int8)).tolist() == [15, 31]
    assert buckets(np.array([0, 200], np.uint8)).tolist() == [0, 31]


# --- oracles -----------------------------------------------------------------------------------


@given(sizes, st.integers(1, 300), directions)
def test_buckets_equal_the_logarithm_at_sixty_digits(B, above, bidirectional):
    given = settings(B, above, bidirectional)
    edges = first_distances(**given)
    distances = sorted({int(d) for d in (*edges, *(edges[1:] - 1), 2 * above + B)})
    want = [by_logarithm(d, B, given["max_distance"]) for d in distances]
    assert buckets([-d for d in distances], **given).tolist() == want


@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (64, 256), (320, 800)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_equal_those_of_the_library(n_buckets, max_distance, bidirectional):
    t = np.arange(-1000, 1001)
    got = buckets(t, n_buckets, max_distance, bidirectional=bidirectional)
    want = library(t, n_buckets, max_distance, bidirectional=bidirectional)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_bias_equals_a_loop_over_pairs(bidirectional):
    table = normal(32, 3)

    def rank(t):
        d = abs(t) if bidirectional else max(-t, 0)
        first = ENCODER if bidirectional else DECODER
        return sum(edge <= d for edge in first) - 1 + 16 * (bidirectional and t > 0)

    got = position_bias(table, offsets(4, 200, 120), bidirectional=bidirectional)
    np.testing.assert_array_equal(got, one_by_one(table, 4, 200, 120, rank))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_bias_equals_that_of_the_library(bidirectional):
    peer = library_layer(8, 2, decoder=not bidirectional)
    table = peer.relative_attention_bias.weight.detach().double().numpy()
    got = position_bias(table, offsets(5, 150, 140), bidirectional=bidirectional)
    want = peer.compute_bias(5, 150, past_seen_tokens=140)[0].detach().double().numpy()
    np.testing.assert_array_equal(got, want)


def test_diagonal_sums_equal_a_loop():
    matrix = normal(4, 6)
    want = np.zeros(9)
    for i in range(4):
        for j in range(6):
            want[j - i + 3] += matrix[i, j]
    np.testing.assert_allclose(diagonal_sums(matrix), want, rtol=0, atol=1e-14)


# --- errors ------------------------------------------------------------------------------------

TYPE_ERRORS = {
    "n_buckets must be an integer, got 32.0": lambda: first_distances(32.0),
    "n_buckets must be an integer, got True": lambda: buckets([0], True, bidirectional=False),
    "max_distance must be an integer, got 128.0": lambda: first_distances(32, 128.0),
    "offsets must be integers, got dtype float64": lambda: buckets([0.5]),
    "offsets must be integers, got dtype bool": lambda: position_bias(np.ones((4, 1)), [True], 2),
    "table must hold real numbers, got dtype complex128": lambda: position_bias([[1j]], [0]),
    "values must hold real numbers, got dtype bool": lambda: hankel([True], 1),
    "n_rows must be an integer, got 1.0": lambda: hankel([1.0], 1.0),
    "matrix must hold real numbers, got dtype bool": lambda: diagonal_sums([[True]]),
    "d_model must be an integer, got 8.0": lambda: logit_std(8.0, 4, 1, 1),
    "d_head must be an integer, got None": lambda: logit_std(8, None, 1, 1),
    "key_std must hold real numbers, got dtype <U1": lambda: logit_std(8, 4, 1, "a"),
}

VALUE_ERRORS = {
    "n_buckets must be at least 4, got 2": lambda: first_distances(2),
    "n_buckets must be a multiple of 2, got 5": lambda: buckets([0], 5),
    "n_buckets must be at least 2, got 1": lambda: first_distances(1, bidirectional=False),
    "max_distance must be at least 9, got 8": lambda: buckets([0], 32, 8),
    "max_distance must be at least 17, got 16": lambda: first_distances(
        32, 16, bidirectional=False
    ),
    "table must have at least 2 axes, got shape (4,)": lambda: position_bias(np.ones(4), [0]),
    "table must have shape (4, 1), got (1, 4, 1)": lambda: position_bias(np.ones((1, 4, 1)), [0]),
    "table must be finite, got nan": lambda: position_bias([[math.nan]], [0]),
    "n_buckets must be at least 4, got 3": lambda: position_bias(np.ones((3, 1)), [0]),
    "values must have at least 1 axes, got shape ()": lambda: hankel(1.0, 1),
    "values must not be empty, got shape (0,)": lambda: hankel([], 1),
    "n_rows must be at least 1, got 0": lambda: hankel([1.0], 0),
    "n_rows must be at most 2, the length of values, got 3": lambda: hankel([1.0, 2.0], 3),
    "matrix must have at least 2 axes, got shape (2,)": lambda: diagonal_sums([1.0, 2.0]),
    "matrix must be finite, got inf": lambda: diagonal_sums([[math.inf]]),
    "d_model must be at least 1, got 0": lambda: logit_std(0, 4, 1, 1),
    "d_head must be at least 1, got 0": lambda: logit_std(8, 0, 1, 1),
    "query_std must be above 0, got 0": lambda: logit_std(8, 4, 0, 1),
    "key_std must be above 0, got -1": lambda: logit_std(8, 4, 1, -1),
    "scale must be above 0, got 0": lambda: logit_std(8, 4, 1, 1, 0),
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


def configuration(d_model, heads, decoder=False, kind=T5Config):
    return kind(
        d_model=d_model,
        d_kv=d_model // heads,
        num_heads=heads,
        d_ff=2 * d_model,
        num_layers=3,
        vocab_size=50,
        is_decoder=decoder,
        is_encoder_decoder=False,
        use_cache=False,
        dropout_rate=0.0,
        attn_implementation="eager",
    )


def library_layer(d_model, heads, decoder=False, has_bias=True):
    """One attention layer of the library, with weights that differ from head to head."""
    config = configuration(d_model, heads, decoder)
    layer = T5Attention(config, has_bias, layer_idx=0).eval()
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=d_model**-0.5)
    if has_bias:
        torch.nn.init.normal_(layer.relative_attention_bias.weight)
    return layer


MAPPING = {
    "q.weight": "query.weight",
    "k.weight": "key.weight",
    "v.weight": "value.weight",
    "o.weight": "output.weight",
    "relative_attention_bias.weight": "encoding.weight",
}


def ours(peer, encoding, **options):
    """Our attention with the weights of the library's."""
    layer = Attention(peer.d_model, peer.n_heads, encoding, **options)
    weights = {MAPPING[name]: weight for name, weight in peer.state_dict().items()}
    layer.load_state_dict(weights)
    return layer.eval()


class Unscaled(PositionEncoding):
    """No bias and no scale: T5's cross-attention."""

    scale = 1.0


# --- claims: the logits ------------------------------------------------------------------------


@claim("t5.additive")
def test_position_and_content_only_add_up():
    """Mixed difference over content and offset; the notes' list leaves one of the two terms in."""
    rng = np.random.default_rng(0)
    W_Q, W_K = rng.normal(size=(2, 8, 8)) / 8**0.5
    p, table = rng.normal(size=(12, 8)), rng.normal(size=(32, 1))

    def logits(x, y, i, j, kept):
        """Logit of content x at i and y at j."""
        e = x @ W_Q @ W_K.T @ y + position_bias(table, [j - i])[0, 0]
        return e + (p[i] @ W_Q @ W_K.T @ y if kept else 0)

    def interaction(kept):
        (x, u), y, v = rng.normal(size=(2, 8)), *rng.normal(size=(2, 8))
        terms = ((x, y, 3, 5, 1), (u, v, 3, 5, -1), (x, y, 7, 2, -1), (u, v, 7, 2, 1))
        return sum(sign * logits(a, b, i, j, kept) for a, b, i, j, sign in terms)

    return at_most(
        1e-12,
        right=max(abs(interaction(False)) for _ in range(20)),
        wrong=max(abs(interaction(True)) for _ in range(20)),
    )


@claim("t5.shift")
def test_the_bias_does_not_notice_a_shift():
    table = normal(32, 4)
    here, there = offsets(30, 30), offsets(30, 30, 1000) + 1000
    mirrored = -here
    return at_most(
        1e-15,
        right=largest(position_bias(table, here) - position_bias(table, there)),
        wrong=largest(position_bias(table, here) - position_bias(table, mirrored)),
    )


@claim("t5.direction")
def test_a_table_by_distance_alone_cannot_tell_a_text_from_its_mirror_image():
    """Reverse the tokens: with a bias by |j - i| the output is reversed, and nothing else."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 20, 8))
    table = rng.normal(size=(32, 1))
    t = offsets(20, 20)

    def gap(bias):
        forwards = _attend(q, k, v, bias)
        return largest(_attend(q[::-1], k[::-1], v[::-1], bias)[::-1] - forwards)

    return at_most(
        1e-13,
        right=gap(position_bias(table, -abs(t))[0]),
        wrong=gap(position_bias(table, t)[0]),
    )


def _attend(q, k, v, bias):
    """Attention with a bias and no scale, row by row."""
    rows = []
    for query, row in zip(q, bias, strict=True):
        weights = np.exp(k @ query + row)
        rows.append(weights @ v / weights.sum())
    return np.array(rows)


# --- claims: the buckets -----------------------------------------------------------------------


@claim("t5.buckets")
def test_buckets_equal_those_of_the_library_up_to_a_hundred_thousand():
    t = np.arange(-100_000, 100_001)
    gaps = [
        largest(buckets(t, bidirectional=both) - library(t, bidirectional=both))
        for both in (True, False)
    ]
    return at_most(0.5, right=max(gaps), wrong=largest(buckets(-t) - library(t)), checked=len(t))


@claim("t5.exact")
def test_whole_numbers_decide_as_the_logarithm_does():
    """Every distance below 300, for 20 settings; wrong: rounding to the nearest bucket."""
    right = wrong = 0
    cases = 0
    for B in (2, 5, 8, 16):
        for M in (B // 2 + 1, 20, 128, 200, 256):
            d = np.arange(300)
            got = buckets(-d, B, M, bidirectional=False)
            want = np.array([by_logarithm(int(x), B, M) for x in d])
            right += int((got != want).sum())
            m = B // 2
            near = np.round((B - m) * np.log(np.maximum(d, m) / m) / np.log(M / m))
            wrong += int((np.where(d < m, d, np.minimum(m + near, B - 1)) != want).sum())
            cases += len(d)
    return at_most(0.5, right=right, wrong=wrong, cases=cases)


@claim("t5.table")
def test_the_ranges_begin_where_the_table_says():
    found = {}
    for name, B in (("encoder", 16), ("decoder", 32)):
        ranks = [by_logarithm(d, B, 128) for d in range(129)]
        found[name] = [ranks.index(rank) for rank in range(B)]
    right = largest(first_distances() - found["encoder"])
    right += largest(first_distances(bidirectional=False) - found["decoder"])
    rounded = np.round(8 * 16 ** (np.arange(8) / 8))  # the nearest number is not the first
    return at_most(
        0.05,
        right=right,
        wrong=largest(rounded - found["encoder"][8:]),
        **{f"encoder_{rank}": d for rank, d in enumerate(found["encoder"]) if rank >= 8},
        **{f"decoder_{rank}": d for rank, d in enumerate(found["decoder"]) if rank >= 16},
    )


@claim("t5.last")
def test_the_last_bucket_begins_before_the_maximal_distance():
    """At M (m / M)^(1 / L), one step of the ladder before M; wrong: at M itself."""
    right, wrong, found = 0.0, math.inf, {}
    for name, B, last in (("encoder", 16, ENCODER[-1]), ("decoder", 32, DECODER[-1])):
        m = B // 2
        edge = 128 * (m / 128) ** (1 / (B - m))
        right = max(right, abs(last - math.ceil(edge)))
        wrong = min(wrong, abs(128 - last))
        found |= {name: last, f"{name}_edge": edge, f"{name}_ratio": (128 / m) ** (1 / (B - m))}
    return at_most(0.5, right=right, wrong=wrong, **found)


@claim("t5.unused")
def test_nobody_reads_row_sixteen():
    """Gradient of the rows of a bidirectional table, over 300 tokens; wrong: row 17."""
    layer = Attention(8, 2, T5(2))
    layer(torch.randn(1, 300, 8)).square().sum().backward()
    sizes = layer.encoding.weight.grad.abs().amax(1)
    used = np.unique(buckets(np.arange(-1000, 1001)))
    decoder = np.unique(buckets(np.arange(-1000, 1), bidirectional=False))
    return at_most(1e-9, right=sizes[16], wrong=sizes[17], used=len(used), decoder=len(decoder))


@claim("t5.float32")
def test_a_logarithm_in_float32_can_miss_an_edge():
    """24 buckets up to 889, 32 up to 939: the library's edge is one distance off.

    Five numbers of buckets with every maximal distance up to 1024 are searched at all edges.
    """
    found = []
    for n_buckets, max_distance in ((24, 889), (32, 939)):
        t = -np.arange(1000)
        exact = np.array([by_logarithm(-int(x), n_buckets, max_distance) for x in t])
        given = {"bidirectional": False}
        got = buckets(t, n_buckets, max_distance, **given)
        theirs = library(t, n_buckets, max_distance, **given)
        found.append((int((got != exact).sum()), int((theirs != exact).sum())))
    right, wrong = np.array(found).T
    where = int(np.nonzero(theirs != exact)[0][0])
    edge = 16 * (939 / 16) ** (15 / 16)
    searched = [(B, M) for B in (8, 16, 24, 32, 64) for M in range(B // 2 + 1, 1025)]
    missed = [setting for setting in searched if _library_misses(*setting)]
    return at_most(
        0.1,
        right=right.max(),
        wrong=wrong.min(),
        where=where,
        edge=edge,
        searched=len(searched),
        missed=len(missed),
    )


def _library_misses(n_buckets, max_distance):
    """Whether the library puts an edge, or the distance before it, into another bucket."""
    first = first_distances(n_buckets, max_distance, bidirectional=False)
    t = -np.concatenate([first, first[1:] - 1])
    given = {"bidirectional": False}
    got = buckets(t, n_buckets, max_distance, **given)
    return (got != library(t, n_buckets, max_distance, **given)).any()


@claim("t5.set")
def test_beyond_the_last_edge_one_layer_sees_a_set():
    """One query at 400; the keys at distance 91 and more are shuffled. Wrong: all that are read."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(1, 16)), *rng.normal(size=(2, 401, 16))
    bias = position_bias(rng.normal(size=(32, 1)), offsets(1, 401, 400))[0]

    def moved(first):
        order = np.arange(401)
        rng.shuffle(order[: 401 - first])
        return largest(_attend(q, k[order], v[order], bias) - _attend(q, k, v, bias))

    return at_most(1e-13, right=moved(91), wrong=moved(8), keys=401 - 91, of=401)


@claim("t5.untrained")
def test_short_texts_never_train_the_far_buckets():
    """A decoder trained on 64 tokens: rows that begin at 64 or later get no gradient."""
    layer = Attention(8, 2, T5(2, bidirectional=False), causal=True)
    layer(torch.randn(2, 64, 8)).square().sum().backward()
    sizes = layer.encoding.weight.grad.abs().amax(1).numpy()
    far = first_distances(bidirectional=False) >= 64
    return at_most(1e-9, right=sizes[far].max(), wrong=sizes[~far].min(), rows=far.sum())


# --- claims: the scale -------------------------------------------------------------------------


def spread(query_std, key_std, scale, d=768, d_head=64):
    """Standard deviation of logits between 600 tokens of mean square 1."""
    x = torch.randn(600, d, dtype=torch.float64)
    x = x / x.square().mean(-1, keepdim=True).sqrt()
    W_Q, W_K = torch.randn(2, d, d_head, dtype=torch.float64)
    return float((scale * (x @ W_Q * query_std) @ (x @ W_K * key_std).T).std())


@claim("t5.spread")
def test_small_queries_do_what_the_scale_does():
    """Measured against the formula; wrong: neither small queries nor a scale."""
    wide, narrow = 768**-0.5, (768 * 64) ** -0.5
    folded, divided, plain = (
        spread(narrow, wide, 1),
        spread(wide, wide, 1 / 8),
        spread(wide, wide, 1),
    )
    told = [logit_std(768, 64, narrow, wide), logit_std(768, 64, wide, wide, 1 / 8)]
    return at_most(
        0.05,
        right=max(abs(folded - told[0]), abs(divided - told[1])),
        wrong=abs(plain - told[0]),
        folded=folded,
        divided=divided,
        plain=plain,
        **{f"query_{d}": (d * 64) ** -0.5 for d in (512, 768, 1024)},
        **{f"key_{d}": d**-0.5 for d in (512, 768, 1024)},
    )


@claim("t5.peer_spread")
def test_the_library_starts_with_small_queries():
    """Standard deviations of the first values in the library; wrong: those of the keys."""
    model = T5EncoderModel(configuration(768, 12))
    layer = model.encoder.block[1].layer[0].SelfAttention
    got, other = (float(w.weight.detach().std()) * (768 * 64) ** 0.5 for w in (layer.q, layer.k))
    return at_most(
        0.01,
        right=abs(got - 1),
        wrong=abs(other - 1),
        scaling=layer.scaling,
    )


@claim("t5.folding")
def test_the_scale_can_be_moved_into_the_weights():
    """Same logits, and a gradient that is 8 times as large."""
    x = torch.randn(40, 32, dtype=torch.float64)
    W_K = torch.randn(32, 64, dtype=torch.float64)
    wide = torch.randn(32, 64, dtype=torch.float64, requires_grad=True)
    small = (wide.detach() / 8).requires_grad_()
    goal = torch.randn(40, 40, dtype=torch.float64)
    outputs = []
    for W_Q, scale in ((wide, 1 / 8), (small, 1.0)):
        outputs.append(scale * x @ W_Q @ (x @ W_K).T)
        (outputs[-1].softmax(-1) * goal).sum().backward()
    size = wide.grad.abs().max()
    return at_most(
        1e-12,
        right=max(
            largest((outputs[0] - outputs[1]).detach()),
            float((small.grad - 8 * wide.grad).abs().max() / size),
        ),
        wrong=float((small.grad - wide.grad).abs().max() / size),
    )


@claim("t5.step")
def test_one_step_of_adam_moves_the_folded_logits_eight_times_as_far():
    """Adam moves every weight by the learning rate, however small the weight."""
    x = torch.randn(40, 256, dtype=torch.float64)
    W_K = torch.randn(256, 64, dtype=torch.float64) / 16
    wide = torch.randn(256, 64, dtype=torch.float64) / 16
    goal = torch.randn(40, 40, dtype=torch.float64)
    moved = []
    for start, scale in ((wide, 1 / 8), (wide / 8, 1.0)):
        W_Q = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([W_Q], 1e-4, eps=0)
        before = (scale * x @ W_Q @ (x @ W_K).T).detach()
        ((scale * x @ W_Q @ (x @ W_K).T).softmax(-1) * goal).sum().backward()
        optimizer.step()
        after = (scale * x @ W_Q @ (x @ W_K).T).detach()
        moved.append(float((after - before).norm()))
    ratio = moved[1] / moved[0]
    return at_most(1e-6, right=abs(ratio - 8), wrong=abs(ratio - 1), ratio=ratio)


# --- claims: layers of the library -------------------------------------------------------------


@claim("t5.peer")
def test_loaded_with_its_weights_the_layer_is_that_of_the_library():
    """Encoder and decoder, 150 tokens; wrong: the usual scale."""
    right, wrong = 0.0, math.inf
    for decoder in (False, True):
        peer = library_layer(32, 4, decoder)
        x = torch.randn(2, 150, 32)
        mask = torch.full((150, 150), -torch.inf).triu(1)[None, None] if decoder else None
        with torch.no_grad():
            want = peer(x, mask=mask)[0]
            for fused in (False, True):
                encoding = T5(4, bidirectional=not decoder)
                layer = ours(peer, encoding, causal=decoder, fused=fused)
                right = max(right, largest(layer(x) - want))
                encoding.scale = None
                wrong = min(wrong, largest(layer(x) - want))
    return at_most(2e-5, right=right, wrong=wrong)


@claim("t5.shared")
def test_one_table_serves_all_layers():
    """Numbers in the tables of a stack of three layers; wrong: UMT5, a table per layer."""

    def numbers(model):
        named = model.named_parameters()
        return sum(p.numel() for name, p in named if "relative_attention_bias" in name)

    shared = T5(4)
    stack = torch.nn.ModuleList(Attention(32, 4, shared) for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # UMT5's default token ids lie outside this small vocabulary
        apart = UMT5EncoderModel(configuration(32, 4, kind=UMT5Config))
    model = T5EncoderModel(configuration(32, 4))
    rest = sum(p.numel() for layer in stack for p in layer.parameters() if p is not shared.weight)
    mine = sum(p.numel() for p in stack.parameters()) - rest
    return at_most(
        1,
        right=abs(numbers(model) - 32 * 4) + abs(mine - 32 * 4),
        wrong=abs(numbers(apart) - 32 * 4),
        umt5=numbers(apart),
        t5=numbers(model),
    )


@claim("t5.stack")
def test_later_layers_of_the_library_use_the_first_table():
    """The third layer of its encoder against ours with the shared table; wrong: no bias there."""
    model = T5EncoderModel(configuration(32, 4)).eval()
    first, third = (model.encoder.block[n].layer[0].SelfAttention for n in (0, 2))
    torch.nn.init.normal_(first.relative_attention_bias.weight)
    shared = T5(4)
    shared.load_state_dict({"weight": first.relative_attention_bias.weight})
    layer = Attention(32, 4, shared)
    bare = Attention(32, 4, Unscaled())
    weights = {MAPPING[name]: weight for name, weight in third.state_dict().items()}
    layer.load_state_dict(weights | {"encoding.weight": shared.weight})
    bare.load_state_dict(weights)
    seen = {}
    third.register_forward_hook(
        lambda _, args, kwargs, out: seen.update(x=args[0], z=out[0]), with_kwargs=True
    )
    with torch.no_grad():
        model(input_ids=torch.arange(40)[None])
        right, wrong = (largest(other(seen["x"]) - seen["z"]) for other in (layer, bare))
    return at_most(1e-5, right=right, wrong=wrong)


@claim("t5.cross")
def test_cross_attention_does_not_know_the_order_of_the_encoder():
    """The library's cross-attention, its context shuffled; wrong: with the bias of T5."""
    peer = library_layer(32, 4, decoder=True, has_bias=False)
    x, context, order = torch.randn(1, 5, 32), torch.randn(1, 40, 32), torch.randperm(40)
    layer = ours(peer, Unscaled())
    with torch.no_grad():
        want = peer(x, key_value_states=context)[0]
        right = max(
            largest(layer(x, context=context) - want),
            largest(peer(x, key_value_states=context[:, order])[0] - want),
        )
        layer.encoding = T5(4, std=1.0)
        wrong = layer(x, context=context) - layer(x, context=context[:, order])
    return at_most(1e-5, right=right, wrong=largest(wrong))


# --- claims: 2n - 1 numbers --------------------------------------------------------------------


@claim("t5.hankel")
def test_the_bias_is_a_view_of_its_vector_with_the_rows_reversed():
    """Entry by entry for 70 queries and 90 keys; wrong: the rows in order."""
    table = normal(32, 3)
    matrix = position_bias(table, offsets(70, 90))
    values = position_bias(table, np.arange(-69, 90))
    view = hankel(values, 70)
    assert np.shares_memory(view, values)
    heads, n = 12, 4096
    return at_most(
        1e-15,
        right=largest(view[:, ::-1] - matrix),
        wrong=largest(view - matrix),
        vector=heads * (2 * n - 1) * 4 / 2**20,
        matrix=heads * n * n * 4 / 2**20,
        ratio=n * n / (2 * n - 1),
    )


@claim("t5.by_offset")
def test_attention_by_offset_is_attention_with_the_bias():
    """Outputs and gradients against the formula with the whole matrix, causal and not."""
    right, wrong = 0.0, math.inf
    for causal in (False, True):
        q, k, v, g = torch.randn(4, 2, 3, 50, 8, dtype=torch.float64)
        bias = torch.randn(3, 99, dtype=torch.float64)
        inputs = [x.requires_grad_() for x in (q, k, v, bias)]
        t = torch.from_numpy(offsets(50, 50))
        matrix = bias[:, t + 49].where(t <= 0, -torch.inf) if causal else bias[:, t + 49]
        want = (q @ k.mT + matrix).softmax(-1) @ v
        got = attend_by_offset(q, k, v, bias, scale=1.0, causal=causal)
        backwards = attend_by_offset(q, k, v, bias.flip(-1), scale=1.0, causal=causal)
        wants, gots = (torch.autograd.grad(z, inputs, g) for z in (want, got))
        pairs = [(want, got), *zip(wants, gots, strict=True)]
        right = max(right, *(largest((a - b).detach()) for a, b in pairs))
        wrong = min(wrong, largest((want - backwards).detach()))
    return at_most(1e-12, right=right, wrong=wrong)


@claim("t5.memory")
def test_the_bias_by_offset_adds_three_times_the_queries_at_any_length():
    """Peak of a forward and a backward pass, in sizes of q, more than without a bias.

    Two heads of width 32; wrong: the whole matrix as a bias, at the smaller length.
    """
    found = {n: memory_of(n) for n in (512, 1024)}
    more = {
        n: {name: size - each["plain"] for name, size in each.items()} for n, each in found.items()
    }
    return at_most(
        4,
        right=max(each["ours"] for each in more.values()),
        wrong=min(more[512]["whole"], more[512]["learned"]),
        plain=found[1024]["plain"],
        **{f"{name}_{n}": each[name] for n, each in more.items() for name in ("whole", "learned")},
    )


def memory_of(n, heads=2, d=32):
    """Peak memory of attention and its gradients, in sizes of q, for several kinds of bias."""
    q, k, v, g = (torch.randn(1, heads, n, d) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    frozen = torch.randn(heads, 2 * n - 1)
    learned = frozen.clone().requires_grad_()
    encoding, at = T5(heads), torch.arange(n)
    fused = torch.nn.functional.scaled_dot_product_attention

    def whole():
        return fused(q, k, v, encoding.bias(q, k, at, at)[None].detach(), scale=1.0)

    calls = {
        "plain": lambda: fused(q, k, v, scale=1.0),
        "ours": lambda: attend_by_offset(q, k, v, frozen, scale=1.0),
        "whole": whole,
        "learned": lambda: attend_by_offset(q, k, v, learned, scale=1.0),
    }
    wanted = {"learned": [*inputs, learned]}

    def step(name):
        return torch.autograd.grad(calls[name](), wanted.get(name, inputs), g)

    for name in calls:
        step(name)  # what is made once does not count
    return {name: peak(lambda name=name: step(name)) / q.nbytes for name in calls}


@claim("t5.gradient")
def test_the_gradient_of_a_row_sums_over_diagonals():
    """Against the loop over pairs of alpha_ij g_i (v_j - z_i); wrong: a mean over the pairs."""
    table = torch.randn(32, 1, dtype=torch.float64, requires_grad=True)
    q, k, v, g = torch.randn(4, 1, 1, 60, 4, dtype=torch.float64)
    bias = table.T[:, torch.from_numpy(buckets(np.arange(-59, 60)))]
    attend_by_offset(q, k, v, bias, scale=1.0).backward(g)
    q, k, v, g = (x[0, 0].numpy() for x in (q, k, v, g))
    rows = position_bias(table.detach().numpy(), offsets(60, 60))[0]
    z = _attend(q, k, v, rows)
    want, counts = np.zeros(32), np.zeros(32)
    at = buckets(offsets(60, 60))
    for i in range(60):
        weights = np.exp(k @ q[i] + rows[i])
        weights /= weights.sum()
        for j in range(60):
            want[at[i, j]] += weights[j] * g[i] @ (v[j] - z[i])
            counts[at[i, j]] += 1
    got = table.grad[:, 0].numpy()
    mean = want / np.maximum(counts, 1)
    logits = [_row_gradient(q, k, v, g, z, rows, i) for i in range(60)]
    by_diagonal = diagonal_sums(np.array(logits))
    summed = np.zeros(32)
    np.add.at(summed, buckets(np.arange(-59, 60)), by_diagonal)
    return at_most(
        1e-12,
        right=max(largest(got - want), largest(summed - want)),
        wrong=largest(got - mean),
    )


def _row_gradient(q, k, v, g, z, bias, i):
    weights = np.exp(k @ q[i] + bias[i])
    return weights / weights.sum() * ((v - z[i]) @ g[i])


@claim("t5.layer")
def test_the_layer_equals_the_equation():
    """Attention with T5 in float32 against the equations in float64, 200 tokens, any positions."""
    layer = Attention(16, 2, T5(2, std=1.0))
    x = torch.randn(1, 200, 16)
    at = torch.randperm(1000)[:200] - 300
    t = (at[None] - at[:, None]).numpy()
    table = layer.encoding.weight.detach().double().numpy()
    parts = (layer.query, layer.key, layer.value)
    q, k, v = (part(x)[0].detach().double().numpy() for part in parts)
    found = []
    for bias in (position_bias(table, t), position_bias(table, -t)):
        heads = [
            _attend(q[:, s], k[:, s], v[:, s], bias[h])
            for h, s in enumerate((slice(0, 8), slice(8, 16)))
        ]
        z = np.concatenate(heads, axis=1)
        want = z @ layer.output.weight.detach().double().numpy().T
        found.append(largest(layer(x, at)[0].detach().numpy() - want))
    return at_most(1e-5, right=found[0], wrong=found[1])


def test_ranges_of_neighbouring_buckets_meet():
    for first in (ENCODER, DECODER):
        for low, high in pairwise(first):
            assert buckets([-low], bidirectional=first is ENCODER) < buckets(
                [-high], bidirectional=first is ENCODER
            )
