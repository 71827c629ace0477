"""Every page, as a reader finds it: silent, alone, narrow enough, accessible, steady."""

from statistics import median

import pytest
from browser import paths, shift, visit, watched

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
    return {path: visit(browser, base, path) for path in paths(built)}


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


def test_axe_finds_no_violation_in_light_and_dark(visits):
    assert found(visits, "violations") == {}


def test_the_layout_stays_put(visits, browser, base):
    unsteady = [path for path, seen in visits.items() if seen.shift > 0.05]
    again = {
        path: median(shift(browser, base, path, width) for _ in range(3))
        for path in unsteady  # a busy machine may once deliver a font late
        for width in (1280, 320)
    }
    assert {path: value for path, value in again.items() if value > 0.05} == {}


def test_planted_faults_are_found(browser, base):
    seen = visit(browser, base, "terms/", planted=FAULTS)
    assert sorted(seen.too_wide) == [320, 375, 768, 1280]
    assert any("button-name" in violation for violation in seen.violations)
    assert any("missing.png" in address for address in seen.failed)
    assert any("Content Security Policy" in text for text in seen.said)


def test_a_request_to_another_host_is_found(browser, base):
    with watched(browser, base, planted=FAULTS, bypass_csp=True) as watch:
        watch.open("terms/")
        assert watch.foreign == ["https://elsewhere.example/x.png"]


def test_a_jump_is_found(browser, base):
    assert shift(browser, base, "terms/", 1280) <= 0.05
    assert shift(browser, base, "terms/", 1280, planted=JUMP) > 0.05
