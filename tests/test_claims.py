"""Claims: what makes one pass or fail, and how the site reads them."""

import json
import shutil

import claims as made
import pytest

from scripts.sitegen import claims
from scripts.sitegen.tree import ROOT


@pytest.fixture
def forget(monkeypatch):
    """Let a test make claims without leaving them in the run's results."""
    monkeypatch.setattr(made, "RESULTS", {})
    monkeypatch.setattr(made, "_TEST_OF_ID", {})


def run(**measured):
    def measure():
        return made.at_most(0.1, **measured)

    made.claim("some.claim")(measure)()


@pytest.mark.usefixtures("forget")
class TestMakingAClaim:
    def test_passes_within_the_bound_while_the_wrong_variant_leaves_it(self):
        run(right=0.1, wrong=1.0, extra=3)
        result = made.RESULTS["some.claim"]
        assert result.pop("test").startswith("tests/test_claims.py::")
        assert result == {"measured": 0.1, "bound": 0.1, "wrong": 1.0, "values": {"extra": 3.0}}

    @pytest.mark.parametrize("right", [0.11, float("inf")])
    def test_fails_above_the_bound(self, right):
        with pytest.raises(
            AssertionError, match=r"claim some\.claim: measured .* exceeds its bound"
        ):
            run(right=right, wrong=9.0)
        assert "exceeds its bound 0.1" in made.RESULTS["some.claim"]["failed"]

    @pytest.mark.parametrize("right", [float("nan"), -0.01])
    def test_fails_on_what_is_no_size(self, right):
        with pytest.raises(AssertionError, match="is not a size"):
            run(right=right, wrong=9.0)

    @pytest.mark.parametrize("wrong", [0.99, float("nan"), float("inf")])
    def test_fails_when_the_wrong_variant_passes(self, wrong):
        with pytest.raises(
            AssertionError, match=r"the wrong variant passes: .* ten times the bound"
        ):
            run(right=0.0, wrong=wrong)

    @pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), float("inf")])
    def test_needs_a_positive_bound(self, bound):
        with pytest.raises(ValueError, match="bound must be finite and positive"):
            made.at_most(bound, right=0, wrong=1)

    def test_needs_finite_values(self):
        with pytest.raises(ValueError, match="value extra must be finite, got nan"):
            made.at_most(1, right=0, wrong=10, extra=float("nan"))

    def test_must_return_a_measurement(self):
        def measure():
            return 1.0

        with pytest.raises(AssertionError, match="must return at_most"):
            made.claim("some.claim")(measure)()

    def test_is_made_once(self):
        def one():
            return made.at_most(1, right=0, wrong=10)

        def other():
            return made.at_most(1, right=0, wrong=10)

        made.claim("some.claim")(one)
        with pytest.raises(ValueError, match=r"claim some\.claim is made twice"):
            made.claim("some.claim")(other)


RESULT = {"measured": 4.44e-16, "bound": 1e-12, "wrong": 4.0, "values": {"slot": 0.69}, "test": ""}


def test_every_claim_has_its_sentence_its_page_and_its_equation():
    assert claims.problems(ROOT, claims.measured(ROOT)) == []


def test_no_claim_fails():
    assert claims.failures(claims.measured(ROOT)) == []


def test_an_unknown_claim_is_named():
    with pytest.raises(ValueError, match=r"unknown claim 'no\.such'"):
        claims.lookup("no.such", {"some.claim": RESULT})


def test_values_are_formatted():
    assert claims.value("some.claim.slot", ".1f", {"some.claim": RESULT}) == "0.7"
    below = {"some.claim": RESULT | {"values": {"depth": -0.25}}}
    assert claims.value("some.claim.depth", ".2f", below) == "−0.25"
    assert claims.value("some.claim.depth", "", below) == "−0.25"
    assert claims.value("some.claim.measured", "", {"some.claim": RESULT}) == "4.4\xa0×\xa010⁻¹⁶"
    with pytest.raises(ValueError, match=r"records no 'slt', only measured, bound, wrong, slot"):
        claims.value("some.claim.slt", "", {"some.claim": RESULT})


def test_an_equation_without_claim_is_found():
    page = "$$\na \\tag{1.1}\n$$\n$$\nb \\tag{D1.2}\n$$\n$$\nc \\tag{1.3}\n$$\n[[claim x | 1.1]]"
    assert claims.equations_without_claim(page) == ["1.3"]
    assert claims.equations_without_claim("[[formula a.b | 1.4]] [[formula a.c | D1.5]]") == ["1.4"]


def test_problems_name_what_is_missing(tmp_path):
    docs = tmp_path / "docs"
    for language in ("zh", "en"):
        (docs / language).mkdir(parents=True)
        (docs / language / "page.md").write_text("[[claim a.used]]\n\n$$\nx \\tag{1.1}\n$$\n")
    (docs / "claims.yml").write_text(
        "a.used: {zh: 甲, en: a, wrong: {zh: 乙, en: b}}\n"
        "a.gone: {zh: 甲, en: a, wrong: {zh: 乙, en: b}}\n"
    )
    assert claims.problems(tmp_path, {"a.used": RESULT, "a.silent": RESULT}) == [
        "claim a.silent is used on no page of docs/en",
        "claim a.silent is used on no page of docs/zh",
        "docs/claims.yml: no sentence for claim a.silent",
        "docs/claims.yml: no test for claim a.gone",
        "docs/en/page.md: equation (1.1) has no claim",
        "docs/zh/page.md: equation (1.1) has no claim",
    ]


def test_claims_are_cached_by_content(tmp_path, monkeypatch):
    for name in ("claims.py", "conftest.py"):
        (tmp_path / "tests").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    test = tmp_path / "tests/test_x.py"
    test.write_text(
        "from claims import at_most, claim\n\n"
        '@claim("x.y")\ndef test_y():\n    return at_most(0.5, right=0.25, wrong=8)\n'
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = tests\n")
    assert claims.measured(tmp_path)["x.y"]["measured"] == 0.25
    monkeypatch.setattr(claims, "_run", lambda root, tests: pytest.fail("ran again"))
    (tmp_path / "tests/test_z.py").write_text("def test_z(): pass\n")
    assert claims.measured(tmp_path)["x.y"]["wrong"] == 8
    monkeypatch.undo()
    test.write_text(test.read_text().replace("0.25", "0.75"))
    assert claims.failures(claims.measured(tmp_path)) == [
        "claim x.y failed: claim x.y: measured 0.75 exceeds its bound 0.5"
    ]
    (tmp_path / "posenc.py").write_text("")
    test.write_text(f"import posenc\n{test.read_text().replace('0.75', '0.125')}")
    assert claims.measured(tmp_path)["x.y"]["measured"] == 0.125
    (tmp_path / "posenc.py").write_text("raise ImportError('as it is now')\n")
    with pytest.raises(ValueError, match="as it is now"):
        claims.measured(tmp_path)
    (kept,) = (tmp_path / ".cache/claims").glob("test_x.*.json")
    assert "x.y" in json.loads(kept.read_text("utf-8"))
