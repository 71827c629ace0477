"""The two languages say the same: on the real pages, and on copies with a planted fault."""

import shutil

import pytest

from scripts.sitegen import pages, parity, places
from scripts.sitegen.tree import ROOT

ZH = """# 题目 {#top}

令 $a+b$ 与 $\\text{词} < c$，见 [[claim k.one | 1.1]] 与 [[cite vaswani2017 | 第 3.2 节]]。

$$
x = y + z \\tag{1.1}
$$

## 甲 {#first}

[[figure k.picture | 看 $q$ 的两行。]]

```python title="两行"
>>> 1 + 1  # 加
2
```

| 左 | 右 |
|---|---|
| $\\alpha$ | [二](other.md#two) |

- 一
- 二

/// details | E-01 · 名
    type: erratum
    attrs: {id: e-01}

![图](a.svg) 说明。
///
"""
EN = """# Title {#top}

See [[cite vaswani2017 | §3.2]] and [[claim k.one | 1.1]]; let $\\text{word} < c$ and $a+b$.

$$
x  = y + z \\tag{1.1}
$$

## First {#first}

[[figure k.picture | The two rows of $q$.]]

```python title="two rows"
>>> 1 + 1  # add
2
```

| left | right |
|---|---|
| $\\alpha$ | [two](other.md#two) |

- one
- two

/// details | E-01 · name
    type: erratum
    attrs: {id: e-01}

![picture](a.svg) says it.
///
"""


def of(zh: str, en: str) -> list[str]:
    found = [*parity.untidy(zh, "docs/zh/k.md"), *parity.untidy(en, "docs/en/k.md")]
    both = pages.read(zh).items, pages.read(en).items
    return found + parity.compare(*both, "docs/zh/k.md", "docs/en/k.md")


def test_the_languages_of_the_site_agree():
    assert parity.problems(ROOT) == []


def test_word_order_words_titles_and_comments_may_differ():
    assert of(ZH, EN) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "x  = y + z",
            "x  = y - z",
            "docs/en/k.md:5: section #top: display formula differs from docs/zh/k.md:5: "
            "`x = y - z \\tag{` / `x = y + z \\tag{`",
        ),
        (
            "$a+b$",
            "$a-b$",
            "docs/en/k.md:3: section #top: formula differs from docs/zh/k.md:3: `a-b` / `a+b`",
        ),
        ("of $q$", "of q", "docs/zh/k.md:11: formula `q` (section #first) missing in docs/en/k.md"),
        (
            "## First {#first}",
            "First",
            "docs/zh/k.md:9: heading {#first} (level 2) missing in docs/en/k.md",
        ),
        (
            "## First {#first}",
            "### First {#first}",
            "docs/en/k.md:9: heading {#first} (level 3) missing in docs/zh/k.md",
        ),
        ("{#first}", "", "docs/en/k.md:9: heading without {#anchor}"),
        ("First {#first}", "First {#top}", "docs/en/k.md:9: second heading {#top}"),
        ("First {#first}", "First $x$ {#first}", "docs/en/k.md:9: formula in a heading"),
        (
            ">>> 1 + 1",
            ">>> 1 + 2",
            "docs/en/k.md:13: section #first: code differs from docs/zh/k.md:13: "
            "`>>> 1 + 2 2` / `>>> 1 + 1 2`",
        ),
        (
            "k.picture",
            "k.other",
            "docs/en/k.md:11: section #first: [[figure]] differs from docs/zh/k.md:11: "
            "`k.other` / `k.picture`",
        ),
        (
            "k.one | 1.1",
            "k.one | 1.2",
            "docs/en/k.md:3: section #top: claim differs from docs/zh/k.md:3: "
            "`one | 1.2` / `one | 1.1`",
        ),
        (
            "§3.2",
            "§3.3",
            "docs/en/k.md:3: section #top: cite differs from docs/zh/k.md:3: "
            "`017 | 3.3` / `017 | 3.2`",
        ),
        (
            "other.md#two",
            "other.md#one",
            "docs/en/k.md:20: section #first: link differs from docs/zh/k.md:20: "
            "`ther.md#one` / `ther.md#two`",
        ),
        (
            "| right |\n|---|",
            "| right | |\n|---|---|",
            "docs/en/k.md:18: section #first: table differs from docs/zh/k.md:18: "
            "`3 columns` / `2 columns`",
        ),
        ("- two\n", "", "docs/zh/k.md:22: list item (section #first) missing in docs/en/k.md"),
        ("{id: e-01}", "{id: e-02}", "docs/en/k.md:25: section #first: box differs"),
        ("type: erratum", "type: answer", "docs/en/k.md:25: section #first: box differs"),
        ("a.svg", "b.svg", "docs/en/k.md:29: section #first: image differs"),
    ],
)
def test_a_difference_is_named_with_both_places(old, new, message):
    assert old in EN
    found = of(ZH, EN.replace(old, new, 1))
    assert any(message in problem for problem in found), found


