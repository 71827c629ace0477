"""Figures of the page on recursive positions: the numbers that they show."""

import numpy as np

from posenc.equations.sinusoidal import sinusoidal
from scripts.figures import floater as figures


def test_on_the_circle_only_euler_leaves_and_the_trapezoid_rule_falls_behind():
    points = figures.circle_data()
    at = 0.5 * np.arange(14)
    np.testing.assert_allclose(points["exact"], np.stack([np.sin(at), np.cos(at)], -1), atol=1e-12)
    radius = {name: np.linalg.norm(path, axis=1) for name, path in points.items()}
    np.testing.assert_allclose(radius["euler"], 1.25 ** (np.arange(14) / 2))
    np.testing.assert_allclose(radius["trapezoid"], 1)
    late = at - np.unwrap(np.arctan2(*points["trapezoid"].T))
    np.testing.assert_allclose(late, np.arange(14) * (0.5 - 2 * np.arctan(0.25)), atol=1e-12)


def test_norms_are_powers_of_the_factors():
    at, found = figures.norms_data()
    theta = 10000.0 ** (-np.arange(8) / 8)
    squares = {
        "euler 1": (1 + theta**2) ** at[:, None],
        "euler 0.1": (1 + theta**2 / 100) ** (10 * at[:, None]),
        "euler 0.01": (1 + theta**2 / 10_000) ** (100 * at[:, None]),
        "midpoint 1": (1 + theta**4 / 4) ** at[:, None],
        "rk4 1": (1 - theta**6 / 72 + theta**8 / 576) ** at[:, None],
    }
    assert list(found) == list(squares)
    for name, square in squares.items():
        np.testing.assert_allclose(found[name], np.sqrt(square.sum(axis=1)), rtol=1e-9)


def test_the_four_tables_are_what_the_caption_says():
    tables = figures.maps_data()
    assert {rows.shape for rows in tables.values()} == {(252, 16)}
    want = sinusoidal(np.arange(252), 16, layout="halves")
    np.testing.assert_array_equal(tables["sinusoidal"], want)
    learned = np.linalg.norm(tables["learned"], axis=1)
    assert learned[:32].min() > 3 * learned[32:].max()
    moved = {name: np.linalg.norm(np.diff(rows, axis=0), axis=1) for name, rows in tables.items()}
    assert moved["rnn"][100:].max() < 1e-9
    assert 1 < moved["floater"].min() < moved["floater"].max() < 20
    assert np.linalg.norm(tables["floater"][-1]) > 3 * np.linalg.norm(tables["floater"][0])


def test_beyond_the_trained_length_all_point_worse():
    at, losses = figures.pointing_data()
    assert at[0] == 4
    assert at[3] == 27.5
    assert at[-1] == 249.5
    for name in ("learned", "floater"):
        assert losses[name][:4].max() < 0.4
        assert losses[name][-4:].min() > 5 * losses[name][:4].max()
    assert (losses["learned"][4:] > losses["floater"][4:]).all()
    guess = np.log(at + 1)
    assert (losses["learned"][4:] > guess[4:]).all()
    np.testing.assert_allclose(losses["rnn"][-8:], guess[-8:], atol=0.2)
    whole = np.average(losses["floater"], weights=np.append([7, *[8] * 30], 4))
    np.testing.assert_allclose(whole, figures.study()["floater"][1].mean())


def test_training_gives_the_same_table_again():
    once, again = figures.train("learned"), figures.train("learned")
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])
