"""Windows: printed facts, properties, oracles and errors; the claims."""

import math
import re
from collections import deque
from fractions import Fraction

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import BigBirdConfig, LongformerConfig, MistralConfig
from transformers import masking_utils as library
from transformers.models.big_bird.modeling_big_bird import (
    BigBirdBlockSparseAttention,
    BigBirdModel,
)
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.mistral.modeling_mistral import MistralModel

from posenc.equations.attention import attention, causal_mask
from posenc.equations.windows import (
    bigbird,
    bigbird_edges,
    chunk_edges,
    chunks,
    longformer,
    random_links,
    reach,
    sliding_window,
    streaming_window,
    window_edges,
)
from posenc.layers.attention import Attention
from posenc.layers.rope import Rope
from posenc.layers.sinusoidal import Sinusoidal
from posenc.layers.windows import Window, attend_in_window, mask_tensor
from scripts.bench import peak

positions = st.lists(st.integers(-30, 30), min_size=1, max_size=6).map(np.array)
counts = st.integers(0, 8)
spans = st.tuples(counts, counts)
AT = np.arange(6)
NONE = np.array([], int)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def by_pairs(q_at, k_at, sees):
    """A mask by a loop over pairs."""
    return np.array([[bool(sees(int(i), int(j))) for j in k_at] for i in q_at])


def chunk_of(i, size, overlap):
    """Tokens of the first chunk that holds the token i, found by trying one after another."""
    start = 0
    while i not in (chunk := range(start, start + size)):
        start += size - overlap
    return chunk


# --- printed facts -----------------------------------------------------------------------------


def test_a_window_counts_the_query_itself():
    at = np.arange(10)
    assert sliding_window(at, at, (3, 0)).sum(axis=1).tolist() == [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]
    assert sliding_window(at, at, 2)[5].tolist() == [False] * 3 + [True] * 5 + [False] * 2


def test_a_dilated_window_has_gaps():
    seen = np.flatnonzero(sliding_window(np.array([50]), np.arange(100), (3, 1), 7)[0])
    assert seen.tolist() == [29, 36, 43, 50, 57]


def test_one_number_is_for_both_sides():
    np.testing.assert_array_equal(sliding_window(AT, AT, 2), sliding_window(AT, AT, (2, 2)))
    np.testing.assert_array_equal(longformer(AT, AT, 2, NONE), longformer(AT, AT, (2, 2), NONE))


def test_a_chunk_repeats_the_end_of_the_one_before():
    at = np.arange(10)
    seen = [np.flatnonzero(row) for row in chunks(at, at, 4, overlap=2)]
    assert [(int(s[0]), int(s[-1])) for s in seen] == [(0, 3)] * 4 + [(2, 5)] * 2 + [(4, 7)] * 2 + [
        (6, 9)
    ] * 2


def test_a_mask_of_one_token_in_chunks_of_one():
    np.testing.assert_array_equal(chunks(AT, AT, 1), np.eye(6, dtype=bool))
    np.testing.assert_array_equal(sliding_window(AT, AT, 0), np.eye(6, dtype=bool))


def test_sinks_are_seen_by_position_and_not_by_place():
    mask = streaming_window(np.array([50]), np.array([-1, 0, 1, 2, 48, 49, 50, 51]), 2, 2)
    assert mask.astype(int).tolist() == [[0, 1, 1, 0, 0, 1, 1, 0]]


def test_sinks_do_not_show_what_comes_after():
    np.testing.assert_array_equal(streaming_window(AT, AT, 1, 6), causal_mask(6))


def test_every_row_of_links_is_new():
    links = random_links(20, 3, np.random.default_rng(0))
    assert (links.shape, links.dtype) == ((18, 3), np.int64)
    for row, drawn in enumerate(links, start=1):
        assert len(set(drawn)) == 3
        assert not {0, row - 1, row, row + 1, 19}.intersection(drawn)


