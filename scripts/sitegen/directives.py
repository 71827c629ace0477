"""Directives: `[[name argument | rest]]` in a page's Markdown, outside code."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scripts.sitegen.fences import FENCE

SYNTAX = r"\[\[(?P<name>[a-z]+(?:-[a-z]+)*)(?: (?P<argument>[^\s|\]]+))?(?: \| (?P<keep>.+?))?\]\]"
DIRECTIVE = re.compile(SYNTAX)


class Directive(NamedTuple):
    """One directive and the line it stands on, counted from 1."""

    name: str
    argument: str
    rest: str
    line: int


def prose(markdown: str) -> Iterator[tuple[int, str, bool]]:
    """Lines with their numbers, and whether each is prose (not in a fence)."""
    fenced: set[int] = set()
    for fence in FENCE.finditer(markdown):
        first = markdown.count("\n", 0, fence.start()) + 1
        fenced.update(range(first, first + fence[0].count("\n") + 1))
    for number, line in enumerate(markdown.splitlines(), 1):
        yield number, line, number not in fenced


def find(markdown: str) -> list[Directive]:
    """All directives of a page, in order."""
    return [
        Directive(m["name"], m["argument"] or "", m["keep"] or "", number)
        for number, line, is_prose in prose(markdown)
        if is_prose
        for m in DIRECTIVE.finditer(line)
    ]


def expand(markdown: str, makers: dict[str, Callable[[str, str], str]], where: str) -> str:
    """Replace every directive by what its maker returns for (argument, rest)."""

    def replace(match: re.Match, number: int) -> str:
        if match["name"] not in makers:
            known = ", ".join(sorted(makers))
            raise ValueError(f"{where}:{number}: no directive '{match['name']}'; known: {known}")
        try:
            return makers[match["name"]](match["argument"] or "", match["keep"] or "")
        except (LookupError, ValueError) as error:
            raise ValueError(f"{where}:{number}: {match[0]}: {error.args[0]}") from error

    lines = [
        DIRECTIVE.sub(lambda m, number=number: replace(m, number), line) if is_prose else line
        for number, line, is_prose in prose(markdown)
    ]
    return "\n".join(lines) + "\n"
