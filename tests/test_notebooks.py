"""Notebooks: one script, two languages, run once, and nothing that a second run would change."""

import json
import re
from pathlib import Path
from shutil import copytree

import nbformat
import pytest

from scripts.sitegen import notebooks
from scripts.sitegen.notebooks import NotebookError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))
HEADING = r"(?m)^(#+) .* \{#([\w-]+)\}$"
FIGURE = """# %% zh="一条线 <a>" en="A line <a>"
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 2)
axes[0].plot([0, 1], [1, 2])
_ = axes[1].pcolormesh([[0, 1], [1, 0]])
"""
SMALL = f"""# %% [markdown] lang="zh"
# # 标题 {{#title}}
#
# 这一行
# 和 $x$ 一行，见[页面](../page.md#part)。

# %% [markdown] lang="en"
# # Title {{#title}}
#
# This line, see [page](../page.md#part), [home](../index.md), [here](#title) and
# [paper](https://arxiv.org/abs/1706.03762).

# %%


def half(n):
    return n / 2


print(half(3))
print("```")
half(5)

{FIGURE}"""


@pytest.fixture
def tree(tmp_path):
    """Return a function that puts a notebook into a small copy of the project."""
    for folder in ("posenc", "scripts"):
        copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "docs/notebooks").mkdir(parents=True)

    def write(text: str = SMALL) -> Path:
        path = tmp_path / "docs/notebooks/small.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def no_kernel(monkeypatch):
    """Make every attempt to execute a notebook fail."""

    def refuse(*_):
        raise AssertionError("executed")

    monkeypatch.setattr(notebooks, "_execute", refuse)


@pytest.fixture
def runs(monkeypatch):
    """List of the notebooks that were executed."""
    executed, execute = [], notebooks._execute
    monkeypatch.setattr(
        notebooks, "_execute", lambda node, root: (executed.append(root), execute(node, root))
    )
    return executed


# The notebooks of the site


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestEveryNotebook:
    def test_both_languages_run_the_same_code(self, path):
        zh, en = (
            [c.source for c in notebooks.notebook(path, name).cells if c.cell_type == "code"]
            for name in ("zh", "en")
        )
        assert zh == en
        assert len(zh) >= 5

    def test_both_languages_have_the_same_sections_links_formulas_and_code(self, path):
        zh, en = (prose(notebooks.notebook(path, name)) for name in ("zh", "en"))
        for pattern in (HEADING, r"\]\(([^)]+)\)", r"\$[^$]+\$", r"`[^`]+`", r"(?m)^\d\. "):
            assert re.findall(pattern, zh) == re.findall(pattern, en)
        assert zh.count("**") == en.count("**")

    def test_every_heading_has_an_anchor_of_its_own(self, path):
        text = prose(notebooks.notebook(path, "en"))
        anchors = [anchor for _, anchor in re.findall(HEADING, text)]
        assert len(anchors) == len(re.findall(r"^#+ ", text, re.MULTILINE)) == len(set(anchors))

    def test_it_runs_and_says_the_same_in_both_languages(self, path):
        zh, en = (notebooks.executed(path, name, ROOT) for name in ("zh", "en"))
        assert outputs(zh) == outputs(en)
        assert len(outputs(zh)) >= 5

    def test_what_it_prints_has_no_digits_that_another_machine_would_change(self, path):
        for text in outputs(notebooks.executed(path, "en", ROOT)):
            assert not re.search(r"\d\.\d{5}|\de-1[3-9]|-0\.0+\b(?!\d)", text), text


def prose(node) -> str:
    return "\n\n".join(c.source for c in node.cells if c.cell_type == "markdown")


def outputs(node) -> list[str]:
    cells = [c for c in node.cells if c.cell_type == "code"]
    return [o.text for c in cells for o in c.outputs if o.output_type == "stream"]


# Reading a script


def test_a_language_gets_its_own_words(tree):
    text = prose(notebooks.notebook(tree(), "en"))
    assert "Title" in text
    assert "标题" not in text


def test_wrapped_chinese_is_joined_without_a_space(tree):
    path = tree(SMALL.replace("这一行\n# 和", "这一行\n# 和那一行，\n# 还有"))
    assert "这一行和那一行，还有 $x$ 一行" in prose(notebooks.notebook(path, "zh"))


def test_ids_are_stable_and_the_notebook_is_valid(tree):
    node = notebooks.notebook(tree(), "zh")
    assert [cell.id for cell in node.cells] == ["cell-1", "cell-2", "cell-3"]
    nbformat.validate(node)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('lang="en"', ""), r'small.py:7: a Markdown cell needs lang="zh" or lang="en"$'),
        (('lang="en"', 'lang="fr"'), r"small.py:7: a Markdown cell needs lang="),
        (("# %% [markdown]", "x = 1\n# %% [markdown]"), r"small.py:1: a notebook starts with"),
        (
            ('# %% [markdown] lang="en"\n', "# %%\n1 + 1\n"),
            r"Markdown cells without partner before line 7: 1 zh, 0 en",
        ),
        ((FIGURE, '# %% [markdown] lang="en"\n# Bye\n'), r"partner at the end: 0 zh, 1 en"),
    ],
)
def test_a_script_that_is_not_in_both_languages_is_refused(tree, change, message):
    with pytest.raises(NotebookError, match=message):
        notebooks.notebook(tree(SMALL.replace(*change, 1)), "zh")


# Running it


