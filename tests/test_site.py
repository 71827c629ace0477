"""The built site: both languages whole, byte-identical twice, nothing unfinished."""

import filecmp
import json
import re
import shutil
from pathlib import Path

import pytest
import trees

from scripts.sitegen import assets
from scripts.sitegen.tree import ROOT, keys


def pages(site: Path, language: str) -> dict[str, str]:
    base = site if language == "zh" else site / "en"
    found = {p.relative_to(base).as_posix(): p.read_text("utf-8") for p in base.rglob("*.html")}
    return {name: text for name, text in found.items() if not name.startswith("en/")}


def test_both_languages_have_the_same_pages(built):
    assert pages(built, "zh").keys() == pages(built, "en").keys()


def test_both_languages_have_the_same_anchors(built):
    zh, en = pages(built, "zh"), pages(built, "en")
    for name in zh:
        if name != "404.html":
            anchors = [re.findall(r'<h[1-6] id="([^"]+)"', text) for text in (zh[name], en[name])]
            assert anchors[0] == anchors[1], name


@pytest.mark.parametrize("language", ["zh", "en"])
def test_nothing_is_left_unexpanded(built, language):
    for name, text in pages(built, language).items():
        if not name.startswith(("source/", "notebooks/")):
            for debris in ("[[", "pe-slot", "arithmatex", "switch:", "\\("):
                assert debris not in re.sub(
                    r"<(code|pre|script)\b.*?</\1>", "", text, flags=re.S
                ), (
                    name,
                    debris,
                )


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_has_a_policy(built, language):
    for name, text in pages(built, language).items():
        assert text.count('<meta http-equiv="Content-Security-Policy"') == 1, name
        assert not re.search(
            r"\son[a-z]+=", re.sub(r"<(pre|script)\b.*?</\1>", "", text, flags=re.S)
        ), name


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_search_index_holds_words_not_formulas(built, language):
    index = built / ("" if language == "zh" else "en") / "search/search_index.json"
    docs = json.loads(index.read_text("utf-8"))["docs"]
    assert {f"{key}/" for key in keys(ROOT)} <= {d["location"].partition("#")[0] for d in docs}
    for entry in docs:
        assert not re.search(r"\\(frac|tag|begin|alpha)|mathml|pe-|<svg", entry["text"]), entry
        assert not entry["location"].startswith("source/")


def test_each_language_has_a_sitemap_and_robots_name_both(built):
    robots = (built / "robots.txt").read_text()
    for way in ("", "en/"):
        assert (built / way / "sitemap.xml").exists()
        assert f"{way}sitemap.xml" in robots


def test_the_page_that_is_not_there_speaks_both_languages(built):
    text = (built / "404.html").read_text("utf-8")
    assert "找不到这一页" in text
    assert "No such page" in text


def test_two_builds_in_two_folders_are_byte_identical(built, tmp_path):
    trees.copy(tmp_path)
    shutil.rmtree(tmp_path / ".cache")
    trees.build(tmp_path, tmp_path / "site")
    assert differences(built, tmp_path / "site") == []


def differences(one: Path, other: Path) -> list[str]:
    names = {
        p.relative_to(base).as_posix()
        for base in (one, other)
        for p in base.rglob("*")
        if p.is_file()
    }
    return sorted(n for n in names if not same(one / n, other / n))


def same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)


def test_the_search_of_another_theme_is_not_mended_blindly(tmp_path):
    worker = tmp_path / "assets/javascripts/workers/search.0.min.js"
    worker.parent.mkdir(parents=True)
    worker.write_text(f"for(let {assets.CUTS[0]})")
    assets.mend_search(tmp_path)
    assert worker.read_text() == f"for(let {assets.CUTS[1]})"
    with pytest.raises(ValueError, match=r"search\.0\.min\.js: .* is not the known one"):
        assets.mend_search(tmp_path)
