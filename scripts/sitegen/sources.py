"""Pages that show source files, so that claims and formulas link to code on the site."""

from pathlib import Path

from scripts.sitegen.tree import files

SHOWN = ("posenc/**/*.py", "tests/*.py", "scripts/figures/*.py", "docs/notebooks/*.py")


def pages(root: Path) -> dict[str, str]:
    """Markdown page of every shown file, by the page's path in the site."""
    shown = (path.relative_to(root).as_posix() for path in files(root, *SHOWN))
    return {
        f"source/{path.removesuffix('.py')}.md": page(root, path)
        for path in shown
        if (root / path).read_text("utf-8").strip()
    }


def page(root: Path, path: str) -> str:
    """A source file as a Markdown page; line n carries the id `line-n`."""
    text = (root / path).read_text("utf-8").rstrip()
    head = f"---\ntitle: {path}\nsearch: {{exclude: true}}\nhide: [toc, footer]\n---\n"
    return f'{head}\n# {path} {{#source}}\n\n````{{.python linenums="1"}}\n{text}\n````\n'


def address(path: str, line: int) -> str:
    """Where a line of a shown file stands on the site, from its root."""
    return f"source/{path.removesuffix('.py')}/#__span-0-{line}"
