"""Notebooks: one script for both languages, run once, woven into a page and a download.

`docs/notebooks/<key>.py` is a jupytext percent script. Its Markdown cells say `lang="zh"` or
`lang="en"`; its code cells are shared, and so are their outputs. A cell that draws says what its
figure shows: `# %% zh="…" en="…"`.
"""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Iterator
from html import escape
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urljoin

import jupytext
import nbformat
from nbformat import NotebookNode

from scripts.sitegen import style
from scripts.sitegen.tree import LANGUAGES, ROOT, cached, closure, files, fingerprint

MACHINERY = ("scripts/sitegen/notebooks.py", "scripts/sitegen/style.py", "scripts/sitegen/svg.py")
DRAWING = ("matplotlib", "numpy", "zhplot")
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
MARKER = re.compile(r"^# %%", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
ANCHOR = re.compile(r"^(#+ .*?) *\{#[\w-]+\}$", re.MULTILINE)
CJK = r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
WRAP = re.compile(f"(?<={CJK})\n(?={CJK})")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]+")
LABEL = "posenc-label"
TIMEOUT = 120

# Runs before the notebook: figures take the site's palette and become inline SVG.
PROLOGUE = """
%%matplotlib inline
import itertools as _itertools

from cycler import cycler as _cycler
from matplotlib import colormaps as _maps, rcParams as _settings
from matplotlib.colors import LinearSegmentedColormap as _Map, to_rgb as _rgb
from matplotlib.figure import Figure as _Figure
from matplotlib_inline.config import InlineBackend as _Backend

from scripts.sitegen import style as _style, svg as _svg

_style.prepare()
_maps.register(_Map.from_list("posenc", [(*_rgb(_style.H0), 0), (*_rgb(_style.H0), 1)]))
_settings["image.cmap"] = "posenc"
_settings["axes.prop_cycle"] = _cycler(color=[_style.C0, _style.C1, _style.C2, _style.C3])
_numbers = _itertools.count(1)


def _draw(figure):
    figure.set_label("%(label)s")
    return _svg.inline(figure, slug=f"fig-notebook-%(key)s-{next(_numbers)}")


_Backend.instance(parent=get_ipython()).figure_formats = {"svg"}
get_ipython().display_formatter.formatters["image/svg+xml"].for_type(_Figure, _draw)
"""


class NotebookError(ValueError):
    """A notebook that cannot be read or run; the message names file, line and cell."""


def notebook(path: Path, language: str) -> NotebookNode:
    """The notebook of one language, not executed: its Markdown cells and all code cells."""
    cells = _paired(path)
    kept = [c for c in cells if c.cell_type == "code" or c.metadata["lang"] == language]
    node = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    node.cells = [_tidy(cell, number, language) for number, cell in enumerate(kept, 1)]
    return node


def executed(path: Path, language: str, root: Path = ROOT) -> NotebookNode:
    """The notebook of one language with outputs; its code runs once, for both languages."""
    node = notebook(path, language)
    cells = [cell for cell in node.cells if cell.cell_type == "code"]
    for number, (cell, outputs) in enumerate(zip(cells, _outputs(path, root), strict=True), 1):
        cell.execution_count = number
        cell.outputs = [_output(kind, text, cell, language) for kind, text in outputs]
    return node


def markdown(path: Path, language: str, root: Path = ROOT) -> str:
    """Markdown of the notebook's page, with outputs."""
    parts = []
    for cell in executed(path, language, root).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts.append(_fence("python", cell.source))
            parts += [_shown(o, cell.metadata.get(language, "")) for o in cell.outputs]
    return "\n\n".join(parts) + "\n"


def ipynb(path: Path, language: str, root: Path = ROOT, page_url: str = "") -> bytes:
    """The executed notebook as a file to download.

    Its links lead to the site if `page_url`, the address of the notebook's page, is given; else
    their text stays alone.
    """
    node = executed(path, language, root)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            text = ANCHOR.sub(r"\1", cell.source)
            cell.source = LINK.sub(lambda m: _absolute(m, page_url), text)
            continue
        cell.metadata = NotebookNode()
        for output in cell.outputs:
            for kind in output.get("data", {}):
                output.data[kind] = _alone(output.data[kind])
    return (nbformat.writes(node) + "\n").encode()


