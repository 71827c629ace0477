"""What the figures of the page on attention show: their numbers."""

import numpy as np
import pytest

from posenc.layers.attention import PositionEncoding
from posenc.layers.attention import doors as doors_of
from scripts.figures import attention


def test_two_orders_show_the_same_weights_moved_unless_positions_are_added():
    (plain_first, plain_second), (first, second) = attention.two_orders_data()
    np.testing.assert_allclose(plain_second, plain_first[::-1, ::-1], rtol=1e-12)
    assert np.abs(second - first[::-1, ::-1]).min() > 0.01
    np.testing.assert_allclose(attention.two_orders_data().sum(axis=-1), 1, rtol=1e-12)


def test_positions_of_the_figures_are_points_on_circles():
    points = attention.circles(5, 2).reshape(5, 2, 2)
    angles = np.unwrap(np.arctan2(points[..., 1], points[..., 0]), axis=0)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1)
    np.testing.assert_allclose(angles, np.outer(range(5), [1, 0.25]), atol=1e-12)


def test_square_commutes():
    (x, shuffled), (y, y_of_shuffled) = attention.square_data()
    matrix = np.eye(3)[attention.SHUFFLE]
    np.testing.assert_allclose(shuffled, matrix @ x, rtol=1e-12)
    np.testing.assert_allclose(y_of_shuffled, matrix @ y, rtol=1e-12)
    assert np.abs(y_of_shuffled - y).min() > 0.1


def test_adder_adds_cell_by_cell():
    tokens, positions, total = attention.adder_data().round(12).tolist()
    for i, row in enumerate(total):
        assert row == pytest.approx([a + b for a, b in zip(tokens[i], positions[i], strict=True)])
    assert np.abs(total).max() <= 2.5


def test_taylor_remainders_have_slopes_three_and_two():
    scales, with_halves, without = attention.taylor_data()
    ends = [np.log10(y[-1] / y[0]) / 2 for y in (with_halves, without)]
    np.testing.assert_allclose(ends, [3, 2], atol=0.1)
    assert attention.slope(scales, 5 * scales**1.5) == pytest.approx(1.5)


def test_taylor_lines_differ_by_half_the_curvature_along_either_position_alone():
    f, p = attention.moved_attention()
    lines = [lambda t, path=path: f(t * path.ravel()) for path in (p * [[1], [0]], p * [[0], [1]])]
    curvature = sum(line(1e-3) - 2 * line(0) + line(-1e-3) for line in lines) / 1e-6
    scales, with_halves, without = attention.taylor_data()
    gaps = [(without + sign * with_halves) / scales**2 for sign in (-1, 1)]
    gap = min(gaps, key=np.ptp)  # the remainders may have either sign
    np.testing.assert_allclose(gap, abs(curvature) / 2, rtol=1e-6)


def test_derivatives_are_those_of_a_polynomial():
    gradient, hessian = attention._derivatives(lambda x: x[0] ** 2 * 3 + x[0] * x[1] - 2 * x[1], 2)
    np.testing.assert_allclose(gradient, [0, -2], atol=1e-9)
    np.testing.assert_allclose(hessian, [[6, 1], [1, 0]], atol=1e-9)


def test_taxonomy_puts_every_scheme_of_a_door_into_the_class_of_that_door():
    classes = {name[1]: {s for _, s in schemes} for name, _, schemes in attention.taxonomy_data()}
    absolute, relative, mixed = classes.values()
    behind = [set(schemes[1].split(" · ")) for _, _, schemes in attention.doors_data()]
    assert absolute == behind[0]
    assert behind[1] < mixed == {"RoPE", "complex-order"}
    assert relative == behind[2] | behind[3] | behind[4]
    assert sum(map(len, classes.values())) == len(absolute | relative | mixed)


def test_doors_are_those_of_the_layer_in_order():
    for i, ((_, name), method, _) in enumerate(attention.doors_data()):
        scheme = type("Scheme", (PositionEncoding,), {method: lambda *_: None})
        assert doors_of(scheme) == (name,)
        every = {other: lambda *_: None for _, other, _ in attention.doors_data()}
        assert doors_of(type("Every", (PositionEncoding,), every))[i] == name


def test_only_a_second_causal_layer_sees_the_order_of_the_prefix():
    bidirectional, causal = attention.causal_leak_data()
    np.testing.assert_allclose(bidirectional, 0, atol=1e-12)
    assert causal[0] < 1e-12
    assert causal[1:].min() > 0.1


def test_first_token_weighs_one_over_t_only_under_the_mask():
    causal, unmasked, formula = attention.bos_data()
    odds = np.e ** (attention.BOS_LOGIT - attention.OTHER_LOGIT)
    np.testing.assert_allclose(odds / causal - odds, np.arange(len(causal)), atol=1e-10)
    np.testing.assert_allclose(formula, causal, rtol=1e-12)
    np.testing.assert_allclose(unmasked, odds / (odds + len(causal) - 1), rtol=1e-12)
