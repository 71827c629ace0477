"""Copies of the project's tree, and builds of them."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from scripts.sitegen.tree import ROOT

KEPT = ("index", "attention", "notation", "terms", "ledger", "coverage", "benchmarks")
CHECKS = ("attention", "parity", "terms")
ELSEWHERE = re.compile(rf"at: \[(?:.*[ ,\[])?(?!(?:{'|'.join(KEPT)})#)[\w/]+#")
COPIED = (
    *(".cache", "conftest.py", "docs", "mkdocs.en.yml", "mkdocs.yml", "package-lock.json"),
    *("package.json", "posenc", "pyproject.toml", "README.md", "scripts", "tests"),
)
ENVIRONMENT = {
    **os.environ,
    "NO_MKDOCS_2_WARNING": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SOURCE_DATE_EPOCH": "1767225600",
}


def copy(target: Path) -> None:
    """Copy what the site is built from; the Node packages are shared."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "serve", "test-*")  # of others
            shutil.copytree(source, target / name, ignore=ignored, copy_function=_copy_what_stays)
        elif source.exists():
            shutil.copy(source, target / name)
    (target / "node_modules").symlink_to(ROOT / "node_modules")


def _copy_what_stays(source: str, target: str) -> None:
    """Copy a file, unless it goes meanwhile, as one of the cache may: other tests run."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def copy_small(target: Path) -> None:
    """Copy what a site of one section is built from; it costs the same however many there are."""
    copy(target)
    config = target / "mkdocs.yml"
    pages = [*(f"{name}.md" for name in KEPT), "api/attention.md"]
    config.write_text(_only(pages, config.read_text("utf-8")), "utf-8")
    for name, kept in (
        *(("docs/zh", KEPT), ("docs/en", KEPT), ("docs/notebooks", ())),
        ("scripts/figures", ("__init__", "attention", "home")),
    ):
        for path in (target / name).iterdir():
            if path.stem not in kept:
                path.unlink()
    for path in (target / "tests").glob("test_*.py"):
        if path.stem.removeprefix("test_") not in CHECKS:
            path.unlink()
    audit = target / "docs/coverage.yml"
    items = audit.read_text("utf-8").splitlines()
    audit.write_text("\n".join(line for line in items if not ELSEWHERE.search(line)), "utf-8")
    for path in target.glob("docs/??/*.md"):
        path.write_text(_home(path.read_text("utf-8")), "utf-8")


def _only(pages: list[str], config: str) -> str:
    """The configuration with a nav of these pages alone, and no empty chapter."""
    kept = [
        line
        for line in config.splitlines()
        if not (entry := re.fullmatch(r" +- (\S+\.md)", line)) or entry[1] in pages
    ]
    chapter = re.compile(r"  - \S+:")
    return "\n".join(
        line
        for line, after in zip(kept, [*kept[1:], ""], strict=True)
        if not (chapter.fullmatch(line) and not after.startswith("      - "))
    )


def _home(text: str) -> str:
    """The page with its links to pages that were left out leading home."""
    pages = rf"\]\((?!(?:{'|'.join(KEPT)}|api/attention)\.md)[\w/]+\.(?:md|ipynb)(?:#[\w.-]+)?\)"
    objects = r"\]\[posenc\.\w+\.(?!attention\b)\w+\.[\w.]+\]"
    return re.sub(f"{pages}|{objects}", "](index.md)", text)


def copy_tree(root: Path, target: Path) -> None:
    """Copy a copy, without the site that was built in it."""
    leave = shutil.ignore_patterns("__pycache__", "site")
    shutil.copytree(root, target, ignore=leave, symlinks=True, dirs_exist_ok=True)


def build(root: Path, target: Path) -> None:
    """Build both languages of the tree at `root` into `target`, as `make build` does."""
    run = run_module(root, "mkdocs", "build", "--strict", "--site-dir", str(target.absolute()))
    if run.returncode:
        pytest.fail(f"the strict build failed:\n{run.stdout}{run.stderr}", pytrace=False)


def run_module(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in the tree at `root`."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=root,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":  # `make test` builds the site once for all its tests
    build(ROOT, Path(sys.argv[1]))
