"""Files that both languages' sites need beside their pages: style, script, formula fonts."""

from pathlib import Path

from scripts.sitegen import formulas

OWN = ("posenc.css", "posenc.js", "favicon.svg")
# The theme cuts a Chinese query into words, but never looks at its last character.
CUTS = "o<t.length;o++)t.slice(s,o)in e", "o<=t.length;o++)t.slice(s,o)in e"


def assets(root: Path) -> dict[str, bytes]:
    """Content of every asset by its path in the site."""
    found = {f"assets/{name}": (root / "docs/assets" / name).read_bytes() for name in OWN}
    for source, target in formulas.katex_assets(root):
        found[f"assets/katex/{target}"] = source.read_bytes()
    found["assets/katex/katex.min.css"] = formulas.katex_css(root).encode()
    return found


def mend_search(site_dir: Path) -> None:
    """Let the search find Chinese words at the end of a query."""
    short, whole = CUTS
    for path in site_dir.glob("assets/javascripts/workers/search.*.min.js"):
        text = path.read_text("utf-8")
        if text.count(short) != 1:
            raise ValueError(f"{path.name}: its cut of Chinese queries is not the known one")
        path.write_text(text.replace(short, whole), "utf-8")


def write_robots(site_dir: Path, site_url: str) -> None:
    """Name the sitemap of each language."""
    maps = (f"Sitemap: {site_url}{way}sitemap.xml\n" for way in ("", "en/"))
    (site_dir / "robots.txt").write_text("User-agent: *\nAllow: /\n" + "".join(maps), "utf-8")
