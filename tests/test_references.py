"""Citations and the pages of source files."""

import re

import pytest

from scripts.sitegen import references, sources
from scripts.sitegen.directives import find
from scripts.sitegen.tree import ROOT, files

ENTRIES = {
    "one": {
        "authors": ["Ada Lovelace"],
        "title": "Notes",
        "year": 1843,
        "url": "https://a.example/",
    },
    "two": {"authors": ["A. Bee", "C. Dee"], "title": "T", "year": 2020, "arxiv": "2001.00001"},
}


def test_a_citation_names_authors_year_and_place():
    assert references.cite("one", "Note G", "en", ENTRIES) == (
        '<a class="pe-cite" href="#ref-one">[Lovelace 1843, Note G]</a>'
    )
    assert "[Bee 等 2020]" in references.cite("two", "", "zh", ENTRIES)
    assert "[Bee et al. 2020]" in references.cite("two", "", "en", ENTRIES)


def test_the_list_holds_each_cited_work_once_in_order():
    lines = references.listing(["two", "one", "two"], ENTRIES).splitlines()
    assert [re.search(r'id="ref-(\w+)"', line)[1] for line in lines] == ["two", "one"]
    assert "(https://arxiv.org/abs/2001.00001)" in lines[0]
    assert "(https://a.example/)" in lines[1]


def test_an_unknown_work_is_named():
    with pytest.raises(ValueError, match="no reference 'three'"):
        references.cite("three", "", "en", ENTRIES)


def test_every_reference_is_complete_and_cited():
    entries = references.load(ROOT)
    pages = files(ROOT, "docs/*/*.md")
    cited = {d.argument for p in pages for d in find(p.read_text("utf-8")) if d.name == "cite"}
    assert cited == set(entries)
    for name, entry in entries.items():
        assert entry["authors"], name
        assert entry["title"], name
        assert 1900 < entry["year"] <= 2026, name
        assert re.fullmatch(r"\d{4}\.\d{4,5}", entry.get("arxiv", "0000.00000")), name
        assert references.address(entry).startswith("https://"), name


def test_source_pages_carry_the_text_and_a_number_for_each_line():
    pages = sources.pages(ROOT)
    text = (ROOT / "tests/claims.py").read_text("utf-8").rstrip()
    assert text in pages["source/tests/claims.md"]
    assert sources.address("tests/claims.py", 7) == "source/tests/claims/#__span-0-7"
