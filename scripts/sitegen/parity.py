"""Two languages, one content: what differs between the pages of docs/zh and docs/en."""

from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path

from scripts.sitegen.cells import cells
from scripts.sitegen.pages import FORMULA, HEADING, Item, read
from scripts.sitegen.tree import LANGUAGES, ROOT


def problems(root: Path = ROOT) -> list[str]:
    """All differences, each naming both places; empty when the languages agree."""
    names = {lang: {_name(p, root, lang) for p in _pages(root, lang)} for lang in LANGUAGES}
    found = [f"docs/zh/{name}: page missing" for name in sorted(names["en"] - names["zh"])]
    found += [f"docs/en/{name}: page missing" for name in sorted(names["zh"] - names["en"])]
    for name in sorted(names["zh"] & names["en"]):
        paths = [f"docs/{lang}/{name}" for lang in LANGUAGES]
        zh, en = ((root / path).read_text("utf-8") for path in paths)
        found += [*untidy(zh, paths[0]), *untidy(en, paths[1])]
        found += compare(read(zh).items, read(en).items, *paths)
    for path in sorted((root / "docs/notebooks").glob("*.py")):
        found += notebook(path.read_text("utf-8"), path.relative_to(root).as_posix())
    return found


def untidy(markdown: str, path: str) -> list[str]:
    """Faults of one page that would make a comparison or a link meaningless."""
    found, seen = [], set()
    for item in read(markdown).items:
        if item.kind == "heading" and not item.section:
            found.append(f"{path}:{item.line}: heading without {{#anchor}}")
        elif item.kind == "heading" and item.section in seen:
            found.append(f"{path}:{item.line}: second heading {{#{item.section}}}")
        seen.add(item.section if item.kind == "heading" else None)
    lines = enumerate(markdown.splitlines(), 1)
    headings = ((number, HEADING.match(line)) for number, line in lines)
    found += [
        f"{path}:{number}: formula in a heading"
        for number, match in headings
        if match and FORMULA.search(match["keep"])
    ]
    return found


def compare(zh: list[Item], en: list[Item], zh_path: str, en_path: str) -> list[str]:
    """Differences of two pages: first their headings, then what each common section holds."""
    headings = [[item for item in items if item.kind == "heading"] for items in (zh, en)]
    found = [_missing(item, zh_path, en_path) for item in _only(headings[0], headings[1])]
    found += [_missing(item, en_path, zh_path) for item in _only(headings[1], headings[0])]
    anchors = [[item.section for item in items] for items in headings]
    if not found and anchors[0] != anchors[1]:
        found.append(f"{en_path}: headings in another order than in {zh_path}")
    for anchor in dict.fromkeys(["", *anchors[0]]):
        if anchor in ["", *anchors[1]]:
            here = [
                [i for i in page if i.section == anchor and i.kind != "heading"]
                for page in (zh, en)
            ]
            found += _section(*here, zh_path, en_path)
    return found


def notebook(source: str, path: str) -> list[str]:
    """Differences between the Chinese and the English Markdown cells of a notebook."""
    found = []
    for zh, en in _partners(source):
        if zh is None or en is None:
            line, lang = (zh or en)[0], "en" if en is None else "zh"
            found.append(f'{path}:{line}: Markdown cell without its partner lang="{lang}"')
        else:
            pages = [read(text, line).items for line, text in (zh, en)]
            found += compare(*pages, path, path)
    return found


def _partners(source: str) -> Iterator[tuple]:
    """Markdown cells of both languages, paired between two cells of code."""
    groups: list[dict[str, list]] = [{"zh": [], "en": []}]
    for line, kind, text in cells(source):
        if kind in groups[-1]:
            groups[-1][kind].append((line, text))
        elif kind == "code":
            groups.append({"zh": [], "en": []})
    for group in groups:
        yield from zip_longest(group["zh"], group["en"])


def _pages(root: Path, language: str) -> list[Path]:
    return sorted((root / "docs" / language).rglob("*.md"))


def _name(path: Path, root: Path, language: str) -> str:
    return path.relative_to(root / "docs" / language).as_posix()


def _only(items: list[Item], others: list[Item]) -> list[Item]:
    known = {item.value for item in others}
    return [item for item in items if item.value not in known]


def _missing(item: Item, path: str, other: str) -> str:
    label = item.value.strip("# ") if item.kind == "heading" else f"`{item.value}`"
    level = (
        f" (level {item.value.index(' ')})"
        if item.kind == "heading"
        else f" (section #{item.section})"
    )
    what = f"{item.kind} {label}".replace(" ``", "")
    return f"{path}:{item.line}: {what}{level} missing in {other}"


def _section(zh: list[Item], en: list[Item], zh_path: str, en_path: str) -> list[str]:
    blocks = [[item for item in items if item.is_block] for items in (zh, en)]
    pairs = list(_aligned(*blocks))
    for kind in sorted({item.kind for item in (*zh, *en) if not item.is_block}):
        inline = [[item for item in items if item.kind == kind] for items in (zh, en)]
        pairs += _unmatched(*inline)
    return [_pair(a, b, zh_path, en_path) for a, b in pairs]


def _aligned(zh: list[Item], en: list[Item]) -> Iterator[tuple]:
    """Blocks that differ, in order; those of one kind that face each other as pairs."""
    keys = [[(item.kind, item.value) for item in items] for items in (zh, en)]
    for what, a, b, c, d in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        for left, right in zip_longest(zh[a:b], en[c:d]) if what != "equal" else ():
            if left and right and left.kind != right.kind:
                yield from ((left, None), (None, right))
            else:
                yield left, right


def _unmatched(zh: list[Item], en: list[Item]) -> Iterator[tuple]:
    """Inline constructs of one kind that only one language holds, whatever their order."""
    counts = [Counter(item.value for item in items) for items in (zh, en)]
    surplus = [counts[0] - counts[1], counts[1] - counts[0]]
    rest: list[list[Item]] = [[], []]
    for side, items in enumerate((zh, en)):
        for item in items:
            if surplus[side][item.value]:
                surplus[side][item.value] -= 1
                rest[side].append(item)
    return zip_longest(*rest)


def _pair(zh: Item | None, en: Item | None, zh_path: str, en_path: str) -> str:
    if zh is None:
        return _missing(en, en_path, zh_path)  # type: ignore[arg-type]
    if en is None:
        return _missing(zh, zh_path, en_path)
    here, there = _difference(en.value, zh.value)
    return (
        f"{en_path}:{en.line}: section #{en.section}: {en.kind} differs from "
        f"{zh_path}:{zh.line}: `{here}` / `{there}`"
    )


def _difference(a: str, b: str, around: int = 8) -> tuple[str, str]:
    """The parts of two texts that differ, with a few characters on both sides."""
    start = next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    first = max(0, start - around)
    return tuple(" ".join(t[first : len(t) - max(0, end - around)].split()) for t in (a, b))  # type: ignore[return-value]
