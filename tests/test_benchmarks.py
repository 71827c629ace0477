"""The benchmarks: how calls are timed, what the results file says, how it becomes a table."""

import json
import re
import time
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from scripts import bench, bench_rope
from scripts.sitegen import benchmarks

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/benchmarks.json"
ROWS = [row for group in json.loads(RESULTS.read_text("utf-8"))["groups"] for row in group["rows"]]


def test_calls_take_turns_and_change_direction():
    order = []
    bench.seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert "".join(order) == "abbaabba"


def test_median_is_that_of_the_rounds_after_the_first(monkeypatch):
    now, pauses = [0.0], iter([8.0, 1.0, 4.0, 2.0])
    monkeypatch.setattr(bench, "perf_counter", lambda: now[0])
    calls = {"a": lambda: now.append(now.pop() + next(pauses))}
    assert bench.seconds(calls, rounds=3) == {"a": 2.0}


def test_the_clock_is_that_of_the_machine():
    assert bench.perf_counter is time.perf_counter


SMALL = 64  # bytes that constants of a call may take


def test_memory_of_a_copy_is_its_size():
    x = torch.randn(1000, 256)
    assert bench.peak(x.clone) == x.nbytes


def test_memory_of_a_chain_is_that_of_what_is_held_at_one_time():
    x = torch.randn(1000, 256)
    assert bench.peak(lambda: x.add(1)) == pytest.approx(x.nbytes, abs=SMALL)
    assert bench.peak(lambda: x.add(1).mul(2)) == pytest.approx(2 * x.nbytes, abs=SMALL)
    assert bench.peak(lambda: x.add(1).mul(2).sub(3)) == pytest.approx(2 * x.nbytes, abs=SMALL)
    assert bench.peak(lambda: (x.add(1), x.mul(2), x.sub(3))) == pytest.approx(
        3 * x.nbytes, abs=SMALL
    )


def test_memory_counts_the_greatest_moment_and_not_the_last():
    x = torch.randn(1000, 256)
    assert bench.peak(lambda: x.add(1).sum()) == pytest.approx(x.nbytes, abs=SMALL)
    assert bench.peak(lambda: None) == 0
    assert bench.peak(lambda: x.t()) == 0


def test_memory_that_was_there_before_is_not_set_off():
    x = [torch.randn(1000, 256)]
    size = x[0].nbytes
    assert bench.peak(lambda: torch.empty(x.pop().shape)) == size


def test_memory_of_an_earlier_measurement_is_not_set_off():
    kept = []
    size = bench.peak(lambda: kept.append(torch.empty(1000, 256)))
    kept.clear()
    kept.append(torch.empty(1000, 256))  # most likely at the same address
    assert bench.peak(lambda: torch.empty(kept.pop().shape)) == size


def test_memory_inside_native_kernels_is_counted():
    q, k, v = torch.randn(3, 1, 8, 512, 16)
    scores = 8 * 512 * 512 * 4
    with torch.no_grad():
        fused = bench.peak(lambda: scaled_dot_product_attention(q, k, v))
        made = bench.peak(lambda: scaled_dot_product_attention(q, k, v, q @ k.mT))
        plain = bench.peak(lambda: (q @ k.mT).softmax(-1) @ v)
    assert q.nbytes < fused < scores / 2, "blocks of the scores, never all of them"
    assert made == pytest.approx(scores + fused, abs=SMALL)
    assert plain == pytest.approx(2 * scores, abs=SMALL)


def test_a_row_without_memory_says_nothing_of_it():
    names = {"clone": {"zh": "复制", "en": "copy"}, "posenc": {"zh": "甲", "en": "first"}}
    times = {"clone": 0.001, "posenc": 0.002}
    group = bench.group(
        names["clone"], names, times, {}, ours=("posenc",), setting={"dtype": "float32"}
    )
    assert [row["ours"] for row in group["rows"]] == [False, True]
    assert [row["ratio"] for row in group["rows"]] == [1, 2]
    assert not any({"bytes", "memory"} & row.keys() for row in group["rows"])
    measured = bench.group(
        names["clone"], names, times, {"clone": 8, "posenc": 12}, ours=(), setting={}
    )
    assert [(row["bytes"], row["memory"]) for row in measured["rows"]] == [(8, 1), (12, 1.5)]


