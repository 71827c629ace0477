"""The measured results that `make bench` wrote, as Markdown tables."""

import json
from pathlib import Path

from scripts.sitegen import tables

COLUMNS = {
    "zh": ("被测", "形状", "布局", "dtype", "毫秒", "倍数"),
    "en": ("measured", "shape", "layout", "dtype", "milliseconds", "ratio"),
}
SETTING = {
    "zh": "{date} 测得：Python {python}，NumPy {numpy}，PyTorch {torch}，{processor}，"
    "线程数 {threads}。",
    "en": "Measured on {date}: Python {python}, NumPy {numpy}, PyTorch {torch}, {processor}, "
    "threads: {threads}.",
}
BASE = {"zh": "**{title}**，以“{base}”为 1 倍：", "en": "**{title}**, as multiples of *{base}*:"}


def table(path: Path, language: str) -> str:
    """One Markdown table for each group of results, below a line that says where they come from."""
    if not path.exists():
        raise ValueError(f"{path.name} is missing: `make bench` writes it")
    results = json.loads(path.read_text(encoding="utf-8"))
    groups = (_group(group, language) for group in results["groups"])
    return "\n\n".join([SETTING[language].format(**results), *groups])


def _group(group: dict, language: str) -> str:
    columns = COLUMNS[language]
    title = BASE[language].format(title=group["title"][language], base=group["base"][language])
    rules = ["---:" if name in columns[4:] else "---" for name in columns]
    rows = [_row(row, language) for row in group["rows"]]
    return f"{title}\n\n{tables.table(columns, rows, rules)}"


def _row(row: dict, language: str) -> tuple[str, ...]:
    name = row["name"][language]
    setting = (row["shape"], row["layout"], row["dtype"])
    numbers = (number(row["milliseconds"]), number(row["ratio"]))
    return f"**{name}**" if row["ours"] else name, *setting, *numbers


def number(x: float) -> str:
    """Two or three digits, and never an exponent.

    >>> number(1650.0), number(61.12), number(0.374), number(0.00335)
    ('1650', '61.1', '0.37', '0.0034')
    """
    return f"{x:.0f}" if x >= 100 else f"{x:.3g}" if x >= 1 else f"{x:.2g}"
