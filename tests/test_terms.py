"""Both languages use the words of docs/terms.yml only."""

import re

import pytest
import yaml

from scripts.sitegen import terms
from scripts.sitegen.tree import ROOT

TERMS = [
    {"id": "token", "zh": "词元", "en": "token", "zh_forbidden": ["代币"], "en_forbidden": []},
    {"id": "score", "zh": "logit", "en": "logit", "zh_forbidden": [],
     "en_forbidden": ["attention score"], "note_en": "Before the softmax."},
    {"id": "hessian", "zh": "黑塞矩阵", "en": "Hessian", "zh_forbidden": [],
     "en_forbidden": ["hessian matrix"]},
]  # fmt: skip


@pytest.fixture
def project(tmp_path):
    for folder in ("docs/zh", "docs/en", "docs/notebooks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "docs/terms.yml").write_text(yaml.safe_dump(TERMS, allow_unicode=True), "utf-8")
    return tmp_path


def found(project, path: str, text: str) -> list[str]:
    (project / path).write_text(text, "utf-8")
    return terms.problems(project)


def test_the_site_uses_no_forbidden_term():
    assert terms.problems(ROOT) == []


def test_a_forbidden_term_planted_on_a_real_page_is_named_with_its_line(project):
    page = (ROOT / "docs/zh/attention.md").read_text("utf-8")
    (project / "docs/terms.yml").write_text((ROOT / "docs/terms.yml").read_text("utf-8"), "utf-8")
    assert found(project, "docs/zh/attention.md", page) == []
    line = page.count("\n") + 2
    assert found(project, "docs/zh/attention.md", page + "\n每个代币都一样。\n") == [
        f"docs/zh/attention.md:{line}: forbidden term '代币': write '词元' (token)"
    ]


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("docs/zh/a.md", "# 甲 {#a}\n\n一个代币。\n", 3),
        ("docs/zh/a.md", "## 代币 {#a}\n", 1),
        ("docs/zh/a.md", "[[figure k.f | 看代币。]]\n", 1),
        ("docs/zh/a.md", "/// details | 代币\n    type: erratum\n\n文\n///\n", 1),
        ("docs/zh/a.md", "| a | 代币 |\n|---|---|\n", 1),
        ("docs/zh/a.md", "[代币](b.md)\n", 1),
        ("docs/notebooks/a.py", '# %%\nx = 1\n# %% [markdown] lang="zh"\n# 甲\n# 代币\n', 5),
        ("docs/claims.yml", "k.a:\n  zh: 好\n  en: good\n\nk.b:\n  zh: 代币\n  en: good\n", 5),
        ("docs/claims.yml", "k.a:\n  zh: 好\n  en: good\n  wrong: {zh: 代币, en: bad}\n", 1),
        ("docs/docstrings.po", 'msgid "token"\nmsgstr ""\n"一个代"\n"币。"\n', 2),
    ],
)
def test_a_forbidden_term_is_found_wherever_readers_see_prose(project, path, text, line):
    assert found(project, path, text) == [
        f"{path}:{line}: forbidden term '代币': write '词元' (token)"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint('代币')\n```\n",
        "`代币`\n",
        "$\\text{代币}$\n",
        "$$\n\\text{代币}\n$$\n",
        "[网页](https://example.org/代币)\n",
        "笔记写作「代币」或“代币”。\n",
        "<!-- 代币 -->\n",
    ],
)
def test_code_formulas_addresses_and_mentions_are_no_prose(project, text):
    assert found(project, "docs/zh/a.md", text) == []


@pytest.mark.parametrize("text", ["attention scores", "Attention score", "attention\nscore"])
def test_plurals_capitals_and_line_ends_hide_nothing(project, text):
    message = "docs/en/a.md:1: forbidden term 'attention score': write 'logit' (score)"
    assert found(project, "docs/en/a.md", f"The {text} here.\n") == [message]
    assert found(project, "README.md", text) == [message, message.replace("docs/en/a", "README")]


@pytest.mark.parametrize("text", ["inattention score", "attention scored", "Hessian matrix"])
def test_words_that_only_look_alike_are_allowed(project, text):
    assert found(project, "docs/en/a.md", f"The {text} here.\n") == []


def test_languages_do_not_borrow_each_others_rules(project):
    assert found(project, "docs/en/a.md", "The word 代币 is Chinese.\n") == []


def test_no_term_forbids_itself_and_ids_are_unique():
    rows = terms.load(ROOT)
    assert len({row["id"] for row in rows}) == len(rows)
    wanted = {lang: " · ".join(row[lang] for row in rows) for lang in ("zh", "en")}
    for row in rows:
        for language in ("zh", "en"):
            for word in row[f"{language}_forbidden"]:
                pattern = terms._pattern(word, row, language)
                assert not pattern.search(wanted[language]), (word, row["id"])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_table_lists_every_term_in_both_languages(language):
    lines = terms.table(language, ROOT).splitlines()
    rows = terms.load(ROOT)
    assert len(lines) == len(rows) + 2
    for line, row in zip(lines[2:], rows, strict=True):
        cells = re.split(r" \| ", line.strip("| "))
        other = "en" if language == "zh" else "zh"
        assert cells[:2] == [row[language], row[other]]
