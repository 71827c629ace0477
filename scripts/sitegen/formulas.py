r"""The formulas of a page: every arithmatex element becomes KaTeX inside ``<pe-math>``.

A page must come through here before the search plugin reads it (``on_page_content``): the custom
element with ``data-search-exclude`` is what keeps formulas out of the search index, which skips
by the name of the element.
"""

import html as entities
import re
from pathlib import Path

from scripts.sitegen.fences import FENCE
from scripts.sitegen.katex import (
    FormulaError,
    identity,
    katex_assets,
    katex_css,
    node,
    render,
    warm,
)
from scripts.sitegen.pages import DISPLAY, FORMULA

__all__ = [
    "FormulaError",
    "formulas_to_html",
    "identity",
    "katex_assets",
    "katex_css",
    "node",
    "render",
    "warm",
    "warm_all",
]

ARITHMATEX = re.compile(
    r'<span class="arithmatex">\s*\\\((?P<inline>.*?)\\\)\s*</span>'
    r'|<div class="arithmatex">\s*\\\[(?P<display>.*?)\\\]\s*</div>',
    re.DOTALL,
)
CODE = re.compile(r"<(pre|code|script|style|textarea)\b.*?</\1>", re.DOTALL)
TAG = re.compile(r"\\tag\{([^{}]*)\}")
WIDE = re.compile(r"\\begin\{(?:[bpvBV]?matrix|array|cases|smallmatrix)\}")
GLYPHS = 20  # in one row: about what a phone of 320 px shows


def formulas_to_html(html: str, root: Path, where: str, label: str = "") -> str:
    """Replace the arithmatex elements of a page; ``label`` ("formula") names display ones."""
    items = [_item(match) for match in ARITHMATEX.finditer(html)]
    _check_dollars(html, where)
    _check_numbers([tex for tex, _ in items], where)
    try:
        rendered = iter(render(items, root))
    except FormulaError as error:
        raise FormulaError(f"{where}: {error}") from None
    return ARITHMATEX.sub(lambda match: _element(*_item(match), next(rendered), label), html)


def warm_all(root: Path) -> None:
    """Render the formulas of all pages and docstrings in one Node run instead of one a page."""
    found: list[tuple[str, bool]] = []
    for path in [*root.glob("docs/*/*.md"), *root.glob("posenc/**/*.py")]:
        text = FENCE.sub("", path.read_text("utf-8"))
        found += [(match["tex"], True) for match in DISPLAY.finditer(text)]
        found += [(match["tex"], False) for match in FORMULA.finditer(DISPLAY.sub("", text))]
    warm(found, root)


def _item(match: re.Match[str]) -> tuple[str, bool]:
    display = match["display"] is not None
    return entities.unescape(match["display" if display else "inline"]).strip(), display


def _check_dollars(html: str, where: str) -> None:
    outside = CODE.sub("", ARITHMATEX.sub("", html))
    if "$$" in outside:
        around = " ".join(re.sub(r"<[^>]*>", " ", outside.split("$$")[1])[:40].split())
        raise FormulaError(f"{where}: $$ needs a line of its own and blank lines, at '{around}'")


def _check_numbers(formulas: list[str], where: str) -> None:
    seen: set[str] = set()
    for tex in formulas:
        numbers = TAG.findall(tex)
        if len(numbers) > 1:
            raise FormulaError(f"{where}: formula '{tex}': one \\tag at most, got {len(numbers)}")
        if seen.intersection(numbers):
            raise FormulaError(f"{where}: two formulas are numbered {numbers[0]}")
        seen.update(numbers)


def _element(tex: str, display: bool, inner: str, label: str) -> str:
    if not display:
        return f'<pe-math data-search-exclude="true">{inner}</pe-math>'
    number = TAG.search(tex)
    identity = f' id="eq-{entities.escape(number[1])}"' if number else ""
    scroll = _scroll(" ".join(part for part in (label, number and number[1]) if part))
    attributes = identity + (scroll if _may_overflow(tex) else "")
    return f'<pe-math class="display"{attributes} data-search-exclude="true">{inner}</pe-math>'


def _scroll(name: str) -> str:
    """Make a box that may scroll reachable by keyboard, and known by a name."""
    return ' tabindex="0"' + (f' role="group" aria-label="{entities.escape(name)}"' if name else "")


def _may_overflow(tex: str) -> bool:
    if WIDE.search(tex):
        return True
    bare = re.sub(r"\\(?:begin|end|tag|mathrm|operatorname|text)\b\*?", "", tex)
    rows = re.sub(r"\\[a-zA-Z]+", "x", bare.replace(r"\\", "\n")).splitlines()
    number = 6 if TAG.search(tex) else 0
    return any(len(re.sub(r"[\s{}&^_\\]", "", row)) + number > GLYPHS for row in rows)