def test_every_module_that_measures_belongs_to_a_key(monkeypatch):
    assert bench_rope in bench.benches()
    monkeypatch.setattr(bench, "keys", lambda: ["attention"])
    with pytest.raises(ValueError, match="bench_rope"):
        bench.benches()


def test_peers_compute_the_same_attention_before_they_are_timed(monkeypatch):
    monkeypatch.setattr(bench, "N", 8)
    calls = bench.attention_calls(bench.distances()[None])
    monkeypatch.setattr(bench.Table, "bias", lambda *_: None)
    with pytest.raises(AssertionError, match="not close"):
        bench.attention_calls(bench.distances()[None])
    assert sorted(calls) == sorted(bench.NAMES)


@pytest.fixture
def few_tokens(monkeypatch):
    torch.manual_seed(0)
    for name, value in {"N": 8, "ROUNDS": 1, "TOKEN_ROUNDS": 1, "compiled_calls": nothing}.items():
        monkeypatch.setattr(bench_rope, name, value)


def nothing(q, k, at):
    """In place of compiled calls: to compile them takes half a minute."""
    ours = bench_rope.our_calls(q, k, at)
    return {f"{layout} compiled": ours[layout] for layout in bench_rope.LAYOUTS}


@pytest.mark.parametrize("memory", bench_rope.MEMORY)
@pytest.mark.parametrize("dtype", bench_rope.TOLERANCE, ids=str)
def test_peers_turn_alike_before_they_are_timed(few_tokens, monkeypatch, dtype, memory):
    with torch.no_grad():
        group = bench_rope.rope_group(dtype, memory)
        assert {row["layout"] for row in group["rows"]} == {memory}
        assert len(group["targets"]) == 5
        copied, *held = [row["bytes"] for row in group["rows"]]
        assert (
            copied == (bench_rope.HEADS + bench_rope.KEY_HEADS) * 8 * bench_rope.D * dtype.itemsize
        )
        assert min(held) >= copied
        assert len(bench_rope.token_group(dtype)["targets"]) == 3
        monkeypatch.setattr(bench_rope.gptj, "rotate_every_two", lambda x: x)
        with pytest.raises(AssertionError, match="not close"):
            bench_rope.rope_group(dtype, memory)


def test_memory_layouts_are_what_they_are_called():
    for memory, transposed in bench_rope.MEMORY.items():
        q, k = bench_rope.tensors(3, torch.float32, transposed)
        assert q.shape == (1, bench_rope.HEADS, 3, bench_rope.D)
        assert k.is_contiguous() is (memory == "(b, h, n, d)")


def test_errors_of_the_tables_tell_the_libraries_apart(monkeypatch):
    monkeypatch.setattr(bench_rope, "POSITIONS", (1000, 10**6))
    found = {row["name"]: row["errors"] for row in bench_rope.errors()["rows"]}
    assert max(found.pop("posenc")) <= 4e-8
    assert len(found) == 4
    for name, (near, far) in found.items():
        assert 1e-5 < near < 1e-3, name
        assert 1e-2 < far < 1, name


def test_committed_tables_keep_their_promise():
    errors = json.loads(RESULTS.read_text("utf-8"))["errors"]
    assert errors["rows"][0]["name"] == "posenc"
    assert max(errors["rows"][0]["errors"]) <= errors["limit"] == 4e-8


def test_import_time_of_a_module_that_is_there_already_is_nothing():
    assert bench.import_seconds("numpy", "numpy") < bench.import_seconds("", "numpy") / 10


@pytest.mark.parametrize("row", ROWS, ids=[row["name"]["en"] for row in ROWS])
def test_every_committed_row_says_what_was_measured(row):
    assert {*row["name"]} == {"zh", "en"}
    assert all(row[key] for key in ("shape", "layout", "dtype"))
    assert row["milliseconds"] > 0
    assert row["ratio"] > 0
    if row["name"]["en"] == "posenc, the view":
        assert row["bytes"] == 0, "it holds nothing of its own"
    else:
        assert row.get("bytes", 1) > 0
    assert ("bytes" in row) is ("memory" in row)


