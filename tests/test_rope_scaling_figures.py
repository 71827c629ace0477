"""Figures of the page on scaled RoPE: the numbers that they show."""

import numpy as np

from posenc.equations.rope_scaling import ramp_by_index
from scripts.figures import rope_scaling as figures


def test_at_its_ends_every_scheme_does_what_its_name_says():
    data = figures.schemes_data()
    ends = {name: (y[0], y[-1]) for name, (_, y) in data.items()}
    for name, want in {
        "interpolation": (1, 1),
        "ntk": (0, 1),
        "dynamic": (0, 1 / 3),  # twice the length, and 8 is 2 cubed
        "proportional": (0, 0),
        "parts": (0, 1),
        "yarn": (0, 1),
        "llama": (0, 1),
    }.items():
        np.testing.assert_allclose(ends[name], want, rtol=0, atol=1e-12)
    assert ends["longrope"][1] > 1.2
    assert len(data["proportional"][0]) == 32
    assert all((np.diff(y) > -1e-12).all() for _, y in data.values())


def test_ramps_lie_between_the_wavelengths_that_the_lines_mark():
    for name, first in (("parts", 1 / 32), ("llama", 1 / 4)):
        x, y = figures.schemes_data()[name]
        np.testing.assert_allclose(y[x < first], 0, rtol=0, atol=1e-12)
        np.testing.assert_allclose(y[x > 1], 1, rtol=0, atol=1e-12)
        assert ((y > 0) & (y < 1))[(x > first) & (x < 1)].all()


def test_only_the_right_factor_and_the_parts_need_no_new_arc():
    whole, enough, ratios = figures.overshoot_data()
    assert whole == 41
    assert 8.4 < enough < 8.43
    for ratio in ratios.values():
        np.testing.assert_allclose(ratio[:whole], 1, rtol=0, atol=1e-12)
    assert ratios["none"].max() == 4
    assert (ratios["ntk"][whole:-1] > 1).all()
    assert ratios["enough"].max() < 1 + 1e-12
    np.testing.assert_allclose(ratios["parts"][whole:], 1, rtol=0, atol=1e-12)


def test_the_ramps_meet_at_their_ends_and_the_dots_are_those_of_the_model():
    r, (paper, program), ratio, (turns, dots) = figures.ramps_data()
    assert (program >= paper - 1e-12).all()
    outside = (r < 1) | (r > 32)
    np.testing.assert_allclose(ratio[outside], 1, rtol=0, atol=1e-12)
    assert 1.72 < ratio.max() < 1.73
    np.testing.assert_allclose(dots, ramp_by_index(128, 1e6, 32768), rtol=0, atol=1e-12)
    assert len(turns) == 64


def test_recomputed_keys_make_one_peak_where_the_query_looks():
    right, cached = figures.decode_data()
    aim = figures.STEPS - 1 - figures.BACK
    assert right.argmax() == aim
    assert right[aim] > 100 * cached[aim]
    assert abs(int(cached.argmax()) - aim) > 10
    np.testing.assert_allclose([right.sum(), cached.sum()], 1, rtol=0, atol=1e-12)
