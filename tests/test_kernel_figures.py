"""The numbers that the figures of the page on the kernel show."""

import numpy as np
import pytest

from posenc.equations.attention import attention_logits
from posenc.equations.sinusoidal import sinusoidal
from scripts.figures import kernel as figures


def trapezoid(heights, x):
    """Area under a polyline, the last axis along x."""
    return ((heights[..., 1:] + heights[..., :-1]) / 2 * np.diff(x)).sum(axis=-1)


def integral(k, frequency, steps=400_001):
    """Area under cos(k θ(t)) between 0 and 1, by the trapezoidal rule."""
    t = np.linspace(0, 1, steps)
    return np.array([trapezoid(np.cos(one * frequency(t)), t) for one in np.atleast_1d(k)])


def test_the_idea_draws_a_mean_that_is_one_at_zero_and_even():
    k, parts, mean = figures.cosines_data()
    assert parts.shape == (6, len(k))
    np.testing.assert_allclose(parts[3], np.cos(k * 10000 ** (-36 / 64)), atol=1e-12)
    products = sinusoidal(k, 64) @ sinusoidal(0, 64) / 32
    np.testing.assert_allclose(mean, products, atol=1e-12)
    np.testing.assert_allclose(mean, mean[::-1], atol=1e-12)
    assert mean.argmax() == len(k) // 2


def test_the_four_terms_add_up_and_only_the_last_is_banded():
    terms = figures.terms_data()
    x = np.random.default_rng(3).normal(size=(16, 32)) / np.sqrt(2)
    inputs = x + sinusoidal(np.arange(16), 32, 100)
    np.testing.assert_allclose(terms[4], attention_logits(inputs, inputs), atol=1e-12)
    np.testing.assert_allclose(terms[:4].sum(axis=0), terms[4], atol=1e-12)
    np.testing.assert_allclose(terms[1], terms[2].T, atol=1e-12)
    spread = [max(np.ptp(np.diagonal(term, k)) for k in range(-14, 15)) for term in terms]
    assert spread[3] < 1e-12
    assert min(spread[:3]) > 0.5


def test_the_product_on_the_circle_stays_with_the_identity_and_moves_with_another_map():
    i, values = figures.pair_data()
    assert len(i) == values.shape[2]
    for k, (still, moving) in zip(figures.OFFSETS, values, strict=True):
        np.testing.assert_allclose(still, np.cos(figures.ANGLE * k), atol=1e-12)
        assert np.ptp(moving) > 1
    query, key = figures.arrows(np.array([i[4], i[4] - 3]))
    assert values[1, 1, 4] == pytest.approx(query @ figures.MAP @ key)
    assert np.abs(values).max() < 1.15


def test_the_clocks_show_the_columns_of_the_table():
    angles, similarity = figures.clocks_data()
    table = sinusoidal(figures.PLACES, figures.WIDTH)
    np.testing.assert_allclose(np.sin(angles), table[:, ::2], atol=1e-12)
    np.testing.assert_allclose(np.cos(angles), table[:, 1::2], atol=1e-12)
    np.testing.assert_allclose(np.cos(angles).mean(axis=1), similarity, atol=1e-12)


def test_of_the_three_maps_the_random_one_has_no_bands():
    for matrix, banded, even in zip(
        figures.maps_data(), (True, False, True), (True, False, False), strict=True
    ):
        spread = max(np.ptp(np.diagonal(matrix, k)) for k in range(-14, 15))
        assert (spread < 1e-12) == banded
        assert np.allclose(matrix, matrix.T) == even


def test_the_rectangles_start_at_the_left_and_their_area_is_the_sum():
    t, heights, sums, limits = figures.riemann_data()
    assert t[0] == 0
    np.testing.assert_allclose(np.diff(t), t[1])
    np.testing.assert_allclose(heights[:, 0], np.cos(figures.STEPS), atol=1e-12)
    np.testing.assert_allclose(heights.sum(axis=1) * t[1], sums, atol=1e-12)
    np.testing.assert_allclose(
        integral(figures.STEPS, lambda t: figures.BASE**-t), limits, atol=1e-6
    )


