"""Citations: one list for both languages, cited by id."""

from html import escape
from pathlib import Path

from scripts.sitegen.tree import read_yaml


def load(root: Path) -> dict[str, dict]:
    """All references, by id."""
    return read_yaml(root / "docs/references.yml")


def address(entry: dict) -> str:
    """Where the reference can be read."""
    return f"https://arxiv.org/abs/{entry['arxiv']}" if "arxiv" in entry else entry["url"]


def _surnames(entry: dict, language: str) -> str:
    names = entry["authors"]
    first = names[0].split()[-1] if "," not in names[0] else names[0].partition(",")[0]
    if len(names) == 1:
        return first
    return f"{first} 等" if language == "zh" else f"{first} et al."


def cite(name: str, place: str, language: str, references: dict[str, dict]) -> str:
    """Short citation in running text."""
    if name not in references:
        raise ValueError(f"no reference '{name}' in docs/references.yml")
    entry = references[name]
    where = f", {escape(place)}" if place else ""
    label = f"{_surnames(entry, language)} {entry['year']}{where}"
    return f'<a class="pe-cite" href="#ref-{name}">[{label}]</a>'


def listing(cited: list[str], references: dict[str, dict]) -> str:
    """The references of a page, in the order in which it cites them."""
    lines = []
    for name in dict.fromkeys(cited):
        entry = references[name]
        venue = f" {entry['venue']}." if "venue" in entry else ""
        link = f"[arXiv:{entry['arxiv']}]" if "arxiv" in entry else f"[{entry['url']}]"
        text = f"{', '.join(entry['authors'])}. *{entry['title']}*. {entry['year']}.{venue}"
        lines.append(f'- <span id="ref-{name}"></span>{text} {link}({address(entry)})')
    return "\n".join(lines)
