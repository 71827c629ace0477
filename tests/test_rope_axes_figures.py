"""Figures of the page on several axes: the numbers that they show."""

import numpy as np

from posenc.equations.rope_axes import kernel_axes, wave_vectors
from scripts.figures import rope_axes as figures


def test_a_wave_changes_along_its_vector_only():
    row, column, oblique = figures.waves_data()
    assert row.shape == (figures.SIDE, figures.SIDE)
    np.testing.assert_array_equal(row, row[:, :1] + 0 * row)
    np.testing.assert_array_equal(column, row.T)
    np.testing.assert_allclose(oblique[1:, :-1], oblique[:-1, 1:], atol=1e-14)
    middle = figures.SIDE // 2
    np.testing.assert_allclose(row[middle + 1, 0], np.cos(0.8))
    assert row[middle].min() == column[:, middle].min() == oblique[middle, middle] == 1


def test_strips_show_the_axes_of_both_models():
    chunked, dealt, wavelengths = figures.maps_data()
    assert [chunked.count(axis) for axis in "THW"] == [16, 24, 24]
    assert [dealt.count(axis) for axis in "THW"] == [24, 20, 20]
    assert chunked == "".join(sorted(chunked, key="THW".index))
    assert dealt[:6] == "THWTHW"
    assert len(wavelengths) == len(chunked) == len(dealt)
    np.testing.assert_allclose(wavelengths[0], 2 * np.pi)
    np.testing.assert_allclose(np.diff(np.log10(wavelengths)), 6 / 64)  # even steps on the page


def test_only_in_chunks_is_the_kernel_level_along_the_width():
    steps, (chunked, dealt) = figures.along_data()
    assert steps[-1] == 100
    assert (chunked[:, 0] == 1).all()
    assert chunked[2].min() > 0.9999
    assert 0.86 < chunked[1, -1] < 0.87
    assert chunked[0].min() < 0.68
    assert ((dealt[:, -1] > 0.84) & (dealt[:, -1] < 0.88)).all()
    theta = 1e6 ** (-np.arange(64) / 64)
    want = (40 + np.cos(7 * theta[16:40]).sum()) / 64
    np.testing.assert_allclose(chunked[1, 7], want, rtol=1e-14)


def test_cross_circles_and_band():
    offsets, (cross, circles, band) = figures.contours_data()
    assert offsets[0] == -offsets[-1] == -figures.REACH
    h, w = np.meshgrid(offsets, offsets, indexing="ij")
    np.testing.assert_allclose(
        cross, kernel_axes(np.stack([h, w], -1), wave_vectors([16, 16], 100.0, ladder="own"))
    )
    lengths = np.hypot(h, w)
    for radius in (5, 10):
        ring = np.isclose(lengths, radius)
        assert ring.sum() > 4
        assert np.ptp(circles[ring]) < 0.01
        assert np.ptp(cross[ring]) > 0.03
    np.testing.assert_allclose(band[h == w], 1)
    np.testing.assert_allclose(band[1:, 1:], band[:-1, :-1])
    assert figures.LEVELS[-1] < 1


def test_three_ways_have_equally_many_waves():
    for waves in (figures.directions(2), figures.directions(8), figures.stripe()):
        assert waves.shape == (32, 2)
        np.testing.assert_allclose(np.linalg.norm(waves, axis=1).max(), 1)


def test_words_after_the_image_go_on_far_below_their_slots():
    places = figures.triplets_data()
    assert len(places) == 23
    for word in (*range(4), *range(19, 23)):
        assert len(set(places[word])) == 1
    assert places[3].tolist() == [3, 3, 3]
    assert places[4].tolist() == [4, 4, 4]
    assert places[18].tolist() == [4, 6, 8]
    assert places[19].tolist() == [9, 9, 9]
    assert (places[4:19, 0] == 4).all()
