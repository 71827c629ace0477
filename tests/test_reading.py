"""The reading list: its sources are cited where it says, and what it calls a slip is one."""

import re

import pytest

from scripts.sitegen import katex, places, references
from scripts.sitegen.directives import find
from scripts.sitegen.tree import LANGUAGES, ROOT

PAGES = {name: (ROOT / f"docs/{name}/reading.md").read_text("utf-8") for name in LANGUAGES}
LEFT_OUT = {
    *("su2021sinusoidal", "vaswani2017", "devlin2018", "shaw2018", "liu2020", "lee2019"),
    *("dai2019", "raffel2019", "he2020", "luo2022", "wang2019"),
}


def cited(text):
    return {found.argument for found in find(text) if found.name == "cite"}


def uncited(language, box):
    """Sources of a table that the page beside them does not cite."""
    rows = [line for line in box.splitlines() if "[[cite" in line]
    linked = [(cited(row), re.findall(r"\]\((\w+\.md)\)", row)) for row in rows]
    return [
        (name, page)
        for names, pages in linked
        for name in names
        for page in pages or ["no page"]
        if page == "no page" or name not in cited((ROOT / f"docs/{language}/{page}").read_text())
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_source_that_was_left_out_is_cited_on_the_page_it_belongs_to(language):
    box = places.box(PAGES[language], "e-41")
    assert cited(box) == LEFT_OUT <= references.load(ROOT).keys()
    assert uncited(language, box) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_source_that_its_page_does_not_cite_is_found(language):
    box = places.box(PAGES[language], "e-41").replace("](t5.md)", "](shaw.md)")
    assert uncited(language, box) == [("raffel2019", "shaw.md")]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_notes_references_are_all_there(language):
    addresses = [references.address(entry) for entry in references.load(ROOT).values()]
    linked = " ".join([PAGES[language], *addresses])
    for part in ("p/454482273", "posencode.html", "part-1/", "section12-3", "129261342", "/8130"):
        assert part in linked


def test_sin_without_a_backslash_is_three_letters():
    wrong, right = katex.render([("sin(ap)", False), (r"\sin(ap)", False)], ROOT)
    assert re.findall(r"<mi>(\w+)</mi>", wrong) == ["s", "i", "n", "a", "p"]
    assert re.findall(r"<mi>(\w+)</mi>", right) == ["sin", "a", "p"]


def test_a_mathematical_letter_is_another_character_and_no_tex():
    for page in PAGES.values():
        letters = re.findall(
            "[\N{MATHEMATICAL ITALIC SMALL A}-\N{MATHEMATICAL ITALIC SMALL Z}]", page
        )
        assert len(letters) == 3
        assert {"f", "k", "x"}.isdisjoint(letters)
    with pytest.raises(katex.FormulaError, match="unicodeTextInMathMode"):
        katex.render([("随意", False)], ROOT)


def test_middle_dots_are_not_those_of_tex():
    shown = katex.render([(r"\cdots", False)], ROOT)[0]
    assert "⋯" in shown
    assert "···" not in shown
