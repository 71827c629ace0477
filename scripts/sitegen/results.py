"""The committed results of the experiment: means and spreads over seeds, and a Markdown table."""

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from scripts.sitegen import tables
from scripts.sitegen.tree import ROOT

FILE = ROOT / "docs/extrapolation.json"
SCORES = {"markov": "kl", "recall": "accuracy", "text": "loss"}
RANGES = ((2, 64), (64, 128), (128, 256), (256, 512), (512, 1024))
TRAINED, FAR = RANGES[0], RANGES[-1]
PAGES = {
    "none": ("attention", "NoPE"),
    "sinusoidal": ("sinusoidal", "sinusoidal"),
    "learned": ("learned", "learned"),
    "multiplicative": ("multiplicative", "multiplicative"),
    "multiplicative_sinusoidal": ("multiplicative", "× sinusoidal"),
    "complex_order": ("complex_order", "complex-order"),
    "rope": ("rope", "RoPE"),
    "alibi": ("alibi", "ALiBi"),
    "t5": ("t5", "T5"),
    "shaw_keys": ("shaw", "Shaw, keys"),
    "shaw": ("shaw", "Shaw"),
    "xlnet": ("xlnet", "Transformer-XL"),
    "tupe": ("relative", "TUPE"),
    "urpe": ("urpe", "URPE + RoPE"),
    "deberta": ("deberta", "DeBERTa"),
    "floater": ("floater", "FLOATER"),
}
CHINESE = {
    "NoPE": "无编码",
    "sinusoidal": "正弦",
    "learned": "训练的表",
    "multiplicative": "相乘",
    "× sinusoidal": "乘正弦",
    "complex-order": "复数序",
    "Shaw, keys": "Shaw（仅键）",
}
FIRST = {"zh": "编码", "en": "encoding"}
HEADS = {
    "zh": {"plain": "位置 {}–{}", "window": "{}–{}，窗口", "restart": "{}–{}，重新计位"},
    "en": {"plain": "positions {}–{}", "window": "{}–{}, window", "restart": "{}–{}, restarts"},
}


class Summary(NamedTuple):
    """Mean and spread (standard deviation) over seeds, and the extremes."""

    mean: float
    spread: float
    least: float
    most: float


def load(path: Path = FILE) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def average(values: list[float], edges: list[int], low: int, high: int) -> float:
    """Mean over the positions from `low` to `high`, limits of buckets both, of means by bucket.

    >>> average([1.0, 4.0], [2, 8, 10], 2, 10)
    1.75
    """
    inside = [(b - a, v) for (a, b), v in zip(pairwise(edges), values, strict=True)
              if low <= a and b <= high]  # fmt: skip
    width = sum(size for size, _ in inside)
    if width != high - low:
        raise ValueError(f"{low} and {high} must be limits of buckets, got {edges}")
    return sum(size * value for size, value in inside) / width


def by_seed(results: dict, task: str, name: str, way: str, low: int, high: int) -> list[float]:
    """The score of every seed, as it was tested `way`, over positions from `low` to `high`."""
    edges, score = results["edges"], SCORES[task]
    runs = [run for run in results["runs"] if (run["task"], run["encoding"]) == (task, name)]
    return [average(run["tests"][way][score], edges, low, high) for run in runs]


def excess(results: dict, name: str, way: str, low: int, high: int) -> list[float]:
    """How much more is lost on text than if the same characters stood at positions 32 to 63."""
    level = by_seed(results, "text", name, "restart", low, high)
    found = by_seed(results, "text", name, way, low, high)
    return [a - b for a, b in zip(found, level, strict=True)]


def summary(values: list[float]) -> Summary:
    return Summary(mean(values), stdev(values), min(values), max(values))


def names(language: str) -> dict[str, str]:
    """What the encodings are called on the page."""
    english = {name: title for name, (_, title) in PAGES.items()}
    if language == "en":
        return english
    return {name: CHINESE.get(title, title) for name, title in english.items()}


def table(task: str, language: str, path: Path = FILE) -> str:
    """Mean ± spread of every encoding: one row each, a column for every range of positions."""
    if task not in SCORES:
        raise ValueError(f"no task {task!r}; there are {', '.join(SCORES)}")
    results, titles, ranges = load(path), names(language), columns(task)
    head = [HEADS[language][way].format(a, b - 1) for way, a, b in ranges]
    rows = [
        [
            f"[{titles[name]}]({page}.md)",
            *(cell(values(results, task, name, *one)) for one in ranges),
        ]
        for name, (page, _) in PAGES.items()
    ]
    return tables.table([FIRST[language], *head], rows, ["---", *["---:"] * len(ranges)])


def columns(task: str) -> list[tuple[str, int, int]]:
    """How tested, and over which positions: of text first the level that the rest is beyond."""
    plain, repaired = [("plain", *RANGES[1]), ("plain", *FAR)], ("window", *FAR)
    if task == "text":
        return [("restart", *FAR), *plain, repaired]
    return [("plain", *TRAINED), *plain, repaired]


def values(results: dict, task: str, name: str, way: str, low: int, high: int) -> list[float]:
    """The numbers behind a cell, one for each seed."""
    if task == "text" and way != "restart":
        return excess(results, name, way, low, high)
    return by_seed(results, task, name, way, low, high)


def cell(found: list[float]) -> str:
    r"""Mean and spread: the smaller the mean, the more digits.

    >>> cell([0.004, 0.005, 0.006]), cell([1.1, 1.2, 1.3])
    ('0.0050\xa0±\xa00.0010', '1.20\xa0±\xa00.10')
    """
    one = summary(found)
    digits = next((d for d, limit in ((4, 0.01), (3, 0.1)) if abs(one.mean) < limit), 2)
    pair = f"{one.mean:.{digits}f}\xa0±\xa0{one.spread:.{digits}f}"  # on one line
    return pair.replace("-", "\N{MINUS SIGN}")
