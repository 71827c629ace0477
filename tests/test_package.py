"""The package: what the wheel holds, what an import costs, and how the modules are written."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

from scripts.sitegen import tree

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "posenc").rglob("*.py"))
KEY_MODULES = [p for p in PACKAGE if p.parent != ROOT / "posenc" and not p.stem.startswith("_")]
EQUATIONS = [p for p in KEY_MODULES if p.parent.name == "equations"]
FUNCTION = ast.FunctionDef, ast.AsyncFunctionDef
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
BY_FILE = pytest.mark.parametrize("path", KEY_MODULES, ids=lambda p: f"{p.parent.name}-{p.stem}")


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


# The wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel, built in two folders from files of different age."""
    built = []
    for age in ("old", "new"):
        folder = tmp_path_factory.mktemp(age)
        for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "posenc", folder / "posenc")
        for file in folder.rglob("*"):
            os.utime(file, (1e9, 1e9) if age == "old" else (1.5e9, 1.5e9))
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(folder)],
            check=True,
            capture_output=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        )
        built += (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as installed from the wheel, and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", str(target), str(wheels[0])], check=True)
    return target


def test_two_builds_of_the_wheel_are_byte_identical(wheels):
    first, second = wheels
    assert first.name == second.name == f"posenc-{VERSION}-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()


def test_wheel_holds_the_package_and_its_metadata_only(wheels):
    sources = {p.relative_to(ROOT).as_posix() for p in [*PACKAGE, ROOT / "posenc/py.typed"]}
    metadata = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}
    names = set(zipfile.ZipFile(wheels[0]).namelist())
    assert names == sources | {f"posenc-{VERSION}.dist-info/{name}" for name in metadata}


def test_wheel_asks_for_numpy_and_nothing_else(wheels):
    text = zipfile.ZipFile(wheels[0]).read(f"posenc-{VERSION}.dist-info/METADATA").decode()
    needs = re.findall(r"^Requires-Dist: (.*)$", text, re.M)
    assert [need for need in needs if "extra ==" not in need] == ["numpy>=2.0"]
    assert "\nRequires-Python: >=3.11\n" in text
    assert "\nLicense-Expression: MIT\n" in text


AS_INSTALLED = """
import doctest, importlib, json, pathlib, pkgutil, sys

target, source = map(pathlib.Path, sys.argv[1:])
sys.path[:] = [str(target), *(p for p in sys.path if pathlib.Path(p or ".").resolve() != source)]
sys.modules["torch"] = None  # every import of it fails from here on
import posenc.equations

assert pathlib.Path(posenc.__file__).is_relative_to(target), posenc.__file__
assert (pathlib.Path(posenc.__file__).parent / "py.typed").exists()
names = [module.name for module in pkgutil.iter_modules(posenc.equations.__path__)]
results = [doctest.testmod(importlib.import_module(f"posenc.equations.{n}")) for n in names]
print(json.dumps({n: [r.attempted, r.failed] for n, r in zip(names, results)}))
"""


def test_equations_pass_their_doctests_as_installed_and_without_torch(installed):
    results = json.loads(python(AS_INSTALLED, str(installed), str(ROOT)))
    assert sorted(results) == [path.stem for path in EQUATIONS]
    assert all(attempted >= 2 for attempted, _ in results.values())
    assert all(failed == 0 for _, failed in results.values())


# Imports


LOADED = """
import sys, numpy
before = {*sys.modules}
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
roots = {name.partition(".")[0] for name in {*sys.modules} - before}
print(*sorted(roots - sys.stdlib_module_names))
"""


def test_equations_load_nothing_beyond_numpy():
    assert python(LOADED, "posenc.equations", *map(dotted, EQUATIONS)).split() == ["posenc"]


def test_layers_would_be_noticed():
    assert "torch" in python(LOADED, "posenc.layers.attention").split()


