"""Figures of the page on the experiment: the numbers that they show."""

import numpy as np
import pytest

from posenc.equations.extrapolation import order_entropies
from scripts import extrapolation as runner
from scripts.figures import extrapolation as figures
from scripts.sitegen import results

data = results.load()


def scored(task, name, way, score):
    """Score of every seed and bucket, straight from the file."""
    return np.array(
        [
            run["tests"][way][score]
            for run in data["runs"]
            if (run["task"], run["encoding"]) == (task, name)
        ]
    )


def test_the_law_of_the_figure_is_that_of_the_runs():
    np.testing.assert_array_equal(figures.markov_law(), runner.markov_law())
    entropies = order_entropies(runner.markov_law())
    assert figures.markov_data()[2] == pytest.approx(entropies[0] - entropies[2])


def test_curves_are_least_mean_and_most_of_the_seeds():
    middles, found, _ = figures.markov_data()
    assert len(middles) == len(data["edges"]) - 1
    for name, (least, mean, most) in found.items():
        kl = scored("markov", name, "plain", "kl")
        np.testing.assert_allclose(least, kl.min(0))
        np.testing.assert_allclose(mean, kl.mean(0))
        np.testing.assert_allclose(most, kl.max(0))


def test_before_the_length_of_training_all_but_one_are_low():
    middles, found, blind = figures.markov_data()
    inside = {name: mean[middles < 64].max() for name, (_, mean, _) in found.items()}
    assert inside.pop("none") > 0.1
    assert max(inside.values()) < 0.05
    far = {name: mean[middles > 128].min() for name, (_, mean, _) in found.items()}
    assert all(far[name] > blind for name in ("sinusoidal", "learned", "rope"))
    assert far["alibi"] < 0.03
    assert found["t5"][1][-1] > 0.3


def test_recall_falls_for_two_of_six():
    middles, found = figures.recall_data()
    for _, mean, _ in found.values():
        assert mean[middles < 64].min() > 0.99
    last = {name: mean[-1] for name, (_, mean, _) in found.items()}
    assert last["rope"] < 0.5
    assert last["sinusoidal"] < 0.7
    assert min(last[name] for name in ("learned", "t5", "alibi", "none")) > 0.8


def test_text_is_beyond_its_own_level():
    middles, found = figures.text_data()
    loss, level = (scored("text", "rope", way, "loss") for way in ("plain", "restart"))
    np.testing.assert_allclose(found["rope"][1], (loss - level).mean(0))
    last = {name: mean[-1] for name, (_, mean, _) in found.items()}
    assert last["rope"] > last["sinusoidal"] > last["t5"] > 0.2
    assert abs(last["alibi"]) < 0.1
    assert abs(last["none"]) < 0.2
    assert all(abs(mean[middles < 32]).max() < 0.1 for _, mean, _ in found.values())


def test_repairs_are_sorted_and_restarts_help_all_but_one():
    found = figures.repairs_data()
    assert set(found) == set(results.PAGES)
    order = [values["window"] for values in found.values()]
    assert order == sorted(order)
    for name, values in found.items():
        kl = scored("markov", name, "plain", "kl")[:, -2:].mean()
        assert values["plain"] == pytest.approx(kl)
        assert (values["restart"] < 0.2) == (name != "none")


def test_scalings_have_their_rows():
    found = figures.scalings_data()
    assert set(figures.SCALINGS) == {"plain", *runner.variants(), "long_rope"}
    rows = list(figures.SCALINGS)
    for task, score in (("markov", "kl"), ("recall", "accuracy")):
        ntk = scored(task, "rope", "ntk_4", score)
        assert found[task][rows.index("ntk_4"), 4] == pytest.approx(ntk[:, -2:].mean())
        assert found[task].shape == (len(rows), len(results.RANGES))


def test_a_fixed_factor_is_dynamic_ntk_at_its_own_length():
    """At the last range, which is read at 1024 tokens, dynamic NTK has the factor 16."""
    found = figures.scalings_data()
    rows = list(figures.SCALINGS)
    for matrix in found.values():
        dynamic, plain = matrix[rows.index("dynamic_ntk")], matrix[rows.index("plain")]
        assert dynamic[0] == pytest.approx(plain[0], abs=0.02)
        assert dynamic[4] == pytest.approx(matrix[rows.index("ntk_16"), 4], abs=0.05)


def test_probes_are_means_over_seeds():
    found = figures.probes_data()
    names = list(results.PAGES)
    for task, matrix in found.items():
        assert matrix.shape == (len(names), len(data["runs"][0]["probe"]))
        rows = [r["probe"] for r in data["runs"] if (r["task"], r["encoding"]) == (task, "t5")]
        np.testing.assert_allclose(matrix[names.index("t5")], np.mean(rows, axis=0))
    chain = found["markov"]
    assert chain[names.index("sinusoidal"), 0] > 0.99
    assert chain[names.index("rope"), 0] < 0.02
