"""Figures of the page on the learned table: the numbers that they show."""

import numpy as np
import pytest

from scripts.figures import learned as figures


def test_only_the_rows_that_sequences_reach_are_written():
    before, after = figures.table_data()
    assert before.shape == after.shape == (24, 64)
    np.testing.assert_array_equal(after[12:], before[12:])
    assert np.linalg.norm(after[:12], axis=1).min() > 2 * np.linalg.norm(after[12:], axis=1).max()
    assert np.std(before) == pytest.approx(0.1, rel=0.05)


def test_training_draws_the_order_that_the_task_asks_for():
    untrained, previous, mirror = figures.geometry_data()
    assert np.abs(untrained).max() < 0.5
    np.testing.assert_array_equal(previous[1:].argmax(axis=1), np.arange(11))
    np.testing.assert_array_equal(mirror.argmax(axis=1), np.arange(12)[::-1])


def test_points_stay_inside_the_old_table():
    points = figures.sampling_data()
    np.testing.assert_allclose(points["ends"], np.arange(8) * 3 / 7)
    np.testing.assert_array_equal(points["centres"], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_copies_repeat_halves_mirror_and_the_rest_differ():
    copies, distinct, halves = (gaps < 1e-9 for gaps in figures.blocks_data())
    k = np.arange(16)
    np.testing.assert_array_equal(copies, k[:, None] % 4 == k % 4)
    np.testing.assert_array_equal(distinct, np.eye(16, dtype=bool))
    mirrored = 4 * (k % 4) + k // 4
    np.testing.assert_array_equal(halves, (k[:, None] == k) | (k[:, None] == mirrored))


def test_random_rows_keep_the_old_half_and_the_others_learn_the_new_one():
    previous, mirror = (figures.remedies_data(task) for task in ("previous", "mirror"))
    assert previous.shape == mirror.shape == (4, 2, 24)
    assert (previous[0, 0, 1:12] == 1).all()
    assert previous[0, 0, 12:].mean() < 0.3
    assert mirror[0, 0, :12].mean() < 0.15
    for shares in (previous[1:, 1, 1:], mirror[1:, 1]):
        assert (shares.mean(axis=1) > 0.8).all()


def test_both_tasks_are_learnt_without_a_mistake():
    for task in ("previous", "mirror"):
        shares = figures.right(figures.trained(task), task, figures.SHORT)
        assert (shares[int(task == "previous") :] == 1).all()


def test_the_previous_token_and_the_mirrored_one_are_what_they_are_called():
    import torch

    ids = torch.tensor([[5, 6, 7]])
    assert figures.wanted("previous", ids)[0, 1:].tolist() == [5, 6]
    assert figures.wanted("mirror", ids)[0].tolist() == [7, 6, 5]


def test_rows_of_roberta_start_at_two_and_padding_is_row_one():
    words, positions, rows = figures.roberta_data()
    assert [len(row) for row in words] == [5, 5]
    assert positions.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, -1]]
    assert rows.tolist() == [[2, 3, 4, 5, 6], [2, 3, 4, 5, 1]]
