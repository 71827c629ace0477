"""The learned table: printed facts, properties, oracles and errors; the claims."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from claims import at_most, claim
from hypothesis import given
from hypothesis import strategies as st

from posenc.equations.attention import attention
from posenc.equations.learned import (
    hierarchical,
    interpolate,
    padded_positions,
    sampling_points,
)
from posenc.equations.sinusoidal import sinusoidal
from posenc.layers.attention import Attention
from posenc.layers.learned import Learned
from scripts.figures import learned as figures

lengths = st.integers(1, 12)
alphas = st.floats(0, 0.95)
aligns = st.sampled_from(["ends", "centres"])


def largest(x):
    return float(np.abs(np.asarray(x, float)).max())


def rows(n, d=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def stretched(table, n_new, align="ends"):
    return interpolate(table, sampling_points(table.shape[-2], n_new, align=align))


def by_fractions(table, n_new, align):
    """One row at a time, in exact fractions, from the definition of either convention."""
    exact = [[Fraction(float(x)) for x in row] for row in table]
    n, made = len(exact), []
    for k in range(n_new):
        if align == "ends":
            t = Fraction(k * (n - 1), n_new - 1) if n_new > 1 else Fraction(0)
        else:
            t = min(max(Fraction((2 * k + 1) * n, 2 * n_new) - Fraction(1, 2), 0), n - 1)
        low = math.floor(t)
        pair = exact[low], exact[min(low + 1, n - 1)]
        made.append([float(a + (t - low) * (b - a)) for a, b in zip(*pair, strict=True)])
    return np.array(made)


def by_the_source(table, alpha):
    """The source's formula, which counts i, j and the rows from 1, in exact fractions."""
    p = [[Fraction(float(x)) for x in row] for row in table]
    a, n = Fraction(alpha), len(p)
    u = [[(x - a * x1) / (1 - a) for x, x1 in zip(row, p[0], strict=True)] for row in p]
    q = {}
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            pair = zip(u[i - 1], u[j - 1], strict=True)
            q[(i - 1) * n + j] = [float(a * x + (1 - a) * y) for x, y in pair]
    return np.array([q[k] for k in range(1, n * n + 1)])


def by_counting(real):
    """Token by token, with a counter."""
    made = []
    for sequence in real:
        count, out = 0, []
        for is_token in sequence:
            out.append(count if is_token else -1)
            count += bool(is_token)
        made.append(out)
    return np.array(made)


def distinct(table):
    """How many rows differ from all rows before them by more than rounding."""
    gaps = np.linalg.norm(table[:, None] - table, axis=-1)
    return int(((np.tril(gaps < 1e-9, -1)).sum(axis=1) == 0).sum())


# --- printed facts -----------------------------------------------------------------------------


def test_twice_the_rows_less_one_puts_one_row_between_each_pair():
    np.testing.assert_array_equal(sampling_points(4, 7), np.arange(7) / 2)


def test_with_ends_on_ends_twice_the_rows_do_not_fall_halfway():
    assert sampling_points(512, 1024)[1] == pytest.approx(511 / 1023)


def test_with_cells_on_cells_twice_the_rows_lie_a_quarter_off():
    got = sampling_points(512, 1024, align="centres")
    np.testing.assert_allclose(got[1:-1] % 0.5, 0.25)
    assert (got[0], got[-1]) == (0, 511)


def test_half_the_cells_are_read_between_two_rows():
    np.testing.assert_array_equal(sampling_points(8, 4, align="centres"), [0.5, 2.5, 4.5, 6.5])


def test_hierarchical_makes_a_quarter_of_a_million_positions_of_512():
    assert len(hierarchical(rows(512, 1), 512**2)) == 262_144


def test_a_block_differs_from_the_first_by_one_vector():
    p = rows(5)
    q = hierarchical(p, 25, alpha=0.4).reshape(5, 5, 6)
    for r in range(5):
        want = np.broadcast_to(0.4 / 0.6 * (p[r] - p[0]), (5, 6))
        np.testing.assert_allclose(q[r] - q[0], want, rtol=0, atol=1e-14)