def imports(tree_of_file: ast.AST) -> Iterator[str]:
    """Dotted names that a file imports, at the top or inside functions."""
    for node in ast.walk(tree_of_file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def strays(module: str, source: str, keys: list[str]) -> list[str]:
    """Imports that break the reading order: from later keys, or from layers to equations."""
    _, floor, key = module.split(".")
    found = []
    for name in imports(ast.parse(source)):
        package, _, rest = name.partition(".")
        other_floor, _, rest = rest.partition(".")
        other = rest.partition(".")[0]
        if package != "posenc" or other.startswith("_") or other_floor.startswith("_"):
            continue
        known = other in keys and other_floor in ("equations", "layers")
        upwards = (floor, other_floor) == ("equations", "layers")
        later = known and keys.index(other) > keys.index(key)
        if not known or upwards or later or name.startswith(f"{module}."):
            found.append(name)
    return found


@BY_FILE
def test_a_key_imports_only_from_keys_before_it(path):
    assert strays(dotted(path), path.read_text(encoding="utf-8"), tree.keys()) == []


@pytest.mark.parametrize(
    ("module", "line", "is_stray"),
    [
        ("posenc.equations.rope", "from posenc.equations.attention import softmax", False),
        ("posenc.layers.rope", "from posenc.equations.rope import angles", False),
        ("posenc.layers.rope", "from posenc._checks import check_count", False),
        ("posenc.layers.rope", "from posenc.layers import _checks", False),
        ("posenc.equations.attention", "from posenc.equations.rope import angles", True),
        ("posenc.equations.attention", "import posenc.equations.rope", True),
        ("posenc.equations.rope", "from posenc.layers.attention import Attention", True),
        ("posenc.layers.rope", "from posenc.utils import shape", True),
    ],
)
def test_an_import_against_the_reading_order_is_found(module, line, is_stray):
    assert bool(strays(module, line, ["attention", "rope"])) == is_stray


def test_there_is_no_drawer_for_odds_and_ends():
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert not [p for p in ROOT.glob("*/**/*.py") if p.stem in drawers and _ours(p)]


def _ours(path: Path) -> bool:
    return path.relative_to(ROOT).parts[0] in ("posenc", "scripts", "tests", "docs")


# Public objects


def public(path: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    definitions = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return [n for n in definitions if not n.name.startswith("_")]


PUBLIC = [(path, node.name) for path in KEY_MODULES for node in public(path)]
BY_OBJECT = pytest.mark.parametrize(
    ("path", "name"), PUBLIC, ids=[f"{p.parent.name}-{p.stem}-{name}" for p, name in PUBLIC]
)


@BY_FILE
def test_all_lists_exactly_the_public_objects(path):
    module = importlib.import_module(dotted(path))
    assert sorted(module.__all__) == sorted(node.name for node in public(path))


def definition(path: Path, name: str) -> ast.FunctionDef | ast.ClassDef:
    return next(node for node in public(path) if node.name == name)


def sections(docstring: str) -> dict[str, str]:
    """Sections of a numpy-style docstring, by title."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", docstring, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parameters(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """Parameters that a caller sees; those of a class are its constructor's."""
    if isinstance(node, ast.ClassDef):
        inits = [n for n in node.body if isinstance(n, FUNCTION) and n.name == "__init__"]
        return parameters(inits[0]) if inits else []
    a = node.args
    every = [*a.posonlyargs, *a.args, *filter(None, [a.vararg]), *a.kwonlyargs]
    return [x.arg for x in [*every, *filter(None, [a.kwarg])] if x.arg not in ("self", "cls")]


def documented(section: str) -> list[str]:
    """Names on the unindented lines of a Parameters section: `x`, `x : int`, `x, y`."""
    heads = re.findall(r"^(\*{0,2}\w[^:\n]*?)(?: *:.*)?$", section, re.M)
    return [name.strip(" *") for head in heads for name in head.split(",")]


@BY_OBJECT
def test_every_parameter_and_result_is_described(path, name):
    node = definition(path, name)
    found = sections(ast.get_docstring(node) or "")
    assert documented(found.get("Parameters", "")) == parameters(node)
    returns = isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or ast.Name("None"))
    assert ("Returns" in found) == (returns not in (False, "None"))


@BY_OBJECT
def test_every_public_object_has_two_examples_that_run(path, name):
    docstring = ast.get_docstring(definition(path, name)) or ""
    examples = sections(docstring).get("Examples", "")
    assert len(re.findall(r"^>>> (?!import|from)", examples, re.M)) >= 2
    assert "+SKIP" not in docstring


@BY_OBJECT
def test_every_public_object_starts_with_one_line_and_its_formula(path, name):
    first, empty, rest = (ast.get_docstring(definition(path, name)) or "\n\n").split("\n", 2)
    assert first.endswith(".")
    assert empty == ""
    if path.parent.name == "equations":
        assert rest.startswith("$$")


@BY_FILE
def test_every_public_method_is_described(path):
    methods = [m for c in public(path) if isinstance(c, ast.ClassDef) for m in c.body]
    named = [m for m in methods if isinstance(m, FUNCTION) and not m.name.startswith("_")]
    assert [m.name for m in named if not ast.get_docstring(m)] == []


# Sizes


def code_lines(source: str, node: ast.Module | ast.FunctionDef) -> int:
    """Lines of code in the body of a module or function: no blanks, comments, docstrings.

    A signature is one line, over however many the formatter spreads it.
    """
    left_out = {
        line
        for owner in ast.walk(node)
        if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef)
        for line in _docstring_lines(owner) | _signature_rest(owner)
    }
    inside = {line for n in node.body for line in _lines(n)} - left_out
    lines = source.splitlines()
    return sum(bool(re.match(r"\s*[^\s#]", lines[line - 1])) for line in inside)


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or 0) + 1)


def _docstring_lines(owner: ast.Module | ast.ClassDef | ast.FunctionDef) -> set[int]:
    return {*_lines(owner.body[0])} if ast.get_docstring(owner, clean=False) else set()


def _signature_rest(owner: ast.Module | ast.ClassDef | ast.FunctionDef) -> set[int]:
    if not isinstance(owner, ast.FunctionDef):
        return set()
    return {*range(owner.lineno + 1, owner.body[0].lineno)}


def test_code_lines_leave_out_docstrings_comments_blanks_and_the_rest_of_signatures():
    docstring = '"""One.\n\n    Two.\n    """'
    body = f"    {docstring}\n    # why\n\n    y = x\n    return y\n"
    source = f'"""Doc."""\n\n# why\ndef f(\n    x,\n):\n{body}'
    module = ast.parse(source)
    assert code_lines(source, module) == 3
    assert code_lines(source, module.body[1]) == 2


def test_functions_are_short():
    lengths = []
    for path in PACKAGE:
        source = path.read_text(encoding="utf-8")
        nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, FUNCTION)]
        lengths += [code_lines(source, node) for node in nodes]
    assert median(lengths) <= 10
    assert quantiles(lengths, n=10, method="inclusive")[-1] <= 22


@pytest.mark.parametrize("path", PACKAGE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert code_lines(source, ast.parse(source)) <= 120
