"""The measured results that `make bench` wrote, as Markdown tables."""

import json
from pathlib import Path

from scripts.sitegen import tables

COLUMNS = {
    "zh": ("被测", "形状", "布局", "dtype", "毫秒", "倍数", "峰值 MB", "内存倍数"),
    "en": (
        "measured",
        "shape",
        "layout",
        "dtype",
        "milliseconds",
        "ratio",
        "peak MB",
        "memory ratio",
    ),
}
SETTING = {
    "zh": "{date} 测得：Python {python}，NumPy {numpy}，PyTorch {torch}，{processor}，"
    "线程数 {threads}。",
    "en": "Measured on {date}: Python {python}, NumPy {numpy}, PyTorch {torch}, {processor}, "
    "threads: {threads}.",
}
ERRORS = {
    "zh": "**cos、sin 表的最大误差**，float32，与 mpmath 的 50 位结果相比；目标不超过 {limit}：",
    "en": "**Greatest error of the tables of cosines and sines**, float32, against 50 digits from "
    "mpmath; the target is at most {limit}:",
}
POSITION = {"zh": "位置 {:,}", "en": "position {:,}"}
MET = {"zh": {True: "达到", False: "**未达到**"}, "en": {True: "met", False: "**missed**"}}
TARGET = {
    "zh": "- {what}：{value}，目标不超过 {limit}，{met}。",
    "en": "- {what}: {value}, at most {limit} is the target, {met}.",
}
BASE = {"zh": "**{title}**，以“{base}”为 1 倍：", "en": "**{title}**, as multiples of *{base}*:"}


def table(path: Path, language: str) -> str:
    """One Markdown table for each group of results, below a line that says where they come from."""
    if not path.exists():
        raise ValueError(f"{path.name} is missing: `make bench` writes it")
    results = json.loads(path.read_text(encoding="utf-8"))
    groups = (_group(group, language) for group in results["groups"])
    errors = _errors(results["errors"], language)
    return "\n\n".join([SETTING[language].format(**results), *groups, errors])


def _group(group: dict, language: str) -> str:
    columns = COLUMNS[language]
    title = BASE[language].format(title=group["title"][language], base=group["base"][language])
    rules = ["---:" if name in columns[4:] else "---" for name in columns]
    rows = [_row(row, language) for row in group["rows"]]
    targets = [_target(target, language) for target in group.get("targets", [])]
    parts = [title, tables.table(columns, rows, rules), "\n".join(targets)]
    return "\n\n".join(filter(None, parts))


def _target(target: dict, language: str) -> str:
    return TARGET[language].format(
        what=target["what"][language],
        value=number(target["value"]),
        limit=number(target["limit"]),
        met=MET[language][target["value"] <= target["limit"]],
    )


def _errors(errors: dict, language: str) -> str:
    """One row for each library, one column for each position."""
    positions = [POSITION[language].format(at) for at in errors["positions"]]
    rows = [(_name(row["name"], row), *map(power, row["errors"])) for row in errors["rows"]]
    head = (COLUMNS[language][0], *positions)
    title = ERRORS[language].format(limit=power(errors["limit"]))
    return f"{title}\n\n{tables.table(head, rows, ['---', *['---:'] * len(positions)])}"


def _name(name: str, row: dict) -> str:
    return f"**{name}**" if row["ours"] else name


def _row(row: dict, language: str) -> tuple[str, ...]:
    name = _name(row["name"][language], row)
    setting = (row["shape"], row["layout"], row["dtype"])
    megabytes = row["bytes"] / 1e6 if "bytes" in row else None
    numbers = (row["milliseconds"], row["ratio"], megabytes, row.get("memory"))
    return name, *setting, *("–" if x is None else number(x) for x in numbers)


def power(x: float) -> str:
    r"""Two digits; what is small as a formula.

    >>> power(2.98e-08), power(0.733)
    ('$3.0 \\cdot 10^{-8}$', '0.73')
    """
    if x >= 0.01:
        return f"{x:.2g}"
    digits, exponent = f"{x:.1e}".split("e")
    return f"${digits} \\cdot 10^{{{int(exponent)}}}$"


def number(x: float) -> str:
    """Two or three digits, and never an exponent.

    >>> number(1650.0), number(61.12), number(0.374), number(0.00335)
    ('1650', '61.1', '0.37', '0.0034')
    """
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}" if x >= 1 else f"{x:.2g}"
