"""Figures of the site: drawn from ``posenc`` in a subprocess, cached by content.

``scripts/figures/<key>.py`` holds the figures of a key. Figure ``key.name`` is its function
``name(say)``, which returns a matplotlib ``Figure``; ``say(zh, en)`` picks the label's language.
"""

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import traceback
from importlib.metadata import version
from pathlib import Path

from scripts.sitegen.tree import LANGUAGES, closure, fingerprint, kept, store

MACHINERY = ("figures.py", "style.py", "svg.py", "tree.py")


class FigureError(RuntimeError):
    """A figure that cannot be drawn; the message names it."""


def figure_names(root: Path) -> list[str]:
    """Return the names of all figures, such as ``attention.two_orders``."""
    files = sorted((root / "scripts/figures").glob("[!_]*.py"))
    drawn = re.compile(r"^def ([a-z]\w*)\(say\):", re.MULTILINE)
    return [
        f"{file.stem}.{name}" for file in files for name in drawn.findall(file.read_text("utf-8"))
    ]


def figure_svgs(names, root: Path) -> dict[tuple[str, str], str]:
    """Return the SVG text of every named figure in every language, by (name, language).

    Stale figures are drawn in one fresh interpreter, so that they show ``posenc`` as it is on disk.
    """
    root, names = Path(root).resolve(), list(dict.fromkeys(names))
    _check_known(names, figure_names(root))
    files = _cache_files(names, root)
    found = {figure: kept(file) for figure, file in files.items()}
    stale = list(dict.fromkeys(name for (name, _), svg in found.items() if svg is None))
    drawn = _draw_elsewhere(stale, root)
    for (name, language), svg in drawn.items():
        store(files[name, language], svg, f"{name}.{language}.*.svg")
    return {figure: drawn.get(figure) or found[figure] or "" for figure in files}


def _check_known(names, known):
    for name in names:
        if name not in known:
            raise FigureError(f"unknown figure {name!r}; there are {', '.join(known)}")


def _cache_files(names, root):
    machinery = [root / "scripts/sitegen" / file for file in MACHINERY]
    versions = [version(package) for package in ("matplotlib", "numpy", "zhplot")]
    digests = {}
    for key in {name.split(".")[0] for name in names}:
        sources = closure(root, root / f"scripts/figures/{key}.py", *machinery)
        digests[key] = fingerprint(root, sources, *versions)[:16]
    return {
        (name, language): root
        / ".cache/figures"
        / f"{name}.{language}.{digests[name.split('.')[0]]}.svg"
        for name in names
        for language in LANGUAGES
    }


def _draw_elsewhere(names, root):
    if not names:
        return {}
    run = subprocess.run(
        [sys.executable, "-m", "scripts.sitegen.figures"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        input=json.dumps(names),
        encoding="utf-8",
        capture_output=True,
    )
    if run.returncode:
        raise FigureError(f"figures {', '.join(names)}: {run.stderr.strip().splitlines()[-1]}")
    answers = json.loads(run.stdout)
    failures = [
        f"figure {name} ({language}): {error}" for name, language, error, _ in answers if error
    ]
    if failures:
        raise FigureError("\n".join(failures))
    return {(name, language): svg for name, language, _, svg in answers}


def _draw(name, language):
    """Draw one figure here; return its SVG text."""
    from scripts.sitegen import style, svg

    style.prepare()
    key, function = name.split(".")
    draw = getattr(importlib.import_module(f"scripts.figures.{key}"), function)
    figure = draw(lambda zh, en: zh if language == "zh" else en)
    return svg.inline(figure, slug=f"fig-{key}-{function}-{language}".replace("_", "-"))


def _answer(name, language):
    try:
        return name, language, "", _draw(name, language)
    except Exception as error:
        last = traceback.format_exception_only(error)[-1].strip()
        return name, language, f"{last} ({_place(error)})", ""


def _place(error):
    """File and line of ours that the error comes from."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _main():
    with contextlib.redirect_stdout(sys.stderr):
        answers = [
            _answer(name, language) for name in json.load(sys.stdin) for language in LANGUAGES
        ]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _main()