def test_links_depend_on_the_generator_alone():
    first, again, other = (random_links(20, 3, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_all_blocks_may_be_drawn():
    links = random_links(9, 4, np.random.default_rng(0))
    assert bigbird(9, 1, links)[2:-2].all()


def test_nothing_moves_without_layers():
    np.testing.assert_array_equal(reach(np.ones((3, 3), bool), 0), np.eye(3, dtype=bool))


def test_the_residual_connection_keeps_what_the_mask_hides():
    shift = np.eye(4, k=-1, dtype=bool)  # every token looks only at the one before it
    assert reach(shift, 2)[3].tolist() == [False, True, True, True]


# --- properties --------------------------------------------------------------------------------


@given(positions, positions, spans, st.integers(1, 4))
def test_a_window_is_a_loop_over_pairs(q_at, k_at, span, dilation):
    keys = {d * dilation for d in range(-span[1], span[0] + 1)}
    got = sliding_window(q_at, k_at, span, dilation)
    np.testing.assert_array_equal(got, by_pairs(q_at, k_at, lambda i, j: i - j in keys))


@given(positions, positions, st.integers(1, 8), counts)
def test_sinks_are_a_loop_over_pairs(q_at, k_at, size, sinks):
    got = streaming_window(q_at, k_at, size, sinks)
    want = by_pairs(
        q_at, k_at, lambda i, j: j in range(i - size + 1, i + 1) or (j in range(sinks) and j <= i)
    )
    np.testing.assert_array_equal(got, want)


@given(positions, positions, spans, st.lists(st.integers(-30, 30), max_size=3))
def test_global_tokens_are_a_loop_over_pairs(q_at, k_at, span, chosen):
    got = longformer(q_at, k_at, span, np.array(chosen, int))
    want = by_pairs(
        q_at, k_at, lambda i, j: -span[1] <= i - j <= span[0] or i in chosen or j in chosen
    )
    np.testing.assert_array_equal(got, want)


@given(positions, positions, st.integers(1, 9), st.data())
def test_chunks_are_a_loop_over_pairs(q_at, k_at, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    q_at = abs(q_at)
    got = chunks(q_at, k_at, size, overlap)
    want = by_pairs(q_at, k_at, lambda i, j: j in chunk_of(i, size, overlap))
    np.testing.assert_array_equal(got, want)


@given(positions, positions, spans, st.integers(-(10**9), 10**9))
def test_only_differences_of_positions_count_in_a_window(q_at, k_at, span, shift):
    want = sliding_window(q_at, k_at, span)
    np.testing.assert_array_equal(sliding_window(q_at + shift, k_at + shift, span), want)


def test_every_sequence_of_a_batch_may_have_positions_of_its_own():
    at = np.array([[0, 1, 2, 3], [7, 8, 3, 20]])
    masks = {
        "window": lambda i: sliding_window(i, i, (1, 0)),
        "chunks": lambda i: chunks(i, i, 2),
        "sinks": lambda i: streaming_window(i, i, 2, 1),
        "global": lambda i: longformer(i, i, 1, np.array([3])),
    }
    for mask in masks.values():
        assert mask(at).shape == (2, 4, 4)
        for row, own in zip(mask(at), at, strict=True):
            np.testing.assert_array_equal(row, mask(own))


def test_small_integers_do_not_overflow():
    near, far = np.array([100], np.int8), np.array([-100], np.int8)
    assert not sliding_window(near, far, (100, 0)).any()
    assert sliding_window(near, far, (200, 0)).all()
    assert not sliding_window(np.array([0], np.uint8), np.array([1], np.uint8), (5, 0)).any()


@given(st.integers(5, 12), st.integers(1, 3), st.data())
def test_bigbird_is_a_loop_over_pairs(n_blocks, block, data):
    r = data.draw(st.integers(0, n_blocks - 5))
    links = random_links(n_blocks, r, np.random.default_rng(data.draw(st.integers(0, 99))))
    ends = {0, n_blocks - 1}

    def sees(i, j):
        I, J = i // block, j // block  # noqa: E741
        if {I, J} & ends or I - J in (-1, 0, 1):
            return True
        return J in links[I - 1]

    at = np.arange(n_blocks * block)
    got = bigbird(n_blocks * block, block, links)
    np.testing.assert_array_equal(got, by_pairs(at, at, sees))
    assert bigbird_edges(n_blocks * block, block, r) == got.sum()


@given(st.integers(1, 40), spans, st.integers(1, 5), st.data())
def test_edges_of_a_window_are_its_trues(n, span, dilation, data):
    at, g = np.arange(n), data.draw(st.integers(0, n))
    assert window_edges(n, span, dilation) == sliding_window(at, at, span, dilation).sum()
    assert window_edges(n, span, n_global=g) == longformer(at, at, span, at[:g]).sum()


@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_edges_of_chunks_are_their_trues(n, size, data):
    overlap, at = data.draw(st.integers(0, size - 1)), np.arange(n)
    assert chunk_edges(n, size, overlap) == chunks(at, at, size, overlap).sum()


def steps(mask):
    """Length of the shortest path from every query to every key, by a search from each."""
    n = len(mask)
    found = np.full((n, n), 10**9)
    for start in range(n):
        found[start, start], queue = 0, deque([start])
        while queue:
            i = queue.popleft()
            for j in np.flatnonzero(mask[i]):
                if found[start, j] == 10**9:
                    found[start, j] = found[start, i] + 1
                    queue.append(j)
    return found


@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 2**32))
def test_what_is_reached_is_what_a_search_finds(n, layers, seed):
    mask = np.random.default_rng(seed).random((n, n)) < 0.25
    np.testing.assert_array_equal(reach(mask, layers), steps(mask) <= layers)


def test_arguments_are_not_changed():
    at, links, mask = np.arange(6), np.array([[3], [4], [1], [2]]), np.ones((2, 2), bool)
    bigbird(6, 1, links)
    longformer(at, at, 1, at)
    reach(mask, 1)[0] = False
    np.testing.assert_array_equal(at, AT)
    assert links.tolist() == [[3], [4], [1], [2]]
    assert mask.all()


# --- errors ------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
TYPE_ERRORS = {
    "q_positions must hold integers, got dtype float64": lambda: sliding_window([0.5], AT, 1),
    "k_positions must hold integers, got dtype bool": lambda: chunks(AT, [True], 1),
    "span must be an integer, got 1.0": lambda: sliding_window(AT, AT, 1.0),
    "span must be one integer or two, got (1, 2, 3)": lambda: longformer(AT, AT, (1, 2, 3), AT),
    "dilation must be an integer, got True": lambda: sliding_window(AT, AT, 1, True),
    "size must be an integer, got 2.0": lambda: chunks(AT, AT, 2.0),
    "overlap must be an integer, got None": lambda: chunks(AT, AT, 2, None),
    "sinks must be an integer, got 0.0": lambda: streaming_window(AT, AT, 2, 0.0),
    "global_positions must hold integers, got dtype bool": lambda: longformer(AT, AT, 1, [True]),
    "n_blocks must be an integer, got 6.0": lambda: random_links(6.0, 1, RNG),
    "n_links must be an integer, got 1.0": lambda: random_links(6, 1.0, RNG),
    "n must be an integer, got 6.0": lambda: bigbird(6.0, 1, np.zeros((4, 1), int)),
    "block must be an integer, got 1.0": lambda: bigbird_edges(6, 1.0, 1),
    "links must hold integers, got dtype float64": lambda: bigbird(6, 1, np.zeros((4, 1))),
    "n_global must be an integer, got 1.0": lambda: window_edges(9, 1, n_global=1.0),
    "mask must be boolean, got dtype int64": lambda: reach(np.eye(3, dtype=int), 1),
    "layers must be an integer, got 1.0": lambda: reach(np.eye(3, dtype=bool), 1.0),
}

VALUE_ERRORS = {
    "span must be at least 0, got -1": lambda: sliding_window(AT, AT, (1, -1)),
    "dilation must be at least 1, got 0": lambda: window_edges(6, 1, 0),
    "size must be at least 1, got 0": lambda: streaming_window(AT, AT, 0, 1),
    "sinks must be at least 0, got -1": lambda: streaming_window(AT, AT, 1, -1),
    "overlap must be at most 1, got 2": lambda: chunks(AT, AT, 2, 2),
    "overlap must be at least 0, got -1": lambda: chunk_edges(6, 2, -1),
    "q_positions must be at least 0, got -3": lambda: chunks([2, -3], AT, 2),
    "n_blocks must be at least 5, got 4": lambda: random_links(4, 0, RNG),
    "n_links must be at most 1, got 2": lambda: random_links(6, 2, RNG),
    "n_links must be at most 3, got 4": lambda: bigbird_edges(8, 1, 4),
    "n must be at least 20, got 16": lambda: bigbird_edges(16, 4, 0),
    "n must be a multiple of 4, got 22": lambda: bigbird(22, 4, np.zeros((3, 0), int)),
    "block must be at least 1, got 0": lambda: bigbird_edges(16, 0, 0),
    "links must have shape (4, 2), got (3, 2)": lambda: bigbird(6, 1, np.zeros((3, 2), int)),
    "links must have shape (4, 2), got (4, 2, 1)": lambda: bigbird(6, 1, np.zeros((4, 2, 1), int)),
    "links must be from 0 to 5, got 0 to 6": lambda: bigbird(6, 1, np.array([[0], [1], [2], [6]])),
    "links must be from 0 to 5, got -1 to 2": lambda: bigbird(
        6, 1, np.array([[0], [1], [2], [-1]])
    ),
    "n must be at least 1, got 0": lambda: window_edges(0, 1),
    "n_global must be at most 9, got 10": lambda: window_edges(9, 1, n_global=10),
    "n_global must be at least 0, got -1": lambda: window_edges(9, 1, n_global=-1),
    "mask must have shape (3, 3), got (2, 3)": lambda: reach(np.ones((2, 3), bool), 1),
    "mask must have shape (0, 0), got ()": lambda: reach(np.array(True), 1),
    "layers must be at least 0, got -1": lambda: reach(np.ones((2, 2), bool), -1),
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


class Stack(torch.nn.Module):
    """Attention layers with residual connections, each with an encoding or a mask of its own."""

    def __init__(self, encodings, masks=None, width=16, heads=2, causal=True):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            Attention(width, heads, e, causal=causal, first=n == 0) for n, e in enumerate(encodings)
        )
        self.masks = masks or [None] * len(encodings)

    def forward(self, x, at=None):
        for layer, mask in zip(self.layers, self.masks, strict=True):
            x = x + layer(x, at, mask=mask)
        return x


def seen_by_gradient(model, n, width=16):
    """Which outputs (n) depend on which tokens (n), from the gradient at a random text."""
    x = torch.randn(1, n, width, dtype=torch.float64)
    return edges_of(model.double(), x)


def edges_of(function, x):
    """Pairs (output, input) with a gradient that is not zero; all tokens of one sequence."""
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x).sum(-1)[0], x)
    return (jacobian[:, 0] != 0).any(-1).numpy()


