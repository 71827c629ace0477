"""The numbers in the figures of the page on RoPE, each derived in another way."""

import math

import mpmath
import numpy as np
import pytest
import torch

from scripts.figures import rope as figures


def test_the_hands_turn_with_their_positions_and_keep_their_angle():
    places, hands = figures.hands_data()
    for (i, j), (q, k) in zip(places.tolist(), hands, strict=True):
        assert j - i == 2
        q_angle, k_angle = math.radians(30 + 25 * i), math.radians(65 + 25 * j)
        np.testing.assert_allclose(q, [math.cos(q_angle), math.sin(q_angle)], atol=1e-12)
        np.testing.assert_allclose(k, [math.cos(k_angle), math.sin(k_angle)], atol=1e-12)
        assert math.degrees(math.acos(q @ k)) == pytest.approx(85)


def test_only_rotated_queries_and_keys_have_one_score_per_diagonal():
    plain, rotated, before = figures.diagonals_data()
    assert np.ptp(plain) < 1e-12
    for offset in range(-10, 11):
        assert np.ptp(np.diagonal(rotated, offset)) < 1e-12
        assert np.ptp(np.diagonal(before, offset)) > 0.05
    assert rotated[0, 0] == pytest.approx(plain[0, 0]) == pytest.approx(before[0, 0])


def test_the_circle_keeps_its_length_and_the_spiral_does_not():
    circle, spiral = figures.orbits_data()
    np.testing.assert_allclose(np.hypot(*circle.T), 1)
    assert (np.diff(np.hypot(*spiral.T)) < 0).all()
    assert len(circle) == 12 * 20 + 1


def test_layouts_hold_the_same_columns_and_every_pair_twice():
    columns, pairs = figures.layouts_data()
    assert columns.tolist() == [list(range(8)), [0, 2, 4, 6, 1, 3, 5, 7]]
    assert pairs[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert pairs[1].tolist() == [0, 1, 2, 3] * 2


def test_wavelengths_of_the_figure_complete_a_turn():
    for curve, base in zip(figures.spectrum_data(), (1e4, 5e5), strict=True):
        for m in (0, 31, 63):
            assert curve[m] / base ** (m / 64) == pytest.approx(2 * math.pi)
    assert (figures.spectrum_data()[0] <= figures.LENGTH).sum() == 41


def test_decay_shows_the_kernel_and_scatter_about_zero():
    distances, logits, fine, mean = figures.decay_data()
    assert abs(logits.mean()) < 5 / math.sqrt(len(logits))
    near, far = logits[distances < 64].std(), logits[distances >= 64].std()
    assert near == pytest.approx(far, rel=0.25)
    for s, value in zip(fine[::60], mean[::60], strict=True):
        cosines = [mpmath.cos(s / mpmath.mpf(10000) ** (mpmath.mpf(m) / 64)) for m in range(64)]
        want = mpmath.fsum(cosines) / 64 * mpmath.sqrt(128)
        assert value == pytest.approx(float(want), abs=1e-9)


def test_the_bound_by_parts_never_falls_below_the_trivial_one():
    fine, limit, score = figures.bound_data()
    assert limit.min() > 2 > 1 >= score.max()
    s = fine[40]
    terms = [np.exp(1j * s * 10000 ** (-m / 64)) for m in range(64)]
    sizes = [abs(sum(terms[: m + 1])) for m in range(64)]
    assert limit[40] == pytest.approx(sum(sizes) / 64)


def test_the_fitted_score_is_a_line_below_the_length_only():
    s, line, got = figures.unseen_data()
    np.testing.assert_allclose(line, -s / 128)
    assert np.abs(got - line)[: figures.FITTED].max() < 0.01
    assert np.abs(got - line)[figures.FITTED :].max() > 5
    assert got[-1] > got[figures.FITTED] + 1


def test_bfloat16_and_float32_angles_are_those_of_torch():
    positions = np.array([0.0, 1, 7, 255, 257, 1e5])
    theta = torch.from_numpy(10000.0 ** (-np.arange(64) / 64))
    for how, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        at = torch.from_numpy(positions).to(dtype).float()
        angles = at[:, None] * theta.to(dtype).float()
        want = torch.stack([angles.cos(), angles.sin()]).numpy()
        np.testing.assert_allclose(figures.tables(positions, how), want, rtol=0, atol=2e-7)


def test_only_angles_in_float64_keep_scores_where_they_are():
    shifts, errors = figures.precision_data()
    assert (shifts[0], shifts[-1]) == (1, 1e7)
    assert errors[0].max() < 1e-7
    assert errors[1, -1] > 1e-3 > 1e-6 > errors[1, 0]
    assert errors[2, shifts > 1e3].min() > 0.01
