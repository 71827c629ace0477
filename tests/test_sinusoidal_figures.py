"""The numbers in the figures of the sinusoidal page, each derived in another way."""

import inspect
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from matplotlib.patches import PathPatch

from posenc.layers.sinusoidal import Sinusoidal
from scripts.figures import sinusoidal as figures
from scripts.sitegen import style


def test_the_hands_of_the_clocks_turn_by_powers_of_ten():
    hands, theta = figures.clocks_data()
    np.testing.assert_allclose(theta, [1, 0.1, 0.01, 0.001], rtol=1e-12)
    turned = np.outer(figures.CLOCK_POSITIONS, [1, 0.1, 0.01, 0.001])
    np.testing.assert_allclose(hands, np.stack([np.sin(turned), np.cos(turned)], -1), atol=1e-12)


def test_the_same_hand_position_appears_one_clock_further_at_ten_times_the_position():
    hands, _ = figures.clocks_data()
    one, ten, hundred = (figures.CLOCK_POSITIONS.index(k) for k in (1, 10, 100))
    np.testing.assert_allclose(hands[ten, 1:], hands[one, :-1], atol=1e-12)
    np.testing.assert_allclose(hands[hundred, 1:], hands[ten, :-1], atol=1e-12)


def test_the_counter_counts_in_binary():
    digits, *_ = figures.counter_data()
    assert ["".join(map(str, column[::-1])) for column in digits.T] == [
        f"{k:04b}" for k in range(16)
    ]


def test_every_wave_has_the_sign_of_its_digit_at_every_position():
    digits, fine, waves, turns = figures.counter_data()
    at = waves[:, ::16]
    np.testing.assert_array_equal(fine[::16], np.arange(16))
    np.testing.assert_array_equal(at > 0, digits == 1)
    assert [Fraction(turn) for turn in turns] == [Fraction(1, 2**m) for m in range(1, 5)]


def test_the_worked_table_is_that_of_the_notes():
    printed = [[0, 1, 0, 1], [0.8415, 0.5403, 0.0998, 0.9950],
               [0.9093, -0.4161, 0.1987, 0.9801], [0.1411, -0.9900, 0.2955, 0.9553]]  # fmt: skip
    np.testing.assert_array_equal(figures.worked_data().round(4), printed)


def test_layouts_hold_the_same_columns_and_only_one_spacing_ends_at_the_base():
    columns, exponents = figures.layouts_data()
    assert [sorted(row) for row in columns.tolist()] == [list(range(8))] * 2
    assert columns[1].tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    np.testing.assert_allclose(exponents, [[0, 0.25, 0.5, 0.75], [0, 1 / 3, 2 / 3, 1]], atol=1e-12)


def test_the_waves_cross_zero_twice_per_wavelength():
    k, sines, cosines, wavelengths = figures.waves_data()
    for row, wavelength in zip(sines, wavelengths, strict=True):
        assert abs((np.diff(np.sign(row[1:])) != 0).sum() - int(2 * k[-1] / wavelength)) <= 1
    np.testing.assert_allclose(sines**2 + cosines**2, 1)
    np.testing.assert_allclose(wavelengths[:2], [2 * math.pi, 2 * math.pi * 10**0.5])


