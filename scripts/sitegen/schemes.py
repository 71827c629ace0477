"""The table of schemes, term by term: what `scripts/schemes.py` measured, kept by content."""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.sitegen import tables
from scripts.sitegen.tree import ROOT, cached, closure, fingerprint

HEADS = {
    "terms": {
        "zh": ("编码", "ee", "ep", "pe", "pp", "值", "权重"),
        "en": ("scheme", "ee", "ep", "pe", "pp", "values", "weights"),
    },
    "costs": {
        "zh": ("编码", "参数", "新占的数", "FLOPs"),
        "en": ("scheme", "parameters", "held", "FLOPs"),
    },
    "lengths": {
        "zh": ("编码", "位置的表", "偏移的表", "第 $N + 1$ 个词元"),
        "en": ("scheme", "table of positions", "table of offsets", "token number $N + 1$"),
    },
}
COSTS = ("parameters", "held", "flops")
NAMES = {"PositionEncoding": "NoPE"}
DEPENDS = {"query": "$i$", "key": "$j$", "offset": "$j - i$", "both": "$i, j$", "absent": "–"}
NONE = {"zh": "无位置", "en": "free"}
WORKS = {"zh": "照常", "en": "as before"}


def table(language: str, which: str, names: str = "", root: Path = ROOT) -> str:
    """Markdown of the terms, costs or lengths; `names`, joined by commas, picks rows."""
    if which not in HEADS:
        raise ValueError(f"no table of {which!r}; there are {', '.join(HEADS)}")
    rows = measured(root)
    picked = names.split(",") if names else rows
    cells = {"terms": _terms, "costs": _costs, "lengths": _lengths}[which]
    lines = [[_link(name, rows[name]), *cells(rows[name], language)] for name in picked]
    return tables.table(HEADS[which][language], lines)


def measured(root: Path = ROOT) -> dict[str, dict]:
    """What was measured; again only if the schemes or anything that they import changed."""
    source = root / "scripts/schemes.py"
    digest = fingerprint(root, closure(root, source))[:16]
    file = root / f".cache/schemes/schemes.{digest}.json"
    return json.loads(cached(file, lambda: _run(root), "schemes.*.json"))


def _run(root: Path) -> str:
    """Measure in a fresh interpreter, which sees `posenc` as it is on disk."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "scripts.schemes"]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise ValueError(f"schemes could not be measured: {run.stderr.strip().splitlines()[-1]}")
    return json.dumps(json.loads(run.stdout))


def _link(name: str, row: dict) -> str:
    return f"[`{NAMES.get(name, name)}`]({row['page']}.md)"


def _terms(row: dict, language: str) -> list[str]:
    terms = [{**DEPENDS, "none": NONE[language]}[word] for word in row["terms"]]
    return [*terms, *({**DEPENDS, "none": "–"}[row[door]] for door in ("values", "weights"))]


def _costs(row: dict, _: str) -> list[str]:
    return [f"${row[c][0]}$ = {row[c][1]:,}" if row[c][1] else "0" for c in COSTS]


def _lengths(row: dict, language: str) -> list[str]:
    grown = [" ".join(f"${k}$" for k in row["tables"] if k in kinds) for kinds in ("N", "kB")]
    beyond = f"`{row['beyond']}`" if row["beyond"] else WORKS[language]
    return [*(cell or "–" for cell in grown), beyond]
