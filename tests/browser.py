"""A browser that looks at the built site, which is served as it will be published."""

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Response,
    Route,
    sync_playwright,
)

from scripts.sitegen.tree import ROOT

AXE = ROOT / "node_modules/axe-core/axe.min.js"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""
THIN = """
for (const part of document.querySelectorAll(".katex-html")) {
  if (!part.querySelector("[class*=pe-t]")) part.replaceChildren();
}
for (const math of document.querySelectorAll("math")) math.replaceChildren(math.textContent);
for (const code of document.querySelectorAll(".highlight code")) {
  const seen = new Set();
  for (const span of code.querySelectorAll("span")) {
    if (!span.className || seen.has(span.className)) span.replaceWith(...span.childNodes);
    seen.add(span.className);
  }
}
"""  # axe has no rule for the inside of formulas; one word of each colour stands for its block
RUN = "axe.run({resultTypes: ['violations']}).then((results) => results.violations)"
STILL = """
const still = new CSSStyleSheet();
const rules = "transition: none !important; animation: none !important";
still.replaceSync(`*, ::before, ::after { ${rules} }`);
document.adoptedStyleSheets = [still];
"""  # not a style element: the policy forbids those
missing: set[str] = set()


def needed(name: str, *commands: str, package: str) -> str:
    """The path of the first of the commands that is there; else skip, or fail in CI."""
    found = next(filter(None, map(shutil.which, commands)), None)
    if found:
        return found
    message = f"{name} is missing; get it with: apt-get install {package}"
    missing.add(message)
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def paths(site: Path) -> list[str]:
    """Addresses of all pages below the site's root; of the many source pages, one per language."""
    files = (path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")))
    found = [name.removesuffix("index.html") for name in files]
    sample = "source/tests/claims/"
    return [p for p in found if "source/" not in p or p.endswith(sample)]


def canonical(site: Path) -> str:
    """The address that the site's home page gives itself."""
    found = re.search(r'rel="canonical" href="([^"]+)"', (site / "index.html").read_text("utf-8"))
    assert found
    return found[1]


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve the site under the path of its canonical address, lost addresses by its 404.html."""
    prefix = urlsplit(canonical(site)).path

    class Handler(http.server.SimpleHTTPRequestHandler):
        error_message_format = (site / "404.html").read_text("utf-8").replace("%", "%%")
        error_content_type = "text/html; charset=utf-8"
        protocol_version = "HTTP/1.1"

        def translate_path(self, path: str) -> str:
            inside = path.removeprefix(prefix) if path.startswith(prefix) else "outside"
            return super().translate_path(f"/{inside}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without window."""
    path = needed("Chromium", "chromium", "chromium-browser", "google-chrome", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page and what went wrong on it."""

    page: Page
    base: str
    planted: str = ""
    said: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        self.page.goto(self.base + path)
        return self.page

    def _route(self, route: Route) -> None:
        request = route.request
        if not request.url.startswith(self.base):
            self.foreign.append(request.url)
            route.abort()
        elif self.planted and request.is_navigation_request():
            answer = route.fetch()
            body = answer.text().replace("</article>", f"{self.planted}</article>", 1)
            route.fulfill(response=answer, body=body)
        else:
            route.continue_()

    def _lost(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the reader went on to another page
            self.failed.append(request.url)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.failed.append(f"{response.status} {response.url}")

    def _watch(self) -> None:
        page = self.page
        page.route("**/*", self._route)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("requestfailed", self._lost)
        page.on("response", self._answered)


@contextmanager
def watched(browser: Browser, base: str, width: int = 1280, planted: str = "", **options):
    """A fresh reader at a screen of the given width; `planted` goes into every page."""
    height = 812 if width < 600 else 900
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", **options
    )
    context.set_default_timeout(10_000)
    try:
        watch = Watched(context.new_page(), base, planted)
        watch._watch()
        yield watch
    finally:
        context.close()


@dataclass
class Visit:
    """What a reader finds on one page."""

    said: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    too_wide: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    shift: float = 0.0


def visit(browser: Browser, base: str, path: str, planted: str = "") -> Visit:
    """Read a page on a desk, light then dark, and on a phone, dark then light."""
    seen = Visit()
    shifts = []
    for scheme, widths in (("light", (1280, 768)), ("dark", (320, 375))):
        with watched(browser, base, widths[0], planted, color_scheme=scheme) as watch:
            watch.page.add_init_script(SHIFTS)
            page = watch.open(path)
            shifts.append(page.evaluate("window.shifts"))
            seen.too_wide += [w for w in widths if wider_than(page, w)]
            page.set_viewport_size({"width": widths[0], "height": 900})
            page.evaluate(STILL)
            page.evaluate(THIN)
            page.evaluate(AXE.read_text("utf-8"))
            seen.violations += violations(page, f"{scheme}, {widths[0]} px")
            seen.violations += violations(page, f"{swap(page)}, {widths[0]} px")
            seen.said += watch.said
            seen.failed += watch.failed
            seen.foreign += watch.foreign
    seen.shift = max(shifts)
    return seen


def shift(browser: Browser, base: str, path: str, width: int, planted: str = "") -> float:
    """How far the layout of a page moves while it loads, and in the half second after."""
    with watched(browser, base, width, planted, bypass_csp=bool(planted)) as watch:
        watch.page.add_init_script(SHIFTS)
        watch.open(path).wait_for_timeout(500)
        return watch.page.evaluate("window.shifts")


def wider_than(page: Page, width: int) -> bool:
    """Whether the page scrolls sideways on a screen of this width."""
    page.set_viewport_size({"width": width, "height": 900})
    return page.evaluate("document.documentElement.scrollWidth") > width


def swap(page: Page) -> str:
    """Change between light and dark; the new scheme."""
    page.locator("label[for^=__palette]:not([hidden])").first.click()
    return scheme(page)


def scheme(page: Page) -> str:
    """The scheme that the page shows."""
    name = page.locator("body").get_attribute("data-md-color-scheme")
    return "dark" if name == "slate" else "light"


def violations(page: Page, when: str) -> list[str]:
    """What axe finds on the page as it is."""
    found = page.evaluate(RUN)
    return [
        f"{when}: {rule['id']}: {node['html'][:160]} {node['any'][:1]}"
        for rule in found
        for node in rule["nodes"]
    ]
