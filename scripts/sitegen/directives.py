"""Directives: `[[name argument | rest]]` in a page's Markdown, outside code."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,}|~{3,})")
DIRECTIVE = re.compile(
    r"\[\[(?P<name>[a-z]+(?:-[a-z]+)*)(?: (?P<argument>[^\s|\]]+))?(?: \| (?P<rest>.+?))?\]\]"
)


class Directive(NamedTuple):
    """One directive and the line it stands on, counted from 1."""

    name: str
    argument: str
    rest: str
    line: int


def prose(markdown: str) -> Iterator[tuple[int, str, bool]]:
    """Lines with their numbers, and whether each is prose (not in a fence)."""
    closing = ""
    for number, line in enumerate(markdown.splitlines(), 1):
        fence = FENCE.match(line)
        if closing:
            yield number, line, False
            if fence and fence["mark"].startswith(closing) and line.strip() == fence["mark"]:
                closing = ""
        elif fence:
            closing = fence["mark"]
            yield number, line, False
        else:
            yield number, line, True


def find(markdown: str) -> list[Directive]:
    """All directives of a page, in order."""
    return [
        Directive(m["name"], m["argument"] or "", m["rest"] or "", number)
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
            return makers[match["name"]](match["argument"] or "", match["rest"] or "")
        except (LookupError, ValueError) as error:
            raise ValueError(f"{where}:{number}: {match[0]}: {error.args[0]}") from error

    lines = [
        DIRECTIVE.sub(lambda m, number=number: replace(m, number), line) if is_prose else line
        for number, line, is_prose in prose(markdown)
    ]
    return "\n".join(lines) + "\n"