def test_every_group_stands_beside_its_base_and_a_peer():
    for group in json.loads(RESULTS.read_text("utf-8"))["groups"]:
        base, *rows = group["rows"]
        assert base["name"] == group["base"]
        assert base["ratio"] == 1
        assert {row["ours"] for row in rows} == {True, False}


def test_committed_import_of_posenc_costs_at_most_ten_milliseconds():
    (row,) = [row for row in ROWS if row["name"]["en"].startswith("import posenc,")]
    assert row["milliseconds"] <= 10


def test_results_name_no_machine():
    results = json.loads(RESULTS.read_text("utf-8"))
    keys = {"date", "python", "numpy", "torch", "processor", "threads", "groups", "errors"}
    assert set(results) == keys
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", results["date"])


PLANTED = {
    "date": "2030-01-02",
    "python": "3.11.9",
    "numpy": "2.0.0",
    "torch": "2.13.0",
    "processor": "x86_64",
    "threads": 1,
    "groups": [
        {
            "title": {"zh": "导入", "en": "Imports"},
            "base": {"zh": "复制", "en": "copy"},
            "rows": [
                {
                    "name": {"zh": "甲", "en": "first"},
                    "ours": True,
                    "shape": "2 × 3",
                    "layout": "(n, d)",
                    "dtype": "float32",
                    "milliseconds": 1650.0,
                    "ratio": 0.374,
                },
                {
                    "name": {"zh": "乙", "en": "second"},
                    "ours": False,
                    "shape": "–",
                    "layout": "–",
                    "dtype": "–",
                    "milliseconds": 4400.0,
                    "ratio": 1.0,
                    "bytes": 2097152,
                    "memory": 1.5,
                },
            ],
            "targets": [
                {"what": {"zh": "甲比乙", "en": "first to second"}, "value": 0.5, "limit": 0.5},
                {"what": {"zh": "乙比甲", "en": "second to first"}, "value": 2.0, "limit": 1.3},
            ],
        }
    ],
    "errors": {
        "positions": [1000, 1000000],
        "limit": 4e-8,
        "rows": [{"name": "library", "ours": False, "errors": [5.6e-5, 0.733]}],
    },
}


@pytest.mark.parametrize(
    ("language", "title", "rows"),
    [
        (
            "zh",
            "**导入**，以“复制”为 1 倍：",
            [
                "| **甲** | 2 × 3 | (n, d) | float32 | 1650 | 0.37 | – | – |",
                "| 乙 | – | – | – | 4400 | 1 | 2.1 | 1.5 |",
            ],
        ),
        (
            "en",
            "**Imports**, as multiples of *copy*:",
            [
                "| **first** | 2 × 3 | (n, d) | float32 | 1650 | 0.37 | – | – |",
                "| second | – | – | – | 4400 | 1 | 2.1 | 1.5 |",
            ],
        ),
    ],
)
def test_results_become_a_table_in_both_languages(tmp_path, language, title, rows):
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(PLANTED), encoding="utf-8")
    setting, *lines = benchmarks.table(path, language).splitlines()
    assert "2030-01-02" in setting
    assert lines[1] == title
    assert lines[4:7] == ["| --- | --- | --- | --- | ---: | ---: | ---: | ---: |", *rows]


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        (
            "zh",
            [
                "- 甲比乙：0.5，目标不超过 0.5，达到。",
                "- 乙比甲：2，目标不超过 1.3，**未达到**。",
                "| 被测 | 位置 1,000 | 位置 1,000,000 |",
            ],
        ),
        (
            "en",
            [
                "- first to second: 0.5, at most 0.5 is the target, met.",
                "- second to first: 2, at most 1.3 is the target, **missed**.",
                "| measured | position 1,000 | position 1,000,000 |",
            ],
        ),
    ],
)
def test_targets_and_errors_are_shown_and_misses_as_misses(tmp_path, language, lines):
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(PLANTED), encoding="utf-8")
    text = benchmarks.table(path, language)
    for line in (*lines, r"| library | $5.6 \cdot 10^{-5}$ | 0.73 |".replace(r"\\", "\\")):
        assert line in text.splitlines()


def test_missing_results_say_how_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="make bench"):
        benchmarks.table(tmp_path / "benchmarks.json", "en")
