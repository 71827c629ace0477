"""What a rebuild under `mkdocs serve` keeps, and what the search index is spared."""

import pytest

from scripts.sitegen import serving
from scripts.sitegen.site import Site
from scripts.sitegen.tree import ROOT

ADDRESS = "http://127.0.0.1:8000/"


@pytest.fixture
def tree(tmp_path):
    for name in ("docs/zh/a.md", "docs/en/a.md", "docs/terms.yml", "posenc/x.py", "mkdocs.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    return tmp_path


@pytest.fixture
def kept(tree):
    """Both languages and their source pages, built and kept."""
    built = tree / "built"
    for name in ("index.html", "en/index.html", "source/x.html"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(name)
    for language in ("zh", "en"):
        serving.language(tree, language, ADDRESS).keep(built, "en", "source")
        serving.source_pages(tree, language, ADDRESS).keep(built / "source")
    return tree


def fresh(tree, address=ADDRESS):
    parts = (serving.language, serving.source_pages)
    return {
        (part.__name__, language)
        for part in parts
        for language in ("zh", "en")
        if part(tree, language, address).is_fresh()
    }


EVERYTHING = {(p, ln) for p in ("language", "source_pages") for ln in ("zh", "en")}


def test_nothing_is_fresh_at_first(tree):
    assert fresh(tree) == set()
    assert not serving.restored(tree, "en", ADDRESS, tree / "target")


def test_an_unchanged_tree_is_fresh(kept):
    assert fresh(kept) == EVERYTHING


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("docs/zh/a.md", {("language", "zh")}),
        ("docs/en/a.md", {("language", "en")}),
        ("posenc/x.py", EVERYTHING),
        ("docs/terms.yml", EVERYTHING),
        ("mkdocs.yml", EVERYTHING),
    ],
)
def test_an_edit_makes_stale_what_shows_it(kept, changed, stale):
    (kept / changed).write_text("two")
    assert fresh(kept) == EVERYTHING - stale


def test_another_address_makes_everything_stale(kept):
    assert fresh(kept, "http://127.0.0.1:9000/") == set()


def test_what_is_kept_comes_back_without_the_other_parts(kept):
    target = kept / "target"
    assert serving.restored(kept, "en", ADDRESS, target)
    names = sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file())
    assert names == ["index.html", "source/x.html"]


def test_the_kept_copy_is_replaced(kept):
    (kept / "docs/zh/a.md").write_text("two")
    part = serving.language(kept, "zh", ADDRESS)
    (kept / "built/index.html").write_text("new")
    part.keep(kept / "built", "en", "source")
    part.restore(kept / "target")
    assert (kept / "target/index.html").read_text() == "new"
    assert fresh(kept) == EVERYTHING


def test_what_the_index_need_not_read_is_folded_and_comes_back():
    site = Site(ROOT, "en", ADDRESS)
    html = (
        '<p>One <span class="arithmatex">\\(x_i\\)</span> two'
        '</p><svg class="pe-drawing"><text>three</text></svg>'
        '<div class="language-python highlight"><pre><span></span><code>four()</code></pre></div>'
        '<div class="arithmatex">\\[ a + b \\tag{1.1} \\]</div>'
    )
    folded, parts = site.content(html, "page.md")
    assert "katex" not in folded
    assert "three" not in folded
    assert "four" not in folded
    assert 'id="eq-1.1"' in folded
    stripped = folded.replace(' data-search-exclude="true"', "")  # as the search plugin does
    whole = site.unfolded(stripped, parts)
    assert "pe-fold" not in whole
    assert whole.count("</pe-math>") == 2
    assert '<svg class="pe-drawing"><text>three</text></svg>' in whole
    assert "<code>four()</code></pre></div><pe-math" in whole
    assert "katex-mathml" in whole
