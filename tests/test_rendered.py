"""Rendered pages that are kept: an edit changes what shows it, and nothing stays as it was."""

import logging
import re
import shutil
import subprocess
import sys

import pytest
import trees
from test_site import differences

from scripts.sitegen import rendered

INDEX = "search/search_index.json"
BOTH = ("", "en/")
EDITS = {  # what is edited, which pages show it
    "a page": (
        ("docs/zh/notation.md", r"\Z", "\n添一句。\n"),
        {"notation/index.html", INDEX},
    ),
    "a claim": (
        ("docs/claims.yml", "Every row of the softmax weights", "Each row of the softmax weights"),
        {"en/attention/index.html", "en/ledger/index.html", f"en/{INDEX}"},
    ),
    "a docstring": (
        ("posenc/equations/attention.py", r"Section 3\.2\.1\.", "Section 3.2."),
        {
            f"{way}{name}"
            for way in BOTH
            for name in (
                "api/attention/index.html",
                "source/posenc/equations/attention/index.html",
                INDEX,
            )
        },
    ),
    "a translation": (
        ("docs/docstrings.po", "变成和为 1 的正权重", "变为和为 1 的正权重"),
        {"api/attention/index.html", INDEX},
    ),
    "a term": (
        ("docs/terms.yml", "不是货币，也不是口令", "不是货币"),
        {"terms/index.html", INDEX},
    ),
}


@pytest.fixture(scope="module")
def edited(small, tmp_path_factory):
    """A tree in which each edit was made and built in turn, and what each build changed."""
    root = tmp_path_factory.mktemp("edited") / "tree"
    trees.copy_tree(small, root)
    built, changed = small / "site", {}
    for number, (kind, (edit, _)) in enumerate(EDITS.items()):
        replaced(root, *edit)
        target = root.parent / f"site{number}"
        trees.build(root, target)
        built, changed[kind] = target, differences(built, target)
    return root, built, changed


def replaced(root, path, old, new):
    text = (root / path).read_text("utf-8")
    planted = re.sub(old, new, text, count=1)
    assert planted != text
    (root / path).write_text(planted, "utf-8")


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_changes_the_pages_that_show_it_and_no_other(edited, kind):
    assert set(edited[2][kind]) == EDITS[kind][1]


def test_after_all_edits_the_site_is_that_of_a_cold_build(edited, tmp_path):
    root, built, _ = edited
    for kept in ("pages", "search", "notebooks"):
        shutil.rmtree(root / ".cache" / kept, ignore_errors=True)
    trees.build(root, tmp_path / "cold")
    assert differences(built, tmp_path / "cold") == []


def test_a_renamed_chapter_shows_on_every_page(small, tmp_path):
    root = tmp_path / "tree"
    trees.copy_tree(small, root)
    replaced(root, "mkdocs.yml", "(?m)^  - 为什么需要位置:", "  - 位置的理由:")
    replaced(root, "mkdocs.yml", "{为什么需要位置: Why position", "{位置的理由: Why place")
    trees.build(root, tmp_path / "site")
    for path in (tmp_path / "site").rglob("index.html"):
        text = path.read_text("utf-8").partition("<article")[0]
        if path.parent.name not in ("site", "en"):  # the home pages have headings of that name
            assert not re.search(r">\s*(?:为什么需要位置|Why position)\s*<", text), path
        assert ("Why place" if '<html lang="en"' in text else "位置的理由") in text, path


def test_a_page_that_gave_a_warning_gives_it_again(small, tmp_path):
    root = tmp_path / "tree"
    trees.copy_tree(small, root)
    replaced(root, "docs/zh/notation.md", r"\Z", "\n[x](lost.md)\n")
    for _ in range(2):
        run = trees.run_module(root, "mkdocs", "build", "--strict")
        assert run.returncode == 1
        assert "'lost.md'" in run.stdout + run.stderr


