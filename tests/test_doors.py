"""The table of doors is the truth about the code, and is read without importing torch."""

import importlib
import pkgutil
import subprocess
import sys

import pytest
import torch

import posenc.layers
from posenc.layers.attention import PositionEncoding
from scripts.sitegen import doors
from scripts.sitegen.tree import ROOT

SIZES = {"batch": 2, "n_heads": 3, "n": 5, "n_q": 5, "n_k": 5, "d_head": 4, "d_model": 12}


def imported_encodings():
    """Every public class of posenc.layers that is a PositionEncoding, found by importing."""
    for info in pkgutil.iter_modules(posenc.layers.__path__):
        module = importlib.import_module(f"posenc.layers.{info.name}")
        for name, value in vars(module).items():
            ours = isinstance(value, type) and value.__module__ == module.__name__
            if ours and issubclass(value, PositionEncoding) and not name.startswith("_"):
                yield value


def test_source_and_import_agree_on_the_doors():
    from posenc.layers.attention import doors as imported_doors

    names = {method: words[0] for method, words in doors.NAMES["en"].items()}
    read = {n: tuple(names[m] for m in methods) for n, methods in doors.opened(ROOT).items()}
    assert read == {cls.__name__: imported_doors(cls) for cls in imported_encodings()}
    assert read["PositionEncoding"] == ()


def test_the_doors_are_the_methods_of_the_base_class_in_its_order():
    public = [n for n, v in vars(PositionEncoding).items() if callable(v) and n[0] != "_"]
    assert public == [*doors.SHAPES, "attend"]  # a shortcut past the doors, no door
    assert list(doors.SHAPES) == list(doors.NAMES["zh"]) == list(doors.NAMES["en"])


def size(shape: str) -> tuple[int, ...]:
    return tuple(SIZES[name] for name in shape.strip("()").split(", "))


TENSORS = {
    "embed": ["(batch, n, d_model)"],
    "rotate": ["(batch, n_heads, n, d_head)"] * 2,
    "reweight": ["(batch, n_heads, n_q, n_k)"],
    "combine": ["(batch, n_heads, n_q, n_k)", "(batch, n_heads, n, d_head)"],
}


@pytest.mark.parametrize("method", TENSORS)
def test_the_shapes_of_the_table_are_what_the_methods_return(method):
    positions = [torch.arange(5)] * (1 if method == "embed" else 2)
    inputs = [torch.ones(size(shape)) for shape in TENSORS[method]]
    out = getattr(PositionEncoding(), method)(*inputs, *positions)
    assert (out[0] if method == "rotate" else out).shape == size(doors.SHAPES[method])


def test_the_logits_door_returns_what_is_added_to_the_logits():
    q = k = torch.ones(size(doors.SHAPES["rotate"]))
    assert (q @ k.transpose(-1, -2)).shape == size(doors.SHAPES["bias"])


SCHEMES = """
import torch.nn as nn
from . import attention
from .attention import PositionEncoding

class Turn(PositionEncoding):
    def rotate(self, q, k, q_positions, k_positions): return q, k

class Turned(Turn):
    scale = 1.0
    def combine(self, weights, v, q_positions, k_positions): return v

class Far(attention.PositionEncoding):
    def bias(self, q, k, q_positions, k_positions): return None
    def attend(self, q, k, v, scale, causal): return v

class _Hidden(PositionEncoding):
    def embed(self, x, positions): return x

class Other(nn.Module):
    def embed(self, x, positions): return x
"""


@pytest.fixture
def planted(tmp_path):
    layers = tmp_path / "posenc/layers"
    layers.mkdir(parents=True)
    (layers / "attention.py").write_text("class PositionEncoding: pass\n")
    (layers / "schemes.py").write_text(SCHEMES)
    return tmp_path


def test_doors_are_inherited_and_hidden_or_foreign_classes_are_left_out(planted):
    assert doors.opened(planted) == {
        "PositionEncoding": (),
        "Turn": ("rotate",),
        "Turned": ("rotate", "combine"),
        "Far": ("bias",),
    }


def test_an_encoding_stands_in_the_row_of_each_of_its_doors(planted):
    rows = {
        line.split(" | ")[0].strip("| "): line for line in doors.table("en", planted).splitlines()
    }
    assert rows["query/key"].endswith("| `Turn`, `Turned` |")
    assert rows["values"].endswith("| `Turned` |")
    assert rows["weights"].endswith("| none yet |")
    assert rows["none"].endswith("| NoPE (`PositionEncoding`) |")


def test_both_languages_have_the_same_table_but_for_words():
    tables = [doors.table(language, ROOT).splitlines() for language in ("zh", "en")]
    code = [[line.split("`")[1::2] for line in table] for table in tables]
    assert code[0] == code[1]
    assert all(line.count("|") == tables[0][0].count("|") for table in tables for line in table)


def test_the_readme_shows_the_table_of_this_code():
    assert doors.table("en", ROOT, linked=False) in (ROOT / "README.md").read_text("utf-8")


def test_the_table_costs_no_torch():
    code = (
        "import sys; from scripts.sitegen import doors; doors.table('zh');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
