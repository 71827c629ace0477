"""Figures of the page on word times position: the numbers that they show."""

import numpy as np

from posenc.equations.kernel import toeplitz_share
from scripts.figures import multiplicative as figures


def test_two_words_are_one_at_position_zero_and_part_when_turned():
    real, turned = figures.pairs_data()
    assert real.shape == turned.shape == (2, figures.STEPS, 2)
    np.testing.assert_array_equal(real[0, 0], real[1, 0])
    np.testing.assert_array_equal(real[0, 0], [0, figures.CAT[1]])
    np.testing.assert_array_equal(turned[:, 0], [figures.CAT, figures.MOUSE])
    gaps = np.linalg.norm(turned[0] - turned[1], axis=1)
    np.testing.assert_allclose(gaps, 1.6)
    np.testing.assert_allclose(np.linalg.norm(turned[0], axis=1), 1.25)


def test_the_first_row_of_sines_is_blank_and_slow_sines_stay_so():
    sizes = figures.survives_data()
    sines, cosines = np.split(sizes, 2, axis=1)
    assert not sines[0].any()
    assert (sines[1:] > 0).all()
    assert (cosines[0] == 1).all()
    assert sines[:, -6:].max() < 0.1
    assert cosines[:, -6:].min() > 0.99
    assert sizes.shape == (figures.ROWS, figures.COLUMNS)


def test_formula_and_count_agree_and_one_plus_p_overtakes_the_sinusoid():
    k, raw, around, estimate = figures.damped_data()
    np.testing.assert_allclose(raw, estimate, rtol=0, atol=0.004)
    assert raw[0] == 0.375
    assert around[0] == 0
    assert 200 < k[np.argmax(around > raw)] < 800
    assert 0.13 < around[-1] < 0.15
    assert (np.diff(k) > 0).all()


def test_only_the_turned_pairs_have_one_value_per_diagonal():
    real, turned = figures.scores_data()
    assert toeplitz_share(turned) > 1 - 1e-12
    assert toeplitz_share(real) < 0.9
    np.testing.assert_allclose(real, real.T)
    np.testing.assert_allclose(np.diagonal(turned), figures.WORD @ figures.WORD)
