"""Figures of the page on disentangled attention: the numbers that they show."""

import numpy as np

from scripts.figures import deberta as figures


def test_the_staircase_has_eight_steps_and_two_long_ends():
    t, r = figures.rows_data()
    assert t.tolist() == list(range(-7, 8))
    assert r.tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7]


def test_the_paper_reads_the_transposed_rows_of_the_code():
    code, paper = figures.index_data()
    np.testing.assert_array_equal(paper, code.T)
    assert code[0].tolist() == [3, 2, 1, 0, 0, 0]
    assert code[:, 0].tolist() == [3, 4, 5, 5, 5, 5]
    assert (np.diag(code) == 3).all()


def test_logarithmic_buckets_reach_twice_as_far():
    t, logarithmic, plain = figures.buckets_data()
    np.testing.assert_array_equal(logarithmic[:129], t[:129])
    assert (np.argmax(plain == 255), np.argmax(logarithmic == 255)) == (255, 506)
    assert (logarithmic[506:] == 255).all()
    assert (np.diff(logarithmic) >= 0).all()