def test_the_heat_map_is_nearly_constant_on_the_right():
    table, spread = figures.heat_map_data()
    assert table.shape == (100, 512)
    assert ((spread < 0.05).sum(), (spread < 0.5).sum()) == (141, 239)
    for column in (0, 1, 200, 201, 510, 511):
        theta = 10000.0 ** (-2 * (column // 2) / 512)
        curve = [(math.sin, math.cos)[column % 2](k * theta) for k in range(100)]
        assert spread[column] == pytest.approx(max(curve) - min(curve))


def test_rank_counts_directions_by_their_energy():
    lengths, counts = figures.rank_data(d=16, lengths=(8, 64))
    for n, column in zip(lengths, counts.T, strict=True):
        table = np.array(
            [
                [f(k * 10000 ** (-m / 8)) for m in range(8) for f in (math.sin, math.cos)]
                for k in range(n)
            ]
        )
        energy = np.linalg.eigvalsh(table.T @ table)[::-1]
        for share, count in zip(figures.SHARES, column, strict=True):
            assert energy[:count].sum() >= share * n * 8 > energy[: count - 1].sum()


def test_the_rank_of_the_page_stays_far_below_the_width():
    lengths, counts = figures.rank_data()
    at = dict(zip(lengths.tolist(), counts[-1].tolist(), strict=True))
    assert (at[512], at[4096]) == (109, 225)


def test_the_shift_matrix_of_the_figure_leads_from_two_to_five():
    start, matrix, end = figures.shift_data()
    theta = 100 ** (-np.arange(3) / 3)
    for position, row in ((2, start), (5, end)):
        want = [f(position * t) for t in theta for f in (math.sin, math.cos)]
        np.testing.assert_allclose(row, want, atol=1e-12)
    np.testing.assert_allclose(start @ matrix, end, atol=1e-12)
    assert np.count_nonzero(matrix) == 12


def test_laws_of_the_spectrum_have_their_shares_per_decade():
    theta, _, _ = figures.spectrum_data()
    wavelengths = 2 * np.pi / theta
    decades = [np.histogram(row, 2 * np.pi * 10.0 ** np.arange(5))[0] for row in wavelengths]
    assert decades[2].tolist() == [8, 8, 8, 8]
    assert decades[0][0] == 29  # all but the three below a tenth of the largest
    assert (np.diff(decades[1]) < 0).all()


def test_how_different_two_positions_are_follows_from_the_integral_over_the_law():
    _, offsets, apart = figures.spectrum_data()
    for i, law in enumerate((lambda t: t, lambda t: t**2, lambda t: mpmath.mpf(10000) ** -t)):
        for place in (0, 5, 20, 30):
            s = offsets[place]
            cuts = mpmath.linspace(0, 1, int(s) + 2)
            want = 1 - mpmath.quad(lambda t, s=s, law=law: mpmath.cos(s * law(t)), cuts)
            assert apart[i, place] == pytest.approx(float(want), abs=1e-3)


def test_near_misses_of_one_hand_are_numerators_of_two_pi():
    records = dict(zip(figures.MISS_WIDTHS, figures.misses_data(largest=1000), strict=True))
    s, distance = records[2]
    assert s.tolist() == [1, 6, 19, 25, 44, 333, 710]
    want = [2 * abs(mpmath.sin(mpmath.mpf(k) / 2)) for k in s.tolist()]
    np.testing.assert_allclose(distance, np.array(want, float), rtol=1e-9)
    assert records[64][0].tolist() == [1]


def test_the_wrong_table_has_one_frequency_per_column_and_a_gram_matrix_without_bands():
    (right, wrong), (bands, plaid) = figures.broken_data()
    assert len(set(right)) == 8
    np.testing.assert_allclose(wrong, [10.0 ** (-c / 2) for c in range(16)], rtol=1e-12)
    for offset in (0, 1, 5):
        assert np.ptp(np.diagonal(bands, offset)) < 1e-12
        assert np.ptp(np.diagonal(plaid, offset)) > 1
    assert not plaid[0].any()


def test_per_column_is_the_listing_without_its_first_row():
    want = [[k / 10000 ** (2 * i / 6) for i in range(6)] for k in range(9)]
    want = [[(math.sin, math.cos)[i % 2](a) for i, a in enumerate(row)] for row in want]
    np.testing.assert_allclose(figures.per_column(np.arange(9), 6), want, atol=1e-15)


def test_bfloat16_rounds_as_torch_does():
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 1e3
    x = np.append(x, [257, 259, 1, 0, -258.5]).astype(np.float32)
    want = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(figures.bfloat16(x), want)


def test_only_the_angle_in_float64_keeps_its_precision():
    positions, errors = figures.precision_data()
    assert (positions[0], positions[-1]) == (1, 10**7)
    assert errors[0].max() <= 2.0**-25
    assert errors[1, -1] > 0.1 > 1e-5 > errors[1, 0]
    assert (errors[2, positions > 1000] > 1).all()


def test_float32_errors_are_those_of_torch():
    positions, errors = figures.precision_data()
    k = torch.arange(int(positions[-1]), int(positions[-1]) + 32)
    theta = torch.from_numpy(10000.0 ** (-np.arange(64) / 64))
    angle = k[:, None] * theta.float()
    exact = k.double()[:, None] * theta
    worst = max((f(angle).double() - f(exact)).abs().max() for f in (torch.sin, torch.cos))
    assert float(worst) == pytest.approx(errors[1, -1], rel=1e-3)


def test_the_layer_has_the_parts_of_its_figure():
    assert {"token_scale", "dropout"} <= set(inspect.signature(Sinusoidal).parameters)
    texts = {text.get_text() for text in figures.layer(lambda zh, en: en).axes[0].texts}
    assert {"token_scale · x", "dropout", "float64", "float32", "to the dtype of x"} <= texts


def test_large_tables_are_drawn_with_one_path_per_colour_and_every_cell_once():
    matrix = np.array([[1.0, 0.0], [1.0, -0.5], [3.0, -0.5]])
    ax = style.canvas(style.figure(1))
    figures.levels(ax, matrix, 0, 0, (1, 1), steps=2)
    paths = [patch for patch in ax.patches if isinstance(patch, PathPatch)]
    drawn = {patch.get_alpha(): patch.get_path().get_extents().bounds for patch in paths}
    assert drawn == {1.0: (0, 0, 1, 3), 0.5: (1, 0, 1, 2)}
    assert [len(patch.get_path().vertices) for patch in paths] == [5, 5]
