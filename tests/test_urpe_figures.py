"""Figures of the page on URPE: the numbers that they show."""

import numpy as np
import pytest
import torch

from posenc.equations.urpe import toeplitz
from posenc.layers.attention import doors
from scripts.figures import urpe as figures


def test_rows_sum_to_one_before_the_factor_and_grow_after_it():
    weights, matrix, product = figures.sums_data()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    i = np.arange(figures.FEW)
    want = np.where(i[:, None] > i, 1.5, np.where(i[:, None] < i, 0.5, 1.0))
    np.testing.assert_array_equal(matrix, want)
    np.testing.assert_array_equal(product, weights * want)
    assert (np.diff(product.sum(axis=1)) > 0.05).all()
    assert weights.max() < 0.6  # within the scale of the colours


def test_targets_are_a_ramp_a_parity_and_numbers_between():
    ramp, parity, noise = figures.targets().T
    np.testing.assert_allclose(ramp, np.linspace(-1, 1, figures.N))
    assert set(parity[::2]) == {1}
    assert set(parity[1::2]) == {-1}
    assert 0.5 < np.abs(noise).max() <= 1


def test_inside_the_softmax_every_output_is_the_mean_and_factors_follow_the_targets():
    wanted, inside, after = figures.learnt_data()
    assert wanted.shape == inside.shape == after.shape == (figures.N, 3)
    assert np.ptp(inside, axis=0).max() < 1e-12
    np.testing.assert_allclose(inside[0], wanted.mean(axis=0), atol=1e-6)
    assert np.abs(after - wanted).max() < 0.2


def test_learnt_factors_lie_on_the_formula():
    found, nearest = figures.factors_data()
    np.testing.assert_allclose(found, nearest, atol=1e-9)
    means = np.array([toeplitz(g).mean(axis=1) for g in found])
    np.testing.assert_allclose(means, figures.targets().T, atol=1e-9)
    ramp = found[0]
    assert len(set(ramp[:15].round(9))) == len(set(ramp[16:].round(9))) == 1


OPENS = {
    figures.LogitBias: "logits",
    figures.KeyVectors: "logits",
    figures.ValueVectors: "values",
    figures.AbsoluteInLogits: "query/key",
}


@pytest.mark.parametrize("scheme", OPENS)
def test_schemes_of_the_table_open_the_door_that_their_name_says(scheme):
    assert doors(scheme) == (OPENS[scheme],)


def test_schemes_per_offset_know_nothing_but_the_offset():
    torch.manual_seed(0)
    q, at = torch.randn(1, 4, 16, 4), torch.arange(16)
    for scheme in (figures.LogitBias(), figures.KeyVectors()):
        torch.testing.assert_close(scheme.bias(q, q, at, at), scheme.bias(q, q, at + 9, at + 9))
    table = figures.LogitBias()
    bias = table.bias(q, q, at, at)
    assert (bias[0].diagonal(1) == bias[0, 0, 1]).all()
    assert (bias[:, 5, 3] == table.table[figures.N + 2]).all()
