"""The fences of the pages run, and a wrong digit in one of them fails."""

import os
import shutil
import subprocess
import sys

import pytest
from fenced import PAGES, PYTHON
from sybil.example import SybilFailure

from scripts.sitegen.fences import FENCE, language
from scripts.sitegen.tree import ROOT


def failures(tmp_path, markdown: str) -> list[str]:
    path = tmp_path / "page.md"
    path.write_text(markdown, "utf-8")
    found = []
    for example in PAGES.parse(path):
        try:
            example.evaluate()
        except SybilFailure as failure:
            found.append(str(failure))
    return found


INFO = [
    "python",
    'python title="x.py"',
    '{.python title="x.py"}',
    "{ .python .copy }",
    'python hl_lines="1" linenums="1"',
    "pycon",
    "py",
]


@pytest.mark.parametrize("info", INFO)
def test_a_right_fence_passes_and_a_wrong_digit_fails_whatever_the_info_string(tmp_path, info):
    page = f"# t\n\n```{info}\n>>> x = 1.5\n>>> x * 2\n3.0\n```\n"
    assert failures(tmp_path, page) == []
    [message] = failures(tmp_path, page.replace("3.0", "3.1"))
    assert "page.md, line 5" in message
    assert "Expected:\n    3.1\nGot:\n    3.0" in message


def test_fences_share_the_names_of_their_page_and_of_no_other(tmp_path):
    assert failures(tmp_path, "```python\n>>> x = 1\n```\n\n```python\n>>> x\n1\n```\n") == []
    [message] = failures(tmp_path, "```python\n>>> x\n1\n```\n")
    assert "NameError: name 'x' is not defined" in message


def test_indented_and_tilde_fences_run_too(tmp_path):
    assert len(failures(tmp_path, "- item\n\n    ```python\n    >>> 1\n    2\n    ```\n")) == 1
    assert len(failures(tmp_path, "~~~python\n>>> 1\n2\n~~~\n")) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x = 1\n", "without >>> prompts: nothing in it would run"),
        (">>> 1  # doctest: +SKIP\n2\n", "with +SKIP"),
        (">>> 1\n1\n\nx = 2\n", "neither input nor output: x = 2"),
    ],
)
def test_what_would_not_run_is_a_failure(tmp_path, body, message):
    [failure] = failures(tmp_path, f"```python\n{body}```\n")
    assert message in failure


def test_other_languages_do_not_run(tmp_path):
    assert failures(tmp_path, "```sh\nexit 1\n```\n\n```\n>>> 1\n2\n```\n") == []


@pytest.fixture
def copy(tmp_path):
    """Enough of the project to run its pages under pytest, as the real run does."""
    names = "conftest.py pyproject.toml tests/fenced.py docs/zh/attention.md docs/en/attention.md"
    package = "scripts/__init__.py scripts/sitegen/__init__.py scripts/sitegen/fences.py"
    for name in [*names.split(), *package.split()]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "posenc").symlink_to(ROOT / "posenc")
    return tmp_path


def planted(page, info: str) -> int:
    """Give the first fence of a page an info string and a wrong digit; the line of its example."""
    text = page.read_text("utf-8").replace("```python\n", f"```{info}\n", 1)
    start = text.index(f"```{info}\n")
    digit = text.index("1.575, 0.245", start)
    page.write_text(text[:digit] + "1.575, 0.246" + text[digit + 12 :], "utf-8")
    return text[:digit].count("\n")


def test_a_wrong_digit_planted_on_the_real_pages_fails_the_run(copy):
    infos = {"zh": "python", "en": 'python title="a title"'}
    pages = {name: f"docs/{name}/attention.md" for name in infos}
    lines = {name: planted(copy / pages[name], infos[name]) for name in infos}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *pages.values()]
    environment = os.environ | {"PYTHONPATH": "", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 failed, " in done.stdout
    for name, line in lines.items():
        assert f"{copy / pages[name]}, line {line}, column" in done.stdout
    assert done.stdout.count("1.575, 0.246") >= 2


def test_the_pages_have_fences_and_all_are_collected():
    for language_ in ("zh", "en"):
        path = ROOT / f"docs/{language_}/attention.md"
        text = path.read_text("utf-8")
        prompts = sum(
            fence["body"].count(">>> ")
            for fence in FENCE.finditer(text)
            if language(fence["info"]) in PYTHON
        )
        assert len(list(PAGES.parse(path))) == prompts > 0