def test_two_builds_of_one_tree_at_a_time_do_not_disturb_each_other(small, tmp_path):
    """One publishes elsewhere, so that each removes what the other kept."""
    root = tmp_path / "tree"
    trees.copy_tree(small, root)
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir")
    runs = [
        subprocess.Popen(
            [*command, str(tmp_path / name)],
            cwd=root,
            env={**trees.ENVIRONMENT, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, more in (("here", {}), ("there", {"POSENC_SITE_URL": "https://x.example/"}))
    ]
    for run in runs:
        said, _ = run.communicate()
        assert run.returncode == 0, said
    assert differences(small / "site", tmp_path / "here") == []
    assert "x.example" in (tmp_path / "there/index.html").read_text("utf-8")


def test_a_tree_is_copied_while_its_cache_changes(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "ROOT", tmp_path / "one")
        patch.setattr(trees, "COPIED", (".cache",))
        (tmp_path / "one/.cache").mkdir(parents=True)
        for name in ("stays", "goes"):
            (tmp_path / "one/.cache" / name).write_text(name)

        def copied(source, target, copy=shutil.copy2):
            (tmp_path / "one/.cache/goes").unlink(missing_ok=True)
            return copy(source, target)

        patch.setattr(shutil, "copy2", copied)
        (tmp_path / "two").mkdir()
        trees.copy(tmp_path / "two")
    assert [path.name for path in (tmp_path / "two/.cache").iterdir()] == ["stays"]


# The store


@pytest.fixture
def store(tmp_path):
    store = object.__new__(rendered.Store)
    store.root, store.language = tmp_path, "en"
    return store


def test_a_result_is_made_once_and_again_for_other_parts(store):
    made = []
    for parts in (["a"], ["a"], ["b"], ["a"]):
        store.get("pages", "api/x.md", parts, lambda parts=parts: made.append(parts))
    assert made == [["a"], ["b"], ["a"]]
    assert len([*(store.root / ".cache/pages/en").iterdir()]) == 1


def test_pages_whose_names_begin_alike_are_kept_beside_each_other(store):
    for name in ("rope.md", "rope.md.md", "api/rope.md"):
        store.get("pages", name, [], lambda name=name: name)
    for name in ("rope.md", "rope.md.md", "api/rope.md"):
        assert store.get("pages", name, [], lambda: "made again") == name


def test_what_gave_a_warning_is_not_kept(store):
    def make():
        logging.getLogger("mkdocs.plugins.some").warning("hot")
        return "made"

    assert store.get("pages", "x.md", [], make) == "made"
    assert store.get("pages", "x.md", [], lambda: "made again") == "made again"


@pytest.mark.parametrize(
    ("edit", "stale"),
    [
        ("scripts/sitegen/svg.py", {False, True}),
        ("mkdocs.yml", {False, True}),
        ("docs/theme/main.html", {False, True}),
        ("posenc/equations/attention.py", {True}),
        ("docs/docstrings.po", {True}),
        ("docs/claims.yml", set()),
    ],
)
def test_the_machinery_makes_all_pages_stale_and_docstrings_those_that_show_them(
    tmp_path, monkeypatch, edit, stale
):
    trees.copy(tmp_path)
    before = keys(tmp_path)
    (tmp_path / edit).write_text("changed", "utf-8")
    after = keys(tmp_path)
    assert {documented for documented in before if before[documented] != after[documented]} == stale


def test_another_version_address_or_page_makes_all_stale(tmp_path, monkeypatch):
    trees.copy(tmp_path)
    seen = [keys(tmp_path)[False], keys(tmp_path, address="https://x.example/")[False]]
    seen += [keys(tmp_path, pages=["a.md"])[False], keys(tmp_path, pages=["source/a.md"])[False]]
    monkeypatch.setattr(rendered, "_versions", lambda: ("Markdown 99",))
    seen.append(keys(tmp_path)[False])
    assert seen[0] == seen[3], "no page links to the Markdown of a source page"
    assert len(set(seen)) == 4


class Config(dict):
    def __init__(self, address):
        super().__init__()
        self.theme, self.site_url, self.repo_url = {"language": "zh"}, address, None


class File:
    def __init__(self, name):
        self.src_uri, self.url = name, name


def keys(root, address="https://a.example/", pages=()):
    return rendered.Store(root, Config(address), [*map(File, pages)]).common
