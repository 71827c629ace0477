"""Places of a page that others link to: headings, boxes, numbered formulas."""

import re

from scripts.sitegen.pages import IDENTIFIER, Item, read

TITLE = re.compile(r"(?m)^#+ +(?P<title>.*?) *\{#(?P<id>[\w.-]+)\} *$")
BOXED = re.compile(
    r"(?m)^/{3,} \w+ \| (?P<title>.*)\n(?: {4}.*\n)*? {4}attrs: .*?id: (?P<id>[\w.-]+)"
)


def titles(markdown: str) -> dict[str, str]:
    """The titles of the headings and boxes of a page, by their ids."""
    found = (match for pattern in (TITLE, BOXED) for match in pattern.finditer(markdown))
    return {match["id"]: match["title"] for match in found}


def anchors(markdown: str) -> set[str]:
    """Every id that the Markdown of a page gives to something."""
    found: set[str] = set()
    for item in read(markdown).items:
        if item.kind in ("heading", "box"):
            found.update(IDENTIFIER.findall(item.value))
        elif item.kind == "anchor":
            found.add(item.value)
        elif item.kind == "display formula":
            found.update(f"eq-{tag}" for tag in re.findall(r"\\tag\{([^{}]*)\}", item.value))
        elif item.kind == "[[formula]]" and " | " in item.value:
            found.add(f"eq-{item.value.split(' | ')[1]}")
    return found - {""}


def section(items: list[Item], anchor: str) -> list[Item]:
    """The items from a heading down to the next of its level or higher."""
    level, inside = 0, []
    for item in items:
        if item.kind == "heading":
            marks = item.value.index(" ")
            if level and marks <= level:
                break
            if item.section == anchor:
                level = marks
        if level:
            inside.append(item)
    return inside


def box(markdown: str, anchor: str) -> str:
    """The block ``/// … ///`` with that id, or nothing."""
    for match in re.finditer(
        r"(?ms)^( *)(/{3,}) +(?P<head>\w[^\n]*\n(?: {4,}\S[^\n]*\n)*).*?^\1\2 *$", markdown
    ):
        if anchor in IDENTIFIER.findall(match["head"]):
            return match[0]
    return ""
