"""What every built page must satisfy, and the mends that the theme's HTML needs."""

import base64
import hashlib
import posixpath
import re
from pathlib import Path

SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<body>.*?)</script>", re.S)
REQUEST = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|use)\b[^>]*?"
    r"\s(?:src|srcset|data|xlink:href)\s*=\s*[\"']?(?P<url>(?:https?:)?//[^\s\"'>]+)"
    r"|<link\b(?=[^>]*rel=[\"']?(?:stylesheet|icon|preload|preconnect|prefetch|manifest))[^>]*?"
    r"href=[\"']?(?P<link>(?:https?:)?//[^\s\"'>]+)"
)
CSS_REQUEST = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])(?P<url>(?:https?:)?//[^\s\"')]+)")
ID = re.compile(r"\sid=[\"']([^\"'\s>]+)")
SWITCH = re.compile(r"switch:(?P<path>[^\"'\s>]*)")
POLICY = (  # formulas carry style attributes, and nothing else is styled inline
    "default-src 'self'; script-src 'self' {hashes}; style-src 'self'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'"
)

# What the theme writes, a pattern -> what it should write; each pattern begins with a tag, because
# the text of a shown source file could match anything else.
MENDS = (
    # the theme asks GitHub for the stars of the repository
    (r'(<a [^>]*) data-md-component="source"', r"\1"),
    # its links between the languages are relative; docs/theme/main.html writes whole addresses
    (r'\s*<link rel="alternate" href="[^"]*" hreflang="[^"]*">', ""),
    # the choice of light or dark is remembered per language
    (r'<script>__md_scope=new URL\("[^"]*",', '<script>__md_scope=new URL("/",'),
    (r'(<input class="md-toggle"[^>]*) autocomplete="off"', r"\1"),
    (r'(<label class="md-nav__link[^>]*) tabindex=""', r"\1"),
    # an aria-expanded that is never updated, on an element that cannot be expanded
    (r'(<nav class="md-nav"[^>]*) aria-expanded="\w+"', r"\1"),
    # a dialog without a name; the search inside it has its own role
    (r'(<div class="md-search"[^>]*) role="dialog"', r"\1"),
    # one empty link per line of code: stops for the keyboard that lead nowhere
    (r'<a id="__codelineno-[^>]*></a>', ""),
    (r'<a href="#__codelineno-([\d-]+)">', r'<a tabindex="-1" href="#__span-\1">'),
    # KaTeX: the invisible sign of an applied function is a third child of two-child elements
    (r"(<msu[bp]><mi>\w+</mi>)<mo>\u2061</mo>", r"\1"),
    (r"(<mi>\w+</mi>)<mo>\u2061</mo>(?=</msu[bp]>)", r"\1"),
    # KaTeX: spacing between columns that there are not
    (r'(<mtable[^>]*) columnspacing=""', r"\1"),
    # KaTeX: browsers ignore a negative height
    (r'(<span class="vlist") style="height:-[\d.]+em;"', r"\1"),
)
LINE_ID = re.compile(r'<span id="__span-[\d-]+">')


def foreign_requests(html: str) -> list[str]:
    """Addresses of other hosts that a browser would ask while showing the page."""
    return [m["url"] or m["link"] for m in REQUEST.finditer(html)]


def foreign_css_requests(css: str) -> list[str]:
    """Addresses of other hosts that a style sheet would ask."""
    return [m["url"] for m in CSS_REQUEST.finditer(css)]


def policy(html: str) -> str:
    """The Content-Security-Policy of a page: no inline script but those it has now."""
    bodies = {
        m["body"]
        for m in SCRIPT.finditer(html)
        if "src=" not in m["attributes"] and "application/json" not in m["attributes"]
    }
    digests = (base64.b64encode(hashlib.sha256(b.encode()).digest()).decode() for b in bodies)
    return POLICY.format(hashes=" ".join(sorted(f"'sha256-{digest}'" for digest in digests)))


def with_policy(html: str) -> str:
    """The page with its policy as the first thing that the browser reads."""
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(html)}">'
    return html.replace('<meta charset="utf-8">', f'<meta charset="utf-8">{meta}', 1)


def with_switches(html: str, url: str, language: str) -> str:
    """Replace `switch:PATH` by the way from this page to PATH below the site's root."""
    here = posixpath.dirname(f"{'' if language == 'zh' else 'en/'}{url}x")

    def way(match: re.Match) -> str:
        target = match["path"]
        relative = posixpath.relpath(target or ".", here or ".")
        return relative + "/" if target.endswith("/") or not target else relative

    return SWITCH.sub(way, html)


def ids(html: str) -> set[str]:
    """All ids of a page."""
    return set(ID.findall(html))


def mended(html: str, url: str, language: str) -> str:
    """The theme's page with working language links and valid, accessible HTML."""
    for old, new in MENDS:
        html = re.sub(old, new, html)
    if not url.startswith("source/"):  # only there do links lead to lines; elsewhere ids repeat
        html = LINE_ID.sub("<span>", html)
    return with_switches(html, url, language)


def finish(site_dir: Path, skip: str = "") -> list[str]:
    """Put the policy into every page below `site_dir`; report requests to other hosts."""
    found = []
    for path in sorted(site_dir.rglob("*")):
        where = path.relative_to(site_dir).as_posix()
        if (skip and where.startswith(skip)) or path.suffix not in {".html", ".css"}:
            continue
        text = path.read_text("utf-8")
        asks = foreign_requests(text) if path.suffix == ".html" else foreign_css_requests(text)
        found += [f"{where}: request to another host: {url}" for url in asks]
        if path.suffix == ".html":
            path.write_text(with_policy(text), "utf-8")
    return found
