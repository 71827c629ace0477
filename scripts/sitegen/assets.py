"""Files that both languages' sites need beside their pages: style, script, formula fonts."""

from pathlib import Path

from scripts.sitegen import formulas

OWN = ("posenc.css", "posenc.js", "favicon.svg")


def assets(root: Path) -> dict[str, bytes]:
    """Content of every asset by its path in the site."""
    found = {f"assets/{name}": (root / "docs/assets" / name).read_bytes() for name in OWN}
    for source, target in formulas.katex_assets(root):
        found[f"assets/katex/{target}"] = source.read_bytes()
    found["assets/katex/katex.min.css"] = formulas.katex_css(root).encode()
    return found


def write_robots(site_dir: Path, site_url: str) -> None:
    """Name the sitemap of each language."""
    maps = (f"Sitemap: {site_url}{way}sitemap.xml\n" for way in ("", "en/"))
    (site_dir / "robots.txt").write_text("User-agent: *\nAllow: /\n" + "".join(maps), "utf-8")
