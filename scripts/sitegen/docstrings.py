"""Docstrings in two languages: English in the code, Chinese from a gettext catalogue.

An entry of `docs/docstrings.po` has the dotted name of an object as its context and one unit of
prose as its id: a paragraph, a list item or the description of a parameter, whitespace collapsed.
Formulas on their own, examples, names and types stay as they are, and so does the section
References: a citation names a work in the language that the work has.
"""

import ast
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from babel.messages.pofile import normalize, read_po
from griffe import Extension

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = "docs/docstrings.po"
DEFINITION = ast.FunctionDef | ast.ClassDef
FIELDS = {"Attributes", "Other Parameters", "Parameters", "Raises", "Returns", "Warns", "Yields"}
RULE = re.compile(r"-{3,}$")
ITEM = re.compile(r"(?:[-*]|\d+\.) ")
RELATED = re.compile(r"(?P<name>[\w.]+) : ")
LEAD = (ITEM, RELATED)  # what stands before the prose: in most sections, and under See Also
VERBATIM = re.compile(r"\$[^$]+\$|`[^`]+`")
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
TITLES = {
    "en": {"See Also": "See also:", "References": "References:", ":": ": "},
    "zh": {"See Also": "另见：", "References": "参考文献：", ":": "："},
}

Lookup = Callable[[str], str | None]
Translations = dict[tuple[str, str], str]


class Piece(NamedTuple):
    """Lines of a docstring: text that nobody translates, or what stands before a unit, and it."""

    raw: str
    unit: str = ""


def units(docstring: str) -> list[str]:
    """Translatable units of a raw docstring, in order."""
    return [piece.unit for piece in _pieces(inspect.cleandoc(docstring)) if piece.unit]


def translated(docstring: str, lookup: Lookup) -> str:
    """The docstring with every unit replaced by what `lookup` returns, if that is not empty."""
    pieces = _pieces(inspect.cleandoc(docstring))
    return "\n".join(raw + (lookup(unit) or unit if unit else "") for raw, unit in pieces)


def catalogue(path: Path) -> Translations:
    """Translations by (context, unit); an entry that is empty or fuzzy counts as missing."""
    with path.open("rb") as file:
        entries = read_po(file, abort_invalid=True)
    return {
        (str(entry.context), str(entry.id)): str(entry.string)
        for entry in entries
        if entry.id and entry.string and not entry.fuzzy
    }


