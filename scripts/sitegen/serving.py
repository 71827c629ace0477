"""What a rebuild under `mkdocs serve` may keep: parts of the site whose sources did not change."""

import shutil
from pathlib import Path

from scripts.sitegen import sources, tree

COMMON = ("*.yml", "docs/*.*", "docs/assets/*", "docs/theme/**/*", "scripts/sitegen/*")
CONTENT = ("docs/notebooks/*", "posenc/**/*.py", "scripts/figures/*.py", "tests/*.py")


class Part:
    """A part of the served site, kept below .cache/ with the fingerprint of what it shows."""

    def __init__(self, root: Path, name: str, patterns: tuple[str, ...], address: str) -> None:
        self.kept = root / ".cache/serve" / name
        self.mark = self.kept.with_suffix(".key")
        self.key = tree.fingerprint(root, tree.files(root, *COMMON, *patterns), address)

    def is_fresh(self) -> bool:
        """Whether the kept copy still shows what the sources say."""
        return self.mark.exists() and self.mark.read_text() == self.key

    def keep(self, built: Path, *ignored: str) -> None:
        """Copy what was just built, for later rebuilds."""
        self.mark.unlink(missing_ok=True)
        shutil.rmtree(self.kept, ignore_errors=True)
        if built.exists():
            shutil.copytree(
                built, self.kept, ignore=lambda at, _: ignored if at == str(built) else ()
            )
            self.mark.write_text(self.key)

    def restore(self, target: Path) -> None:
        """Put the kept copy where a build would have put it."""
        shutil.copytree(self.kept, target, dirs_exist_ok=True)


def language(root: Path, name: str, address: str) -> Part:
    """All pages of a language."""
    return Part(root, name, (*CONTENT, f"docs/{name}/*"), address)


def source_pages(root: Path, name: str, address: str) -> Part:
    """The pages of a language that show source files."""
    return Part(root, f"{name}-source", sources.SHOWN, address)


def restored(root: Path, name: str, address: str, target: Path) -> bool:
    """Whether a whole language could be put back without building anything."""
    pages, shown = language(root, name, address), source_pages(root, name, address)
    if not (pages.is_fresh() and shown.is_fresh()):
        return False
    pages.restore(target)
    shown.restore(target / "source")
    return True
