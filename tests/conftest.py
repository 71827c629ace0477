"""Options and markers of the test suite."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from claims import RESULTS
from hypothesis import settings

# The same examples on every run; no deadline, because machines of CI stall.
settings.register_profile("posenc", deadline=None, derandomize=True)
settings.load_profile("posenc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--claims-out", metavar="FILE", help="write what the claims of this run measured, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "claim: measures a sentence of the site (tests/claims.py)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the browser for last: its event loop runs on until the session ends."""
    items.sort(key=lambda item: "browser" in getattr(item, "fixturenames", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once what is missing, however many tests were skipped for it."""
    if browser := sys.modules.get("browser"):
        for message in sorted(browser.missing):
            terminalreporter.write_line(message, yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if out := session.config.getoption("--claims-out"):
        text = json.dumps(RESULTS, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        Path(out).write_text(text + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly, once for all tests; `POSENC_BUILT` names one that is built."""
    if ready := os.environ.get("POSENC_BUILT"):
        return Path(ready).absolute()
    import trees  # the claims alone need no copies of the tree

    target = tmp_path_factory.mktemp("built") / "site"
    trees.build(trees.ROOT, target)
    return target


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of one section, built strictly into its folder site; to be copied, not changed."""
    import trees

    root = tmp_path_factory.mktemp("small")
    trees.copy_small(root)
    trees.build(root, root / "site")
    return root


@pytest.fixture(scope="session")
def base(built: Path) -> Iterator[str]:
    """Address of the built site, served."""
    from browser import served

    with served(built) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """One browser for the whole session."""
    from browser import chromium

    with chromium() as started:
        yield started