def test_padding_on_either_side_counts_the_tokens_alike():
    left, right = padded_positions(np.array([[False, True, True], [True, True, False]]))
    np.testing.assert_array_equal(left, [-1, 0, 1])
    np.testing.assert_array_equal(right, [0, 1, -1])


# --- properties --------------------------------------------------------------------------------


@given(lengths, lengths, aligns)
def test_sampling_points_are_sorted_inside_and_symmetric(n, n_new, align):
    got = sampling_points(n, n_new, align=align)
    assert got.shape == (n_new,)
    assert got.min() >= 0
    assert got.max() <= n - 1
    assert (np.diff(got) >= 0).all()
    if n_new > 1:
        np.testing.assert_allclose(got + got[::-1], n - 1, rtol=0, atol=1e-12)


@given(lengths, aligns)
def test_the_same_length_is_the_same_table(n, align):
    np.testing.assert_allclose(stretched(rows(n), n, align), rows(n), rtol=0, atol=1e-14)


@given(lengths)
def test_whole_positions_read_the_rows_themselves(n):
    np.testing.assert_array_equal(interpolate(rows(n), np.arange(n)), rows(n))
    np.testing.assert_array_equal(interpolate(rows(n), n - 1), rows(n)[-1])


@given(st.integers(2, 12), lengths)
def test_with_ends_on_ends_the_first_and_the_last_row_stay(n, n_new):
    got = stretched(rows(n), n_new)
    np.testing.assert_array_equal(got[0], rows(n)[0])
    if n_new > 1:
        np.testing.assert_allclose(got[-1], rows(n)[-1], rtol=0, atol=1e-13)


@given(lengths, lengths, aligns)
def test_a_constant_table_stays_constant(n, n_new, align):
    np.testing.assert_allclose(stretched(np.full((n, 3), 2.5), n_new, align), 2.5, rtol=1e-15)


def test_leading_axes_are_kept_and_two_calls_resample_a_grid():
    image = rows(15, 4).reshape(3, 5, 4)
    wide = stretched(image, 8)
    assert wide.shape == (3, 8, 4)
    np.testing.assert_array_equal(wide[1], stretched(image[1], 8))
    big = stretched(wide.swapaxes(0, 1), 7).swapaxes(0, 1)
    pixels = torch.tensor(image.transpose(2, 0, 1)[None])
    want = torch.nn.functional.interpolate(pixels, (7, 8), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(big.transpose(2, 0, 1), want[0].numpy(), rtol=0, atol=1e-13)


@given(st.integers(1, 6), alphas)
def test_the_first_rows_are_kept(n, alpha):
    got = hierarchical(rows(n), n * n, alpha=alpha)
    np.testing.assert_allclose(got[:n], rows(n), rtol=0, atol=1e-12)


@given(st.integers(1, 6), alphas, st.data())
def test_fewer_rows_are_the_start_of_all_rows(n, alpha, data):
    n_new = data.draw(st.integers(1, n * n))
    np.testing.assert_array_equal(
        hierarchical(rows(n), n_new, alpha=alpha),
        hierarchical(rows(n), n * n, alpha=alpha)[:n_new],
    )


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_tokens_are_counted_without_gaps(real):
    got = padded_positions(np.array(real))
    np.testing.assert_array_equal(got[np.array(real)], np.arange(sum(real)))
    assert (got[~np.array(real)] == -1).all()


def test_both_remedies_are_linear_in_the_table():
    p, q = rows(4), rows(4, seed=1)
    for extend in (lambda t: stretched(t, 9), lambda t: hierarchical(t, 16)):
        np.testing.assert_allclose(extend(2 * p - q), 2 * extend(p) - extend(q), rtol=0, atol=1e-14)


def test_arguments_are_not_changed_and_results_are_float64():
    table = rows(4).astype(np.float32)
    real = np.array([True, False])
    kept, kept_real = table.copy(), real.copy()
    assert interpolate(table, np.array([1], np.int32)).dtype == np.float64
    assert hierarchical(table, 3).dtype == sampling_points(4, 3).dtype == np.float64
    assert padded_positions(real).dtype == np.int64
    np.testing.assert_array_equal(table, kept)
    np.testing.assert_array_equal(real, kept_real)


# --- oracles -----------------------------------------------------------------------------------


@given(lengths, lengths, aligns)
def test_stretching_equals_exact_fractions(n, n_new, align):
    want = by_fractions(rows(n), n_new, align)
    np.testing.assert_allclose(stretched(rows(n), n_new, align), want, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "n_new"), [(4, 8), (8, 4), (5, 13), (13, 5), (7, 1)])
