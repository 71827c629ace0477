"""Code shown by dotted name: as it is read, and as it runs on its own.

Everything is read from the source files and nothing is imported, so that an edited file shows at
once. The text of a function is never rewritten: equations import names, not modules, so that what a
function calls in the package it calls by the same name in the copy.
"""

import ast
import functools
import re
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from scripts.sitegen.tree import ROOT

DEFINITION = ast.FunctionDef, ast.ClassDef
WIDTH = 100
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)


class Place(NamedTuple):
    """A top-level statement or a method, and the file that it stands in."""

    path: Path
    node: ast.stmt


class Import(NamedTuple):
    """One imported name: `from module import name as alias`; no `name` for a plain import."""

    module: str
    name: str
    alias: str


def shown(name: str, root: Path = ROOT) -> str:
    """Source of a function, class or method without docstrings, as a page shows it."""
    return _text(_find(name, root)).rstrip()


def location(name: str, root: Path = ROOT) -> tuple[str, int, int]:
    """File relative to the root, first line (decorators included) and last line of an object."""
    path, node = _find(name, root)
    return path.relative_to(root).as_posix(), _first_line(node), _last_line(node)


def objects(path: Path) -> list[str]:
    """Names of the public functions and classes that a source file defines, in order."""
    body = _parsed(path.read_text(encoding="utf-8")).body
    return [n.name for n in body if isinstance(n, DEFINITION) and not n.name.startswith("_")]


def formula(name: str, root: Path = ROOT) -> str:
    """TeX of the first display formula in an object's docstring."""
    node = _find(name, root).node
    assert isinstance(node, DEFINITION)
    found = DISPLAY.search(ast.get_docstring(node) or "")
    if found is None:
        raise LookupError(f"{name} has no $$ formula in its docstring")
    return found[1].strip()


def runnable(name: str, root: Path = ROOT) -> str:
    """Text that runs in a fresh interpreter and defines the object.

    An equation brings along everything of posenc that it needs and asks for NumPy only; a layer
    imports what it needs from posenc.
    """
    module, attribute = name.rsplit(".", 1)
    _find(name, root)
    copy = _Copy(root, inline=".layers." not in f".{module}.")
    copy.add(module, attribute)
    copy.refuse_twins(name)
    return _assembled(copy)


@dataclass
class _Copy:
    """What a copied text is made of; blocks are in order of dependence."""

    root: Path
    inline: bool
    imports: set[Import] = field(default_factory=set)
    blocks: dict[tuple[str, str], Place] = field(default_factory=dict)

    def add(self, module: str, name: str) -> None:
        """Add an object after everything that it needs."""
        own = _bindings(module, self.root)
        place = own[name]
        assert isinstance(place, Place)
        self.blocks[module, name] = place
        for needed in _names(_text(place)):
            bound = own.get(needed)
            if isinstance(bound, Place) and bound is not place:
                bound = Import(module, needed, needed)
            if isinstance(bound, Import):
                self._need(bound, f"{module}.{name}")
        self.blocks[module, name] = self.blocks.pop((module, name))

    def _need(self, bound: Import, place: str) -> None:
        whole = f"{bound.module}.{bound.name}".rstrip(".")
        if whole.split(".")[0] != "posenc" or not self.inline:
            self.imports.add(bound)
        elif _file(whole, self.root).is_file():
            raise ValueError(f"{place} must import names from {whole}, not the module")
        else:
            self._visit(*_origin(*bound, self.root))

    def _visit(self, module: str, name: str) -> None:
        if (module, name) not in self.blocks:
            self.add(module, name)

    def refuse_twins(self, name: str) -> None:
        """Refuse two objects of one name, since the copy has one namespace."""
        homes: dict[str, str] = {}
        for module, attribute in self.blocks:
            other = homes.setdefault(attribute, module)
            if other != module:
                raise ValueError(f"{name} needs two {attribute!r}: of {other} and of {module}")


def _origin(module: str, name: str, alias: str, root: Path) -> tuple[str, str]:
    """Module that defines a name of posenc, through any `__init__.py` that passes it on."""
    if alias != name:
        raise ValueError(f"import {module}.{name} under its own name, not as {alias!r}")
    bound = _bindings(module, root).get(name)
    if bound is None:
        raise LookupError(f"{module} has no object {name!r}")
    return (module, name) if isinstance(bound, Place) else _origin(*bound, root)


def _assembled(copy: _Copy) -> str:
    """Imports, plain constants, private helpers, then the rest; spaced as ruff does."""
    helpers_first = sorted(copy.blocks, key=lambda key: "._" not in key[0])
    statements = {(p.path, p.node.lineno): p for p in map(copy.blocks.get, helpers_first) if p}
    late, early, rest = set[str](), [], []
    for place in statements.values():
        text, definition = _text(place), isinstance(place.node, DEFINITION)
        plain = not definition and late.isdisjoint(_names(text))
        (early if plain else rest).append((definition, text))
        late |= set() if plain else {name for name, _ in _bound("", place)}
    return "".join(_spaced(_import_block(copy.imports), early + rest))


