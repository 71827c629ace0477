"""Figures of the page on ALiBi: the numbers that they show."""

import numpy as np
import pytest
import torch

from posenc.equations.alibi import logit_lead
from posenc.equations.relative import offsets
from posenc.layers.alibi import Alibi
from scripts.figures import alibi as figures


def test_steep_heads_look_next_to_the_diagonal_and_flat_ones_everywhere():
    steep, middle, flat = figures.heads_data()
    for weights in (steep, middle, flat):
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=0, atol=1e-12)
        assert not weights[offsets(24, 24) > 0].any()
    last = np.array([steep[-1], middle[-1], flat[-1]])
    np.testing.assert_allclose(last[:, -1] / last[:, -2], np.exp([0.5, 0.0625, 1 / 256]))
    assert steep[-1, -8:].sum() > 0.98
    assert flat[-1].max() < 1.1 * flat[-1].min()


def test_horizons_are_powers_of_two_and_what_lies_between():
    reach = figures.horizons_data()
    assert {H: first for H, (_, first) in reach.items()} == {6: 4, 8: 8, 12: 8}
    assert reach[6][0].tolist() == [4, 16, 64, 256, 2, 8]
    assert reach[8][0].tolist() == [2, 4, 8, 16, 32, 64, 128, 256]
    np.testing.assert_allclose(reach[12][0][8:], 2 ** np.array([0.5, 1.5, 2.5, 3.5]))


def test_all_heads_have_one_curve_each_a_step_further():
    L, share, ends = figures.mass_data()
    np.testing.assert_allclose(share, 1 - np.exp(-L / 2.0 ** np.arange(1, 9)[:, None]))
    assert ends.tolist() == [10, 19, 37, 74, 148, 295, 590, 1179]
    assert L[-1] > ends[-1]


def test_the_loss_is_level_and_recall_is_not():
    lengths, losses, recalls = figures.recall_data()
    assert lengths.tolist() == [128, 256, 512, 1024, 2048, 4096, 8192]
    np.testing.assert_allclose(losses, 0.3250, rtol=0, atol=1e-3)
    np.testing.assert_allclose(recalls[0], 0.5, atol=0.02)
    assert (recalls[1, :4] > 0.999).all()
    np.testing.assert_allclose(recalls[1, 5:], 0.5, atol=0.01)


def test_a_head_recalls_as_its_lead_says():
    """Half of the weight, and so a logit of half the gain, at the distance that asks for it."""
    D = 1023
    lead = logit_lead(2.0**-8, D, D + 1)
    _, _, recalls = figures.recall_data(lead=lead)
    assert recalls[1, 3] == pytest.approx(1 / (1 + np.exp(-5)), rel=1e-9)


def test_the_model_of_the_figure_is_attention():
    """Weights of the real layer on the first of 1024 tokens, with a lead of 12."""
    q = torch.ones(1, 1, 1024, 1, dtype=torch.float64)
    k = torch.zeros(1, 1, 1024, 1, dtype=torch.float64)
    k[0, 0, 0] = 12
    v = (k > 0).double()
    z = Alibi(1, slopes=[2.0**-8]).attend(q, k, v, 1.0, True)[0, 0, :, 0]
    _, _, recalls = figures.recall_data()
    at = torch.tensor([127, 255, 511, 1023])
    np.testing.assert_allclose(1 / (1 + np.exp(-10 * z[at].numpy())), recalls[1, :4], rtol=1e-9)


def test_rounding_is_that_of_bfloat16():
    x = np.random.default_rng(0).normal(size=10_000) * 1000
    want = torch.from_numpy(x).float().bfloat16().double().numpy()
    single = x.astype(np.float32).astype(float)
    np.testing.assert_array_equal(figures.bfloat16(single), want)
    assert figures.bfloat16(np.array([257.0, 259.0])).tolist() == [256, 260]


def test_the_row_has_stairs_of_eight_and_of_thirty_two_keys():
    d, exact, short, long = figures.rounding_data()
    np.testing.assert_array_equal(exact, -d / 2)
    assert len(np.unique(short)) == 9
    assert len(np.unique(long)) == 3
    assert np.unique(np.diff(np.unique(short))).tolist() == [4]
    assert np.unique(np.diff(np.unique(long))).tolist() == [16]
