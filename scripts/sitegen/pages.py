"""A Markdown page taken apart: what two languages must share, and the prose that they need not.

Each construct is recorded and blanked in turn, so that what is left in the end is prose, every
character of it still at its place.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from scripts.sitegen.directives import DIRECTIVE, SYNTAX
from scripts.sitegen.fences import FENCE, without_comments

FRONT = re.compile(r"(?s)\A---\n.*?\n---\n")
COMMENT = re.compile(r"(?s)<!--.*?-->")
HEADING = re.compile(r"(?m)^(?P<marks>#{1,6}) +(?P<keep>.*?)(?P<attrs> *\{[^{}\n]*\})? *$")
DISPLAY = re.compile(r"(?ms)^ *\$\$(?P<tex>.+?)\$\$ *$")
CODE = re.compile(r"(?s)(?<!`)(`+)(?!`)(?:.+?)(?<!`)\1(?!`)")
BOX = re.compile(
    r"(?m)^ */{3,} +(?P<type>\w+)(?: +\|(?P<keep>[^\n]*))?\n(?P<options>(?: {4,}\S[^\n]*\n)*)"
)
ADMONITION = re.compile(r"(?m)^ *(?P<marks>!!!|\?{3}\+?) +(?P<type>\w+)(?P<keep>[^\n]*)")
BLOCK = re.compile(rf"(?m)^ *{SYNTAX} *$")
FORMULA = re.compile(r"(?<![\\$])\$(?!\s)(?P<tex>(?:\\.|[^\\$\n]|\n(?! *\n))+?)(?<!\s)\$")
IMAGE = re.compile(r"!\[(?P<keep>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)(?:\{[^}\n]*\})?")
LINK = re.compile(r"(?<=\])(?:\((?P<to>[^)\s]+)[^)]*\)|\[(?P<ref>[^\]\n]+)\])|<(?P<url>http[^>]+)>")
MARK = re.compile(r"\{:? *[#.][^{}\n]*\}|<[a-z][^<>]*>")
TABLE = re.compile(r"(?m)(?:^ *\|[^\n]*\|[ \t]*\n?)+")
ENTRY = re.compile(r"(?m)^ *(?:[-*+]|\d+[.)]) +(?=\S)")
IDENTIFIER = re.compile(r"""(?:^|[\s{])(?:#|id[:=] *["']?)(?P<id>[\w.-]+)""")
TEXT = re.compile(r"\\text\{(?:[^{}]|\{[^{}]*\})*\}")
BLOCKS = ("heading", "code", "display formula", "box", "admonition", "table", "image")


class Item(NamedTuple):
    """One construct of a page: its line, its section, what it is and what it holds."""

    line: int
    section: str
    kind: str
    value: str

    @property
    def is_block(self) -> bool:
        """Whether its order counts; an inline construct may move within a sentence."""
        return self.kind in BLOCKS or self.kind.startswith("[[")


class Page(NamedTuple):
    """All constructs of a page in order, and its prose."""

    items: list[Item]
    prose: str


@lru_cache(maxsize=256)
def read(markdown: str, first_line: int = 1) -> Page:
    """Take a page apart; ``first_line`` is the number of its first line in its file."""
    found: list[tuple[int, str, str]] = []
    text = markdown + "\n"

    def see(pattern: re.Pattern[str], kind: str, value: Callable[[re.Match[str]], str]) -> None:
        matches = pattern.finditer(text)
        found.extend((_first(m), kind.format_map(m.groupdict()), value(m)) for m in matches)

    def take(pattern: re.Pattern[str], kind: str, value: Callable[[re.Match[str]], str]) -> None:
        nonlocal text
        see(pattern, kind, value)
        text = pattern.sub(_blank, text)

    take(FRONT, "", lambda m: "")
    take(FENCE, "code", lambda m: without_comments(m["info"], m["body"]))
    take(COMMENT, "", lambda m: "")
    take(HEADING, "heading", lambda m: f"{m['marks']} {{#{_id(m['attrs'] or '')}}}")
    take(DISPLAY, "display formula", lambda m: normal_tex(m["tex"]))
    take(CODE, "", lambda m: "")
    take(BOX, "box", lambda m: " ".join([m["type"], *m["options"].split()]))
    take(ADMONITION, "admonition", lambda m: f"{m['marks']} {m['type']}")
    take(BLOCK, "[[{name}]]", _inserted)
    take(DIRECTIVE, "{name}", _inserted)
    take(FORMULA, "formula", lambda m: normal_tex(m["tex"]))
    take(IMAGE, "image", lambda m: m["target"])
    take(LINK, "link", lambda m: m["to"] or m["ref"] or m["url"])
    take(MARK, "anchor", lambda m: _id(m[0].strip("{}<>: ")))
    see(TABLE, "table", _table)
    see(ENTRY, "list item", lambda m: "")
    return Page(_placed(found, markdown, first_line), text)


def normal_tex(tex: str) -> str:
    r"""Formula as both languages must write it: spaces single, words in ``\text`` blanked."""
    return " ".join(TEXT.sub(r"\\text{}", tex).split())


def _first(match: re.Match[str]) -> int:
    return match.start() + len(match[0]) - len(match[0].lstrip(" "))


def _blank(match: re.Match[str]) -> str:
    """Spaces of the same length, but for the part that is prose."""
    start, end = match.span("keep") if "keep" in match.re.groupindex else (-1, -1)
    return "".join(
        char if char == "\n" or start <= place < end else " "
        for place, char in enumerate(match[0], match.start())
    )


def _placed(found: list[tuple[int, str, str]], markdown: str, first_line: int) -> list[Item]:
    found = sorted(entry for entry in found if entry[1] and entry[1:] != ("anchor", ""))
    starts = [at for at, kind, _ in found if kind == "heading"]
    names = ["", *(_id(value.lstrip("#")) for _, kind, value in found if kind == "heading")]
    ends = [match.start() for match in re.finditer("\n", markdown)]
    return [
        Item(first_line + bisect_left(ends, at), names[bisect_right(starts, at)], kind, value)
        for at, kind, value in found
    ]


def _id(attributes: str) -> str:
    match = IDENTIFIER.search(attributes)
    return match["id"] if match else ""


def _inserted(match: re.Match[str]) -> str:
    """What a directive inserts, and its option unless that is a sentence."""
    option = (match["keep"] or "").strip()
    if match["name"] == "cite":
        option = " ".join(re.findall(r"\d+(?:\.\d+)*", option))
    shared = [match["argument"], option if match["name"] != "figure" else ""]
    return " | ".join(part for part in shared if part)


def _table(match: re.Match[str]) -> str:
    rows = [row for row in match[0].splitlines() if row.strip()]
    return f"{rows[0].strip().count('|') - 1} columns, {len(rows)} rows"
