"""The words of the site: one for each thing in each language, and those that are not used.

A forbidden word may be mentioned, directly between quotation marks: 「排列不变」, “bag-of-words”.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scripts.sitegen import tables
from scripts.sitegen.cells import cells
from scripts.sitegen.pages import read
from scripts.sitegen.tree import LANGUAGES, ROOT, read_yaml

HEADS = {
    "zh": ("词", "英文", "说明", "不写"),
    "en": ("term", "Chinese", "note", "not written"),
}
OTHER = {"zh": "en", "en": "zh"}
QUOTED = re.compile(r"[「『“‘\"']$"), re.compile(r"^[」』”’\"']")
MESSAGE = re.compile(r'(?m)^msgstr (?P<text>".*"(?:\n".*")*)$')


class Text(NamedTuple):
    """Prose in one language, and where its first line stands."""

    language: str
    path: str
    line: int
    prose: str


def load(root: Path = ROOT) -> list[dict]:
    """All terms of ``docs/terms.yml``."""
    return read_yaml(root / "docs/terms.yml")


def problems(root: Path = ROOT) -> list[str]:
    """Every forbidden word in the prose of the site, with the word to write instead."""
    terms = load(root)
    rules = {lang: [(_pattern(word, t, lang), word, t) for t in terms for word in _words(t, lang)]
             for lang in LANGUAGES}  # fmt: skip
    return [
        f"{text.path}:{text.line + text.prose.count(chr(10), 0, match.start())}: "
        f"forbidden term '{word}': write '{term[text.language]}' ({term['id']})"
        for text in texts(root)
        for pattern, word, term in rules[text.language]
        for match in pattern.finditer(text.prose)
        if not _is_quoted(match)
    ]


def texts(root: Path = ROOT) -> Iterator[Text]:
    """The prose of pages, README, notebooks, claims and translated docstrings."""
    for language in LANGUAGES:
        for path in sorted((root / "docs" / language).rglob("*.md")):
            yield _page(root, path, language)
    if (root / "README.md").is_file():
        yield _page(root, root / "README.md", "en")
    for path in sorted((root / "docs/notebooks").glob("*.py")):
        yield from _cells(path.read_text("utf-8"), path.relative_to(root).as_posix())
    yield from _claims(root, "docs/claims.yml")
    yield from _catalogue(root, "docs/docstrings.po")


def table(language: str, root: Path = ROOT) -> str:
    """Markdown table of the terms for the terms page."""
    rows = []
    for term in load(root):
        avoided = ", ".join(dict.fromkeys(word.lower() for word in _words(term, language)))
        note = term.get(f"note_{language}", "")
        rows.append([term[language], term[OTHER[language]], note, avoided])
    return tables.table(HEADS[language], rows)


def _page(root: Path, path: Path, language: str) -> Text:
    markdown = path.read_text("utf-8")
    return Text(language, path.relative_to(root).as_posix(), 1, read(markdown).prose)


def _cells(source: str, path: str) -> Iterator[Text]:
    for line, kind, text in cells(source):
        if kind in LANGUAGES:
            yield Text(kind, path, line, read(text).prose)


def _claims(root: Path, path: str) -> Iterator[Text]:
    if not (root / path).is_file():
        return
    source = (root / path).read_text("utf-8")
    for name, claim in read_yaml(root / path).items():
        line = source[: source.index(f"{name}:")].count("\n") + 1
        for language in LANGUAGES:
            words = [claim[language], claim.get("wrong", {}).get(language, "")]
            yield Text(language, path, line, read(" · ".join(words)).prose)


def _catalogue(root: Path, path: str) -> Iterator[Text]:
    source = (root / path).read_text("utf-8") if (root / path).is_file() else ""
    for match in MESSAGE.finditer(source):
        parts = re.findall(r'"((?:\\.|[^"\\])*)"', match["text"])
        text = "".join(parts).replace(r"\n", "\n").replace(r"\"", '"').replace(r"\\", "\\")
        line = source.count("\n", 0, match.start()) + 1
        yield Text("zh", path, line, read(text).prose.replace("\n", " "))


def _words(term: dict, language: str) -> list[str]:
    return term.get(f"{language}_forbidden") or []


def _pattern(word: str, term: dict, language: str) -> re.Pattern[str]:
    """Forbidden word as it may stand in a text: with a plural, a capital, over a line's end."""
    escaped = r"\s+".join(map(re.escape, word.split()))
    if language == "zh":
        return re.compile(escaped)
    if word[0].islower() and term["en"][0].islower():
        escaped = f"(?i:{escaped[0]}){escaped[1:]}"
    return re.compile(rf"(?<![A-Za-z]){escaped}(?:e?s)?(?![A-Za-z])")


def _is_quoted(match: re.Match[str]) -> bool:
    before, after = match.string[: match.start()], match.string[match.end() :]
    return bool(QUOTED[0].search(before) and QUOTED[1].search(after))
