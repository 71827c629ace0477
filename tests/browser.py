"""A browser that looks at the built site, which is served as it will be published."""

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
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
PLAIN = ("em", "strong")  # test_browser_pages.py: they have the colours of the text around them
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"}
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
    schemes: list[tuple[int, str]] = field(default_factory=list)


WIDTHS = {1280: (1280, 768), 320: (320, 375)}  # where a page is loaded, what else it must fit
Eyes = dict[int, Watched]


@contextmanager
def eyes(browser: Browser, base: str, planted: str = "", **options) -> Iterator[Eyes]:
    """A reader at a desk and one with a phone, who go from page to page.

    Requests that are watched are never answered from the browser's cache: each visit is a first.
    """
    with ExitStack() as stack:
        found = {
            width: stack.enter_context(watched(browser, base, width, planted, **options))
            for width in WIDTHS
        }
        for watch in found.values():
            watch.page.add_init_script(SHIFTS + "localStorage.clear();")  # no chosen scheme
        yield found


def visit(eyes: Eyes, path: str, first: str = "light", both: bool = True) -> Visit:
    """Read a page on a desk in the scheme `first` and on a phone in the other; or in both each."""
    seen = Visit()
    schemes = {1280: first, 320: "dark" if first == "light" else "light"}
    for width, watch in eyes.items():
        watch.said, watch.failed, watch.foreign = seen.said, seen.failed, seen.foreign
        page = watch.page
        page.set_viewport_size({"width": width, "height": 900 if width > 600 else 812})
        page.emulate_media(color_scheme=schemes[width])
        watch.open(path)
        seen.shift = max(seen.shift, page.evaluate("window.shifts"))
        seen.too_wide += [w for w in WIDTHS[width] if wider_than(page, w)]
        page.set_viewport_size({"width": width, "height": 900})
        for script in (STILL, THIN, AXE.read_text("utf-8")):
            page.evaluate(script)
        seen.schemes.append((width, scheme(page)))
        seen.violations += violations(page, f"{scheme(page)}, {width} px")
        if both:
            seen.schemes.append((width, swap(page)))
            seen.violations += violations(page, f"{scheme(page)}, {width} px")
    return seen


def visit_all(eyes: Eyes, site: Path, found: list[str]) -> dict[str, Visit]:
    """Visit pages in both languages; what looks alike in both shares the four states.

    Colours belong to tags, classes and styles. Where both languages hold the same of them, each in
    the same ancestors, one language shows them on a bright desk and a dark phone, the other on a
    dark desk and a bright phone; every other page is read in all four states. All rules but those
    of colours find the same in both schemes, so that either language is held to them.
    """
    alike = {path for path in found if looks(site, path) == looks(site, twin(path))}
    return {
        path: visit(eyes, path, "dark" if path.startswith("en/") else "light", path not in alike)
        for path in found
    }


def twin(path: str) -> str:
    """The address of a page in the other language."""
    return path.removeprefix("en/") if path.startswith("en/") else f"en/{path}"


def looks(site: Path, path: str) -> set[str]:
    """The elements of a page, each with its ancestors: what rules of style can tell apart."""
    file = site / (path if path.endswith(".html") else f"{path}index.html")
    text = re.sub(r"(?s)(?<=<pe-math)(.*?>).*?(?=</pe-math>)", _coloured, file.read_text("utf-8"))
    parser = _Looks()
    parser.feed(text.partition("<body")[2])
    return parser.found


def _coloured(match: re.Match) -> str:
    """The classes of a formula that set a colour; the rest takes that of the text around it."""
    return match[1] + "".join(sorted(set(re.findall(r"pe-t[abc]", match[0]))))


class _Looks(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.at: list[tuple[str, str]] = []
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        classes = " ".join(sorted((known.get("class") or "").split()))
        marks = [tag, classes, known.get("style") or "", str("hidden" in known)]
        mark = "" if tag in PLAIN and not any(marks[1:3]) else "|".join(marks)
        self.at.append((tag, mark))
        self.found.add(">".join(filter(None, (mark for _, mark in self.at))))
        if tag in VOID:
            self.at.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in (name for name, _ in self.at) and self.at.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.at and self.at[-1][0] == "style":
            self.found.add(data)


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
