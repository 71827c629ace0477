"""What MkDocs makes of a page, kept by content: its HTML, and its entries in the search index.

Directives are carried out anew in every build, so that the Markdown that arrives here already holds
every number, table and piece of code that the page shows. What else decides the HTML is part of the
key. Templates are never kept: navigation and titles are always those of today.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from mkdocs.structure.toc import AnchorLink, get_toc

from scripts.sitegen import markup, tree

MACHINERY = ("mkdocs*.yml", "scripts/sitegen/*", "docs/theme/**/*")
DOCUMENTED = ("posenc/**/*.py", "docs/docstrings.po")
AUTODOC = re.compile(r"(?m)^ *::: ")
PACKAGES = (
    *("babel", "griffelib", "jieba", "Markdown", "mkdocs", "mkdocs-autorefs", "mkdocs-material"),
    *("mkdocstrings", "mkdocstrings-python", "Pygments", "pymdown-extensions"),
)
Finish = Callable[[str], tuple[str, list[str]]]


class Store:
    """Results of one build of one language, each kept below .cache/ under what it was made from."""

    def __init__(self, root: Path, config: MkDocsConfig, files: Files) -> None:
        self.root = root
        self.language = config.theme["language"]
        common = tree.fingerprint(
            root,
            tree.files(root, *MACHINERY),
            *_versions(),
            *map(str, (self.language, config.site_url, config.repo_url)),
            *sorted(f"{file.src_uri} {file.url}" for file in files if _counts(file.src_uri)),
        )
        documented = tree.fingerprint(root, tree.files(root, *DOCUMENTED))
        self.common = {False: common, True: common + documented}

    def get(self, kind: str, name: str, parts: list, make: Callable[[], Any]) -> Any:
        """The kept result; else the made one, which is kept unless making it gave a warning."""
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
        folder = self.root / ".cache" / kind / self.language
        path = folder / f"{name.replace('/', '.')}.{digest}.json"
        if (text := tree.kept(path)) is not None:
            return json.loads(text)
        with _warnings() as said:
            made = make()
        if not said:
            older = f"{name.replace('/', '.')}.{'?' * len(digest)}.json"
            tree.store(path, json.dumps(made, ensure_ascii=False), older)
        return made


def _counts(name: str) -> bool:
    """Whether the way to a file may be written in a page; no page names one below source/."""
    return not name.startswith("source/")


@lru_cache(maxsize=1)
def _versions() -> tuple[str, ...]:
    return tuple(f"{package} {version(package)}" for package in PACKAGES)


class _Ear(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What MkDocs and its plugins warn of."""
    ear, log = _Ear(), logging.getLogger("mkdocs")
    log.addHandler(ear)
    try:
        yield ear.said
    finally:
        log.removeHandler(ear)


# Pages


def keep_page(
    page: Page,
    store: Store,
    plugins: Any,
    shown: Callable[[str], list[str]],
    finish: Finish,
    folds: dict[str, list[str]],
) -> None:
    """Let MkDocs render a page through the store.

    `shown(markdown)` is all that will fill the slots of the page; `finish(html)` fills them and
    returns the HTML and the parts that it folded away, which go into `folds`.
    """

    def render(config: MkDocsConfig, files: Files) -> None:
        text = page.markdown or ""
        key = [store.common[bool(AUTODOC.search(text))], page.file.src_uri, page.url, text]
        make = lambda: _render(page, config, files, plugins, finish)  # noqa: E731
        kept = store.get("pages", page.file.src_uri, [*key, shown(text)], make)
        folds[page.url] = _restore(page, files, plugins, kept)

    page.render = render  # type: ignore[method-assign]


def _render(page: Page, config: MkDocsConfig, files: Files, plugins: Any, finish: Finish) -> dict:
    """Everything that rendering a page leaves behind, as plain data."""
    with _heard(plugins) as (anchors, objects):
        Page.render(page, config, files)
    html, folds = finish(page.content or "")
    links = (page.links_to_anchors or {}).items()
    return {
        "html": html,
        "folds": folds,
        "toc": [_token(item) for item in page.toc],
        "title": page._title_from_render,
        "ids": sorted({*(page.present_anchor_ids or ()), *markup.ids(html)}),
        "links": [[file.src_uri, anchors_of] for file, anchors_of in links],
        "anchors": anchors,
        "objects": objects,
    }


def _restore(page: Page, files: Files, plugins: Any, kept: dict) -> list[str]:
    """Put a page, and the indexes of what it documents, into the state after its rendering."""
    page.content = kept["html"]
    page.toc = get_toc(kept["toc"])
    page._title_from_render = kept["title"]
    page.present_anchor_ids = set(kept["ids"])
    found = ((files.get_file_from_path(uri), anchors) for uri, anchors in kept["links"])
    page.links_to_anchors = {file: anchors for file, anchors in found if file}
    for positional, named in kept["anchors"]:
        plugins["autorefs"].register_anchor(page, *positional, **named)
    for positional, named in kept["objects"]:
        plugins["mkdocstrings"].handlers.inventory.register(*positional, **named)
    return kept["folds"]


def _token(item: AnchorLink) -> dict:
    children = [_token(child) for child in item.children]
    return {"name": item.title, "id": item.id, "level": item.level, "children": children}


@contextmanager
def _heard(plugins: Any) -> Iterator[tuple[list, list]]:
    """What is registered meanwhile with the indexes of anchors and of documented objects.

    The anchors are only noted, since `_restore` will register them; of the objects a page may ask.
    """
    anchors: list = []
    objects: list = []
    autorefs, inventory = plugins["autorefs"], plugins["mkdocstrings"].handlers.inventory
    register = inventory.register

    def register_object(*positional: Any, **named: Any) -> None:
        objects.append([positional, named])
        register(*positional, **named)

    autorefs.register_anchor = lambda _, *positional, **named: anchors.append([positional, named])
    inventory.register = register_object
    try:
        yield anchors, objects
    finally:
        del autorefs.register_anchor, inventory.register


# The search index


def keep_entries(index: Any, store: Store) -> None:
    """Let the search index cut a page into entries only if the page is not the one it was."""
    cut = index.add_entry_from_context

    def entries(page: Page) -> list[dict]:
        before = len(index.entries)
        cut(page)
        return index.entries[before:]

    def add(page: Page) -> None:
        contents = [page.content, page.url, str(page.title), page.meta, list(map(_token, page.toc))]
        key = [store.common[False], *json.loads(json.dumps(contents, default=str))]
        before = len(index.entries)
        index.entries[before:] = store.get("search", page.file.src_uri, key, lambda: entries(page))

    index.add_entry_from_context = add