@pytest.mark.parametrize("align", ["ends", "centres"])
def test_stretching_equals_that_of_pytorch(n, n_new, align):
    line = torch.tensor(rows(n).T[None])
    want = torch.nn.functional.interpolate(
        line, n_new, mode="linear", align_corners=align == "ends"
    )
    got = stretched(rows(n), n_new, align)
    np.testing.assert_allclose(got, want[0].T.numpy(), rtol=0, atol=1e-13)


@given(st.integers(1, 5), st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.75]))
def test_hierarchical_equals_the_source_in_exact_fractions(n, alpha):
    got = hierarchical(rows(n), n * n, alpha=alpha)
    np.testing.assert_allclose(got, by_the_source(rows(n), alpha), rtol=0, atol=1e-13)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_padded_positions_equal_counting_by_hand(real):
    np.testing.assert_array_equal(padded_positions(np.array(real)), by_counting(real))


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_rows_equal_those_of_the_library(padding):
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    ids = torch.randint(0, 6, (5, 9), generator=torch.Generator().manual_seed(0))
    want = RobertaEmbeddings.create_position_ids_from_input_ids(ids, padding)
    got = padded_positions((ids != padding).numpy()) + padding + 1
    np.testing.assert_array_equal(got, want.numpy())


# --- errors ------------------------------------------------------------------------------------

TABLE = rows(4)
TYPE_ERRORS = {
    "table must hold real numbers, got dtype complex128": lambda: interpolate(TABLE * 1j, 0),
    "positions must hold real numbers, got dtype bool": lambda: interpolate(TABLE, [True]),
    "n_rows must be an integer, got 4.0": lambda: sampling_points(4.0, 8),
    "n_new must be an integer, got True": lambda: sampling_points(4, True),
    "n_new must be an integer, got 8.0": lambda: hierarchical(TABLE, 8.0),
    "table must hold real numbers, got dtype bool": lambda: hierarchical(TABLE > 0, 8),
    "alpha must hold real numbers, got dtype <U1": lambda: hierarchical(TABLE, 8, alpha="a"),
    "real must be boolean, got dtype float64": lambda: padded_positions([1.0, 0.0]),
}

