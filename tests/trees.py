"""Copies of the project's tree, and builds of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.sitegen.tree import ROOT

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
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    (target / "node_modules").symlink_to(ROOT / "node_modules")


def build(root: Path, target: Path) -> None:
    """Build both languages of the tree at `root` into `target`, as `make build` does."""
    run = run_module(root, "mkdocs", "build", "--strict", "--site-dir", str(target))
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
