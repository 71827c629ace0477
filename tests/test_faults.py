"""Every kind of fault that a check exists for, planted in a copy: the check must name it."""

import re
from typing import NamedTuple

import pytest
import trees

BUILD = ("mkdocs", "build", "--strict")


class Fault(NamedTuple):
    """In `path`, replace `old` (a pattern, first match) by `new`; `command` must say `message`."""

    path: str
    old: str
    new: str
    command: tuple[str, ...]
    message: str


def checked_by(path: str, *more: str) -> tuple[str, ...]:
    return ("pytest", "-q", "-p", "no:cacheprovider", path, *more)


FAULTS = {
    "a wrong digit in a snippet's output": Fault(
        "docs/en/attention.md",
        r"(?m)(?<=^```python\n)((?:>>>|\.\.\.) .*\n)+(?!>>>|\.\.\.)(.*?)\d",
        r"\g<0>7",
        checked_by("docs/en/attention.md"),
        "Expected:",
    ),
    "a wrong digit in a fence with a title": Fault(
        "docs/en/attention.md",
        r"\Z",
        '\n```python title="planted"\n>>> 0.5 + 0.25\n0.76\n```\n',
        checked_by("docs/en/attention.md"),
        "0.76",
    ),
    "a bad TeX command": Fault(
        "docs/zh/attention.md",
        r"\$\$\n",
        "$$\n\\\\nosuchcommand ",
        BUILD,
        "nosuchcommand",
    ),
    "a flipped sign in one language's formula": Fault(
        "docs/en/attention.md",
        r"f &\+ p_m",
        "f &- p_m",
        checked_by("tests/test_parity.py"),
        "section #errata: display formula differs",
    ),
    "an unknown claim": Fault(
        "docs/en/attention.md",
        r"\[\[claim attention\.equivariant",
        "[[claim attention.unheard",
        BUILD,
        "unknown claim 'attention.unheard'",
    ),
    "a failing claim": Fault(
        "tests/test_attention.py",
        r"at_most\(\s*1e-12",
        "at_most(1e-30",
        BUILD,
        "exceeds its bound 1e-30",
    ),
    "a claim whose wrong variant passes": Fault(
        "tests/test_attention.py",
        r"at_most\(\s*1e-12",
        "at_most(1e12",
        BUILD,
        "the wrong variant passes",
    ),
    "a heading missing in one language": Fault(
        "docs/zh/attention.md",
        r"(?m)^## .*\{#rnn\}$",
        "",
        checked_by("tests/test_parity.py"),
        "#rnn",
    ),
    "a broken anchor": Fault(
        "docs/zh/index.md",
        r"\Z",
        "\n[x](attention.md#nowhere)\n",
        BUILD,
        "nowhere",
    ),
    "a request to another host": Fault(
        "docs/en/index.md",
        r"\Z",
        '\n<img alt="x" src="https://cdn.example/x.png">\n',
        BUILD,
        "request to another host: https://cdn.example/x.png",
    ),
    "a forbidden term": Fault(
        "docs/zh/attention.md",
        "词元",
        "代币",
        checked_by("tests/test_terms.py"),
        "代币",
    ),
    "a stale docstring translation": Fault(
        "posenc/equations/attention.py",
        r'(?<=def softmax)((?:.|\n)*?""")(.*?)\.\n',
        r"\1\2, again.\n",
        BUILD,
        "stale translation",
    ),
    "an audit key without an anchor": Fault(
        "docs/coverage.yml",
        r'("N0\.6\.1\.C2":.*?), at: \[.*?\]',
        r"\1",
        BUILD,
        "N0.6.1.C2",
    ),
}


def test_the_tree_without_faults_passes(small):
    run = trees.run_module(small, *checked_by("tests/test_parity.py", "docs/en/attention.md"))
    assert run.returncode == 0, run.stdout
    assert (small / "site/en/attention/index.html").exists(), "it was built strictly"


@pytest.mark.parametrize("kind", FAULTS)
def test_is_found(kind, small, tmp_path):
    fault = FAULTS[kind]
    trees.copy_tree(small, tmp_path)
    victim = tmp_path / fault.path
    text = victim.read_text("utf-8")
    planted = re.sub(fault.old, fault.new, text, count=1)
    assert planted != text, "the fault was not planted"
    victim.write_text(planted, "utf-8")
    run = trees.run_module(tmp_path, *fault.command)
    said = run.stdout + run.stderr
    assert run.returncode != 0, said
    assert fault.message in said, said[-3000:]
