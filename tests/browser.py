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
    BrowserContext,
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
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host is reached
)
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""
THIN = """
const wide = new Set();
for (const box of document.querySelectorAll("code, [tabindex]")) {
  if (box.scrollWidth > box.clientWidth) wide.add(box);
}
const styled = new Set(
  [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
    .flatMap((rule) => rule.cssText.match(/#[\\w-]+/g) ?? []));
for (const part of document.querySelectorAll(".katex-html")) {
  if (!part.querySelector("[class*=pe-t]")) part.remove();
}
for (const math of document.querySelectorAll("math")) math.replaceChildren(math.textContent);
const way = (element) => element ? `${way(element.parentElement)}>${element.className}` : "";
const tokens = new Set();
for (const code of document.querySelectorAll(".highlight code")) {
  const at = way(code);
  for (const span of code.querySelectorAll("span")) {
    const kind = at + span.className;
    if (!span.className || tokens.has(kind)) span.replaceWith(...span.childNodes);
    tokens.add(kind);
  }
  code.normalize();
}
for (const figure of document.querySelectorAll(".pe-figure svg")) {
  const seen = new Set();
  for (const part of figure.querySelectorAll("*:not(title, desc)")) {
    const kind = part.localName + part.getAttribute("class");
    if (seen.has(kind) && !part.children.length) part.remove();
    seen.add(kind);
  }
}
for (const rest of document.querySelectorAll("wbr, .pe-figure use")) rest.remove();
const VALUES = /^(class|style|role|aria-.*|tabindex|hidden|type|lang|for|open|scope)$/;
const thin = (element) => {
  const known = new Set();
  const parts = [...element.childNodes].map((node) => {
    if (node.nodeType !== 1) return node.nodeType === 3 && node.data.trim() ? "words" : "";
    const kind = thin(node);
    const needed = "input, label, style";
    if (known.has(kind) && !node.matches(needed) && !node.querySelector(needed)) node.remove();
    known.add(kind);
    return kind;
  });
  const marks = [...element.attributes].map(({name, value}) =>
    VALUES.test(name) || styled.has(`#${value}`) ? `${name}=${value}` : name + (value ? "" : "=0"));
  const own = `${element.localName}${wide.has(element) ? " wide" : ""}`;
  return `<${own} ${marks.sort().join(" ")}>${parts.join("")}</>`;
};
thin(document.body);
"""  # axe has no rule for the inside of formulas and figures; one word of each colour is enough,
# and one of several children that differ in nothing but words, names and addresses
FIRST = """
const known = new WeakMap(), seen = new Map();
for (const element of document.querySelectorAll("*")) {
  const of = (name) => element.getAttribute(name) ?? "";
  const own = [element.localName, of("class"), of("style"), of("id")].join("|");
  const all = `${known.get(element.parentElement) ?? ""}>${own}`;
  if (!seen.has(all)) seen.set(all, seen.size);
  known.set(element, seen.get(all));
}
window.first = () => {
  const found = new Set();
  for (const element of document.querySelectorAll("*")) {
    const kind = known.get(element);
    const text = (node) => node.nodeType === 3 && node.data.trim();
    const words = element.localName === "input" || [...element.childNodes].some(text);
    const shown = words && !found.has(kind) && element.checkVisibility({visibilityProperty: true});
    if (shown) found.add(kind);
    element.toggleAttribute("data-first", shown);
  }
};
axe.configure({rules: [{id: "color-contrast", selector: "[data-first]"}]});
"""  # of words in the same elements, that have the same colours therefore, the first that are seen
RUN = """(rules) => {
  window.first();
  const only = rules ? {runOnly: rules} : {};
  return axe.run({resultTypes: ["violations"], ...only}).then((results) => results.violations);
}"""
COLOURS = ["color-contrast", "link-in-text-block"]  # rules that another scheme may break
STILL = """
const still = new CSSStyleSheet();
const rules = "transition: none !important; animation: none !important";
still.replaceSync(`*, ::before, ::after { ${rules} }`);
document.adoptedStyleSheets = [still];
"""  # not a style element: the policy forbids those
SWAP = 'document.querySelector("label[for^=__palette]:not([hidden])").click()'
UNREACHABLE = """
[...document.querySelectorAll(".md-typeset__scrollwrap, pe-math.display")]
  .filter((box) => box.scrollWidth > box.clientWidth && box.tabIndex < 0)
  .map((box) => box.outerHTML.slice(0, 160))
"""
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

        def end_headers(self) -> None:
            if self.path.endswith(".woff2"):  # a font that is late moves the text: on each visit
                self.send_header("Cache-Control", "no-store")
            super().end_headers()

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

    def _plant(self, route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace("</article>", f"{self.planted}</article>", 1)
        route.fulfill(response=answer, body=body)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.base):
            self.foreign.append(request.url)

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
        if self.planted:
            page.route(re.compile(r"/([?#].*)?$"), self._plant)
        page.on("request", self._asked)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("requestfailed", self._lost)
        page.on("response", self._answered)