def _spaced(imports: str, parts: list[tuple[bool, str]]) -> Iterator[str]:
    yield f"{imports}\n" if imports else ""
    previous = None if imports else parts[0][0]
    for index, (definition, text) in enumerate(parts):
        between = "\n\n" if definition or previous else "\n" if previous is None else ""
        yield (between if imports or index else "") + text
        previous = definition


def _import_block(imports: set[Import]) -> str:
    """Standard library, other packages, posenc; in each, plain imports first."""
    groups: dict[tuple[int, bool, str], list[Import]] = {}
    for i in sorted(imports, key=_rank):
        groups.setdefault((_section(i.module), bool(i.name), i.module), []).append(i)
    sections: dict[int, list[str]] = {}
    for key, group in sorted(groups.items()):
        sections.setdefault(key[0], []).extend(_import_lines(group))
    return "\n\n".join("\n".join(lines) for lines in sections.values())


def _import_lines(group: list[Import]) -> list[str]:
    if not group[0].name:
        return [f"import {_renamed(i.module, i.alias)}" for i in group]
    module, listed = group[0].module, [_renamed(i.name, i.alias) for i in group]
    line = f"from {module} import {', '.join(listed)}"
    wrapped = [f"from {module} import (", *(f"    {name}," for name in listed), ")"]
    return [line] if len(line) <= WIDTH else wrapped


def _section(module: str) -> int:
    top = module.split(".")[0]
    return 0 if top in sys.stdlib_module_names else 2 if top == "posenc" else 1


def _rank(one: Import) -> tuple[bool, bool, str]:
    """Order of imported names: CONSTANTS, Classes, functions."""
    return not (one.name.isupper() and len(one.name) > 1), not one.name[:1].isupper(), one.name


def _renamed(name: str, alias: str) -> str:
    return name if name == alias else f"{name} as {alias}"


def _find(name: str, root: Path) -> Place:
    """Follow a dotted name: the longest prefix that is a file, then classes, then the object."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module, attributes = ".".join(parts[:cut]), parts[cut:]
        if (path := _file(module, root)).is_file():
            return _inside(module, path, attributes)
    raise LookupError(f"{name} names no file of this repository")


def _inside(module: str, path: Path, attributes: list[str]) -> Place:
    node: ast.AST = _parsed(path.read_text(encoding="utf-8"))
    for depth, attribute in enumerate(attributes):
        body = getattr(node, "body", [])
        found = [n for n in body if isinstance(n, DEFINITION) and n.name == attribute]
        if not found:
            owner = ".".join([module, *attributes[:depth]])
            raise LookupError(f"{owner} has no object {attribute!r}")
        node = found[-1]
    assert isinstance(node, ast.stmt)
    return Place(path, node)


def _file(module: str, root: Path) -> Path:
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _bindings(module: str, root: Path) -> dict[str, Place | Import]:
    """What each top-level name of a module is bound to."""
    path = _file(module, root)
    body = _parsed(path.read_text(encoding="utf-8")).body
    return {name: bound for node in body for name, bound in _bound(module, Place(path, node))}


def _bound(module: str, place: Place) -> Iterator[tuple[str, Place | Import]]:
    node = place.node
    if isinstance(node, DEFINITION):
        yield node.name, place
    elif isinstance(node, ast.Import):
        for a in node.names:
            yield a.asname or a.name.split(".")[0], Import(a.name, "", a.asname or a.name)
    elif isinstance(node, ast.ImportFrom):
        up = node.level - (place.path.name == "__init__.py")
        package = module.split(".")[: -up or None] if node.level else []
        source = ".".join([*package, *filter(None, [node.module])])
        for a in node.names:
            yield a.asname or a.name, Import(source, a.name, a.asname or a.name)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for n in ast.walk(node):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                yield n.id, place


def _names(text: str) -> list[str]:
    """Global names that a piece of source reads, in alphabetical order."""
    return sorted(set(_read(symtable.symtable(text, "<snippet>", "exec"), top=True)))


def _read(table: symtable.SymbolTable, top: bool = False) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _read(child)


@functools.cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _text(place: Place) -> str:
    """Source lines of a statement, dedented, docstrings removed, comments kept."""
    lines = place.path.read_text(encoding="utf-8").splitlines()
    for node in ast.walk(place.node):
        if isinstance(node, DEFINITION) and ast.get_docstring(node, clean=False) is not None:
            _drop_docstring(lines, node)
    kept = lines[_first_line(place.node) - 1 : _last_line(place.node)]
    return dedent("\n".join(line for line in kept if line != "\0")) + "\n"


def _drop_docstring(lines: list[str], node: ast.FunctionDef | ast.ClassDef) -> None:
    """Mark the docstring's lines, and the blank lines after it, as gone."""
    doc = node.body[0]
    last = _last_line(doc)
    while len(node.body) > 1 and not lines[last].strip():
        last += 1
    lines[doc.lineno - 1 : last] = ["\0"] * (last - doc.lineno + 1)
    if len(node.body) == 1:
        lines[last - 1] = " " * doc.col_offset + "pass"


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def _last_line(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno
