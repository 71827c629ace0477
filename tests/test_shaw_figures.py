"""Figures of the page on relative position vectors: the numbers that they show."""

import numpy as np
import pytest

from scripts.figures import shaw as figures


def test_the_grid_is_toeplitz_with_constant_corners_and_the_arcs_are_the_papers():
    grid, arcs = figures.edges_data()
    assert arcs == [-1, 2, 3]
    np.testing.assert_array_equal(grid[1:, 1:], grid[:-1, :-1])
    np.testing.assert_array_equal(grid[0], [0, 1, 2, 3, 3, 3, 3, 3, 3])
    np.testing.assert_array_equal(grid, -grid.T)
    assert (np.triu(grid, 3) == 3)[np.triu_indices(9, 3)].all()


def test_every_number_of_the_key_term_is_one_of_the_products_of_its_row():
    products, logits = figures.lookup_data()
    for i in range(7):
        want = [products[i, min(max(j - i, -2), 2) + 2] for j in range(7)]
        np.testing.assert_allclose(logits[i], want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(logits[4], products[4][[0, 0, 0, 1, 2, 3, 4]], rtol=0, atol=1e-12)


def test_vectors_per_pair_hold_eight_times_what_the_logits_do():
    n, held = figures.memory_data()
    np.testing.assert_array_equal(held["pairs"], 8 * held["logits"])
    assert held["pairs"][-1] == 64 * 2**30
    assert n[-1] == 16384
    assert held["products"][-1] == pytest.approx(16.5 * 2**20)


def test_the_code_of_nezha_counts_rows_where_the_paper_counts_offsets():
    printed, coded = figures.nezha_data()
    np.testing.assert_array_equal(printed[12], coded[0])
    np.testing.assert_allclose(printed[12:], coded[:13], rtol=0, atol=1e-15)
    assert np.abs(printed - coded).max() > 1