@contextmanager
def watched(browser: Browser, base: str, width: int = 1280, planted: str = "", **options):
    """A fresh reader at a screen of the given width; `planted` goes into every page."""
    with screen(browser, width, **options) as context:
        yield reads(context, base, planted)


@contextmanager
def screen(browser: Browser, width: int = 1280, **options) -> Iterator[BrowserContext]:
    """A window of the given width, for one reader or several, one after the other."""
    height = 812 if width < 600 else 900
    context = browser.new_context(
        viewport={"width": width, "height": height}, reduced_motion="reduce", **options
    )
    context.set_default_timeout(120_000)  # of a busy machine
    try:
        yield context
    finally:
        context.close()


def reads(context: BrowserContext, base: str, planted: str = "") -> Watched:
    """A reader who opens a tab of the window."""
    watch = Watched(context.new_page(), base, planted)
    watch._watch()
    return watch


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
    unreachable: list[str] = field(default_factory=list)
    whole: bool = True  # held to all rules of axe, not to those of colours alone


WIDTHS = {1280: (1280, 768), 320: (320,)}  # where a page is loaded, what else it must fit
OTHER = {1280: 320, 320: 1280}
Eyes = dict[int, Watched]


@contextmanager
def eyes(browser: Browser, base: str, planted: str = "", **options) -> Iterator[Eyes]:
    """A reader at a desk and one with a phone, who go from page to page.

    Their browser keeps what pages share, but for the fonts: text is set anew on each visit.
    """
    with ExitStack() as stack:
        found = {
            width: stack.enter_context(watched(browser, base, width, planted, **options))
            for width in WIDTHS
        }
        for watch in found.values():
            watch.page.add_init_script(SHIFTS + "localStorage.clear();")  # no chosen scheme
        yield found


def visit(eyes: Eyes, path: str, width: int = 0, rules: list[str] | None = None) -> Visit:
    """Read a page on a desk and on a phone, each in light and dark.

    If a width is given, load it there alone, in light, look at the other width, then return to the
    first in dark. What does not hang on colours is looked for once: both schemes have it. With
    `rules` it is not looked for at all, but for these.
    """
    seen = Visit(whole=rules is None)
    for start in (width,) if width else WIDTHS:
        watch = eyes[start]
        watch.said, watch.failed, watch.foreign = seen.said, seen.failed, seen.foreign
        page = watch.page
        page.set_viewport_size({"width": start, "height": 900 if start > 600 else 812})
        page.emulate_media(color_scheme="light" if width or start > 600 else "dark")
        watch.open(path)
        seen.shift = max(seen.shift, page.evaluate("window.shifts"))
        seen.unreachable += page.evaluate(UNREACHABLE)
        every = (*WIDTHS[start], *(WIDTHS[OTHER[start]] if width else ()))
        seen.too_wide += [w for w in every if wider_than(page, w)]
        page.evaluate(STILL + THIN + AXE.read_text("utf-8") + FIRST)
        look(page, seen, OTHER[start] if width else start, rules)
        page.evaluate(SWAP)
        look(page, seen, start, COLOURS)
    return seen


def look(page: Page, seen: Visit, width: int, rules: list[str] | None = None) -> None:
    """Hold the page as it is to the rules of axe, or to some of them."""
    page.set_viewport_size({"width": width, "height": 900})
    shown = scheme(page)
    seen.schemes.append((width, shown))
    seen.violations += violations(page, f"{shown}, {width} px", rules)


def visit_all(eyes: Eyes, site: Path, found: list[str]) -> dict[str, Visit]:
    """Visit pages in both languages; what looks alike in both shares the four states.

    Colours belong to tags, classes and styles. Where both languages hold the same of them, each in
    the same ancestors, one language is seen on a phone in light and then on a desk in dark, the
    other on a desk in light and then on a phone in dark, and one of them, in turn, is held to the
    rules that are not of colours; every other page is read in all four states, and held to all.
    """
    alike = {path for path in found if looks(site, path) == looks(site, twin(path))}
    turns = {path: turn % 2 for turn, path in enumerate(sorted({min(p, twin(p)) for p in alike}))}
    visits = {}
    for path in found:
        english = path.startswith("en/")
        width = (320 if english else 1280) if path in alike else 0
        whole = path not in alike or turns[min(path, twin(path))] == english
        visits[path] = visit(eyes, path, width, None if whole else COLOURS)
    return visits


def twin(path: str) -> str:
    """The address of a page in the other language."""
    return path.removeprefix("en/") if path.startswith("en/") else f"en/{path}"


@functools.cache
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


def shift(browser: Browser, base: str, path: str, width: int) -> float:
    """How far the layout of a page moves while it loads, and in the half second after."""
    with watched(browser, base, width) as watch:
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


def violations(page: Page, when: str, rules: list[str] | None = None) -> list[str]:
    """What axe finds on the page as it is."""
    found = page.evaluate(RUN, rules)
    return [
        f"{when}: {rule['id']}: {node['html'][:160]} {node['any'][:1]}"
        for rule in found
        for node in rule["nodes"]
    ]