def test_a_heading_that_moved_is_reported():
    zh = "# a {#a}\n\n## b {#b}\n\n## c {#c}\n"
    en = "# a {#a}\n\n## c {#c}\n\n## b {#b}\n"
    assert of(zh, en) == ["docs/en/k.md: headings in another order than in docs/zh/k.md"]


def test_a_page_without_its_partner_is_reported(tmp_path):
    for language, names in {"zh": "ab", "en": "bc"}.items():
        (tmp_path / "docs" / language).mkdir(parents=True)
        for name in names:
            (tmp_path / "docs" / language / f"{name}.md").write_text(f"# {name} {{#{name}}}\n")
    assert parity.problems(tmp_path) == [
        "docs/zh/c.md: page missing",
        "docs/en/a.md: page missing",
    ]


def flipped(line: str) -> str:
    return line.replace("+", "-", 1)


def test_a_flipped_sign_on_a_real_page_is_found(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.yml"))
    path = tmp_path / "docs/en/attention.md"
    text = path.read_text("utf-8")
    block = next(m for m in pages.DISPLAY.finditer(text) if "+" in m["tex"])
    path.write_text(text[: block.start()] + flipped(block[0]) + text[block.end() :], "utf-8")
    line = text.count("\n", 0, block.start()) + 1
    [problem] = parity.problems(tmp_path)
    assert problem.startswith(f"docs/en/attention.md:{line}: section #")
    assert "display formula differs from docs/zh/attention.md:" in problem


def test_a_missing_heading_on_a_real_page_is_found(tmp_path):
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.yml"))
    path = tmp_path / "docs/zh/attention.md"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "{#rnn}" not in line), "utf-8")
    found = parity.problems(tmp_path)
    assert any("heading {#rnn} (level 2) missing in docs/zh/attention.md" in p for p in found)


NOTEBOOK = """# %% [markdown] lang="zh"
# # 题 {#t}
# 令 $a+b$。
# %% [markdown] lang="en"
# # Title {#t}
# Let $a+b$.
# %%
print(1)
# %% [markdown] lang="zh"
# 完。
# %% [markdown] lang="en"
# The end.
"""


def test_the_cells_of_a_notebook_agree():
    assert parity.notebook(NOTEBOOK, "n.py") == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Let $a+b$",
            "Let $a-b$",
            "n.py:6: section #t: formula differs from n.py:3: `a-b` / `a+b`",
        ),
        (
            '# %% [markdown] lang="en"\n# The end.\n',
            "",
            'n.py:10: Markdown cell without its partner lang="en"',
        ),
    ],
)
def test_a_difference_in_a_notebook_is_named(old, new, message):
    assert parity.notebook(NOTEBOOK.replace(old, new), "n.py") == [message]


def test_code_is_not_taken_for_prose_nor_dollars_in_code_for_formulas():
    page = pages.read("# a {#a}\n\nRun `echo $HOME` or\n\n```sh\necho $A $B # [[claim x]]\n```\n")
    assert [item.kind for item in page.items] == ["heading", "code"]
    assert page.prose.split() == ["a", "Run", "or"]


def test_anchors_are_headings_boxes_marks_and_numbered_formulas():
    text = ZH + "\n[[formula posenc.f | D1.2]]\n\n句子。{#here}\n\n```\n{#not}\n```\n"
    assert places.anchors(text) == {"top", "first", "e-01", "eq-1.1", "eq-D1.2", "here"}