VALUE_ERRORS = {
    "table must have at least 2 axes, got shape (4,)": lambda: interpolate(TABLE[:, 0], 0),
    "table must not be empty, got shape (0, 6)": lambda: interpolate(TABLE[:0], 0),
    "table must be finite, got nan": lambda: interpolate([[math.nan]], 0),
    "positions must have at most 1 axis, got shape (1, 1)": lambda: interpolate(TABLE, [[0]]),
    "positions must not be empty, got shape (0,)": lambda: interpolate(TABLE, []),
    "positions must be finite, got inf": lambda: interpolate(TABLE, math.inf),
    "positions must be between 0 and 3, got 4": lambda: interpolate(TABLE, [0, 4, 1]),
    "positions must be between 0 and 3, got 3.5": lambda: interpolate(TABLE, 3.5),
    "positions must be between 0 and 3, got -1": lambda: interpolate(TABLE, [3, -1]),
    "n_rows must be at least 1, got 0": lambda: sampling_points(0, 8),
    "n_new must be at least 1, got 0": lambda: sampling_points(4, 0),
    "align must be 'ends' or 'centres', got 'x'": lambda: sampling_points(4, 8, align="x"),
    "table must have shape (4, 6), got (1, 4, 6)": lambda: hierarchical(TABLE[None], 8),
    "n_new must be at least 1, got -2": lambda: hierarchical(TABLE, -2),
    "n_new must be at most 4 ** 2 = 16, got 17": lambda: hierarchical(TABLE, 17),
    "alpha must be below 1, got 1": lambda: hierarchical(TABLE, 8, alpha=1),
    "alpha must be between 0 and 1, got -0.1": lambda: hierarchical(TABLE, 8, alpha=-0.1),
    "real must have an axis and not be empty, got shape ()": lambda: padded_positions(
        np.array(True)
    ),
    "real must have an axis and not be empty, got shape (2, 0)": lambda: padded_positions(
        np.zeros((2, 0), bool)
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


# --- claims ------------------------------------------------------------------------------------


@claim("learned.lookup")
def test_reading_a_row_is_multiplying_by_a_one_hot_matrix():
    layer = Learned(12, 8)
    positions = torch.tensor([0, 3, 3, 11])
    got = layer(torch.zeros(1, 4, 8), positions)[0].detach().double().numpy()
    table = layer.weight.detach().double().numpy()
    one_hot = np.array([[float(column == k) for column in range(12)] for k in (0, 3, 3, 11)])
    from_one = np.roll(one_hot, 1, axis=1)
    return at_most(
        1e-7, right=largest(got - one_hot @ table), wrong=largest(got - from_one @ table)
    )


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@claim("learned.parameters")
def test_the_table_is_a_small_part_of_bert_and_gpt2():
    from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

    with torch.device("meta"):
        bert, gpt2 = BertModel(BertConfig()), GPT2Model(GPT2Config())
    d, blocks = 768, 12 * (12 * 768**2 + 13 * 768)
    by_hand = {
        "bert": (30522 + 512 + 2) * d + 2 * d + blocks + d * d + d,  # and the pooler
        "gpt2": (50257 + 1024) * d + blocks + 2 * d,
    }
    tables = {
        "bert": bert.embeddings.position_embeddings.weight.numel(),
        "gpt2": gpt2.wpe.weight.numel(),
    }
    totals = {"bert": parameters(bert), "gpt2": parameters(gpt2)}
    gaps = [abs(totals[name] - by_hand[name]) for name in totals]
    gaps += [abs(tables["bert"] - 512 * d), abs(tables["gpt2"] - 1024 * d)]
    return at_most(
        0.5,
        right=max(gaps),
        wrong=abs(totals["bert"] - by_hand["bert"] + tables["bert"]),
        bert=tables["bert"],
        bert_total=totals["bert"],
        bert_share=tables["bert"] / totals["bert"],
        gpt2=tables["gpt2"],
        gpt2_total=totals["gpt2"],
        gpt2_share=tables["gpt2"] / totals["gpt2"],
        words=30522 * d / totals["bert"],
    )


def cosines(table):
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit @ unit.T


@claim("learned.neighbours")
def test_untrained_neighbours_are_no_more_alike_than_strangers():
    torch.manual_seed(0)
    random = cosines(Learned(512, 768).weight.detach().double().numpy())
    fixed = cosines(sinusoidal(np.arange(512), 768))
    return at_most(
        0.02,
        right=abs(np.diag(random, 1).mean()),
        wrong=np.diag(fixed, 1).mean(),
        spread=np.std(random[np.triu_indices(512, 1)]),
        root=768**-0.5,
    )


@claim("learned.relabel")
def test_rows_may_be_renumbered_at_will():
    rng = np.random.default_rng(0)
    x, table = rng.normal(size=(6, 8)), rng.normal(size=(6, 8))
    order = rng.permutation(6)
    shuffled = table[order]  # row k of it is row order[k] of the table
    numbers = np.argsort(order)  # where every old row now stands

    def read(rows, positions):
        total = x + rows[positions]
        return attention(total, total, total)

    want = read(table, np.arange(6))
    return at_most(
        1e-12,
        right=largest(read(shuffled, numbers) - want),
        wrong=largest(read(shuffled, np.arange(6)) - want),
    )


@claim("learned.gradient")
def test_gradient_of_a_row_is_the_sum_over_its_uses():
    torch.manual_seed(0)
    layer = Attention(8, 2, Learned(7, 8, std=1.0)).double()
    positions = torch.tensor([[0, 1, 2, 3], [2, 3, 4, 2]])  # nobody stands at 5 and 6
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    (layer(x, positions) ** 3).sum().backward()
    want = np.zeros((7, 8))
    for b in range(2):
        for i in range(4):
            want[positions[b, i]] += x.grad[b, i].numpy()
    got, order = layer.encoding.weight.grad.numpy(), [1, 0, 2, 3, 4, 5, 6]
    assert (got[5:] == 0).all()
    return at_most(1e-12, right=largest(got - want), wrong=largest(got[order] - want))


@claim("learned.unused")
def test_rows_that_no_sequence_reaches_stay_bit_for_bit():
    before, after = figures.table_data(0.0, 60)
    _, decayed = figures.table_data(0.1, 60)
    assert (np.abs(after - before)[:12].max(axis=1) > 0.1).all()
    return at_most(
        1e-12,
        right=largest(after[12:] - before[12:]),
        wrong=largest(decayed[12:] - before[12:]),
        used=np.abs(after - before)[:12].max(),
    )


@claim("learned.decay")
def test_weight_decay_shrinks_what_is_never_used():
    before, after = figures.table_data(0.1, 60)
    share = after[12:].astype(float) / before[12:]
    want = (1 - 5e-3 * 0.1) ** 60
    return at_most(
        1e-4, right=largest(share - want), wrong=largest(share - 1), left=share.mean(), steps=60
    )


def readable(read, positions):
    """How many of these positions something returns a vector for."""
    count = 0
    for position in positions:
        try:
            read(position)
        except (IndexError, ValueError):
            continue
        count += 1
    return count


@claim("learned.first_unseen")
def test_no_position_outside_the_table_returns_anything():
    layer, table, x = Learned(512, 8), rows(512, 8), torch.zeros(1, 1, 8)
    outside = [-512, -2, -1, 512, 513, 1000]
    embedding = torch.nn.Embedding(512, 8)
    for peer in (lambda k: interpolate(table, k), lambda k: embedding(torch.tensor(k))):
        assert readable(peer, outside) == 0
    assert readable(lambda k: layer(x, torch.tensor([k])), [0, 511]) == 2
    return at_most(
        0.1,
        right=readable(lambda k: layer(x, torch.tensor([k])), outside),
        wrong=readable(lambda k: table[min(max(k, 0), 511)], outside),
        numpy=readable(lambda k: table[k], outside),
    )


@claim("learned.linear")
def test_stretching_is_exact_where_the_table_is_a_straight_line():
    line = np.multiply.outer(np.arange(9.0), rows(1)[0]) + 3
    want = np.multiply.outer(np.linspace(0, 8, 33), rows(1)[0]) + 3
    return at_most(
        1e-12,
        right=largest(stretched(line, 33) - want),
        wrong=largest(stretched(line, 33, "centres") - want),
    )


@claim("learned.conventions")
def test_both_conventions_are_those_of_pytorch():
    torch.manual_seed(0)
    table = torch.randn(512, 16, dtype=torch.float64)
    library = [
        torch.nn.functional.interpolate(table.T[None], 1024, mode="linear", align_corners=ends)[0].T
        for ends in (True, False)
    ]
    ours = [stretched(table.numpy(), 1024, align) for align in ("ends", "centres")]
    gaps = [largest(ours[i] - library[j].numpy()) for i, j in ((0, 0), (1, 1), (0, 1))]
    points = [sampling_points(512, 1024, align=align) for align in ("ends", "centres")]
    return at_most(
        1e-12, right=max(gaps[:2]), wrong=gaps[2], apart=np.abs(points[0] - points[1]).max()
    )


@claim("learned.smooth")
def test_stretching_serves_smooth_tables_only():
    between = np.arange(64) + 0.5
    errors = []
    for table, want in (
        (sinusoidal(np.arange(65), 64, 1e4)[:, 32:], sinusoidal(between, 64, 1e4)[:, 32:]),
        (sinusoidal(np.arange(65) * 2.5, 64, 1e4)[:, :2], sinusoidal(between * 2.5, 64)[:, :2]),
    ):
        errors.append(largest(interpolate(table, between) - want))
    return at_most(2e-4, right=errors[0], wrong=errors[1])


@claim("learned.hierarchical")
def test_hierarchical_rows_begin_with_the_old_ones():
    p, a = rows(32, 64), 0.4
    got = hierarchical(p, 1024, alpha=a)
    plain = np.concatenate([a * p[r] + (1 - a) * p for r in range(32)])  # u = p
    return at_most(1e-12, right=largest(got[:32] - p), wrong=largest(plain[:32] - p))


@claim("learned.distinct")
def test_all_rows_differ_unless_block_and_place_are_exchangeable():
    n = 16
    count = {a: distinct(hierarchical(rows(n, 64), n * n, alpha=a)) for a in (0.0, 0.4, 0.5)}
    assert count[0.5] == n * (n + 1) // 2
    assert count[0.0] == n
    return at_most(
        0.5,
        right=abs(count[0.4] - n * n),
        wrong=abs(count[0.5] - n * n),
        all=count[0.4],
        half=count[0.5],
        copies=count[0.0],
    )


@claim("learned.copy")
def test_no_share_of_the_block_is_a_copy():
    p = rows(12)
    got = hierarchical(p, 30, alpha=0)
    want = [p[k % 12] for k in range(30)]
    return at_most(
        1e-12,
        right=largest(got - want),
        wrong=largest(hierarchical(p, 30, alpha=0.4) - want),
    )


@claim("learned.blocks")
def test_a_block_is_the_first_one_moved_by_one_vector():
    p, a = rows(8, 32), 0.4
    q = hierarchical(p, 64, alpha=a).reshape(8, 8, 32)
    moved = a / (1 - a) * (p - p[0])[:, None]
    return at_most(
        1e-12,
        right=largest(q - (p + moved)),
        wrong=largest(q - (p + a * (p - p[0])[:, None])),
    )


@claim("learned.window")
def test_copies_do_until_a_window_crosses_their_seam():
    shares = figures.window_data()
    wide = figures.remedies_data("previous")[figures.REMEDIES.index("copy"), 0]
    return at_most(
        0.02,
        right=1 - shares[13:].min(),
        wrong=1 - wide[13:].mean(),
        seam=shares[12],
        window=shares[13:].min(),
        wide=wide[13:].mean(),
    )


def share(task, remedy, when, where):
    """Mean share of right answers at the old or the new positions."""
    found = figures.remedies_data(task)[figures.REMEDIES.index(remedy), when]
    first = int(task == "previous")
    return found[first : figures.SHORT].mean() if where == "old" else found[12:].mean()


@claim("learned.keeps")
def test_random_rows_leave_the_old_positions_alone_and_stretching_does_not():
    return at_most(
        0.02,
        right=1 - share("previous", "random", 0, "old"),
        wrong=1 - share("previous", "ends", 0, "old"),
        random_old=share("previous", "random", 0, "old"),
        random_new=share("previous", "random", 0, "new"),
        stretched_old=share("previous", "ends", 0, "old"),
        stretched_new=share("previous", "ends", 0, "new"),
        hierarchical_old=share("previous", "hierarchical", 0, "old"),
        hierarchical_new=share("previous", "hierarchical", 0, "new"),
        copied_old=share("previous", "copy", 0, "old"),
        copied_new=share("previous", "copy", 0, "new"),
    )


@claim("learned.finetune")
def test_after_the_same_steps_stretched_rows_serve_and_random_rows_do_not():
    kinds = ("random", "ends", "hierarchical", "copy")
    new = {kind: share("previous", kind, 1, "new") for kind in kinds}
    return at_most(
        0.05,
        right=1 - min(new["ends"], new["copy"]),
        wrong=1 - new["random"],
        random=new["random"],
        stretched=new["ends"],
        hierarchical=new["hierarchical"],
        copied=new["copy"],
        steps=figures.MORE,
    )


@claim("learned.mirror")
def test_where_the_length_matters_random_rows_break_the_old_positions_too():
    return at_most(
        0.05,
        right=1 - share("mirror", "ends", 1, "old"),
        wrong=1 - share("mirror", "random", 1, "old"),
        random_before=share("mirror", "random", 0, "old"),
        stretched_before=share("mirror", "ends", 0, "old"),
        random=share("mirror", "random", 1, "old"),
        stretched=share("mirror", "ends", 1, "old"),
        chance=1 / figures.WORDS,
    )


@claim("learned.roberta")
def test_roberta_reads_row_two_first():
    from transformers import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=20, hidden_size=16, max_position_embeddings=514)
    peer = RobertaEmbeddings(config).eval()
    layer = Learned(512, 16, padding_idx=1)
    layer.load_state_dict({"weight": peer.position_embeddings.weight})
    ids = torch.tensor([[0, 7, 8, 9, 2], [0, 7, 2, 1, 1]])
    words = peer.word_embeddings(ids) + peer.token_type_embeddings.weight[0]
    positions = torch.from_numpy(padded_positions((ids != 1).numpy()))
    with torch.no_grad():
        want = peer(ids)
        got, late = (peer.LayerNorm(layer(words, p)) for p in (positions, positions + 1))
    return at_most(
        1e-6,
        right=largest(got - want),
        wrong=largest(late - want),
        rows=len(layer.weight),
        first=layer.padding_idx + 1,
    )


@claim("learned.peers")
def test_tables_of_bert_and_gpt2_fit():
    from transformers import BertConfig, GPT2Config, GPT2Model
    from transformers.models.bert.modeling_bert import BertEmbeddings

    torch.manual_seed(0)
    bert = BertEmbeddings(BertConfig(vocab_size=20, hidden_size=16)).eval()
    sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 0, "n_head": 1}
    gpt2 = GPT2Model(GPT2Config(vocab_size=20, **sizes)).eval()
    ids, rights, wrongs = torch.tensor([[3, 1, 4, 1, 5]]), [], []
    parts = (
        (bert, bert.position_embeddings, bert.word_embeddings, bert.LayerNorm),
        (gpt2, gpt2.wpe, gpt2.wte, gpt2.ln_f),
    )
    with torch.no_grad():
        for peer, table, words, norm in parts:
            layer = Learned(len(table.weight), 16)
            layer.load_state_dict({"weight": table.weight})
            x = words(ids) + (bert.token_type_embeddings.weight[0] if peer is bert else 0)
            want = peer(ids) if peer is bert else peer(ids).last_hidden_state
            rights.append(largest(norm(layer(x)) - want))
            wrongs.append(largest(norm(layer(x, torch.arange(1, 6))) - want))
    return at_most(1e-6, right=max(rights), wrong=min(wrongs))


@claim("learned.layer")
def test_a_resized_layer_equals_the_equation():
    torch.manual_seed(0)
    layer = Learned(16, 32)
    table = layer.weight.detach().double().numpy()
    want = {
        "ends": stretched(table, 40),
        "centres": stretched(table, 40, "centres"),
        "hierarchical": hierarchical(table, 40),
    }
    got = {m: layer.resize(40, m).weight.detach().double().numpy() for m in want}
    return at_most(
        1e-8,
        right=max(largest(got[m] - want[m]) for m in want),
        wrong=largest(got["ends"] - want["centres"]),
    )
