"""Every item of the audit has its place in both languages, and a planted gap is named."""

import re

import pytest
import yaml

from scripts.sitegen import coverage
from scripts.sitegen.site import Site
from scripts.sitegen.tree import LANGUAGES, ROOT, pages

NAV = "nav:\n  - index.md\n  - Why:\n      - k.md\n  - Reference:\n      - terms.md\n"
AUDIT = {
    "keys": {
        "N1.C1": {"section": "k", "verdict": "OK", "at": ["k#one"]},
        "N1.C2": {"section": "k", "verdict": "WRONG", "at": ["k#one", "k#e-01"]},
        "N1.C3": {"section": "later", "verdict": "LOST"},
    },
    "errata": {"E-01": {"section": "k", "at": ["k#e-01"]}},
    "figures": {"IMG1": {"section": "k", "at": ["k#one"]}},
    "blanks": {"B1": {"section": "later"}},
    "questions": {"OQ-01": {"section": "k", "at": ["k#two"]}},
}
PAGE = """# K {#k}

## One {#one}

### Below {#below}

[[figure k.picture | See.]]

## Two {#two}

/// details | E-01 · wrong
    type: erratum
    attrs: {id: e-01}

False. [[claim k.false]]
///
"""


def problems(tmp_path, audit=AUDIT, **texts) -> list[str]:
    (tmp_path / "mkdocs.yml").write_text(NAV)
    for language in LANGUAGES:
        (tmp_path / "docs" / language).mkdir(parents=True, exist_ok=True)
        (tmp_path / f"docs/{language}/k.md").write_text(texts.get(language, PAGE))
    (tmp_path / "docs/coverage.yml").write_text(yaml.safe_dump(audit))
    return coverage.problems(tmp_path, coverage.anchors(tmp_path))


def changed(kind: str, key: str, **entry) -> dict:
    return AUDIT | {kind: AUDIT[kind] | {key: AUDIT[kind][key] | entry}}


def test_every_audit_key_of_the_site_is_answered():
    assert coverage.problems(ROOT, coverage.anchors(ROOT)) == []


def test_the_audit_has_126_keys_and_the_sections_in_the_nav_are_done():
    entries = coverage.load(ROOT)["keys"].values()
    covered, total = coverage.count(ROOT)
    written = {page.removesuffix(".md") for page in pages(ROOT)}
    assert total == len(entries) == 126
    assert covered == sum(entry["section"] in written for entry in entries) > 0


def test_every_item_of_the_audit_has_its_place():
    """In both languages: what has a place that is no anchor of one of them is a problem."""
    audit = coverage.load(ROOT)
    numbers = {"keys": 126, "errata": 39, "figures": 13, "blanks": 7, "questions": 28}
    assert {kind: len(items) for kind, items in audit.items()} == numbers
    items = [(name, entry) for kind in audit.values() for name, entry in kind.items()]
    assert [name for name, entry in items if not entry.get("at")] == []
    assert coverage.problems(ROOT, coverage.anchors(ROOT)) == []
    for language in LANGUAGES:
        later = coverage.WORDS[language]["later"].partition("`")[0]
        assert later not in coverage.table(language)


def test_a_covered_audit_has_no_problem(tmp_path):
    assert problems(tmp_path) == []


def test_a_real_audit_key_without_an_anchor_is_named():
    found = coverage.anchors(ROOT)
    found["zh"]["attention"].discard("equivariance")
    assert (
        "audit key N0.6.1.C2: attention#equivariance is no anchor of docs/zh/attention.md"
        in coverage.problems(ROOT, found)
    )


@pytest.mark.parametrize("kind", ["keys", "errata", "figures", "questions"])
def test_an_item_of_a_written_section_needs_an_anchor(tmp_path, kind):
    key = next(iter(AUDIT[kind]))
    message = f"{coverage.KINDS[kind]} {key} has no anchor"
    assert problems(tmp_path, changed(kind, key, at=[])) == [message]