def identity(path: Path, root: Path) -> str:
    """Digest of everything that decides what `markdown` and `ipynb` return, but the address."""
    versions = (f"{name} {version(name)}" for name in ("jupytext", "nbformat", *DRAWING))
    used = {path, *closure(root, path), *files(root, *MACHINERY, "scripts/sitegen/tree.py")}
    return fingerprint(root, sorted(used), *versions)


def _paired(path: Path) -> list[NotebookNode]:
    """Cells of the script; refuses a Markdown cell without partner."""
    cells = _cells(path)
    waiting = dict.fromkeys(LANGUAGES, 0)
    for line, cell in [*cells, (0, None)]:
        if cell is None or cell.cell_type == "code":
            if len(set(waiting.values())) > 1:
                place = f"before line {line}" if line else "at the end"
                counts = ", ".join(f"{number} {name}" for name, number in waiting.items())
                raise NotebookError(
                    f"{_where(path)}: Markdown cells without partner {place}: {counts}"
                )
            waiting = dict.fromkeys(LANGUAGES, 0)
        elif cell.metadata.get("lang") in LANGUAGES:
            waiting[cell.metadata["lang"]] += 1
        else:
            allowed = " or ".join(f'lang="{name}"' for name in LANGUAGES)
            raise NotebookError(f"{_where(path)}:{line}: a Markdown cell needs {allowed}")
    return [cell for _, cell in cells]


def _cells(path: Path) -> list[tuple[int, NotebookNode]]:
    """Cells with the lines that they start on."""
    text = path.read_text(encoding="utf-8")
    lines = [text.count("\n", 0, match.start()) + 1 for match in MARKER.finditer(text)]
    if not lines or text[: MARKER.search(text).start()].strip():  # type: ignore[union-attr]
        raise NotebookError(f"{_where(path)}:1: a notebook starts with a cell marker, '# %%'")
    return list(zip(lines, jupytext.reads(text, fmt="py:percent").cells, strict=True))


def _tidy(cell: NotebookNode, number: int, language: str) -> NotebookNode:
    """A cell with a stable id, its lines of Chinese joined without spaces."""
    name = f"cell-{number}"
    if cell.cell_type == "code":
        return nbformat.v4.new_code_cell(cell.source.strip("\n"), id=name, metadata=cell.metadata)
    return nbformat.v4.new_markdown_cell(WRAP.sub("", cell.source), id=name)


def _outputs(path: Path, root: Path) -> list[list[list[str]]]:
    """Outputs of every code cell, as pairs of kind and text, from the cache or from a run."""
    sources = [cell.source for cell in _paired(path) if cell.cell_type == "code"]
    versions = (version(name) for name in DRAWING)
    used = {*closure(root, path), *files(root, *MACHINERY)} - {path}
    key = fingerprint(root, sorted(used), *versions, *sources)
    file = root / ".cache/notebooks" / f"{path.stem}.{key[:16]}.json"

    def run() -> str:
        return json.dumps(_run(path, root), ensure_ascii=False)

    return json.loads(cached(file, run, f"{path.stem}.*.json"))


def _run(path: Path, root: Path) -> list[list[list[str]]]:
    """Execute the code cells in a fresh kernel of this interpreter."""
    cells = [(line, cell) for line, cell in _cells(path) if cell.cell_type == "code"]
    prologue = PROLOGUE % {"label": LABEL, "key": path.stem.replace("_", "-")}
    node = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    node.cells = [nbformat.v4.new_code_cell(prologue), *(cell for _, cell in cells)]
    lines = [0, *(line for line, _ in cells)]
    try:
        _execute(node, root)
    except Exception as error:
        fault = _fault(path, node, lines) or f"{_where(path)}: {type(error).__name__}: {error}"
        raise NotebookError(fault) from error
    if fault := _fault(path, node, lines):  # a figure that cannot be drawn does not stop the kernel
        raise NotebookError(fault)
    return [
        list(_texts(cell, f"{_where(path)}:{line}"))
        for cell, (line, _) in zip(node.cells[1:], cells, strict=True)
    ]


