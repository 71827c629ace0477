"""Figures of the page on windows: the numbers that they show."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from scripts.figures import windows as figures
from scripts.sitegen import style


def test_eight_masks_have_the_edges_that_are_written_below():
    found = {name: int(mask.sum()) for name, mask in figures.masks_data().items()}
    assert found["full"] == 24 * 24
    assert found["chunks"] == 3 * 8 * 8
    assert found["overlap"] == 8 * 8 + 4 * 4 * 8
    assert found["window"] == 7 * 24 - 2 * (1 + 2 + 3)
    assert found["dilated"] == 7 * 24 - 2 * (2 + 4 + 6)
    assert found["longformer"] == sum(
        24 if i in (0, 11) else len({0, 11, *range(max(0, i - 2), min(24, i + 3))})
        for i in range(24)
    )
    assert found["bigbird"] == 24 + 6 + 20 * 7 + 6 + 24
    assert found["sinks"] == sum(
        len({*range(min(2, i + 1)), *range(max(0, i - 4), i + 1)}) for i in range(24)
    )


def test_edges_per_token_level_out_only_where_they_are_linear():
    n, kinds = figures.edges_data()
    assert n[0] == 512
    assert n[-1] == 2**20
    last = {name: values[-1] / values[-2] for name, values in kinds.items()}
    assert last["full"] == 2
    assert last["loglinear"] == pytest.approx(20 / 19)
    assert last["longformer"] == pytest.approx(1, abs=2e-4)
    assert last["bigbird"] == pytest.approx(1, abs=2e-4)
    assert kinds["longformer"][-1] == pytest.approx(515, abs=0.1)
    assert kinds["bigbird"][-1] == pytest.approx(640, abs=0.1)
    at = list(n).index(2048)
    assert kinds["loglinear"][at] == pytest.approx(kinds["longformer"][at])


def test_four_ways_to_widen_what_a_token_knows():
    found = {n: known.sum(axis=1).tolist() for n, known in figures.reach_data().items()}
    assert found["chunks"] == [1, 8, 8, 8, 8, 8]
    assert found["window"] == [1, 5, 9, 13, 17, 21]
    assert found["global"] == [1, 6, 32, 32, 32, 32]
    assert found["dilated"][:4] == [1, 5, 13, 26]
    assert found["dilated"][5] == 32


def test_a_run_of_trues_is_one_rectangle_over_equal_rows():
    ax = style.canvas(Figure())
    mask = np.array([[True, True, False, True]] * 2 + [[False] * 4, [False, True, False, False]])
    figures.paint(ax, mask, 1.0, 2.0, (0.5, 0.25))
    boxes = [patch.get_bbox().bounds for patch in ax.patches]
    assert boxes == [
        (1.0, 2.5, 1.0, 0.5),
        (2.5, 2.5, 0.5, 0.5),
        (1.5, 2.0, 0.5, 0.25),
        (1.0, 2.0, 2.0, 1.0),
    ]
