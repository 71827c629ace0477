"""Claims: measured by their tests, cached by content, shown as badges and as the ledger."""

import ast
import functools
import json
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

from scripts.sitegen import directives, tables
from scripts.sitegen.tree import LANGUAGES, closure, files, fingerprint, kept, read_yaml, store

NUMBERED = re.compile(r"\\tag\{(?P<number>[0-9][^}]*)\}")
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def statements(root: Path) -> dict[str, dict]:
    """Sentence and wrong variant of every claim, in both languages."""
    return read_yaml(root / "docs/claims.yml")


def measured(root: Path) -> dict[str, dict]:
    """What every claim measured; a test runs only if it, or what it imports, changed."""
    where = {path: _kept(root, path) for path in evidence(root)}
    texts = {path: kept(file) for path, file in where.items()}
    if stale := [path for path, text in texts.items() if text is None]:
        claims = _run(root, stale)
        for path in stale:
            own = {k: c for k, c in claims.items() if c["test"].startswith(f"tests/{path.name}::")}
            texts[path] = json.dumps(own, ensure_ascii=False)
            store(where[path], texts[path] or "", f"{path.stem}.*.json")
    parts = (json.loads(text) for text in texts.values() if text)
    return {claim_id: claim for part in parts for claim_id, claim in part.items()}


def _kept(root: Path, test: Path) -> Path:
    """Where the measurements of a test file are kept, by its content and what it imports."""
    sources = closure(root, test, *files(root, "tests/c*.py"))
    return root / f".cache/claims/{test.stem}.{fingerprint(root, sources)[:16]}.json"


def evidence(root: Path) -> list[Path]:
    """Test files that make claims."""
    return [p for p in files(root, "tests/test_*.py") if "\n@claim(" in p.read_text("utf-8")]


