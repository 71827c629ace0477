"""MkDocs hooks: thin; the logic is in the functions beside them."""

import logging
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mkdocs.commands.build import build  # noqa: E402
from mkdocs.config import load_config  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.plugins import event_priority  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402

from scripts.sitegen import assets, markup  # noqa: E402
from scripts.sitegen.site import Site  # noqa: E402
from scripts.sitegen.tree import files as tree_files  # noqa: E402
from scripts.sitegen.tree import fingerprint  # noqa: E402

log = logging.getLogger("mkdocs.posenc")
state: dict = {"serving": False}


def on_startup(command, dirty):
    state["serving"] = command == "serve"
    os.environ["POSENC_SERVING"] = "1" if state["serving"] else ""


def on_config(config):
    language = config.theme["language"]
    if language != "zh":
        config.nav = [_translated(entry, config.extra["groups"]) for entry in config.nav]
        config.site_url += f"{language}/"
    state["site"] = Site(ROOT, language, config.site_url)
    config.extra["alternate"] = [{}]
    return config


def _translated(entry, groups):
    return {groups[t]: pages for t, pages in entry.items()} if isinstance(entry, dict) else entry


def on_pre_build(config):
    if config.theme["language"] == "zh":
        _reporting(state["site"].prepare)
        for problem in _reporting(state["site"].problems):
            log.warning(problem)


@event_priority(100)
def on_files(files, config):
    site = state["site"]
    for path, text in _reporting(site.generated).items():
        files.append(File.generated(config, path, content=text))
    for path, content in (site.downloads() | assets.assets(ROOT)).items():
        files.append(File.generated(config, path, content=content))
    return files


@event_priority(100)
def on_page_markdown(markdown, page, config, files):
    site = state["site"]
    if page.url.startswith("source/"):
        return markdown
    return _reporting(site.expand, markdown, page.url, page.file.src_uri)


def on_page_content(html, page, config, files):
    html = _reporting(state["site"].content, html, page.file.src_uri)
    page.present_anchor_ids = {*(page.present_anchor_ids or ()), *markup.ids(html)}
    return html


def on_page_context(context, page, config, nav):
    config.extra["alternate"] = [
        {"name": "中文", "lang": "zh", "link": f"switch:{page.url}"},
        {"name": "English", "lang": "en", "link": f"switch:en/{page.url}"},
    ]


def on_post_page(output, page, config):
    return markup.mended(output, page.url, config.theme["language"])


def on_post_template(output_content, template_name, config):
    if template_name == "404.html":
        return markup.mended(output_content, "", config.theme["language"])
    return output_content


def on_post_build(config):
    site_dir = Path(config.site_dir)
    if config.theme["language"] == "zh":
        _build_english(config, site_dir / "en")
        assets.write_robots(site_dir, config.site_url)
    if not os.environ.get("POSENC_SERVING"):
        for problem in markup.finish(site_dir, skip="en/"):
            log.warning(problem)


def _build_english(config, target):
    """Build English beside Chinese; while serving, only if something that it shows changed."""
    key = ""
    kept = ROOT / ".cache/serve/en"
    if os.environ.get("POSENC_SERVING"):
        shown = tree_files(
            ROOT, "docs/**/*", "posenc/**/*.py", "scripts/**/*", "tests/*.py", "*.yml"
        )
        key = fingerprint(ROOT, (p for p in shown if "docs/zh" not in p.as_posix()))
        if kept.with_suffix(".key").exists() and kept.with_suffix(".key").read_text() == key:
            shutil.copytree(kept, target)
            return
    english = load_config(
        str(ROOT / "mkdocs.en.yml"), site_dir=str(target), site_url=config.site_url
    )
    english.plugins.on_startup(command="serve" if key else "build", dirty=False)
    build(english, serve_url=f"{config.site_url}en/" if key else None)
    english.plugins.on_shutdown()
    if key:
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(target, kept)
        kept.with_suffix(".key").write_text(key)


def _reporting(function, *arguments):
    """Turn the errors of the site's functions into a message that stops the build."""
    try:
        return function(*arguments)
    except (LookupError, OSError, RuntimeError, ValueError) as error:
        raise PluginError(str(error)) from error