def docstrings(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Dotted name and docstring of everything public in posenc, modules and methods included."""
    for path in sorted((root / "posenc").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        if not any(part.startswith("_") for part in name.split(".")):
            yield from _documented(name, ast.parse(path.read_text(encoding="utf-8")))


def problems(root: Path = ROOT) -> list[str]:
    """What is missing, stale or garbled in the catalogue."""
    known = catalogue(root / CATALOGUE)
    wanted = [(name, unit) for name, text in docstrings(root) for unit in units(text)]
    found = [(key, "no translation of") for key in dict.fromkeys(wanted) if key not in known]
    found += [(key, "stale translation of") for key in known if key not in set(wanted)]
    found += [
        (key, "formulas or code differ in the translation of")
        for key, text in known.items()
        if Counter(VERBATIM.findall(key[1])) != Counter(VERBATIM.findall(text))
    ]
    return [f"{CATALOGUE}: {name}: {fault} {_short(unit)!r}" for (name, unit), fault in found]


class Translate(Extension):
    """Griffe's extension: docstrings in the site's language, with links under See Also."""

    def __init__(self, language: str, root: str = str(ROOT)) -> None:
        self.language = language
        self.known = catalogue(Path(root) / CATALOGUE) if language != "en" else {}

    def on_object(self, *, obj, loader, **kwargs) -> None:
        """Swap the docstring of one object."""
        if obj.docstring is None or obj.is_alias:
            return
        text = translated(obj.docstring.value, lambda unit: self.known.get((obj.path, unit)))
        obj.docstring.value = with_links(text, obj.module.path, TITLES[self.language])


def with_links(docstring: str, module: str, titles: dict[str, str]) -> str:
    """Render See Also and References, which mkdocstrings leaves as they are, as Markdown."""
    lines, section = docstring.split("\n"), ""
    for number, line in enumerate(lines):
        if _is_header(lines, number):
            section = line if line in titles else ""
            if section:
                title = f'<span class="doc-section-title">{titles[line]}</span>'
                lines[number : number + 2] = [f"<p>{title}</p>", ""]
        elif section == "See Also":
            lines[number] = RELATED.sub(lambda m: _link(m["name"], module) + titles[":"], line)
        elif section == "References":
            lines[number] = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", line)
    return "\n".join(lines)


def _link(name: str, module: str) -> str:
    target = name if name.startswith("posenc.") else f"{module}.{name}"
    return f"- [`{name.rsplit('.', 1)[-1]}`][{target}]"


def _documented(name: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | DEFINITION) and (text := ast.get_docstring(node)):
        yield name, text
    for child in () if isinstance(node, ast.FunctionDef) else getattr(node, "body", ()):
        if isinstance(child, DEFINITION) and not child.name.startswith("_"):
            yield from _documented(f"{name}.{child.name}", child)


def _pieces(docstring: str) -> Iterator[Piece]:
    """Cut a cleaned docstring into lines to keep and units to translate."""
    lines, number, section = docstring.split("\n"), 0, ""
    while number < len(lines):
        if _is_header(lines, number):
            section = lines[number]
            end = number + 2
        elif _stays(lines[number], section):
            end = _end_of_verbatim(lines, number)
        else:
            end = _end_of_unit(lines, number, section)
            yield _unit(lines[number:end], section)
            number = end
            continue
        yield from map(Piece, lines[number:end])
        number = end


def _is_header(lines: list[str], number: int) -> bool:
    return number + 1 < len(lines) and bool(lines[number]) and bool(RULE.match(lines[number + 1]))


def _stays(line: str, section: str) -> bool:
    """Whether a line starts something that nobody translates."""
    text = line.strip()
    name = section in FIELDS and line == text
    return not text or name or section == "References" or text.startswith((">>>", "$$"))


def _end_of_verbatim(lines: list[str], number: int) -> int:
    """Line after an example (up to a blank line), a formula or a single line."""
    text = lines[number].strip()
    end = number + 1
    if text.startswith(">>>"):
        while end < len(lines) and lines[end].strip():
            end += 1
    elif text.startswith("$$"):
        while "\n".join(lines[number:end]).count("$$") % 2:
            end += 1
    return end


def _end_of_unit(lines: list[str], number: int, section: str) -> int:
    """Line after a paragraph, a list item or a description."""
    start = LEAD[section == "See Also"]
    depth, end = _depth(lines[number]), number + 1
    while end < len(lines):
        text = lines[end].strip()
        inside = text and _depth(lines[end]) >= depth and not _is_header(lines, end)
        if not inside or start.match(text) or text.startswith((">>>", "$$")):
            break
        end += 1
    return end


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _unit(lines: list[str], section: str) -> Piece:
    """Split what stands before the prose from the prose."""
    first = lines[0].lstrip()
    indent = lines[0][: len(lines[0]) - len(first)]
    lead = LEAD[section == "See Also"].match(first)
    start = lead[0] if lead else ""
    words = " ".join(" ".join(lines).split())
    return Piece(indent + start, words.removeprefix(start.strip()).strip())


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def missing_entries(root: Path = ROOT) -> str:
    """Entries that the catalogue lacks, ready to be filled in."""
    known = catalogue(root / CATALOGUE)
    wanted = ((name, unit) for name, text in docstrings(root) for unit in units(text))
    entries = (
        f'msgctxt {normalize(name)}\nmsgid {normalize(unit, width=96)}\nmsgstr ""\n'
        for name, unit in dict.fromkeys(wanted)
        if (name, unit) not in known
    )
    return "\n".join(entries)


if __name__ == "__main__":
    print(missing_entries())