def _run(root: Path, tests: list[Path]) -> dict[str, dict]:
    out = root / f".cache/claims/run.{os.getpid()}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    print("INFO    -  Measuring the claims", file=sys.stderr)
    before = _cpu_of_children()
    command = [sys.executable, "-m", "pytest", *map(str, tests), "-m", "claim", "-q"]
    options = ["-p", "no:cacheprovider", "--claims-out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        command + options, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    spent = _cpu_of_children() - before
    print(f"INFO    -  Claims measured in {spent:.1f} s of CPU (reported apart)", file=sys.stderr)
    if not out.exists() or run.returncode not in (0, 1):
        raise ValueError(f"the claims could not run:\n{run.stdout[-3000:]}{run.stderr[-1000:]}")
    claims = json.loads(out.read_text("utf-8"))
    out.unlink()
    return claims


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def failures(claims: dict[str, dict]) -> list[str]:
    """One message per claim that failed."""
    return [f"claim {key} failed: {c['failed']}" for key, c in claims.items() if "failed" in c]


def number(value: float) -> str:
    r"""A measured value for readers: two digits, powers of ten typeset.

    >>> number(4.44e-16).replace("\xa0", " "), number(0.05), number(0.0), number(12.3456)
    ('4.4 × 10⁻¹⁶', '0.05', '0', '12')
    """
    mantissa, _, exponent = f"{value:.2g}".partition("e")
    if not exponent:
        return mantissa
    power = "10" + str(int(exponent)).translate(SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}\xa0×\xa0{power}"


def lookup(claim_id: str, claims: dict[str, dict]) -> dict:
    """Result of one claim; unknown ids are an error."""
    if claim_id not in claims:
        raise ValueError(f"unknown claim '{claim_id}'")
    return claims[claim_id]


def value(name: str, spec: str, claims: dict[str, dict]) -> str:
    """A number that a claim recorded beside its measurement, formatted."""
    claim_id, _, field = name.rpartition(".")
    result = lookup(claim_id, claims)
    known = {key: result[key] for key in ("measured", "bound", "wrong")} | result["values"]
    if field not in known:
        raise ValueError(f"claim {claim_id} records no '{field}', only {', '.join(known)}")
    shown = format(known[field], spec) if spec else number(known[field])
    return shown.replace("-", "\N{MINUS SIGN}")


def places(root: Path, claims: dict[str, dict]) -> dict[str, tuple[str, int]]:
    """File and line of the test of every claim."""
    found = {}
    for path in sorted({c["test"].partition("::")[0] for c in claims.values()}):
        for name, line in _functions((root / path).read_text("utf-8")):
            found[f"{path}::{name}"] = path, line
    return found


@functools.lru_cache(maxsize=128)
def _functions(source: str) -> list[tuple[str, int]]:
    """The functions of a file, and the lines that they start on, decorators included."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return [(n.name, min([n.lineno, *(d.lineno for d in n.decorator_list)])) for n in nodes]


def badge(claim_id: str, result: dict, statement: str, href: str) -> str:
    """The mark of a claim in running text."""
    text = f"{number(result['measured'])} ≤ {number(result['bound'])}"
    title = escape(statement, quote=True)
    return f'<a class="pe-claim" href="{href}" title="{title}" data-claim="{claim_id}">{text}</a>'


def uses(root: Path, language: str) -> dict[str, list[str]]:
    """Pages that cite each claim."""
    cited: dict[str, list[str]] = {}
    for path in files(root, f"docs/{language}/**/*.md"):
        for directive in directives.find(path.read_text("utf-8")):
            if directive.name == "claim":
                pages = cited.setdefault(directive.argument, [])
                page = path.relative_to(root / "docs" / language).as_posix()
                if page not in pages:
                    pages.append(page)
    return cited


def equations_without_claim(markdown: str) -> list[str]:
    """Numbered equations of a page that no claim on it names."""
    named = {d.rest for d in directives.find(markdown) if d.name == "claim"}
    numbered = [m["number"] for m in NUMBERED.finditer(markdown)]
    inserted = [d.rest for d in directives.find(markdown) if d.name == "formula"]
    numbered += [rest for rest in inserted if rest[:1].isdigit()]
    return [n for n in numbered if n not in named]


def problems(root: Path, claims: dict[str, dict]) -> list[str]:
    """Claims without a sentence or a page, and numbered equations without a claim."""
    said = statements(root)
    found = [f"docs/claims.yml: no sentence for claim {key}" for key in claims.keys() - said.keys()]
    found += [f"docs/claims.yml: no test for claim {key}" for key in said.keys() - claims.keys()]
    for language in LANGUAGES:
        unused = claims.keys() - uses(root, language).keys()
        found += [f"claim {key} is used on no page of docs/{language}" for key in unused]
        for path in files(root, f"docs/{language}/*.md"):
            where = path.relative_to(root).as_posix()
            for tag in equations_without_claim(path.read_text("utf-8")):
                found.append(f"{where}: equation ({tag}) has no claim")
    return sorted(found)


def _linked(name: str, address: str) -> str:
    """A link whose long name may be broken after its underscores."""
    return f'<a href="{address}">{name.replace("_", "_<wbr>")}</a>'


LEDGER = {
    "zh": ("论断", "测得", "界", "错误变体", "测试", "页面"),
    "en": ("claim", "measured", "bound", "wrong variant", "test", "pages"),
}


def ledger(root: Path, language: str, claims: dict[str, dict], href) -> str:
    """The table of all claims in one language; `href(test)` gives a link."""
    said, pages = statements(root), uses(root, language)
    rows = []
    for key, result in sorted(claims.items()):
        links = "<br>".join(f"[{page.removesuffix('.md')}]({page})" for page in pages.get(key, []))
        wrong = f"{number(result['wrong'])}<br>{said[key]['wrong'][language]}"
        test = _linked(result["test"].partition("::")[2], href(result["test"]))
        sentence = f'<span id="{key}"></span>{said[key][language]}<br>`{key}`'
        figures = number(result["measured"]), number(result["bound"])
        cells = sentence, *figures, wrong, test, links
        rows.append([cell.replace("|", "\\|") for cell in cells])
    return tables.table(LEDGER[language], rows)
