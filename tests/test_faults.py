"""Every kind of fault that a check exists for, planted in a copy: the check must name it.

Faults that one run can name all are planted in one copy; each has a message of its own.
"""

import functools
import re
from typing import NamedTuple

import pytest
import trees

BUILD = ("mkdocs", "build", "--strict")
GATHERED = (*BUILD, "--clean")  # all of these a build names before it renders a page


class Fault(NamedTuple):
    """In `path`, replace `old` (a pattern, first match) by `new`; `command` must say `message`."""

    path: str
    old: str
    new: str
    command: tuple[str, ...]
    message: str


def checked_by(*paths: str) -> tuple[str, ...]:
    return ("pytest", "-q", "-p", "no:cacheprovider", *paths)


READ = checked_by(
    *("-vvv", "docs/en/attention.md", "docs/en/notation.md"),  # all that is found, not the first
    *("tests/test_parity.py", "tests/test_terms.py"),
)


FAULTS = {
    "a wrong digit in a snippet's output": Fault(
        "docs/en/attention.md",
        r"(?m)(?<=^```python\n)((?:>>>|\.\.\.) .*\n)+(?!>>>|\.\.\.)(.*?)\d",
        r"\g<0>7",
        READ,
        "FAILED docs/en/attention.md",
    ),
    "a wrong digit in a fence with a title": Fault(
        "docs/en/notation.md",
        r"\Z",
        '\n```python title="planted"\n>>> 0.5 + 0.25\n0.76\n```\n',
        READ,
        "FAILED docs/en/notation.md",
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
        READ,
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
        GATHERED,
        "exceeds its bound 1e-30",
    ),
    "a claim whose wrong variant passes": Fault(
        "tests/test_attention.py",
        r"at_most\(\s*1e-12",
        "at_most(1e12",
        GATHERED,
        "the wrong variant passes",
    ),
    "a heading missing in one language": Fault(
        "docs/zh/attention.md",
        r"(?m)^## .*\{#rnn\}$",
        "",
        READ,
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
        READ,
        "代币",
    ),
    "a stale docstring translation": Fault(
        "posenc/equations/attention.py",
        r'(?<=def softmax)((?:.|\n)*?""")(.*?)\.\n',
        r"\1\2, again.\n",
        GATHERED,
        "stale translation",
    ),
    "an audit key without an anchor": Fault(
        "docs/coverage.yml",
        r'("N0\.6\.1\.C2":.*?), at: \[.*?\]',
        r"\1",
        GATHERED,
        "N0.6.1.C2",
    ),
}


def test_the_tree_without_faults_passes(small):
    run = trees.run_module(small, *checked_by("tests/test_parity.py", "docs/en/attention.md"))
    assert run.returncode == 0, run.stdout
    assert (small / "site/en/attention/index.html").exists(), "it was built strictly"


@pytest.fixture(scope="module")
def planted(small, tmp_path_factory):
    """Plants some faults in a copy, one after the other, and says what the command of all says."""

    @functools.cache
    def run(*kinds):
        root = tmp_path_factory.mktemp("planted")
        trees.copy_tree(small, root)
        for fault in map(FAULTS.get, kinds):
            victim = root / fault.path
            text = victim.read_text("utf-8")
            changed = re.sub(fault.old, fault.new, text, count=1)
            assert changed != text, "the fault was not planted"
            victim.write_text(changed, "utf-8")
        done = trees.run_module(root, *fault.command)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("kind", FAULTS)
def test_is_found(kind, planted):
    command = FAULTS[kind].command
    alike = [name for name, fault in FAULTS.items() if fault.command == command != BUILD]
    code, said = planted(*(alike or [kind]))
    assert code != 0, said
    assert FAULTS[kind].message in said, said[-3000:]


def test_no_two_faults_of_one_run_have_the_same_message():
    for command in (READ, GATHERED):
        messages = [fault.message for fault in FAULTS.values() if fault.command == command]
        assert len(messages) >= 4
        assert not any(one in other for one in messages for other in messages if one is not other)