def test_an_anchor_must_exist_in_both_languages(tmp_path):
    english = PAGE.replace("{#two}", "{#too}")
    message = "question OQ-01: k#two is no anchor of docs/en/k.md"
    assert problems(tmp_path, en=english) == [message]


def test_a_page_must_exist(tmp_path):
    found = problems(tmp_path, changed("questions", "OQ-01", at=["q#two"]))
    assert found == [f"question OQ-01: q#two is no anchor of docs/{x}/q.md" for x in LANGUAGES]


def test_a_wrong_item_needs_an_errata_box(tmp_path):
    chinese = PAGE.replace("type: erratum", "type: answer")
    assert problems(tmp_path, zh=chinese) == [
        "audit key N1.C2: verdict WRONG, but no errata box of docs/zh among k#one, k#e-01"
    ]


def test_the_errata_box_of_a_wrong_item_holds_a_claim(tmp_path):
    chinese = PAGE.replace("False. [[claim k.false]]\n///", "False.\n///\n\n[[claim k.false]]")
    assert problems(tmp_path, zh=chinese) == [
        "audit key N1.C2: errata box of docs/zh holds no [[claim …]]"
    ]


def test_a_lost_figure_is_drawn_in_its_section(tmp_path):
    assert problems(tmp_path, changed("figures", "IMG1", at=["k#two"])) == [
        f"figure IMG1: k#two of docs/{language} holds no [[figure …]]" for language in LANGUAGES
    ]


def test_the_table_links_what_is_covered_and_says_what_is_not(tmp_path):
    assert problems(tmp_path) == []
    lines = coverage.table("en", tmp_path).splitlines()
    assert "| `k` | 2 | 2 |" in lines
    assert "| `later` | 0 | 1 |" in lines
    assert "|  | 2 | 3 |" in lines
    assert "| N1.C2 | wrong | [K › One](k.md#one)<br>[K › E-01 · wrong](k.md#e-01) |" in lines
    assert "| N1.C3 | lost | not yet written: `later` |" in lines
    assert "| IMG1 | [K › One](k.md#one) |" in lines


def test_a_place_bears_its_title_in_each_language_and_never_the_name_of_a_file():
    zh, en = (coverage.table(language, ROOT) for language in LANGUAGES)
    assert "[注意力为什么需要位置 › E-01" in zh
    assert "[Why attention needs positions › Permutation equivariance]" in en
    assert re.findall(r"\[\w+#[\w.-]+\]", zh + en) == []


def test_both_languages_list_the_same():
    zh, en = (coverage.table(language, ROOT) for language in LANGUAGES)
    assert zh.count("|") == en.count("|")
    assert zh.count(".md#") == en.count(".md#") > 0


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("attention", "1"),
        ("collision", "2.1"),
        ("sinusoidal", "2.1.1"),
        ("kernel", "2.1.1"),
        ("sinusoidal_2d", "2.1.1"),
        ("learned", "2.1.2"),
        ("rope", "2.1.3"),
        ("rope_axes", "2.1.3"),
        ("floater", "2.1.4"),
        ("multiplicative", "2.1.5"),
        ("relative", "2.2"),
        ("urpe", "2.2.5"),
        ("complex_order", "2.3.1"),
        ("length", ""),
        ("index", ""),
    ],
)
def test_a_key_has_the_number_of_the_section_of_the_notes(key, number):
    assert coverage.notes_section(key) == number


@pytest.mark.parametrize(
    ("language", "words"), [("zh", "原笔记第 1 节"), ("en", "Notes, section 1")]
)
def test_a_page_names_the_section_of_the_notes_below_its_title(language, words):
    site = Site(ROOT, language, "https://a.example/")
    lines = site.expand(
        "# T {#t}\n\nText.\n\n# U {#u}\n", "attention/", "attention.md"
    ).splitlines()
    assert lines[:3] == ["# T {#t}", "", f"[{words}](coverage.md)"]
    assert "\n".join(lines).count(words) == 1
    assert words not in site.expand("# T {#t}\n", "terms/", "terms.md")
