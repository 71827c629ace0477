"""What a cached result depends on: a file, and all of ours that it imports."""

import pytest

from scripts.sitegen import tree

SOURCES = {
    "ours/__init__.py": "",
    "ours/one.py": "from ours.two import value\nimport numpy\n",
    "ours/two.py": "def value():\n    from ours import three\n    return three\n",
    "ours/three.py": "import ours.one\n",
    "ours/four.py": "import ours.one as one\n",
    "ours/broken.py": "import ours.one\ndef (\n",
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "ours").mkdir()
    for name, source in SOURCES.items():
        (tmp_path / name).write_text(source)
    return tmp_path


def closure(root, name):
    return [path.relative_to(root).stem for path in tree.closure(root, root / f"ours/{name}.py")]


def test_imports_are_followed_into_functions_and_round_in_circles(root):
    for name in ("one", "two", "three"):
        assert closure(root, name) == ["__init__", "one", "three", "two"]


def test_who_imports_a_file_does_not_matter_to_it(root):
    assert closure(root, "four") == ["__init__", "four", "one", "three", "two"]
    assert "four" not in closure(root, "one")


def test_a_file_that_is_not_python_stands_alone(root):
    assert closure(root, "broken") == ["broken"]


def test_a_cache_file_that_another_build_removes_was_not_there(tmp_path):
    file = tmp_path / "kept/page.0123.json"
    assert tree.kept(file) is None
    tree.store(file, "one", "page.????.json")
    assert tree.kept(file) == "one"
    tree.store(file.with_name("page.4567.json"), "other", "page.????.json")
    assert tree.kept(file) is None
    assert [path.name for path in file.parent.iterdir()] == ["page.4567.json"]


def test_figures_depend_on_the_equations_that_they_show():
    figures = tree.ROOT / "scripts/figures/attention.py"
    names = {path.relative_to(tree.ROOT).as_posix() for path in tree.closure(tree.ROOT, figures)}
    assert {"posenc/_checks.py", "posenc/equations/attention.py"} < names
    assert names.isdisjoint({"scripts/figures/home.py", "posenc/layers/attention.py"})


def test_what_is_cached_is_made_once_and_anew_if_another_build_removes_it(tmp_path):
    file, made = tmp_path / "kept/page.0123.json", []

    def make():
        made.append("one")
        return "one"

    for _ in range(2):
        assert tree.cached(file, make, "page.????.json") == "one"
    assert made == ["one"]
    file.unlink()
    assert tree.cached(file, make, "page.????.json") == "one"
    assert made == ["one", "one"]
