"""Figures of the page on the four terms: the numbers that they show."""

import numpy as np
import pytest

from posenc.equations.kernel import toeplitz_share
from scripts.figures import relative as figures


def test_the_picture_has_a_row_per_scheme_and_knows_values_and_weights():
    rows = figures.choices_data()
    assert list(rows) == list(figures.schemes())
    assert [len(words) for words in rows.values()] == [6] * 9
    assert {name: words[4] for name, words in rows.items() if words[4] != "none"} == {
        "absolute": "key",
        "shaw": "offset",
    }
    assert {name for name, words in rows.items() if words[5] != "none"} == {"urpe"}


def test_four_maps_add_up_to_the_fifth():
    for maps in figures.terms_data().values():
        assert maps.shape == (5, 12, 12)
        np.testing.assert_allclose(maps[:4].sum(axis=0), maps[4], atol=1e-12)


def test_both_rows_of_maps_have_the_same_content_and_other_positions():
    absolute, xlnet = figures.terms_data().values()
    np.testing.assert_allclose(absolute[0], xlnet[0], atol=1e-12)
    assert toeplitz_share(xlnet[3]) == pytest.approx(1)
    assert toeplitz_share(absolute[3]) < 0.5
    assert np.ptp(xlnet[2], axis=0).max() < 1e-12  # stripes: the same for all queries


def test_bars_are_silent_or_loud_and_nothing_between():
    sizes = np.array([*figures.constant_data().values()])
    assert (sizes < 1e-14).sum() == 11
    assert (sizes > 0.1).sum() == 5
    assert len(sizes) == 16


def test_curves_fall_at_both_ends_and_the_circle_has_none():
    data = figures.padding_data()
    np.testing.assert_allclose(data["circular"], 1, atol=1e-12)
    np.testing.assert_allclose(data["zeros"], data["zeros"][:, ::-1], atol=1e-12)
    for depth, curve in zip(figures.DEPTHS, data["zeros"], strict=True):
        assert (np.diff(curve[: depth + 1]) > 0).all()
        np.testing.assert_allclose(curve[depth : figures.PIXELS - depth], 1, atol=1e-12)


def test_a_class_token_changes_one_row_and_one_column():
    words, cls = figures.tupe_data()
    np.testing.assert_array_equal(words[1:, 1:], cls[1:, 1:])
    assert (cls[0] == 0.3).all()
    assert (cls[1:, 0] == 1.2).all()


def test_all_figures_are_drawn_in_both_languages():
    for name in ("choices", "terms", "constant", "padding", "tupe"):
        for say in (lambda zh, en: zh, lambda zh, en: en):
            assert getattr(figures, name)(say).get_label()
