"""The five doors of attention and the encodings that open them, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

from scripts.sitegen import tables
from scripts.sitegen.tree import ROOT

BASE = "PositionEncoding"
HEADS = {
    "zh": ("门", "作用于", "方法", "返回的形状", "开这道门的编码"),
    "en": ("door", "acts on", "method", "returns shape", "encodings that open it"),
}
NAMES = {
    "zh": {
        "embed": ("输入", "第一层之前的词元向量"),
        "rotate": ("查询与键", "投影之后的 q 和 k，每一层"),
        "bias": ("logit", "softmax 之前的 logit"),
        "reweight": ("权重", "softmax 之后的权重"),
        "combine": ("值", "权重对值的加权和"),
    },
    "en": {
        "embed": ("input", "the token vectors, before the first layer"),
        "rotate": ("query/key", "q and k after their projection, in every layer"),
        "bias": ("logits", "the logits, before the softmax"),
        "reweight": ("weights", "the weights, after the softmax"),
        "combine": ("values", "the weighted sum of the values"),
    },
}
SHAPES = {
    "embed": "(batch, n, d_model)",
    "rotate": "(batch, n_heads, n, d_head)",
    "bias": "(batch, n_heads, n_q, n_k)",
    "reweight": "(batch, n_heads, n_q, n_k)",
    "combine": "(batch, n_heads, n_q, d_head)",
}
NONE = {"zh": ("一道也不开", "什么也不作用", "尚无"), "en": ("none", "nothing", "none yet")}


def opened(root: Path = ROOT) -> dict[str, tuple[str, ...]]:
    """Each public encoding of ``posenc.layers`` and the methods that it overrides, in order."""
    classes = dict(_classes(root))
    encodings = (name for name in classes if name == BASE or BASE in _ancestors(name, classes))
    return {
        name: tuple(method for method in SHAPES if method in _methods(name, classes))
        for name in encodings
        if not name.startswith("_")
    }


def table(language: str, root: Path = ROOT, linked: bool = True) -> str:
    """Markdown table of the doors; ``linked`` methods point at the API reference."""
    encodings = opened(root)
    rows = []
    for method, shape in SHAPES.items():
        users = ", ".join(f"`{name}`" for name, doors in encodings.items() if method in doors)
        link = f"[`{method}`][posenc.layers.attention.{BASE}.{method}]" if linked else f"`{method}`"
        cells = [*NAMES[language][method], link, f"`{shape}`", users or NONE[language][2]]
        rows.append(cells)
    shut = ", ".join(f"`{name}`" for name, doors in encodings.items() if not doors)
    rows.append([*NONE[language][:2], "", "", shut.replace(f"`{BASE}`", f"NoPE (`{BASE}`)")])
    return tables.table(HEADS[language], rows)


def _classes(root: Path) -> Iterator[tuple[str, ast.ClassDef]]:
    for path in sorted((root / "posenc/layers").glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                yield node.name, node


def _ancestors(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """Names of the classes that a class derives from, as far as they are ours."""
    bases = [ast.unparse(base).rpartition(".")[2] for base in classes[name].bases]
    known = [base for base in bases if base in classes]
    return known + [above for base in known for above in _ancestors(base, classes)]


def _methods(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Methods of a class and of its ancestors below the base class."""
    family = {name, *_ancestors(name, classes)} - {BASE}
    bodies = (node for member in family for node in classes[member].body)
    return {node.name for node in bodies if isinstance(node, ast.FunctionDef)}
