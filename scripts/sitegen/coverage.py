"""Where the site answers each item of the two notes that it grew from: docs/coverage.yml."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from scripts.sitegen import places, tables
from scripts.sitegen.pages import read
from scripts.sitegen.tree import LANGUAGES, ROOT, pages, read_yaml

KINDS = {
    "keys": "audit key",
    "errata": "erratum",
    "figures": "figure",
    "blanks": "blank",
    "questions": "question",
}
DRAWN = "figures", "blanks"
WORDS = {
    "zh": {
        "head": ("节", "已覆盖", "全部", "键", "判定", "在哪里"),
        "later": "尚未写：`{}`",
        "titles": ("笔记条目", "勘误", "插图", "空白", "待答问题"),
        "verdicts": (
            "正确", "须说明约定", "错误", "有歧义", "排版损坏", "未证实", "缺失", "已找回", "过时",
            "无判定",
        ),
    },
    "en": {
        "head": ("section", "covered", "all", "key", "verdict", "where"),
        "later": "not yet written: `{}`",
        "titles": ("Items of the notes", "Errata", "Figures", "Blanks", "Open questions"),
        "verdicts": (
            "correct", "needs a convention", "wrong", "ambiguous", "garbled", "unproved", "lost",
            "recovered", "dated", "no verdict",
        ),
    },
}  # fmt: skip
VERDICTS = (
    "OK", "CONV", "WRONG", "AMBIG", "GARBLED", "UNPROVED", "LOST", "RECOVERED", "DATED", "NONE",
)  # fmt: skip
NUMBERED = re.compile(r"N2\.(\d+)\.")
BESIDE = {"rope_axes": "rope"}  # what the notes treat in the section of another key
Anchors = dict[str, dict[str, set[str]]]


def load(root: Path = ROOT) -> dict[str, dict[str, dict]]:
    """The audit: for each kind of item, each item's section, verdict and anchors."""
    return read_yaml(root / "docs/coverage.yml")


def notes_section(key: str, root: Path = ROOT) -> str:
    """The number of the notes' section that a key answers, such as 2.1.3; empty if none.

    It is in the audit's names of items: N2.213.F1 stands in section 2.1.3 of the second note.
    """
    key = BESIDE.get(key, key)
    for name, item in load(root)["keys"].items():
        if item["section"] == key and (match := NUMBERED.match(name)):
            return ".".join(match[1])
    return ""


def anchors(root: Path = ROOT) -> Anchors:
    """Ids that the Markdown of every page gives, by language and page."""
    return {
        lang: {
            path.relative_to(root / "docs" / lang).with_suffix("").as_posix(): places.anchors(
                path.read_text("utf-8")
            )
            for path in sorted((root / "docs" / lang).rglob("*.md"))
        }
        for lang in LANGUAGES
    }


def problems(root: Path, anchors: Anchors) -> list[str]:
    """Items of sections in the nav that a reader cannot find, in either language."""
    written = {page.removesuffix(".md") for page in pages(root)}
    return [
        f"{KINDS[kind]} {key}{why}"
        for kind, items in load(root).items()
        for key, entry in items.items()
        for why in _faults(kind, entry, root, anchors, must=entry["section"] in written)
    ]


def count(root: Path = ROOT) -> tuple[int, int]:
    """How many items of the notes have an answer, and how many there are."""
    items = load(root)["keys"].values()
    return sum(bool(entry.get("at")) for entry in items), len(items)


def table(language: str, root: Path = ROOT) -> str:
    """Markdown of the coverage page: counts by section, then every item with its place."""
    audit, words, named = load(root), WORDS[language], _named(language, root)
    parts = [_counts(audit, words)]
    for kind, items in audit.items():
        title = words["titles"][list(KINDS).index(kind)]
        parts += [f"## {title} {{#{kind}}}", _list(items, words, named)]
    return "\n\n".join(parts)


def _faults(kind: str, entry: dict, root: Path, anchors: Anchors, must: bool) -> list[str]:
    places = entry.get("at") or []
    if must and not places:
        return [" has no anchor"]
    lost = [f": {why}" for place in places for why in _unresolved(place, anchors)]
    if lost or not places:
        return lost
    bare = _unproved(places, root) if entry.get("verdict") == "WRONG" else ()
    blank = (why for place in places for why in _undrawn(place, root)) if kind in DRAWN else ()
    return [f": {why}" for why in (*bare, *blank)]


def _unresolved(place: str, anchors: Anchors) -> Iterator[str]:
    page, _, anchor = place.partition("#")
    for language in LANGUAGES:
        if anchor not in anchors[language].get(page, set()):
            yield f"{place} is no anchor of docs/{language}/{page}.md"


def _unproved(places: list[str], root: Path) -> Iterator[str]:
    """What a wrong item lacks: a box of errata among its places, with a claim in the box."""
    for language in LANGUAGES:
        boxes = [_box(place, language, root) for place in places]
        if not any("type: erratum" in box for box in boxes):
            yield f"verdict WRONG, but no errata box of docs/{language} among {', '.join(places)}"
        elif not any("type: erratum" in box and "[[claim " in box for box in boxes):
            yield f"errata box of docs/{language} holds no [[claim …]]"


def _undrawn(place: str, root: Path) -> Iterator[str]:
    page, _, anchor = place.partition("#")
    for language in LANGUAGES:
        items = places.section(read(_text(page, language, root)).items, anchor)
        if not any(item.kind == "[[figure]]" for item in items):
            yield f"{place} of docs/{language} holds no [[figure …]]"


def _box(place: str, language: str, root: Path) -> str:
    page, _, anchor = place.partition("#")
    return places.box(_text(page, language, root), anchor)


def _text(page: str, language: str, root: Path) -> str:
    path = root / "docs" / language / f"{page}.md"
    return path.read_text("utf-8") if path.is_file() else ""


def _counts(audit: dict, words: dict) -> str:
    entries = list(audit["keys"].values())
    totals = Counter(entry["section"] for entry in entries)
    covered = Counter(entry["section"] for entry in entries if entry.get("at"))
    rows = [(f"`{name}`", str(covered[name]), str(total)) for name, total in totals.items()]
    return tables.table(words["head"][:3], [*rows, ("", str(covered.total()), str(totals.total()))])


def _named(language: str, root: Path) -> dict[str, str]:
    """What a reader sees of each place: the title of its page, then its own."""
    found = {}
    for path in sorted((root / "docs" / language).glob("*.md")):
        of_page = places.titles(path.read_text("utf-8"))
        page = next(iter(of_page.values()), path.stem)
        for anchor, title in of_page.items():
            whole = page if title == page else f"{page} › {title}"
            found[f"{path.stem}#{anchor}"] = re.sub(r"([|\[\]])", r"\\\1", whole)
    return found


def _list(items: dict[str, dict], words: dict, named: dict[str, str]) -> str:
    if not any("verdict" in entry for entry in items.values()):
        head = words["head"][3], words["head"][5]
        return tables.table(
            head, [(key, _where(entry, words, named)) for key, entry in items.items()]
        )
    verdicts = dict(zip(VERDICTS, words["verdicts"], strict=True))
    rows = [(key, verdicts[e["verdict"]], _where(e, words, named)) for key, e in items.items()]
    return tables.table(words["head"][3:], rows)


def _where(entry: dict, words: dict, named: dict[str, str]) -> str:
    places = entry.get("at") or []
    links = [f"[{named.get(p, p)}]({p.replace('#', '.md#', 1)})" for p in places]
    return "<br>".join(links) or words["later"].format(entry["section"])
