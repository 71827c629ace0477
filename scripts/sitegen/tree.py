"""The tree of the project: its languages, its keys, and fingerprints of its files."""

import ast
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("zh", "en")
RESULTS = re.compile(r'"(docs/\w+\.json)"')  # committed data that a file reads


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # in C, ten times faster
    """Reads mkdocs.yml too, whose tags (`!ENV`) only MkDocs understands."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def read_yaml(path: Path):
    """What a YAML file holds."""
    return yaml.load(path.read_text("utf-8"), _Loader)


def nav(root: Path = ROOT) -> list:
    """The navigation of the site, as written in mkdocs.yml."""
    return read_yaml(root / "mkdocs.yml")["nav"]


def keys(root: Path = ROOT) -> list[str]:
    """The keys in the order of the nav: the pages of every group but the last."""
    groups = [pages for entry in nav(root) if isinstance(entry, dict) for pages in entry.values()]
    pages = [page for group in groups[:-1] for page in group]
    return [page.removesuffix(".md") for page in pages if "/" not in page]


def pages(root: Path = ROOT) -> list[str]:
    """Every page of the nav, in order."""
    groups = [entry.values() if isinstance(entry, dict) else [[entry]] for entry in nav(root)]
    return [page for group in groups for found in group for page in found]


def notebooks(root: Path = ROOT) -> list[str]:
    """The keys that have a notebook."""
    return sorted(path.stem for path in (root / "docs/notebooks").glob("*.py"))


def files(root: Path, *patterns: str) -> list[Path]:
    """Files under `root` that match the patterns, sorted; no cached bytecode."""
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return sorted(path for path in found if "__pycache__" not in path.parts)


def fingerprint(root: Path, paths: Iterable[Path], *extra: str) -> str:
    """Digest of the names and contents of files, and of whatever else matters."""
    digest = hashlib.sha256("\0".join(extra).encode())
    for path in paths:
        digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def closure(root: Path, *paths: Path) -> list[Path]:
    """Python files, what they import below `root`, directly or not, and the results they name."""
    found, todo = set(), list(paths)
    while todo:
        if (path := todo.pop()) not in found:
            found.add(path)
            text = path.read_text("utf-8")
            todo += [file for name in _imports(text) for file in _modules(root, name)]
            found.update(file for name in RESULTS.findall(text) if (file := root / name).is_file())
    return sorted(found)


@functools.lru_cache(maxsize=512)
def _imports(source: str) -> tuple[str, ...]:
    """Dotted names that a file imports; none if it is not Python, which its user will say."""
    try:
        nodes = [*ast.walk(ast.parse(source))]
    except SyntaxError:
        return ()
    plain = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    members = [(n.module, n.names) for n in nodes if isinstance(n, ast.ImportFrom)]
    return (*plain, *(f"{module}.{alias.name}" for module, names in members for alias in names))


def _modules(root: Path, name: str) -> Iterator[Path]:
    """Files of the packages and modules on the way to a dotted name."""
    at = root
    for part in name.split("."):
        at /= part
        yield from (f for f in (at.with_suffix(".py"), at / "__init__.py") if f.is_file())


def kept(path: Path) -> str | None:
    """What a cache file holds, if it is there: another build may remove it at any moment."""
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None


def cached(path: Path, make: Callable[[], str], older: str) -> str:
    """What a cache file holds; if it is not there, made and stored in place of the `older` ones."""
    text = kept(path)
    if text is None:
        text = make()
        store(path, text, older)
    return text


def store(path: Path, text: str, older: str) -> None:
    """Write a cache file whole or not at all, in place of the `older` ones beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(older):
        if old != path:  # another process may be reading that
            old.unlink(missing_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text, "utf-8")
    partial.replace(path)
