"""Runs every Python fence of a Markdown page as a doctest, whatever its info string says.

Sybil's own parser passes over ``python title="…"`` in silence; so would a fence without prompts,
lines between its examples, and examples marked SKIP. Here each of these is a failure.
"""

import doctest
from collections.abc import Iterable
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.parsers.abstract.doctest import DocTestStringParser

from scripts.sitegen.fences import FENCE, language

PYTHON = {"py", "py3", "pycon", "pycon3", "python", "python3"}


def python_fences(document: Document) -> Iterable[Region]:
    """Regions of a page that must run: all examples, and a failing one for what would not run."""
    for fence in FENCE.finditer(document.text):
        if language(fence["info"]).lower() in PYTHON:
            start = fence.start("body")
            if fault := unexecuted(fence["body"]):
                yield Region(fence.start(), start, fault, _fail)
            for region in DocTestStringParser()(fence["body"], document.path):
                region.start, region.end = region.start + start, region.end + start
                region.parsed.lineno += document.text.count("\n", 0, start)
                yield region


def unexecuted(body: str) -> str:
    """Why some of a fence would not run; empty if all of it does."""
    parts = doctest.DocTestParser().parse(body)
    examples = [part for part in parts if isinstance(part, doctest.Example)]
    if not examples:
        return "Python fence without >>> prompts: nothing in it would run"
    if any(doctest.SKIP in example.options for example in examples):
        return "Python fence with +SKIP: every example must run"
    stray = " ".join(part for part in parts if isinstance(part, str)).strip()
    if stray:
        return f"Python fence with a line that is neither input nor output: {stray.splitlines()[0]}"
    return ""


def _fail(example: Example) -> str:
    return example.parsed


PAGES = Sybil(
    parsers=[python_fences],
    path=str(Path(__file__).resolve().parents[1]),
    patterns=["docs/zh/*.md", "docs/en/*.md", "README.md"],
)
