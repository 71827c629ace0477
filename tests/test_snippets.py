"""Code that a page shows runs on its own once it is copied, and is the package's code."""

import ast
import functools
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from scripts.sitegen import snippets

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    f"posenc.{floor}.{path.stem}"
    for floor in ("equations", "layers")
    for path in (ROOT / "posenc" / floor).glob("*.py")
    if not path.stem.startswith("_")
)

# Runs in a fresh interpreter, one for each floor. Each copied text gets a namespace of its own; the
# doctests that the package has for the object then run against the copy. For an equation, posenc
# and torch cannot be imported at all, and other equations in its examples are copies too. A layer's
# copy is put into the package in the place of the original.
JUDGE = """
import doctest, importlib, json, symtable, sys

tasks = json.load(sys.stdin)
if any(task["alone"] for task in tasks):
    sys.modules["posenc"] = sys.modules["torch"] = None

def copied(name):
    space = {"__name__": "copied"}
    exec(compile(task["texts"][name], f"<{name}>", "exec"), space)
    return space[name]

def wanted(test):
    tables = [symtable.symtable(e.source, "x", "exec") for e in test.examples]
    return {symbol.get_name() for table in tables for symbol in table.get_symbols()}

def judge_equation(name, tests):
    exec(compile(task["imports"], "<imports>", "exec"), space := {})
    names = {name}.union(*map(wanted, tests)) & set(task["texts"])
    run(tests, space | {used: copied(used) for used in names})

def judge_layer(name, tests):
    module = importlib.import_module(task["module"])
    original, copy = getattr(module, name), copied(name)
    setattr(module, name, copy)
    run(tests, vars(module))
    setattr(module, name, original)

def run(tests, space):
    for test in tests:
        assert test.examples, f"{test.name} has no example"
        test.globs.update(space)
        runner.run(test, out=said.append)

results = {}
for task in tasks:
    runner, parser = doctest.DocTestRunner(verbose=False), doctest.DocTestParser()
    said = []
    for name, docs in task["docs"].items():
        tests = [parser.get_doctest(doc, {}, name, name, 0) for doc in docs]
        (judge_equation if task["alone"] else judge_layer)(name, tests)
    found = runner.summarize(verbose=False)
    counts = {"failed": found.failed, "attempted": found.attempted}
    results[task["module"]] = counts | {"report": "".join(said)}
print(json.dumps(results))
"""


def source(module: str) -> Path:
    """Find the file of a module."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


@functools.cache
def judged(floor: str) -> dict[str, dict]:
    """Run the copies of all objects of a floor against the doctests of their modules."""
    return judge([task(module) for module in MODULES if floor in module])


def task(module: str) -> dict:
    """What the judge needs to know about a module."""
    tree = ast.parse(source(module).read_text(encoding="utf-8"))
    names = snippets.objects(source(module))
    return {
        "module": module,
        "alone": ".equations." in module,
        "texts": {name: snippets.runnable(f"{module}.{name}") for name in names},
        "docs": {node.name: docs(node) for node in tree.body if getattr(node, "name", "") in names},
        "imports": "\n".join(map(ast.unparse, filter(from_elsewhere, tree.body))),
    }


def judge(tasks: list[dict]) -> dict[str, dict]:
    """What a fresh interpreter finds of each module."""
    run = subprocess.run(
        [sys.executable, "-c", JUDGE],
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def docs(node: ast.AST) -> list[str]:
    """Docstrings with examples, of an object and of its methods."""
    nodes = [n for n in ast.walk(node) if isinstance(n, snippets.DEFINITION)]
    return [doc for n in nodes if ">>>" in (doc := ast.get_docstring(n) or "")]


def from_elsewhere(node: ast.stmt) -> bool:
    """Whether a statement imports from another package: doctests may use such names."""
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and (node.module or "").split(".")[0] != "posenc"
    return isinstance(node, ast.Import)


def test_both_floors_are_judged():
    assert {"posenc.equations.attention", "posenc.layers.attention"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_copied_object_passes_the_doctests_of_the_package(module):
    found = judged(".equations." if ".equations." in module else ".layers.")[module]
    assert found["failed"] == 0, found["report"]
    assert found["attempted"] >= len(snippets.objects(source(module)))


@pytest.mark.parametrize("floor", ["equations", "layers"])
def test_a_copy_that_computes_something_else_is_found_in_its_module_alone(floor):
    wrong, right = (task(f"posenc.{floor}.{key}") for key in ("urpe", "relative"))
    name = max(wrong["texts"], key=lambda name: len(wrong["docs"][name]))
    text = wrong["texts"][name]
    wrong["texts"][name] = f"{text}\n\ndef {name}(*args, **more):\n    return None\n"
    found = judge([wrong, right])
    assert found[wrong["module"]]["failed"] > 0
    assert f'File "{name}"' in found[wrong["module"]]["report"]
    assert found[right["module"]]["failed"] == 0


def test_copied_text_is_formatted_and_imports_nothing_in_vain(tmp_path):
    for module in MODULES:
        for name in snippets.objects(source(module)):
            path = tmp_path / f"{module}.{name}.py"
            path.write_text(snippets.runnable(f"{module}.{name}"))
    for command in (["format", "--check", "--diff"], ["check", "--select=F,I", "--ignore=F401"]):
        ruff(command, tmp_path)
    ruff(["check", "--select=F401"], tmp_path)


def ruff(command: list[str], folder: Path) -> None:
    known = 'lint.isort.known-first-party = ["posenc"]'
    options = ["--no-cache", "--config", str(ROOT / "pyproject.toml"), "--config", known, "."]
    run = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def package(tmp_path):
    """Return a function that writes a small package and the folder that it lies in."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / "posenc" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return tmp_path

    return write


