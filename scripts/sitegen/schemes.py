"""The table of schemes, term by term: what `scripts/schemes.py` measured, kept by content."""

import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.sitegen import tables
from scripts.sitegen.tree import ROOT, closure, fingerprint, store

HEADS = {
    "zh": ("编码", "ee", "ep", "pe", "pp", "值", "权重", "参数", "新占的数", "FLOPs"),
    "en": ("scheme", "ee", "ep", "pe", "pp", "values", "weights", "parameters", "held", "FLOPs"),
}
NAMES = {"PositionEncoding": "NoPE"}
DEPENDS = {"query": "$i$", "key": "$j$", "offset": "$j - i$", "both": "$i, j$", "absent": "–"}
NONE = {"zh": "无位置", "en": "free"}
KNOWS = {"zh": ("–", "有位置"), "en": ("–", "position")}


def table(language: str, names: str = "", root: Path = ROOT) -> str:
    """Markdown of the table; `names`, joined by commas, picks rows, and their order."""
    rows = measured(root)
    picked = names.split(",") if names else rows
    return tables.table(HEADS[language], [_row(name, rows[name], language) for name in picked])


def measured(root: Path = ROOT) -> dict[str, dict]:
    """What was measured; again only if the schemes or anything that they import changed."""
    source = root / "scripts/schemes.py"
    digest = fingerprint(root, closure(root, source))[:16]
    kept = root / f".cache/schemes/schemes.{digest}.json"
    if not kept.exists():
        store(kept, json.dumps(json.loads(_run(root))), "schemes.*.json")
    return json.loads(kept.read_text("utf-8"))


def _run(root: Path) -> str:
    """Measure in a fresh interpreter, which sees `posenc` as it is on disk."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "scripts.schemes"]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise ValueError(f"schemes could not be measured: {run.stderr.strip().splitlines()[-1]}")
    return run.stdout


def _row(name: str, row: dict, language: str) -> list[str]:
    depends = {**DEPENDS, "none": NONE[language]}
    costs = [_cost(*row[cost]) for cost in ("parameters", "held", "flops")]
    return [
        f"[`{NAMES.get(name, name)}`]({row['page']}.md)",
        *(depends[word] for word in row["terms"]),
        *(KNOWS[language][row[door]] for door in ("values", "weights")),
        *costs,
    ]


def _cost(formula: str, count: int) -> str:
    return f"${formula}$<br>{count:,}" if count else "0"