def test_outputs_follow_their_code_on_the_page(tree):
    path = tree()
    text = notebooks.markdown(path, "en", path.parents[2])
    fence = "```python\ndef half(n):\n    return n / 2\n\n\n"
    assert fence in text
    assert "```` { .text .output .no-copy }\n1.5\n```\n````\n\n" in text
    assert "``` { .text .output .no-copy }\n2.5\n```" in text
    figure, caption = re.findall(r"<figure .*?>\n(<svg .*</svg>)\n<figcaption>(.*)</figcapt", text)[
        0
    ]
    assert caption == "A line &lt;a>".replace(">", "&gt;")
    assert 'aria-label="A line &lt;a&gt;"' in figure
    assert 'stroke="var(--pe-c0)"' in figure
    assert 'fill="var(--pe-h0)"' in figure
    assert "#" not in re.sub(r'(href="|url\()#', "", figure), "a fixed colour in the figure"


def test_two_languages_cost_one_run_and_a_second_build_none(tree, runs):
    path = tree()
    root = path.parents[2]
    first = [notebooks.markdown(path, name, root) for name in ("zh", "en")]
    assert len(runs) == 1
    assert first == [notebooks.markdown(path, name, root) for name in ("zh", "en")]
    assert len(runs) == 1


def test_new_words_cost_no_run_but_new_code_does(tree, runs):
    path = tree()
    root = path.parents[2]
    notebooks.markdown(path, "en", root)
    assert "# New title" in notebooks.markdown(
        tree(SMALL.replace("Title", "New title")), "en", root
    )
    assert len(runs) == 1
    assert "4.5" in notebooks.markdown(tree(SMALL.replace("half(3)", "half(9)")), "en", root)
    assert len(runs) == 2
    assert len(list((root / ".cache/notebooks").iterdir())) == 1


def test_an_edited_package_is_seen(tree):
    path = tree("# %%\nimport posenc\n\nprint(posenc.__version__)\n")
    root = path.parents[2]
    assert notebooks.executed(path, "en", root).cells[0].outputs[0].text != "9.9.9\n"
    (root / "posenc/__init__.py").write_text('__version__ = "9.9.9"\n')
    assert notebooks.executed(path, "en", root).cells[0].outputs[0].text == "9.9.9\n"


def test_a_second_run_elsewhere_gives_the_same_bytes(tree, tmp_path):
    path = tree()
    other = tmp_path / "other"
    for folder in ("posenc", "scripts", "docs"):
        copytree(tmp_path / folder, other / folder)
    twin = other / "docs/notebooks/small.py"
    assert notebooks.ipynb(path, "zh", tmp_path) == notebooks.ipynb(twin, "zh", other)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "1 / 0",
            r"small.py:31: code cell 3 failed: ZeroDivisionError: division by zero\n    1 / 0",
        ),
        ("import sys\nsys.stderr.write('hot')", r"small.py:31: the cell warns: hot"),
        (FIGURE.split("\n", 1)[1], r'small.py:31: a cell with a figure says what .* zh="…" en="…"'),
        (
            "import matplotlib.pyplot as plt\n_ = plt.plot([0], color='#123456')",
            r"code cell 3 failed: ValueError: .* must be a colour of",
        ),
        ("object()", r"small.py:31: an address in memory is never the same twice: <object at 0x"),
        ("import os\nos._exit(1)", r"docs/notebooks/small.py: DeadKernelError"),
    ],
)
def test_a_cell_that_fails_stops_the_build_and_is_shown(tree, cell, message):
    path = tree(f"{SMALL}\n# %%\n{cell}\n")
    root = path.parents[2]
    with pytest.raises(NotebookError, match=message):
        notebooks.markdown(path, "en", root)
    assert not (root / ".cache/notebooks").exists()


# The download


@pytest.fixture
def kept(tree, no_kernel, monkeypatch):
    """Path of a small notebook whose outputs are known without a kernel."""
    path = '<path stroke="var(--pe-c0)"/>'
    svg = f'<svg class="pe" style="max-width: 9px" fill="currentColor">{path}</svg>'
    answers = [[["text", "1.5"]], [["svg", svg]]]
    monkeypatch.setattr(notebooks, "_run", lambda *_: answers)
    return tree()


def test_the_download_is_a_valid_notebook_of_one_language(kept):
    node = nbformat.reads(notebooks.ipynb(kept, "zh", kept.parents[2]), as_version=4)
    nbformat.validate(node)
    assert node.metadata.kernelspec.name == "python3"
    assert "# 标题\n" in prose(node)
    assert [c.execution_count for c in node.cells if c.cell_type == "code"] == [1, 2]
    assert "{#" not in prose(node)


def test_the_download_leads_to_the_site_or_nowhere(kept):
    root = kept.parents[2]
    there = notebooks.ipynb(kept, "en", root, "https://site.org/en/notebooks/small/").decode()
    for address in ("page/#part", "", "notebooks/small/#title"):
        assert f"(https://site.org/en/{address})" in there
    assert "(https://arxiv.org/abs/1706.03762)" in there
    alone = notebooks.ipynb(kept, "en", root).decode()
    assert "see page, home, here and" in alone
    assert "(https://arxiv.org/abs/1706.03762)" in alone


def test_figures_of_the_download_need_no_style_sheet(kept):
    node = json.loads(notebooks.ipynb(kept, "en", kept.parents[2]))
    svg = "".join(node["cells"][-1]["outputs"][0]["data"]["image/svg+xml"])
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" ')
    assert 'style="background: white; max-width: 9px" fill="#010203"' in svg
    assert 'stroke="#0067a5"' in svg
    assert "var(" not in svg