CHECKS = '''
def at_least(name, value, bound):
    """Refuse a small value."""
    if value < bound:
        raise ValueError(f"{name} must be at least {bound}, got {value}")
'''
FIRST = '''
"""A module."""

from math import tau as turn

import numpy as np

from .._checks import at_least

HALF = 0.5  # the other half is below
UNUSED = 1


def half(n):
    """Return one half.

    With a second paragraph.
    """

    at_least("n", n, 1)
    # a comment that stays
    return HALF * n


def shadow(half):
    return half + turn


class Pair:
    """Two."""

    def both(self):
        """Give both."""
        return half(1), np.ones(2)


class Empty:
    """Nothing but words."""
'''
SMALL = {"_checks": CHECKS, "equations/first": FIRST}


def test_an_equation_brings_along_what_it_calls_in_order(package):
    root = package(SMALL)
    text = snippets.runnable("posenc.equations.first.Pair", root)
    assert text == dedent("""
        import numpy as np

        HALF = 0.5  # the other half is below


        def at_least(name, value, bound):
            if value < bound:
                raise ValueError(f"{name} must be at least {bound}, got {value}")


        def half(n):
            at_least("n", n, 1)
            # a comment that stays
            return HALF * n


        class Pair:
            def both(self):
                return half(1), np.ones(2)
        """).lstrip("\n")


def test_a_parameter_that_hides_a_function_brings_nothing_along(package):
    root = package(SMALL)
    assert snippets.runnable("posenc.equations.first.shadow", root) == (
        "from math import tau as turn\n\n\ndef shadow(half):\n    return half + turn\n"
    )


def test_a_layer_imports_from_posenc_instead(package):
    layer = '''
    import torch
    from torch import nn

    from posenc.equations.first import half

    LIMIT = 3


    class Base(nn.Module):
        """Base."""


    class Layer(Base):
        """Layer."""

        def forward(self, x):
            return x + torch.tensor(half(LIMIT))
    '''
    root = package(SMALL | {"layers/first": layer})
    assert snippets.runnable("posenc.layers.first.Layer", root) == dedent("""
        import torch

        from posenc.equations.first import half
        from posenc.layers.first import LIMIT, Base


        class Layer(Base):
            def forward(self, x):
                return x + torch.tensor(half(LIMIT))
        """).lstrip("\n")


def test_names_are_followed_through_an_init_file(package):
    second = "from posenc.equations import half\n\n\ndef quarter(n):\n    return half(n) / 2\n"
    init = "from .first import half\n"
    root = package(SMALL | {"equations/__init__": init, "equations/second": second})
    space: dict = {}
    exec(snippets.runnable("posenc.equations.second.quarter", root), space)
    assert space["quarter"](6) == 1.5


def test_a_constant_made_by_a_function_comes_after_it(package):
    source = """
    def two():
        return 2


    TWO = two()
    FOUR = TWO * TWO
    ONE = 1


    def five():
        return FOUR + ONE
    """
    text = snippets.runnable("posenc.equations.late.five", package({"equations/late": source}))
    exec(text, space := {})
    assert space["five"]() == 5
    assert text.startswith("ONE = 1\n\n\ndef two():")