def _execute(node: NotebookNode, root: Path) -> None:
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory(prefix="nb") as scratch:
        env = os.environ | {
            "IPYTHONDIR": scratch,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(root),
        }
        manager = AsyncKernelManager(
            # no folders of kernels: what runs is this interpreter, whatever else is installed
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=f"{scratch}/kernel.json",
        )
        if os.name == "posix":
            manager.transport, manager.ip = "ipc", f"{scratch}/k"
        client = NotebookClient(
            node, km=manager, timeout=TIMEOUT, allow_errors=False, shutdown_kernel="immediate"
        )
        asyncio.run(client.async_execute(env=env, cwd=str(root), cleanup_kc=True))


def _fault(path: Path, node: NotebookNode, lines: list[int]) -> str:
    """What went wrong in which cell, with the cell's code; empty if nothing did."""
    for number, (cell, line) in enumerate(zip(node.cells, lines, strict=True)):
        for output in cell.outputs:
            if output.output_type == "error":
                code = "\n".join(f"    {text}" for text in cell.source.strip().splitlines())
                place = f"{_where(path)}:{line}: code cell {number}"
                return f"{place} failed: {output.ename}: {output.evalue}\n{code}"
    return ""


def _texts(cell: NotebookNode, where: str) -> Iterator[list[str]]:
    """Outputs as pairs of kind and text; neighbouring prints are one output."""
    printed = ""
    for output in cell.outputs:
        if output.get("name") == "stderr":
            raise NotebookError(f"{where}: the cell warns: {output.text.strip()}")
        if output.output_type == "stream":
            printed += output.text
            continue
        if printed:
            yield ["text", printed.rstrip()]
            printed = ""
        yield _displayed(output.data, cell, where)
    if printed:
        yield ["text", printed.rstrip()]


def _displayed(data: dict[str, str], cell: NotebookNode, where: str) -> list[str]:
    if "image/svg+xml" in data:
        if all(cell.metadata.get(language) for language in LANGUAGES):
            return ["svg", data["image/svg+xml"]]
        raise NotebookError(f'{where}: a cell with a figure says what it shows: zh="…" en="…"')
    text = data["text/plain"]
    if ADDRESS.search(text):
        raise NotebookError(f"{where}: an address in memory is never the same twice: {text}")
    return ["text", text]


def _output(kind: str, text: str, cell: NotebookNode, language: str) -> NotebookNode:
    if kind == "text":
        return nbformat.v4.new_output("stream", name="stdout", text=f"{text}\n")
    svg = text.replace(LABEL, escape(cell.metadata[language]))
    return nbformat.v4.new_output("display_data", data={"image/svg+xml": svg})


def _shown(output: NotebookNode, caption: str) -> str:
    """An output on the page."""
    if output.output_type == "stream":
        return _fence("{ .text .output .no-copy }", output.text.rstrip())
    svg, words = output.data["image/svg+xml"], escape(caption, quote=False)
    return f'<figure class="pe-figure">\n{svg}\n<figcaption>{words}</figcaption>\n</figure>'


def _alone(svg: str) -> str:
    """A figure that needs no style sheet: light colours on white."""
    for colour, variable in style.VARIABLES.items():
        svg = svg.replace(f'"{variable}"', f'"{colour}"')
    svg = svg.replace('style="', 'style="background: white; ', 1)
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _fence(head: str, text: str) -> str:
    longest = max(map(len, re.findall(r"^\s*(`{3,})", text, re.MULTILINE)), default=2)
    mark = "`" * (longest + 1)
    return f"{mark} {head}\n{text}\n{mark}" if head[0] == "{" else f"{mark}{head}\n{text}\n{mark}"


def _absolute(match: re.Match, page_url: str) -> str:
    text, target = match.groups()
    if re.match(r"https?:", target):
        return match[0]
    if not page_url:
        return text
    path, hash_, anchor = target.partition("#")
    path = re.sub(r"(?:(?<![^/])index)?\.md$", "/", path).replace("//", "/")
    base = urljoin(page_url, "..") if path else page_url
    return f"[{text}]({urljoin(base, path)}{hash_}{anchor})"


def _where(path: Path) -> str:
    return "/".join(path.parts[-3:])