def masked(mask, layers=1):
    return [mask_tensor(mask)] * layers


# --- claims: edges -----------------------------------------------------------------------------


@claim("windows.edges")
def test_edges_of_a_window_by_counting_rows():
    """Row by row for 300 settings, against the formula; wrong: n (l + r + 1), without corners."""
    rng = np.random.default_rng(0)
    right, wrong = 0, math.inf
    for n, left, behind, step in zip(
        rng.integers(60, 400, 300), *rng.integers(1, 12, (2, 300)), rng.integers(1, 5, 300),
        strict=True,
    ):  # fmt: skip
        n, left, behind, step = (int(x) for x in (n, left, behind, step))
        want = sum(1 + min(left, i // step) + min(behind, (n - 1 - i) // step) for i in range(n))
        right = max(right, abs(window_edges(n, (left, behind), step) - want))
        wrong = min(wrong, abs(n * (left + behind + 1) - want))
    return at_most(0.2, right=right, wrong=wrong)


@claim("windows.chunk_edges")
def test_edges_of_chunks_by_listing_the_chunks():
    """Sum over chunks of new queries times keys; wrong: every chunk full."""
    right, wrong = 0, math.inf
    for n, size, overlap in ((1000, 64, 0), (1000, 64, 16), (777, 100, 50), (130, 64, 63)):
        hop, want, start, done = size - overlap, 0, 0, 0
        while done < n:
            stop = min(n, start + size)
            want += (stop - done) * (stop - start)
            start, done = start + hop, stop
        full = (1 + math.ceil((n - size) / hop)) * size**2
        right = max(right, abs(chunk_edges(n, size, overlap) - want))
        wrong = min(wrong, abs(full - want))
    return at_most(0.5, right=right, wrong=wrong)


@claim("windows.global_edges")
def test_edges_with_global_tokens_by_counting():
    """The mask counted for g tokens at the start; wrong: rows and columns simply added."""
    right, wrong = 0, math.inf
    for n, span, g in ((300, 8, 1), (300, (20, 5), 7), (128, 64, 16)):
        at = np.arange(n)
        want = int(longformer(at, at, span, at[:g]).sum())
        right = max(right, abs(window_edges(n, span, n_global=g) - want))
        wrong = min(wrong, abs(window_edges(n, span) + 2 * g * n - want))
    return at_most(0.5, right=right, wrong=wrong)


@claim("windows.bigbird_edges")
def test_edges_of_bigbird_by_counting():
    """The mask counted; wrong: 5 + r blocks in every row but the global ones."""
    right, wrong = 0, math.inf
    for n_blocks, block, r in ((9, 4, 3), (20, 8, 3), (64, 2, 5)):
        links = random_links(n_blocks, r, np.random.default_rng(r))
        want = int(bigbird(n_blocks * block, block, links).sum())
        right = max(right, abs(bigbird_edges(n_blocks * block, block, r) - want))
        simple = block**2 * (2 * n_blocks + (n_blocks - 2) * (5 + r))
        wrong = min(wrong, abs(simple - want))
    return at_most(0.5, right=right, wrong=wrong)


@claim("windows.linear")
def test_twice_the_length_makes_twice_the_edges():
    """E(2n) / E(n) - 2 at n = 131072, Longformer and BigBird as published; wrong: n log n."""

    def growth(edges, n):
        return float(Fraction(edges(2 * n), edges(n)))

    kinds = {
        "longformer": lambda n: window_edges(n, 256, n_global=1),
        "bigbird": lambda n: bigbird_edges(n, 64, 3),
        "full": lambda n: n**2,
    }
    values = {
        f"{name}_{n}": growth(edges, n)
        for name, edges in kinds.items()
        for n in (2048, 4096, 8192, 16384)
    }
    far = 2**17
    loglinear = 2 * (1 + 1 / math.log2(far))
    return at_most(
        0.003,
        right=max(abs(growth(kinds[name], far) - 2) for name in ("longformer", "bigbird")),
        wrong=loglinear - 2,
        **values,
        **{f"nlogn_{n}": 2 * (1 + 1 / math.log2(n)) for n in (2048, 4096, 8192, 16384)},
        share_longformer=kinds["longformer"](2**14) / 4**14,
        share_bigbird=kinds["bigbird"](2**14) / 4**14,
        keys_longformer=kinds["longformer"](2**20) / 2**20,
        keys_bigbird=kinds["bigbird"](2**20) / 2**20,
    )


# --- claims: reach -----------------------------------------------------------------------------


@claim("windows.reach")
def test_a_window_of_w_reaches_w_less_one_per_layer():
    """Furthest token with a gradient, in random models of 1 to 5 layers; wrong: w per layer."""
    right, wrong, n = 0, math.inf, 40
    for w in (2, 3, 6):
        for L in range(1, 6):
            seen = seen_by_gradient(Stack([Window(w, Rope(8) if n else None) for n in range(L)]), n)
            furthest = n - 1 - int(np.flatnonzero(seen[-1])[0])
            right = max(right, abs(furthest - L * (w - 1)))
            wrong = min(wrong, abs(furthest - L * w))
    return at_most(0.1, right=right, wrong=wrong, mistral=32 * 4095, said=32 * 4096)


@claim("windows.apart")
def test_what_is_in_another_chunk_never_arrives():
    """Change the text before a chunk: change of its outputs after six layers; wrong: a window."""
    at, x = np.arange(24), torch.randn(1, 24, 16)
    other = x.clone()
    other[:, :16] = torch.randn(1, 16, 16)

    def moved(mask):
        model = Stack([Rope(8)] * 6, masked(mask, 6))
        with torch.no_grad():
            return largest((model(other) - model(x))[0, 16:])

    # The least bit of a float32 of size 1 is 1e-7.
    return at_most(
        1e-9, right=moved(chunks(at, at, 8)), wrong=moved(sliding_window(at, at, (7, 0)))
    )


@claim("windows.context")
def test_the_mean_context_within_a_chunk():
    """Keys that a token sees, itself included, far from the start; wrong: all w of them."""
    right, wrong, values = 0.0, math.inf, {}
    for w, o in ((512, 0), (512, 256), (512, 448), (9, 4)):
        h = w - o
        at = np.arange(w, w + 6 * h)
        keys = np.arange(w + 6 * h)
        seen = chunks(at, keys, w, o) & (keys <= at[:, None])
        counts = seen.sum(axis=1)
        right = max(right, abs(counts.mean() - (o + (h + 1) / 2)))
        wrong = min(wrong, abs(counts.mean() - w))
        values |= {f"mean_{o}": counts.mean(), f"least_{o}": counts.min(), f"cost_{o}": w / h}
    return at_most(1e-9, right=right, wrong=wrong, **values)


@claim("windows.overlap")
def test_chunks_one_by_one_are_the_mask_for_one_layer():
    """Chunks computed apart, new tokens kept, against the mask; wrong: the same in two layers."""
    n, size, overlap = 20, 8, 4
    at, x = np.arange(n), torch.randn(1, n, 16)
    mask = chunks(at, at, size, overlap)

    def apart(model):
        done = []
        for start in range(0, n - overlap, size - overlap):
            piece = slice(start, start + size)
            z = model(x[:, piece], torch.arange(n)[piece])
            done.append(z if start == 0 else z[:, overlap:])
        return torch.cat(done, dim=1)

    found = []
    for layers in (1, 2):
        model = Stack([Rope(8) for _ in range(layers)], causal=False)
        whole = Stack([Rope(8) for _ in range(layers)], masked(mask, layers), causal=False)
        whole.load_state_dict(model.state_dict())
        with torch.no_grad():
            found.append(largest(apart(model) - whole(x)))
    return at_most(1e-5, right=found[0], wrong=found[1])


@claim("windows.residue")
def test_equal_dilation_never_leaves_its_residue_class():
    """Change all tokens at odd offsets: change of the output in 4 layers; wrong: gaps 1 then 2."""
    n, at = 33, np.arange(33)
    x = torch.randn(1, n, 16)
    other = x.clone()
    other[:, 1::2] = torch.randn(1, n // 2, 16)

    def moved(dilations):
        masks = [mask_tensor(sliding_window(at, at, (3, 0), d)) for d in dilations]
        model = Stack([Rope(8) for _ in masks], masks)
        with torch.no_grad():
            return largest((model(other) - model(x))[0, -1])

    same = sliding_window(at, at, (3, 0), 2)
    mixed = [sliding_window(at, at, (3, 0), d) for d in (1, 2, 4)]
    through = mixed[2].astype(int) @ mixed[1] @ mixed[0]
    return at_most(
        1e-6,
        right=moved([2, 2, 2, 2]),
        wrong=moved([1, 2, 2, 2]),
        same=reach(same, 3)[-1].sum(),
        mixed=(through[-1] > 0).sum(),
        plain=reach(sliding_window(at, at, (3, 0)), 3)[-1].sum(),
    )


@claim("windows.hub")
def test_a_global_token_joins_all_in_two_layers():
    """Pairs without a gradient after two layers; wrong: the same window without the token."""
    n, at = 30, np.arange(30)
    missing = []
    for chosen in ([0], []):
        mask = longformer(at, at, 2, np.array(chosen, int))
        model = Stack([Rope(8), Rope(8)], masked(mask, 2), causal=False)
        missing.append(int((~seen_by_gradient(model, n)).sum()))
    return at_most(0.5, right=missing[0], wrong=missing[1], pairs=n * n)


def depth(mask):
    """Layers until every token may know of every other."""
    layers = 0
    while not reach(mask, layers).all():
        layers += 1
    return layers


@claim("windows.random")
def test_random_links_shorten_the_way():
    """Layers until all blocks know of all, 200 to 400 blocks, without global ones; wrong: none."""

    def layers(n, r):
        at, rng = np.arange(n), np.random.default_rng(0)
        mask = sliding_window(at, at, 1)
        for i in range(n if r else 0):
            mask[i, rng.choice(n, r, replace=False)] = True
        return depth(mask)

    found = {n: layers(n, 3) for n in (100, 200, 400)}
    plain = {n: n - 1 for n in (100, 200, 400)}
    assert layers(40, 0) == 39
    return at_most(
        2,
        right=found[400] - found[200],
        wrong=plain[400] - plain[200],
        **{f"random_{n}": found[n] for n in found},
        **{f"plain_{n}": plain[n] for n in plain},
    )


# --- claims: the window as a layer --------------------------------------------------------------


@claim("windows.banded")
def test_blocks_give_the_outputs_and_gradients_of_the_mask():
    """float64, with and without sinks and keys after; wrong: a window larger by one."""
    n, right, wrong = 300, 0.0, math.inf
    at = torch.arange(n)
    t = at[:, None] - at
    for size, after, sinks in ((20, 0, 0), (64, 0, 4), (33, 32, 0), (10, 5, 3)):
        q, k, v, g = torch.randn(4, 2, 2, n, 8, dtype=torch.float64)
        inputs = [x.requires_grad_() for x in (q, k, v)]
        mask = ((t < size) | (at < sinks)) & (t >= -after)
        want = (0.3 * q @ k.mT).masked_fill(~mask, -torch.inf).softmax(-1) @ v
        options = {"scale": 0.3, "after": after, "sinks": sinks}
        got = attend_in_window(q, k, v, size, **options)
        wider = attend_in_window(q, k, v, size + 1, **options)
        wants, gots = (torch.autograd.grad(z, inputs, g) for z in (want, got))
        pairs = [(want, got), *zip(wants, gots, strict=True)]
        right = max(right, *(largest((a - b).detach()) for a, b in pairs))
        wrong = min(wrong, largest((want - wider).detach()))
    return at_most(1e-12, right=right, wrong=wrong)


def memory_of(n, size=64, heads=2, d=32, batch=2):
    """Peak memory of attention and its gradients, in sizes of q."""
    q, k, v, g = (torch.randn(batch, heads, n, d) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    at = np.arange(n)
    mask = mask_tensor(sliding_window(at, at, (size - 1, 0)))
    calls = {
        "plain": lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
        "blocks": lambda: attend_in_window(q, k, v, size, scale=d**-0.5),
        "mask": lambda: scaled_dot_product_attention(q, k, v, mask),
    }

    def step(name):
        return torch.autograd.grad(calls[name](), inputs, g)

    for name in calls:
        step(name)  # what is made once does not count
    return {name: peak(lambda name=name: step(name)) / q.nbytes for name in calls}


@claim("windows.memory")
def test_memory_grows_like_the_queries():
    """Peak at 4096 tokens less the peak at 2048, both in sizes of q; wrong: a mask of n by n."""
    short, long = memory_of(2048), memory_of(4096)
    return at_most(
        1,
        right=abs(long["blocks"] - short["blocks"]),
        wrong=long["mask"] - short["mask"],
        blocks=long["blocks"],
        plain=long["plain"],
        mask=long["mask"],
        mask_short=short["mask"],
    )


@claim("windows.rolling")
def test_a_decoder_may_forget_what_left_the_window():
    """Decode with a cache of the last w tokens, against the full text; wrong: of w - 1."""
    w, n = 6, 40
    layer = Attention(16, 2, Window(w, Rope(8)), causal=True).double()
    x, at = torch.randn(1, n, 16, dtype=torch.float64), torch.arange(n)
    with torch.no_grad():
        want = layer(x)
        found = []
        for kept in (w, w - 1):
            rows = []
            for t in range(n):
                cache = slice(max(0, t + 1 - kept), t + 1)
                rows.append(
                    layer(
                        x[:, t : t + 1],
                        at[t : t + 1],
                        context=x[:, cache],
                        context_positions=at[cache],
                    )
                )
            found.append(largest(torch.cat(rows, dim=1) - want))
    return at_most(1e-12, right=found[0], wrong=found[1])


@claim("windows.nothing_new")
def test_with_relative_positions_a_long_text_is_a_short_one():
    """Last output of 200 tokens against that of the last L(w - 1) + 1; wrong: sinusoids inside."""
    L, w, n = 3, 8, 200
    x = torch.randn(1, n, 16, dtype=torch.float64)
    found = []
    for first in (Rope(8), Sinusoidal(16)):
        inner = [first if layer == 0 or isinstance(first, Rope) else None for layer in range(L)]
        model = Stack([Window(w, e) for e in inner]).double()
        with torch.no_grad():
            found.append(largest(model(x)[:, -1] - model(x[:, -(L * (w - 1) + 1) :])[:, -1]))
    return at_most(1e-12, right=found[0], wrong=found[1], tokens=L * (w - 1) + 1)


@claim("windows.sinks")
def test_a_softmax_that_loses_a_key_scales_up_the_rest():
    """z' - z = a / (1 - a) (z - v_0) when key 0 of weight a goes; wrong: its part missing."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(1, 4)), rng.normal(size=(12, 4)), rng.normal(size=(12, 3))
    k[0] = 4 * q[0]
    logits = (k @ q[0]) / 2
    a = np.exp(logits[0]) / np.exp(logits).sum()
    z, without = attention(q, k, v)[0], attention(q, k[1:], v[1:])[0]
    quiet = v.copy()
    quiet[0] = 0  # a sink whose value says nothing
    before = attention(q, k, quiet)[0]
    return at_most(
        1e-12,
        right=largest(without - z - a / (1 - a) * (z - v[0])),
        wrong=largest(without - z + a * v[0]),
        weight=a,
        factor=float(np.linalg.norm(without) / np.linalg.norm(before)),
    )


@claim("windows.layer")
def test_the_layer_equals_the_equation():
    """float32 at shuffled positions against float64, 200 tokens; wrong: one key more."""
    layer = Attention(16, 2, Window(50, Rope(8), sinks=3), causal=True)
    x, at = torch.randn(1, 200, 16), torch.randperm(300)[:200]
    q, k, v = (
        layer._split_heads(part(x)).detach() for part in (layer.query, layer.key, layer.value)
    )
    q, k = layer.encoding.rotate(q, k, at, at)
    found = []
    for size in (50, 51):
        mask = streaming_window(at.numpy(), at.numpy(), size, 3)
        z = attention(*(part[0].double().numpy() for part in (q, k, v)), mask=mask)
        want = np.concatenate(z, axis=-1) @ layer.output.weight.detach().double().numpy().T
        found.append(largest(layer(x, at)[0].detach().numpy() - want))
    return at_most(1e-5, right=found[0], wrong=found[1])


# --- claims: libraries -------------------------------------------------------------------------


@claim("windows.conventions")
def test_what_the_libraries_call_a_window():
    """Masks of the library against ours for w = 1 to 9; wrong: w keys before the query."""
    i, j = torch.arange(40)[:, None], torch.arange(40)[None]
    at = np.arange(40)
    right, wrong = 0, math.inf
    for w in range(1, 10):
        causal = library.sliding_window_causal_mask_function(w)(0, 0, i, j).numpy()
        both = library.sliding_window_bidirectional_mask_function(w)(0, 0, i, j).numpy()
        apart = library.chunked_causal_mask_function(w, torch.zeros(1, dtype=int))(0, 0, i, j)
        ours = (
            (causal, sliding_window(at, at, (w - 1, 0))),
            (both, sliding_window(at, at, w)),
            (apart.numpy(), chunks(at, at, w) & causal_mask(40)),
        )
        right = max(right, *(int((a != b).sum()) for a, b in ours))
        wrong = min(wrong, int((causal != sliding_window(at, at, (w, 0))).sum()))
    both = library.sliding_window_bidirectional_mask_function(8)(0, 0, i, j).numpy()
    return at_most(
        0.5,
        right=right,
        wrong=wrong,
        causal_8=sliding_window(at, at, (7, 0))[20].sum(),
        longformer_8=longformer(at, at, 4, NONE)[20].sum(),
        both_8=both[20].sum(),
    )


def mistral(window):
    config = MistralConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=40,
        sliding_window=window,
        max_position_embeddings=128,
        attn_implementation="eager",
    )
    return MistralModel(config).eval()


@claim("windows.mistral")
def test_a_window_around_rope_is_mistral():
    """The attention of the library's Mistral, 60 tokens, w = 7; wrong: w = 8."""
    peer = mistral(7)
    theirs = peer.layers[0].self_attn
    seen = {}
    theirs.register_forward_hook(
        lambda _, args, kwargs, out: seen.update(x=kwargs["hidden_states"], z=out[0]),
        with_kwargs=True,
    )
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output"}
    weights = {names[n.split(".")[0]] + ".weight": w for n, w in theirs.state_dict().items()}
    found = []
    with torch.no_grad():
        peer(torch.randint(0, 40, (1, 60)))
        for size, fused in ((7, False), (7, True), (8, True)):
            encoding = Window(size, Rope(8, layout="halves"))
            layer = Attention(32, 4, encoding, causal=True, fused=fused)
            layer.load_state_dict(weights)
            found.append(largest(layer(seen["x"]) - seen["z"]))
    return at_most(1e-5, right=max(found[:2]), wrong=found[2])


@claim("windows.longformer")
def test_edges_of_the_librarys_longformer():
    """Pairs with a gradient in its layer, two global tokens; wrong: w keys on each side."""
    n, w, chosen = 48, 8, [0, 17]
    config = LongformerConfig(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        attention_window=[w],
        attention_probs_dropout_prob=0.0,
    )
    layer = LongformerSelfAttention(config, 0).eval()
    mask = torch.zeros(1, n)
    mask[0, chosen] = 10000.0
    options = {
        "attention_mask": mask,
        "is_index_masked": torch.zeros(1, n, dtype=torch.bool),
        "is_index_global_attn": mask > 0,
        "is_global_attn": True,
    }
    seen = edges_of(lambda x: layer(x, **options)[0], torch.randn(1, n, 8))
    at = np.arange(n)
    ours = (longformer(at, at, span, np.array(chosen)) for span in (w // 2, w))
    right, wrong = (int((seen != mask).sum()) for mask in ours)
    return at_most(0.5, right=right, wrong=wrong, edges=seen.sum())


def library_bigbird(n_blocks, block, r, train):
    """The library's block-sparse layer, and a function of its input alone."""
    config = BigBirdConfig(
        hidden_size=8,
        num_attention_heads=1,
        block_size=block,
        num_random_blocks=r,
        max_position_embeddings=1024,
        attention_probs_dropout_prob=0.0,
    )
    layer = BigBirdBlockSparseAttention(config, seed=3).train(train)
    made = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(1, n_blocks * block), block)
    blocked, band, from_mask, to_mask = made
    options = {
        "band_mask": band,
        "from_mask": from_mask,
        "to_mask": to_mask,
        "from_blocked_mask": blocked,
        "to_blocked_mask": blocked,
    }
    return layer, lambda x: layer(x, **options)[0]


@claim("windows.bigbird")
def test_edges_of_the_librarys_bigbird_in_training():
    """Pairs with a gradient against ours with its links; wrong: in evaluation, without any."""
    n_blocks, block, r = 12, 4, 2
    n = n_blocks * block
    right, wrong = 0, math.inf
    for train in (True, False):
        _, function = library_bigbird(n_blocks, block, r, train)
        seen = edges_of(function, torch.randn(1, n, 8))
        joined = seen.reshape(n_blocks, block, n_blocks, block).any((1, 3))
        bare = bigbird(n_blocks, 1, np.zeros((n_blocks - 2, 0), int))
        links = [np.flatnonzero(row) for row in (joined & ~bare)[1:-1]]
        if train:
            want = bigbird(n, block, np.array(links))
            right = int((seen != want).sum()) + abs(int(seen.sum()) - bigbird_edges(n, block, r))
        else:
            wrong = abs(int(seen.sum()) - bigbird_edges(n, block, r))
    return at_most(0.5, right=right, wrong=wrong, edges=bigbird_edges(n, block, r))


@claim("windows.bigbird_eval")
def test_in_evaluation_the_librarys_bigbird_counts_the_first_block_again():
    """Its layer, r = 3, against a softmax that counts block 0 four times; wrong: once."""
    n_blocks, block, r = 12, 4, 3
    n = n_blocks * block
    layer, function = library_bigbird(n_blocks, block, r, False)
    x = torch.randn(1, n, 8)
    mask = mask_tensor(bigbird(n, block, np.zeros((n_blocks - 2, 0), int)))
    again = torch.ones(n, n)
    again[block:-block, :block] = 1 + r
    with torch.no_grad():
        q, k, v = (part(x)[0] for part in (layer.query, layer.key, layer.value))
        found = []
        for times in (again, torch.ones(n, n)):
            weights = (q @ k.mT / 8**0.5).exp() * mask * times
            z = weights / weights.sum(-1, keepdim=True) @ v
            found.append(largest(z - function(x)[0]))
    return at_most(1e-5, right=found[0], wrong=found[1])
