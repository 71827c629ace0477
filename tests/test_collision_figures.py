"""The numbers that the figures of word plus position show."""

import itertools
import math

import numpy as np
import pytest

from posenc.equations.collision import add_positions, count_collisions, gaps, nearest_sums
from posenc.equations.sinusoidal import sinusoidal
from scripts.figures import collision


def test_constellations_collide_once_and_only_with_long_words():
    positions, (short, long) = collision.constellations_data()
    np.testing.assert_allclose(short, collision.SMALLER * long, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(long[0] + positions[1], long[2] + positions[2], atol=1e-12)
    assert count_collisions(add_positions(long, positions).round(9)) == 1
    assert count_collisions(add_positions(short, positions).round(9)) == 0


def test_only_the_circles_of_short_words_are_apart():
    positions, sizes = collision.constellations_data()
    nearest = min(math.dist(p, q) for p, q in itertools.combinations(positions, 2))
    short, long = (2 * np.linalg.norm(words, axis=1).max() for words in sizes)
    assert short < nearest < long


def test_projection_picks_row_two_of_the_lower_block():
    row, matrix, (word, place) = collision.projection_data()
    np.testing.assert_array_equal(place, matrix[3 + 2])
    assert [sum(row[r] * matrix[r][c] for r in range(7)) for c in range(3)] == list(word + place)
    np.testing.assert_array_equal(row[3:], [0, 0, 1, 0])
    assert len({tuple(r) for r in matrix[3:]}) == 4


def test_stack_adds_what_is_printed():
    token, segment, position, total = collision.stack_data()
    printed = [
        f"{t + s + p:.1f}"
        for t, s, p in zip(*(x.ravel() for x in (token, segment, position)), strict=True)
    ]
    assert printed == [f"{x:.1f}" for x in total.ravel()]
    assert len(np.unique(segment, axis=0)) == 2
    assert len(np.unique(position, axis=0)) == 8


def test_stack_gives_the_mouse_one_token_vector_and_two_sums():
    token, *_, total = collision.stack_data()
    np.testing.assert_array_equal(token[3], token[5])
    assert np.abs(total[3] - total[5]).max() > 1
    np.testing.assert_array_equal(token[4], token[7])  # [SEP]


def test_share_is_measured_on_its_curve():
    (sigma, share, cosine), measured = collision.share_data()
    assert np.all(np.diff(share) < 0)
    np.testing.assert_allclose(share + cosine**2, 1, rtol=1e-12)
    std, shares, cosines = measured.T
    np.testing.assert_allclose(shares, np.interp(std, sigma, share), atol=2e-3)
    np.testing.assert_allclose(cosines, np.interp(std, sigma, cosine), atol=2e-3)
    np.testing.assert_allclose(std**2 * collision.D, [0.2048, 1, 512, 512**2], rtol=1e-12)


def test_bands_are_the_gaps_of_both_tables():
    widths, positions, words = collision.bound_data(words=40, places=50)
    for d, *band in zip(widths[:4], *positions, strict=False):
        np.testing.assert_allclose(band, gaps(sinusoidal(np.arange(50), d)), rtol=1e-9)
    rng = np.random.default_rng(0)
    for d, *band in zip(widths, *words, strict=True):
        np.testing.assert_allclose(band, gaps(rng.normal(size=(40, d))), rtol=1e-9)


def test_small_words_stay_below_the_positions_and_large_ones_rise_above():
    widths, positions, words = collision.bound_data()
    assert np.all(0.02 * words[1] < positions[0])
    assert list(widths[words[0] > positions[1]]) == [128, 256, 512, 1024, 2048]
    assert list(widths[words[1] / np.sqrt(widths) < positions[0]]) == [128, 256, 512, 1024, 2048]


@pytest.fixture(scope="module")
def near():
    return collision.near_data()


def test_nearest_sums_are_those_of_the_equation(near):
    widths, nearest, same_word, typical = near
    rng = np.random.default_rng(0)
    for i, d in enumerate(widths[:6]):
        tokens, positions = rng.normal(size=(90, d)), sinusoidal(np.arange(24), d)
        assert nearest[0, i] == pytest.approx(nearest_sums(tokens, positions), abs=1e-5)
        assert same_word[i] == pytest.approx(gaps(positions)[0])
    np.testing.assert_allclose(typical**2, 2 * widths)


def test_formats_matter_below_width_four_and_words_below_sixteen(near):
    widths, nearest, same_word, _ = near
    assert [list(widths[line == 0]) for line in nearest] == [[], [2], [2]]
    np.testing.assert_allclose(nearest[1:, 1:], nearest[[0, 0], 1:], rtol=0.05)
    assert list(widths[nearest[0] < same_word]) == [2, 4, 8]


def test_what_is_read_back_falls_with_noise_and_rises_with_width():
    words, places = collision.read_back_data()
    np.testing.assert_array_equal(words[:, 0], 1)
    np.testing.assert_array_equal(places[:, 0], 1)
    for shares in (words, places):
        assert np.all(np.diff(shares, axis=0) >= -0.02)
        assert np.all(np.diff(shares, axis=1) <= 0.02)
    assert np.all(words >= places - 0.01)
