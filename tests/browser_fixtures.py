"""Fixtures of the browser tests: the site, served, and one browser for the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium, missing, served
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def base(built: Path) -> Iterator[str]:
    """Address of the built site."""
    with served(built) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for the whole session."""
    with chromium() as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once what is missing, however many tests were skipped for it."""
    for message in sorted(missing):
        terminalreporter.write_line(message, yellow=True)
