"""Every page, as a reader finds it: silent, alone, narrow enough, accessible, steady."""

import re
import shutil
from statistics import median

import pytest
from browser import (
    PLAIN,
    SHIFTS,
    eyes,
    looks,
    paths,
    served,
    shift,
    twin,
    visit,
    visit_all,
    watched,
)

FAULTS = """
<div style="width: 2000px">wide</div>
<button></button>
<img src="missing.png" alt="lost">
<img src="https://elsewhere.example/x.png" alt="foreign">
"""
JUMP = """
<style>
@keyframes jump { from { padding-top: 0 } 50% { padding-top: 300px } }
article { animation: jump .4s step-end infinite }
</style>
"""


@pytest.fixture(scope="module")
def visits(browser, base, built):
    with eyes(browser, base) as pair:
        return visit_all(pair, built, paths(built))


def found(visits, name):
    return {path: what for path, seen in visits.items() if (what := getattr(seen, name))}


def test_there_are_pages_in_both_languages(visits):
    english = {path for path in visits if path.startswith("en/")}
    assert {f"en/{path}" for path in visits.keys() - english} == english
    assert {"", "404.html", "attention/", "ledger/", "api/attention/"} <= visits.keys()


def test_the_console_stays_silent(visits):
    assert found(visits, "said") == {}


def test_no_request_fails(visits):
    assert found(visits, "failed") == {}


def test_no_other_host_is_asked(visits):
    assert found(visits, "foreign") == {}


def test_nothing_scrolls_sideways_from_320_to_1280_pixels(visits):
    assert found(visits, "too_wide") == {}


def test_no_style_changes_between_the_widths_of_phones(built):
    """What fits 320 pixels fits 375, therefore, and is not measured there."""
    sheets = [path.read_text("utf-8") for path in built.rglob("assets/**/*.css")]
    found = re.findall(r"(?:min|max)-width: *([\d.]+)(em|px)\)", "".join(sheets))
    edges = {float(number) * (16 if unit == "em" else 1) for number, unit in found}
    assert len(edges) >= 4
    assert [edge for edge in edges if 320 <= edge <= 375] == []


def test_axe_finds_no_violation_in_light_and_dark(visits):
    assert found(visits, "violations") == {}


def test_boxes_that_scroll_are_stops_of_the_keyboard(visits):
    assert found(visits, "unreachable") == {}


def test_the_layout_stays_put(visits, browser, base):
    unsteady = [path for path, seen in visits.items() if seen.shift > 0.05]
    again = {
        path: median(shift(browser, base, path, width) for _ in range(3))
        for path in unsteady  # a busy machine may once deliver a font late
        for width in (1280, 320)
    }
    assert {path: value for path, value in again.items() if value > 0.05} == {}


ALL = {(width, scheme) for width in (1280, 320) for scheme in ("light", "dark")}


def test_every_page_is_seen_in_all_states_by_itself_or_with_its_twin(visits, built):
    """Most pages share them, or the visits would take twice as long."""
    alone = {path for path, seen in visits.items() if set(seen.schemes) == ALL}
    for path in visits.keys() - alone:
        assert looks(built, path) == looks(built, twin(path))
        assert {*visits[path].schemes, *visits[twin(path)].schemes} == ALL
        widths, schemes = zip(*visits[path].schemes, strict=True)
        assert {*widths} == {1280, 320}
        assert {*schemes} == {"light", "dark"}
        assert visits[path].whole != visits[twin(path)].whole
    assert all(visits[path].whole for path in alone)
    languages = {path.startswith("en/") for path, seen in visits.items() if seen.whole}
    assert languages == {True, False}
    assert len(alone) < len(visits) / 4


def test_no_style_colours_emphasis_nor_one_language(built):
    sheets = [path.read_text("utf-8") for path in built.rglob("assets/**/*.css")]
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"(?s)/\*.*?\*/", "", "".join(sheets)))
    special = rf"(?:^|[\s,>+~])(?:{'|'.join(PLAIN)})(?![\w-])|\[lang|:lang\("
    found = [rule for rule in rules if re.search(special, rule[0])]
    assert len(found) >= 1
    assert [
        r for r in found if re.search(r"color|background|opacity|display|font-size", r[1])
    ] == []


# Planted faults


def test_planted_faults_are_found(browser, base):
    with eyes(browser, base, planted=FAULTS) as pair:
        seen = visit(pair, "terms/")
    assert sorted(seen.too_wide) == [320, 768, 1280]
    assert any("button-name" in violation for violation in seen.violations)
    assert any("missing.png" in address for address in seen.failed)
    assert any("Content Security Policy" in text for text in seen.said)


PALE = "color: #ccc; background: #fff"
SCREENS = {1280: "(min-width: 601px)", 320: "(max-width: 600px)"}
BODIES = {"light": "[data-md-color-scheme=default]", "dark": "[data-md-color-scheme=slate]"}
PALE = "".join(
    f"<style>@media {SCREENS[width]} {{ {BODIES[scheme]} #only-{scheme}-{width} {{"
    " color: #888; background: #777 } }</style>"
    f'<p id="only-{scheme}-{width}">planted</p>'
    for width, scheme in sorted(ALL)
)


@pytest.mark.parametrize("languages", [("",), ("en/",), ("", "en/")], ids=["zh", "en", "both"])
def test_words_that_are_pale_in_one_state_are_found(browser, built, tmp_path, languages):
    """In the state, if one language has them: they look unlike. If both have them, in either."""
    pages = ["notation/", "en/notation/"]
    site = tmp_path / "site"
    shutil.copytree(built, site, ignore=shutil.ignore_patterns("source", "api", "*.map"))
    for language in languages:
        page = site / language / "notation/index.html"
        text = re.sub("<meta http-equiv[^>]*>", "", page.read_text("utf-8"), count=1)
        page.write_text(text.replace("</article>", f"{PALE}</article>"), "utf-8")
    with served(site) as base, eyes(browser, base) as pair:
        seen = visit_all(pair, site, pages)
    both = len(languages) == 2
    assert [len(seen[path].schemes) for path in pages] == ([2, 2] if both else [4, 4])
    for path in pages:
        states = {states_of(violation) for violation in seen[path].violations}
        planted = path.removesuffix("notation/") in languages
        assert states == ({(s, w) for w, s in seen[path].schemes} if planted else set())
    if both:
        found = [v for path in pages for v in seen[path].violations]
        assert {states_of(v) for v in found} == {(s, w) for w, s in ALL}


def states_of(violation):
    """Scheme and width in which planted words were found; they name the same themselves."""
    scheme, width, ident = re.match(
        r"(\w+), (\d+) px: color-contrast: <p id=\"only-(\w+-\d+)", violation
    ).groups()
    assert ident == f"{scheme}-{width}"
    return scheme, int(width)


def test_a_request_to_another_host_is_found(browser, base):
    with watched(browser, base, planted=FAULTS, bypass_csp=True) as watch:
        watch.open("terms/")
        assert watch.foreign == ["https://elsewhere.example/x.png"]


def test_a_jump_is_found(browser, base):
    with watched(browser, base, planted=JUMP, bypass_csp=True) as watch:
        watch.page.add_init_script(SHIFTS)
        watch.open("terms/").wait_for_function("window.shifts > 0.05")
