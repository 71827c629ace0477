"""MkDocs hooks: thin; the logic is in the functions beside them."""

import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jinja2 import FileSystemBytecodeCache  # noqa: E402
from mkdocs.commands.build import build  # noqa: E402
from mkdocs.config import load_config  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.plugins import event_priority  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from scripts.sitegen import assets, markup, rendered, serving  # noqa: E402
from scripts.sitegen.site import Site  # noqa: E402

log = logging.getLogger("mkdocs.posenc")
state: dict = {"whole": None, "source": None, "folds": {}}


def on_startup(command, dirty):
    if command == "serve":
        os.environ["POSENC_SERVING"] = "1"


def on_config(config):
    language = config.theme["language"]
    if language != "zh":
        config.nav = [_translated(entry, config.extra["groups"]) for entry in config.nav]
        config.site_url += f"{language}/"
    config.extra["alternate"] = True  # the theme asks only whether there is another language
    state["site"] = Site(ROOT, language, config.site_url)
    if os.environ.get("POSENC_SERVING"):
        state["whole"] = serving.language(ROOT, language, config.site_url)
        state["source"] = serving.source_pages(ROOT, language, config.site_url)
    if _is_kept("whole"):
        config.nav = []
    return config


def _translated(entry, groups):
    return {groups[t]: pages for t, pages in entry.items()} if isinstance(entry, dict) else entry


def _is_kept(part):
    return state[part] is not None and state[part].is_fresh()


def on_pre_build(config):
    if config.theme["language"] == "zh":
        _reporting(state["site"].prepare)
        for problem in _reporting(state["site"].problems):
            log.warning(problem)


@event_priority(100)
def on_files(files, config):
    site = state["site"]
    if _is_kept("whole"):
        return Files([])
    _cache_templates(config.plugins["mkdocstrings"].get_handler("python").env)
    for path, text in _reporting(site.generated, not _is_kept("source")).items():
        files.append(File.generated(config, path, content=text))
    for path, content in (_reporting(site.downloads) | assets.assets(ROOT)).items():
        files.append(File.generated(config, path, content=content))
    state["folds"] = {}
    state["store"] = rendered.Store(ROOT, config, files)
    return files


def on_env(env, config, files):
    _cache_templates(env)
    if not _is_kept("whole"):
        rendered.keep_entries(config.plugins["material/search"].search_index, state["store"])


def _cache_templates(env):
    """Keep compiled templates between builds: half of a small build would go into them."""
    folder = ROOT / ".cache/templates"
    folder.mkdir(parents=True, exist_ok=True)
    env.bytecode_cache = FileSystemBytecodeCache(str(folder))
    env.auto_reload = False  # every build makes its own environment


@event_priority(100)
def on_page_markdown(markdown, page, config, files):
    site = state["site"]
    if not page.url.startswith("source/"):
        markdown = _reporting(site.expand, markdown, page.url, page.file.src_uri)

    def shown(text):
        return _reporting(site.shown, text)

    def finish(html):
        return _reporting(site.content, html, page.file.src_uri)

    rendered.keep_page(page, state["store"], config.plugins, shown, finish, state["folds"])
    return markdown


def on_post_page(output, page, config):
    output = state["site"].unfolded(output, state["folds"].get(page.url, []))
    return markup.mended(output, page.url, config.theme["language"])


def on_post_template(output_content, template_name, config):
    if template_name == "404.html":
        return markup.mended(output_content, "", config.theme["language"])
    return output_content


def on_post_build(config):
    site_dir, language = Path(config.site_dir), config.theme["language"]
    _reporting(assets.mend_search, site_dir)
    for part, folder, ignored in (("source", "source", ()), ("whole", "", ("en", "source"))):
        if _is_kept(part):
            state[part].restore(site_dir / folder)
        elif state[part] is not None:
            state[part].keep(site_dir / folder, *ignored)
    if language == "zh":
        _build_english(config, site_dir / "en")
        assets.write_robots(site_dir, config.site_url)
    if not os.environ.get("POSENC_SERVING"):
        for problem in markup.finish(site_dir, skip="en/"):
            log.warning(problem)


def _build_english(config, target):
    serving_at = f"{config.site_url}en/" if os.environ.get("POSENC_SERVING") else None
    if serving_at and serving.restored(ROOT, "en", serving_at, target):
        return
    english = load_config(
        str(ROOT / "mkdocs.en.yml"), site_dir=str(target), site_url=config.site_url
    )
    english.plugins.on_startup(command="serve" if serving_at else "build", dirty=False)
    build(english, serve_url=serving_at)
    english.plugins.on_shutdown()


def _reporting(function, *arguments):
    """Turn the errors of the site's functions into a message that stops the build."""
    try:
        return function(*arguments)
    except (LookupError, OSError, RuntimeError, ValueError) as error:
        raise PluginError(str(error)) from error
