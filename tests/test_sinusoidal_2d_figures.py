"""Figures of the page on two dimensions: the numbers that they show."""

import numpy as np

from posenc.equations.sinusoidal_2d import kernel_2d, sinusoidal_2d
from scripts.figures import sinusoidal_2d as figures


def test_by_number_only_the_row_is_near_and_by_place_a_cross_is():
    number, place = figures.two_positions_data()
    h, w = figures.CENTRE
    for similar in (number, place):
        assert similar.shape == (figures.HEIGHT, figures.WIDTH)
        assert similar[h, w] == similar.max() == 1
    assert number[h, w + 1] > 0.97
    assert number[h + 1, w] < 0.67
    assert number[h, -1] < number[h, 0]  # nine patches away, and five
    assert number[h + 1, 0] > number[h + 1, w]  # nearer by number, farther by place
    np.testing.assert_allclose(place[h, w - 3 : w + 1][::-1], place[h:, w][:4])
    vectors = sinusoidal_2d(np.stack(np.indices(place.shape), -1), 512)
    np.testing.assert_allclose(place, vectors @ vectors[h, w] / 256)


def test_the_vector_of_a_patch_is_the_codes_of_its_row_and_column():
    rows, columns, vector = figures.halves_data()
    assert rows.shape == (3, 8)
    assert columns.shape == (5, 8)
    h, w = figures.PATCH
    np.testing.assert_array_equal(vector, [*rows[h], *columns[w]])
    np.testing.assert_array_equal(columns[:3], rows)


def test_kernel_of_the_notes_crosses_zero_at_sixty():
    offsets, right, wrong = figures.exponent_data()
    assert {1, 59, 60, 2000} <= set(offsets)
    assert offsets[wrong < 0][0] == 60
    assert (right > 0).all()
    theta = 10000.0 ** (-2 * np.arange(128) / 512)
    np.testing.assert_allclose(wrong, np.cos(np.multiply.outer(offsets, theta)).mean(axis=1))


def test_two_directions_of_waves_are_rows_and_columns():
    offsets, (two, sixteen) = figures.contours_data()
    assert offsets[0] == -offsets[-1] == -figures.REACH
    np.testing.assert_allclose(two, kernel_2d(offsets[:, None], offsets, 512), atol=1e-14)
    for kernel in (two, sixteen):
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-14)
        assert kernel.max() == 1
    assert figures.LEVELS[0] > two.min()
    lengths = np.hypot(offsets[:, None], offsets)
    for radius in (5, 13, 20):
        circle = np.isclose(lengths, radius)  # 3-4-5, 5-12-13, 12-16-20 and along the axes
        assert np.ptp(sixteen[circle]) < 1e-5
        assert np.ptp(two[circle]) > 0.05


def test_on_a_circle_only_sixteen_directions_are_level():
    degrees, two, sixteen = figures.around_data()
    turn = np.radians(degrees)
    np.testing.assert_allclose(two, kernel_2d(10 * np.sin(turn), 10 * np.cos(turn), 512))
    assert np.round(two[[0, 45, 90]], 3).tolist() == [0.838, 0.733, 0.838]
    assert np.ptp(sixteen) < 1e-12


def test_a_count_by_columns_misplaces_twelve_of_fifteen():
    right, wrong = figures.grids_data()
    np.testing.assert_array_equal(right, np.stack(np.indices((3, 5)), axis=-1))
    count = [(k % 3, k // 3) for k in range(15)]
    np.testing.assert_array_equal(wrong.reshape(15, 2), count)
    assert (right != wrong).any(axis=-1).sum() == 12
