"""Figures of the page on Transformer-XL and XLNet: the numbers that they show."""

import numpy as np

from posenc.equations.attention import causal_mask
from scripts.figures import xlnet as figures


def test_each_term_has_its_own_pattern():
    a, b, c, d = figures.four_data()
    n = figures.N_TERMS
    for term, columns, diagonals in ((a, 0, 0), (b, 0, 0), (c, 1, 0), (d, 0, 1)):
        assert (np.ptp(term, axis=0).max() < 1e-12) == columns
        spread = max(np.ptp(np.diagonal(term, o)) for o in range(-n + 2, n - 1))
        assert (spread < 1e-10) == diagonals


def test_the_shift_leaves_one_offset_on_each_diagonal():
    offsets, rows, shifted, shifted_rows = figures.fold_data()
    assert offsets[0].tolist() == [4, 3, 2, 1, 0, -1, -2]
    assert shifted.tolist() == [[1, 0, -1, -2], [2, 1, 0, -1], [3, 2, 1, 0]]
    np.testing.assert_array_equal(shifted_rows, [[0] * 4, [1] * 4, [2] * 4])
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 2])


def test_every_layer_reaches_one_segment_further():
    reached = figures.memory_data()
    assert reached.sum(axis=1).tolist() == [4, 3, 2, 1]
    assert not reached[0, 0]
    assert reached[:, -1].all()


def test_the_query_stream_lacks_the_diagonal():
    content, query = figures.orders_data()
    np.testing.assert_array_equal(content & ~np.eye(5, dtype=bool), query)
    order = list(figures.ORDER)
    np.testing.assert_array_equal(content[np.ix_(order, order)], causal_mask(5))
    assert not query[order[0]].any()
