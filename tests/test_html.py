"""The built HTML: valid, whole, light, and each page says what it is."""

import gzip
import html
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import ROOT, canonical, needed

VNU = ROOT / "node_modules/vnu-jar/build/dist/vnu.jar"
LYCHEE = Path(sys.executable).parent / "lychee"
LIMIT = 250_000  # bytes of a cold page after gzip
KATEX = {  # a class that KaTeX writes, the font that it needs
    'class="mord': "Main-Regular",
    "mathnormal": "Math-Italic",
    "mathbf": "Main-Bold",
    "mathbb": "AMS-Regular",
    "amsrm": "AMS-Regular",
    "mathcal": "Caligraphic-Regular",
    "delimsizing size1": "Size1-Regular",
    "delimsizing size2": "Size2-Regular",
    "delimsizing size3": "Size3-Regular",
    "delimsizing size4": "Size4-Regular",
    "delim-size1": "Size1-Regular",
    "delim-size4": "Size4-Regular",
    "small-op": "Size1-Regular",
    "large-op": "Size2-Regular",
}


@pytest.fixture(scope="module")
def pages(built):
    """Every page by its address below the site's root."""
    files = sorted(built.rglob("*.html"))
    names = (path.relative_to(built).as_posix().removesuffix("index.html") for path in files)
    return {name: path.read_text("utf-8") for name, path in zip(names, files, strict=True)}


def articles(pages):
    return {name: text for name, text in pages.items() if not name.endswith("404.html")}


def heads(pages):
    return {name: text.partition("</head>")[0] for name, text in pages.items()}


# Validity


