"""The benchmarks: how calls are timed, what the results file says, how it becomes a table."""

import json
import re
import time
from pathlib import Path

import pytest

from scripts import bench
from scripts.sitegen import benchmarks

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs/benchmarks.json"
ROWS = [row for group in json.loads(RESULTS.read_text("utf-8"))["groups"] for row in group["rows"]]


def test_calls_take_turns_and_change_direction():
    order = []
    bench.seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3)
    assert "".join(order) == "abbaabba"


def test_median_is_that_of_the_rounds_after_the_first():
    pauses = iter([0.2, 0.001, 0.03, 0.001])
    found = bench.seconds({"a": lambda: time.sleep(next(pauses))}, rounds=3)
    assert 0.001 <= found["a"] < 0.03


def test_peers_compute_the_same_attention_before_they_are_timed(monkeypatch):
    monkeypatch.setattr(bench, "N", 8)
    calls = bench.attention_calls(bench.distances()[None])
    monkeypatch.setattr(bench.Table, "bias", lambda *_: None)
    with pytest.raises(AssertionError, match="not close"):
        bench.attention_calls(bench.distances()[None])
    assert sorted(calls) == sorted(bench.NAMES)


def test_import_time_of_a_module_that_is_there_already_is_nothing():
    assert bench.import_seconds("numpy", "numpy") < bench.import_seconds("", "numpy") / 10


@pytest.mark.parametrize("row", ROWS, ids=[row["name"]["en"] for row in ROWS])
def test_every_committed_row_says_what_was_measured(row):
    assert {*row["name"]} == {"zh", "en"}
    assert all(row[key] for key in ("shape", "layout", "dtype"))
    assert row["milliseconds"] > 0
    assert row["ratio"] > 0


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
    keys = {"date", "python", "numpy", "torch", "processor", "threads", "groups"}
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
                }
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("language", "title", "row"),
    [
        (
            "zh",
            "**导入**，以“复制”为 1 倍：",
            "| **甲** | 2 × 3 | (n, d) | float32 | 1650 | 0.37 |",
        ),
        (
            "en",
            "**Imports**, as multiples of *copy*:",
            "| **first** | 2 × 3 | (n, d) | float32 | 1650 | 0.37 |",
        ),
    ],
)
def test_results_become_a_table_in_both_languages(tmp_path, language, title, row):
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(PLANTED), encoding="utf-8")
    setting, *lines = benchmarks.table(path, language).splitlines()
    assert "2030-01-02" in setting
    assert lines[1] == title
    assert lines[-2:] == ["| --- | --- | --- | --- | ---: | ---: |", row]


def test_missing_results_say_how_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="make bench"):
        benchmarks.table(tmp_path / "benchmarks.json", "en")
