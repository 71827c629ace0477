"""Figures of the page on complex-order: the numbers that they show."""

import numpy as np

from scripts.figures import complex_order as figures


def test_three_words_move_on_circles_at_their_own_speed():
    numbers = figures.clocks_data()
    assert numbers.shape == (3, figures.N_CLOCKS)
    for z, (_, r, omega, theta) in zip(numbers, figures.WORDS, strict=True):
        np.testing.assert_allclose(np.abs(z), r)
        np.testing.assert_allclose(z[1:] / z[:-1], np.exp(1j * omega), atol=1e-14)
        np.testing.assert_allclose(np.angle(z[0]), theta)
    assert len(set(numbers[0])) == 1


def test_only_the_exponential_has_one_factor():
    one, square, two = figures.steps_data()
    assert np.abs(one - one[0]).max() < 1e-14
    np.testing.assert_allclose(one[0], np.exp(0.3j))
    k = np.arange(figures.N_STEPS - 1)
    np.testing.assert_allclose(square, np.exp(1j * (2 * k + 1) / 40))
    assert np.ptp(np.abs(two)) > 0.4
    assert max(np.abs(part).max() for part in figures.steps_data()) < 1.75  # inside the panel


def test_spirals_fade_stay_and_run_away():
    for g, modulus in zip(figures.spirals_data(), figures.MODULI, strict=True):
        np.testing.assert_allclose(np.abs(g), modulus ** np.arange(figures.N_SPIRAL))
        np.testing.assert_allclose(g[1:] / g[:-1], modulus * np.exp(0.5j))
    assert 5 < np.abs(figures.spirals_data()).max() < 5.5


def test_shared_frequencies_make_diagonals():
    shared, own = figures.pairs_data()
    spread = [
        max(np.ptp(np.diagonal(values, offset)) for offset in range(-15, 16))
        for values in (shared, own)
    ]
    assert spread[0] < 1e-13
    assert spread[1] > 0.5
    assert np.abs(own).max() <= 1
    assert shared[0, 0] == own[0, 0]
