"""Figures of the page on T5's bias: the numbers that they show."""

from itertools import pairwise

import numpy as np
import pytest

from posenc.equations.relative import offsets
from posenc.equations.t5 import buckets
from scripts.figures import t5 as figures


def test_one_term_is_kept_one_replaced_and_two_are_dropped():
    assert figures.terms_data() == {
        "ee": "kept",
        "ep": "dropped",
        "pe": "dropped",
        "pp": "replaced",
    }


def test_the_stairs_rise_to_the_last_bucket_at_ninety_one_and_a_hundred_and_thirteen():
    t, encoder, decoder = figures.staircase_data()
    assert t[encoder == 15].max() == -91
    assert t[decoder == 31].max() == -113
    assert t[encoder == 31].min() == 91
    assert 16 not in encoder
    assert not decoder[t >= 0].any()


def test_bands_cover_the_matrix_once():
    ranges = figures.bands_data()
    assert 16 not in ranges
    assert len(ranges) == 31
    ordered = sorted(ranges.values())
    assert ordered[0][0] == -127
    assert ordered[-1][1] == 127
    assert all(high + 1 == low for (_, high), (low, _) in pairwise(ordered))
    assert ranges[15] == (-127, -91)


@pytest.mark.parametrize(("low", "high"), [(-5, -3), (0, 0), (2, 7), (-7, -7), (5, 7)])
def test_a_band_holds_as_much_as_its_offsets(low, high):
    """Area of the polygon by the shoelace formula, against counting cells of an 8 by 8 matrix."""
    x, y = np.array(figures.band(low, high, 8), float).T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    t = offsets(8, 8)
    cells = ((t >= low) & (t <= high)).sum()
    assert area == pytest.approx(cells, abs=1.0)


def test_each_side_of_the_arrow_has_its_constant_diagonals():
    values, view, bias = figures.hankel_data()
    i, j = np.indices((4, 4))
    np.testing.assert_array_equal(view, values[i + j])
    np.testing.assert_array_equal(bias, j - i)


def test_three_tables_make_three_habits():
    before, near, after = figures.heads_data()
    for weights in (before, near, after):
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(before[1:].argmax(axis=1), np.arange(23))
    assert before[1:].max(axis=1).min() > 0.99
    np.testing.assert_array_equal(near.argmax(axis=1), np.arange(24))
    i, j = np.indices((24, 24))
    assert after[:-3][(j > i)[:-3]].sum() > 0.95 * 21
    assert buckets(np.array([1])) == 17