def invalid(paths):
    """What the checker of the W3C says about the files."""
    java = needed("Java", "java", package="default-jre-headless")
    options = ["-Xss8m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # it runs for a minute only
    command = [java, *options, "-jar", VNU, "--errors-only", "--format", "json", *paths]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(run.stderr)["messages"]
    return [f"{m['url']}:{m.get('lastLine')}: {m['message']}" for m in found]


def test_a_missing_tool_skips_here_and_fails_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("browser.missing", set())
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        needed("Chromium", "no-such-command", package="chromium")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Chromium is missing"):
        needed("Chromium", "no-such-command", package="chromium")


def shape(page):
    """Every tag of a page, with the names of its attributes; numbers and values do not count."""
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>|<!--.*?-->", "", page)
    return set(re.sub(r'="[^"]*"', "", "".join(re.findall(r"<[^>]*>", text))).split("<"))


def checked(pages):
    """The pages to check: one language of each, in turn, unless the other has tags of its own.

    Of the pages of source files, those that have a tag that none before them has.
    """
    known, found = set(), []
    for number, name in enumerate(name for name in pages if not name.startswith("en/")):
        one, two = ("", "en/") if number % 2 else ("en/", "")
        shapes = shape(pages[one + name]), shape(pages[two + name])
        source = name.startswith("source/")
        if not (source and shapes[0] <= known):
            found.append(one + name)
            known |= shapes[0]
        if not shapes[1] <= (known if source else shapes[0]):
            found.append(two + name)
            known |= shapes[1]
    return found


def file(site, name):
    return site / name / ("" if name.endswith(".html") else "index.html")


@pytest.fixture(scope="module")
def complaints(built, pages, tmp_path_factory):
    """What the checker says of all pages and of one in which a fault was planted, in one run."""
    planted = tmp_path_factory.mktemp("planted") / "index.html"
    text = (built / "404.html").read_text("utf-8")
    planted.write_text(text.replace("</article>", "<ul><p>planted</p></ul></article>"), "utf-8")
    found = invalid([*(file(built, name) for name in checked(pages)), planted])
    return found, [message for message in found if str(planted) in message]


def test_every_page_is_valid_html(complaints):
    found, of_planted = complaints
    assert [message for message in found if message not in of_planted] == []


def test_every_tag_of_every_page_is_checked(pages):
    chosen = checked(pages)
    seen = set().union(*(shape(pages[name]) for name in chosen))
    assert [name for name in pages if not shape(pages[name]) <= seen] == []
    bare = {name.removeprefix("en/") for name in chosen}
    assert bare >= {name for name in pages if not name.startswith(("en/", "source/"))}
    assert {name.startswith("en/") for name in chosen} == {True, False}
    assert sum(name.removeprefix("en/").startswith("source/") for name in chosen) >= 1
    assert len(chosen) < len(pages) / 4


@pytest.mark.parametrize("tag", ["<u>", '<span onclick="x">', "<p/>", "<li value>"])
def test_a_page_with_a_tag_of_its_own_is_checked(pages, tag):
    """Whether the other language lacks it, or all other source files."""
    for name in ("en/terms/", "terms/", "source/tests/claims/", "en/source/tests/claims/"):
        assert name in checked(pages | {name: pages[name].replace("</article>", tag)})


def test_invalid_html_is_found(complaints):
    (error,) = complaints[1]
    assert "not allowed as child of element" in error


# Links


def broken(site, tmp_path):
    """Links of the site, laid where its own addresses point, that lead nowhere."""
    address = canonical(site)
    host = tmp_path / urlsplit(address).netloc
    inside = host / urlsplit(address).path.strip("/")
    shutil.copytree(site, inside, ignore=shutil.ignore_patterns("*.map"))
    options = ["--offline", "--include-fragments", "--index-files", "index.html"]
    options += ["--root-dir", host, "--format", "json", "--no-progress"]
    options += ["--remap", f"^{re.escape(address)} file://{inside}/"]
    command = [LYCHEE, *options, *sorted(inside.rglob("*.html"))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(run.stdout)
    assert report["successful"] > 1000
    urls = {link["url"] for links in report["error_map"].values() for link in links}
    return sorted(url.removeprefix(f"file://{inside}/") for url in urls)


def test_no_link_and_no_anchor_is_broken(built, tmp_path):
    assert broken(built, tmp_path) == []


PLANTED = {  # what is planted in a page, what is reported of it
    "../attention/#nowhere": "attention#nowhere",
    "#nowhere": "terms/index.html#nowhere",
    "../lost/": "lost",
    "{prefix}gone/": "gone",
    "{address}away/": "away/",
}


def test_planted_broken_links_are_found(built, tmp_path):
    address = canonical(built)
    prefix = urlsplit(address).path
    links = "".join(
        f'<a href="{href.format(prefix=prefix, address=address)}">x</a>' for href in PLANTED
    )
    site = tmp_path / "planted"
    shutil.copytree(built, site)
    page = site / "terms/index.html"
    text = page.read_text("utf-8")
    page.write_text(text.replace("</article>", f"{links}</article>", 1), "utf-8")
    assert broken(site, tmp_path / "laid") == sorted(PLANTED.values())


# What a page says about itself


def test_every_page_has_one_main_heading(pages):
    assert {name: n for name, text in pages.items() if (n := text.count("<h1")) != 1} == {}


def test_every_page_names_its_language(pages):
    for name, text in pages.items():
        language = "en" if name.startswith("en/") else "zh"
        assert f'<html lang="{language}"' in text, name


def test_every_page_has_its_own_title(pages):
    texts = heads(pages).items()
    titles = {name: re.findall(r"<title>([^<]+)</title>", text) for name, text in texts}
    assert {name: found for name, found in titles.items() if len(found) != 1} == {}
    own = [found[0] for name, found in titles.items() if not name.endswith("404.html")]
    assert len(set(own)) == len(own)


def test_every_page_has_a_description(pages):
    for name, text in heads(pages).items():
        (said,) = re.findall(r'<meta name="description" content="([^"]+)">', text)
        assert len(html.unescape(said)) > 20, name


def test_every_page_knows_its_address_and_its_translation(built, pages):
    root = canonical(built)
    for name, text in heads(articles(pages)).items():
        assert re.findall(r'rel="canonical" href="([^"]+)"', text) == [root + name]
        bare = name.removeprefix("en/")
        found = dict(re.findall(r'rel="alternate " hreflang="([\w-]+)" href="([^"]+)"', text))
        wanted = {"zh": root + bare, "en": f"{root}en/{bare}", "x-default": root + bare}
        assert found == wanted, name
        assert {bare, f"en/{bare}"} <= pages.keys()


def test_the_lost_page_claims_no_address(pages):
    for name in ("404.html", "en/404.html"):
        assert "canonical" not in heads(pages)[name]
        assert "hreflang" not in heads(pages)[name]


# Weight


@cache
def packed(path):
    """Bytes of a style or script after gzip."""
    return len(gzip.compress(path.read_bytes(), mtime=0))


def weight(site, name, text):
    """Bytes that a first visit to a page fetches: its text, styles, scripts and fonts."""
    page = site / name / ("index.html" if not name.endswith(".html") else "")
    folder = page.parent if page.suffix else page
    styles = re.findall(r'<link rel="stylesheet" href="([^"]+)"', text)
    scripts = re.findall(r'<script src="([^"]+)"', text)
    total = len(gzip.compress(text.encode(), mtime=0))
    for address in styles + scripts:
        total += packed((folder / address).resolve())
    fonts = {font for mark, font in KATEX.items() if mark in text}
    return total + sum((site / f"assets/katex/fonts/KaTeX_{f}.woff2").stat().st_size for f in fonts)


def test_no_first_visit_fetches_more_than_its_limit(built, pages):
    weights = {name: weight(built, name, text) for name, text in articles(pages).items()}
    assert min(weights.values()) > 50_000, "styles and scripts were counted"
    assert {name: n for name, n in weights.items() if n > LIMIT} == {}