def test_the_error_is_small_up_to_the_dashed_line_and_large_beyond():
    k, errors, ends = figures.error_data()
    np.testing.assert_allclose(ends, [10.9, 21.8, 87.3], atol=0.05)
    for d, line, end in zip(figures.WIDTHS, errors, ends, strict=True):
        inside = k < end
        first = np.abs(np.cos(k) - np.cos(k / figures.BASE)) / d
        assert np.abs(line - first)[inside].max() < 0.7 / d
        assert line[~inside].max() > 5 * line[inside].max()
    drawn = figures._envelope(np.array([1.0, 3.0, 2.0]))
    assert drawn.tolist() == [1, 3, 3]


def test_the_closed_form_ends_where_the_old_picture_drew_its_axis():
    near, (limit, narrow, wide), far, curve, logarithm = figures.closed_data()
    assert (near[0], near[-1]) == (-128, 128)
    assert limit[0] == pytest.approx(limit[-1])
    assert round(limit[-1], 2) == figures.SHOWN
    assert limit[128] == narrow[128] == wide[128] == 1
    assert np.abs(wide - limit).max() < np.abs(narrow - limit).max() < 0.08
    middle = (far > 50) & (far < 500)
    np.testing.assert_allclose(curve[middle], logarithm[middle], atol=2.5e-3)
    assert (curve > 0)[far < 6166].all()
    assert curve[np.searchsorted(far, 6200)] < 0


def test_far_out_the_integral_settles_and_the_sums_swing_by_one_over_root_d():
    k, sums, limit = figures.tail_data()
    far = k > 1e5
    assert np.abs(limit[far]).max() < 0.02
    np.testing.assert_allclose(sums[:, far].std(axis=1) * np.sqrt([64, 512]), 1, atol=0.3)
    products = np.einsum("nd,d->n", sinusoidal(k[:5], 64), sinusoidal(0, 64)) / 32
    np.testing.assert_allclose(sums[0, :5], products, atol=1e-12)


def test_the_six_curves_end_where_the_table_of_the_audit_says():
    near, close, far, distant = figures.curves_data()
    assert (near[0], near[-1], far[-1]) == (0, 512, pytest.approx(20000))
    printed = [0.0228, 0.2601, 0.4080, 0.0002, 0.0967, 0.3168]
    np.testing.assert_allclose(close[:, -1], printed, atol=5e-5)
    np.testing.assert_allclose(close[:, 0], 1, atol=1e-12)
    laws = [lambda t, b=b: b**-t for b in figures.BASES]
    laws += [lambda t, a=a: t**a for a in figures.POWERS]
    for line, law in zip(close, laws, strict=True):
        np.testing.assert_allclose(line[[3, 100]], integral([3, 100], law), atol=1e-6)
    np.testing.assert_allclose(distant[3], np.sin(far) / far, atol=1e-12)
    for base, line in zip(figures.BASES[:2], distant, strict=False):
        assert far[np.argmax(line < 0)] == pytest.approx(0.6165 * base, rel=0.03)


def test_the_reach_of_a_base_grows_with_the_width_and_not_monotonically_with_the_base():
    bases, firsts, limit = figures.reach_data()
    np.testing.assert_allclose(limit / bases, 0.6165, atol=0.011)
    assert (firsts[0] <= firsts[1]).mean() > 0.95
    assert (firsts[2] < limit + 1).all()
    assert (np.diff(firsts) < 0).sum(axis=1).min() > 10
    for d, first in zip(figures.WIDTHS, firsts[:, 40], strict=True):
        products = sinusoidal(np.arange(first + 1), d, bases[40]) @ sinusoidal(0, d)
        assert products[-1] < 0 <= products[:-1].min()