def test_two_helpers_of_one_name_are_refused(package):
    helper = "def _tidy(x):\n    return x\n\n\n"
    one = helper + "def one(x):\n    return _tidy(x)\n"
    two = f"from .one import one\n\n\n{helper}def two(x):\n    return _tidy(one(x))\n"
    root = package({"equations/one": one, "equations/two": two})
    message = r"equations.two.two needs two '_tidy': of posenc.equations"
    with pytest.raises(ValueError, match=message):
        snippets.runnable("posenc.equations.two.two", root)


def test_a_module_of_posenc_is_refused_in_equations(package):
    second = "from posenc import _checks\n\n\ndef h(n):\n    return _checks.at_least('n', n, 0)\n"
    root = package(SMALL | {"equations/second": second})
    with pytest.raises(ValueError, match=r"second\.h must import names from posenc\._checks"):
        snippets.runnable("posenc.equations.second.h", root)


def test_another_name_for_an_object_of_posenc_is_refused_in_equations(package):
    second = "from .first import half as g\n\n\ndef h():\n    return g\n"
    root = package(SMALL | {"equations/second": second})
    with pytest.raises(ValueError, match=r"first\.half under its own name, not as 'g'"):
        snippets.runnable("posenc.equations.second.h", root)


def test_a_missing_helper_is_named(package):
    second = "from posenc._checks import gone\n\n\ndef h():\n    return gone()\n"
    root = package(SMALL | {"equations/second": second})
    with pytest.raises(LookupError, match=r"posenc\._checks has no object 'gone'"):
        snippets.runnable("posenc.equations.second.h", root)


def test_the_first_display_formula_is_found(package):
    source = 'def f():\n    r"""One.\n\n    $$\n    \\frac{1}{2}\n    $$\n    $$2$$\n    """\n'
    root = package({"a": source + "\n\ndef g():\n    return 1\n"})
    assert snippets.formula("posenc.a.f", root) == r"\frac{1}{2}"
    with pytest.raises(LookupError, match=r"posenc.a.g has no \$\$ formula in its docstring"):
        snippets.formula("posenc.a.g", root)


def test_docstrings_go_and_comments_stay(package):
    root = package(SMALL)
    shown = snippets.shown("posenc.equations.first.half", root)
    assert shown.startswith('def half(n):\n    at_least("n", n, 1)\n    # a comment that stays\n')
    assert snippets.shown("posenc.equations.first.Empty", root) == "class Empty:\n    pass"


def test_a_method_is_shown_at_the_margin(package):
    root = package(SMALL)
    shown = snippets.shown("posenc.equations.first.Pair.both", root)
    assert shown == "def both(self):\n    return half(1), np.ones(2)"


def test_a_place_is_a_file_and_two_lines(package):
    root = package(SMALL)
    path, first, last = snippets.location("posenc.equations.first.half", root)
    assert path == "posenc/equations/first.py"
    lines = (root / path).read_text().splitlines()
    assert lines[first - 1] == "def half(n):"
    assert lines[last - 1] == "    return HALF * n"


def test_a_place_starts_at_the_decorator(package):
    source = "import functools\n\n\n@functools.cache\ndef one():\n    return 1\n"
    assert snippets.location("posenc.a.one", package({"a": source})) == ("posenc/a.py", 4, 6)


def test_objects_are_the_public_ones_in_order(package):
    root = package({"a": "def z(): ...\n\n\ndef _y(): ...\n\n\nclass X: ...\n\n\nW = 1\n"})
    assert snippets.objects(root / "posenc/a.py") == ["z", "X"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("posenc.a.foo", "posenc.a has no object 'foo'"),
        ("posenc.a.X.foo", "posenc.a.X has no object 'foo'"),
        ("elsewhere.foo", "elsewhere.foo names no file of this repository"),
    ],
)
@pytest.mark.parametrize("function", [snippets.shown, snippets.runnable, snippets.location])
def test_an_unknown_name_is_named(package, name, message, function):
    with pytest.raises(LookupError, match=message):
        function(name, package({"a": "class X: ...\n"}))


def test_an_edited_file_is_seen_at_once(package):
    for value in "12":
        root = package({"a": f"def f():\n    return {value}\n"})
        assert f"return {value}" in snippets.shown("posenc.a.f", root)
