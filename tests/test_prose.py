"""Spacing of Chinese and spelling of English."""

import subprocess
import sys

import autocorrect_py
import pytest
import yaml

from scripts.sitegen import terms
from scripts.sitegen.tree import ROOT

ENGLISH = [ROOT / name for name in ("docs/en", "README.md", "posenc", "scripts", "docs/claims.yml")]


def spacing(text: str, path: str) -> list[str]:
    """Lines whose Chinese and Latin parts are not set apart as they should be."""
    lines = autocorrect_py.lint_for(text, "page.md").lines
    return [f"{path}:{line.line}: write '{line.new}' instead of '{line.old}'" for line in lines]


def misspelt(*paths) -> list[str]:
    command = [sys.executable, "-m", "codespell_lib", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()


def chinese() -> dict[str, str]:
    """Every Chinese text of the site by the place where it is written."""
    texts = {path.name: path.read_text("utf-8") for path in sorted(ROOT.glob("docs/zh/*.md"))}
    for name, claim in yaml.safe_load((ROOT / "docs/claims.yml").read_text("utf-8")).items():
        texts[f"claim {name}"] = f"{claim['zh']}\n\n{claim['wrong']['zh']}\n"
    for term in terms.load(ROOT):
        texts[f"term {term['id']}"] = term.get("note_zh", "")
    return texts


def test_chinese_and_latin_are_set_apart():
    assert {"attention.md", "claim attention.scale", "term token"} <= set(chinese())
    found = [problem for place, text in chinese().items() for problem in spacing(text, place)]
    assert found == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("与RoPE的", "与 RoPE 的"), ("第3步", "第 3 步"), ("中文,然后", "中文，然后")],
)
def test_planted_spacing_is_found(wrong, right):
    text = f"# 题\n\n{wrong}\n"
    assert spacing(text, "k.md") == [f"k.md:3: write '{right}' instead of '{wrong}'"]
    assert spacing(f"```\n{wrong}\n```\n\n`{wrong}`\n", "k.md") == []


def test_english_is_spelt_right():
    assert misspelt(*ENGLISH) == []


def test_a_planted_misspelling_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Attention has no " + "postion" + ".\n")
    assert misspelt(page) == [f"{page}:1: postion ==> position"]
