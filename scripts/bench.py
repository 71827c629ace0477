"""Measure posenc beside its peers and write docs/benchmarks.json, which the benchmarks page shows.

One thread. The calls of a group take turns, so that whatever else the machine does hits all of
them alike; what counts is the ratio of medians within a group.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from posenc.layers.attention import Attention, PositionEncoding

OUT = Path(__file__).resolve().parents[1] / "docs/benchmarks.json"
BATCH, N, WIDTH, HEADS = 1, 1024, 512, 8
ROUNDS, IMPORT_ROUNDS = 31, 15

Name = dict[str, str]  # by language


class Table(PositionEncoding):
    """A bias that is there already, so that what is timed is attention."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def bias(self, q, k, q_positions, k_positions):
        return self.table


def seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median duration of each call; they take turns, every other round backwards."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            start = perf_counter()
            calls[name]()
            times[name].append(perf_counter() - start)
    return {name: median(found[1:]) for name, found in times.items()}  # the first warms up


def rounded(x: float) -> float:
    """Three digits: more would be noise."""
    return float(f"{x:.3g}")


def row(name: Name, time: float, base: float, *, ours: bool, **setting: str) -> dict:
    return {
        "name": name,
        "ours": ours,
        **{key: setting.get(key, "–") for key in ("shape", "layout", "dtype")},
        "milliseconds": rounded(1e3 * time),
        "ratio": rounded(time / base),
    }


def target(zh: str, en: str, value: float, limit: float) -> dict:
    return {"what": {"zh": zh, "en": en}, "value": rounded(value), "limit": limit}


# Attention

LAYER = {"shape": f"{BATCH} × {N} × {WIDTH}", "layout": "(batch, n, d_model)", "dtype": "float32"}
HEADED = {
    "shape": f"{BATCH} × {HEADS} × {N} × {WIDTH // HEADS}",
    "layout": "(batch, heads, n, d_head)",
    "dtype": "float32",
}
NAMES = {
    "clone": ({"zh": "复制同样大小的输出", "en": "clone() of the same output"}, LAYER),
    "reference": ({"zh": "posenc，逐式写出", "en": "posenc, as the formula"}, LAYER),
    "fused": ({"zh": "posenc，fused=True", "en": "posenc, fused=True"}, LAYER),
    "torch": ({"zh": "torch.nn.MultiheadAttention", "en": "torch.nn.MultiheadAttention"}, LAYER),
    "kernel": (
        {
            "zh": "只有 scaled_dot_product_attention，没有四个投影",
            "en": "scaled_dot_product_attention alone, without the four projections",
        },
        HEADED,
    ),
}


def peer(layer: Attention) -> torch.nn.MultiheadAttention:
    """PyTorch's own layer with the weights of ours."""
    other = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).eval()
    parts = (layer.query, layer.key, layer.value)
    other.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": torch.cat([part.bias for part in parts]),
            "out_proj.weight": layer.output.weight,
            "out_proj.bias": layer.output.bias,
        }
    )
    return other


def attention_calls(table: torch.Tensor | None) -> dict[str, Callable[[], torch.Tensor]]:
    """The same attention, several times over; those that should agree are held to it."""
    encoding = None if table is None else Table(table)
    ours = Attention(WIDTH, HEADS, encoding, bias=True).eval()
    fused = Attention(WIDTH, HEADS, encoding, bias=True, fused=True).eval()
    fused.load_state_dict(ours.state_dict())
    theirs, x = peer(ours), torch.randn(BATCH, N, WIDTH)
    mask = None if table is None else table.flatten(0, 1)
    q, k, v = torch.randn(3, BATCH, HEADS, N, WIDTH // HEADS)
    out = ours(x)
    calls = {
        "clone": out.clone,
        "reference": lambda: ours(x),
        "fused": lambda: fused(x),
        "torch": lambda: theirs(x, x, x, need_weights=False, attn_mask=mask)[0],
        "kernel": lambda: scaled_dot_product_attention(q, k, v, attn_mask=table),
    }
    for name in ("fused", "torch"):
        torch.testing.assert_close(calls[name](), out)
    return calls


def attention_group(title: Name, table: torch.Tensor | None) -> dict:
    found = seconds(attention_calls(table), ROUNDS)
    rows = [
        row(
            name,
            found[key],
            found["clone"],
            ours=key in ("reference", "fused"),
            **setting,
        )
        for key, (name, setting) in NAMES.items()
    ]
    return {"title": title, "base": NAMES["clone"][0], "rows": rows}


def distances() -> torch.Tensor:
    """A bias per head that falls with the distance, `(heads, n, n)`."""
    at = torch.arange(N)
    return -(at[:, None] - at).abs() * (2.0 ** -torch.arange(1, HEADS + 1))[:, None, None]


# Imports

IMPORTS = {
    "numpy": ("", "numpy"),
    "posenc": ("numpy", "posenc, posenc.equations"),
    "equations": ("numpy", "posenc.equations.attention"),
    "torch": ("numpy", "torch"),
    "layers": ("torch", "posenc.layers.attention"),
}


def import_seconds(before: str, module: str) -> float:
    """Duration of an import in a fresh interpreter that has `before` already."""
    first = f"import {before}" if before else ""
    code = f"{first}\nfrom time import perf_counter as t\ns = t()\nimport {module}\nprint(t() - s)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def import_group() -> dict:
    times: dict[str, list[float]] = {key: [] for key in IMPORTS}
    for _ in range(IMPORT_ROUNDS):
        for key, (before, module) in IMPORTS.items():
            times[key].append(import_seconds(before, module))
    base = median(times["numpy"])
    rows = [
        row(
            {
                "zh": f"import {module}" + (f"（{before} 之后）" if before else ""),
                "en": f"import {module}" + (f" (after {before})" if before else ""),
            },
            median(times[key]),
            base,
            ours="posenc" in module,
        )
        for key, (before, module) in IMPORTS.items()
    ]
    return {
        "title": {"zh": "导入", "en": "Imports"},
        "base": {"zh": "import numpy", "en": "import numpy"},
        "rows": rows,
        "targets": [
            target(
                "NumPy 之后导入 posenc，毫秒",
                "posenc after NumPy, in milliseconds",
                1e3 * median(times["posenc"]),
                10,
            )
        ],
    }


def main() -> None:
    from scripts import bench_rope  # it takes its rows from here

    torch.manual_seed(0)
    torch.set_num_threads(1)
    with torch.no_grad():
        print("attention without positions", flush=True)
        plain = attention_group(
            {"zh": "无位置编码的注意力", "en": "Attention without positions"}, None
        )
        print("attention with a bias", flush=True)
        title = {"zh": "加偏置的注意力", "en": "Attention with a bias"}
        biased = attention_group(title, distances()[None].expand(BATCH, -1, -1, -1))
        rotary, errors = bench_rope.groups(), bench_rope.errors()
    print("imports", flush=True)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__.partition("+")[0],
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": 1,
        "groups": [plain, biased, *rotary, import_group()],
        "errors": errors,
    }
    OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {OUT.relative_to(OUT.parents[1])}")


if __name__ == "__main__":
    main()
