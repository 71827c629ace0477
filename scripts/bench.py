"""Measure posenc beside its peers and write docs/benchmarks.json, which the benchmarks page shows.

One thread. The calls of a group take turns, so that whatever else the machine does hits all of
them alike; what counts is the ratio of medians within a group. Memory is counted, not timed, and is
the same on every run. A section that measures something has a module `scripts/bench_<key>.py` with
a function `groups()`, which is found by its name.
"""

import importlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from posenc.layers.attention import Attention, PositionEncoding
from scripts.sitegen.tree import ROOT, keys

OUT = ROOT / "docs/benchmarks.json"
BATCH, N, WIDTH, HEADS = 1, 1024, 512, 8
ROUNDS, IMPORT_ROUNDS = 31, 15

Name = dict[str, str]  # by language
Calls = Mapping[str, Callable[[], object]]


class Table(PositionEncoding):
    """A bias that is there already, so that what is timed is attention."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def bias(self, q, k, q_positions, k_positions):
        return self.table


def seconds(calls: Calls, rounds: int) -> dict[str, float]:
    """Median duration of each call; they take turns, every other round backwards."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name in list(calls)[:: -1 if turn % 2 else 1]:
            start = perf_counter()
            calls[name]()
            times[name].append(perf_counter() - start)
    return {name: median(found[1:]) for name, found in times.items()}  # the first warms up


def peak(call: Callable[[], object]) -> int:
    """Greatest number of bytes that `call` holds at one time, its result included.

    Counts what PyTorch allocates on the CPU meanwhile, native kernels included; that older memory
    is freed meanwhile makes it no less. What is made only once, such as a compiled graph, counts
    too unless it is there: call it once before.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    kineto: Any = profiler.profiler
    events = list(_all(kineto.kineto_results.experimental_event_tree()))
    del result  # not before the last event
    held: dict[int, int] = {}
    greatest = 0
    for event in sorted(events, key=lambda event: event.start_time_ns):
        if event.name == "[memory]":
            address, size = event.extra_fields.ptr, event.extra_fields.alloc_size
            if size > 0:
                held[address] = size
            else:
                held.pop(address, None)  # what is unknown was there before
            greatest = max(greatest, sum(held.values()))
    return greatest


def _all(events: list[Any]) -> Iterator[Any]:
    """Events, and those within them."""
    for event in events:
        yield event
        yield from _all(event.children)


def peaks(calls: Calls) -> dict[str, int]:
    """Peak memory of each call, in bytes."""
    return {name: peak(call) for name, call in calls.items()}


def rounded(x: float) -> float:
    """Three digits: more would be noise."""
    return float(f"{x:.3g}")


def row(
    name: Name,
    time: float,
    base: float,
    *,
    ours: bool,
    memory: tuple[int, int] | None = None,
    **setting: str,
) -> dict:
    """What the page shows of one call; `memory` is its peak and that of the base, in bytes."""
    return {
        "name": name,
        "ours": ours,
        **{key: setting.get(key, "–") for key in ("shape", "layout", "dtype")},
        "milliseconds": rounded(1e3 * time),
        "ratio": rounded(time / base),
        **({"bytes": memory[0], "memory": rounded(memory[0] / memory[1])} if memory else {}),
    }


def group(
    title: Name,
    names: Mapping[str, Name],
    times: Mapping[str, float],
    memory: Mapping[str, int],
    *,
    base: str = "clone",
    ours: tuple[str, ...],
    targets: list[dict] | None = None,
    setting: Mapping[str, str],
    settings: Mapping[str, Mapping[str, str]] | None = None,
) -> dict:
    """One table: a row for each call that was timed, as multiples of the call `base`.

    Rows are `ours` if their keys begin so. All have the same `setting` (shape, layout, dtype) but
    those in `settings`; those without a peak say nothing of memory.
    """
    rows = [
        row(
            names[key],
            time,
            times[base],
            ours=key.startswith(ours),
            memory=(memory[key], memory[base]) if key in memory else None,
            **{**setting, **(settings or {}).get(key, {})},
        )
        for key, time in times.items()
    ]
    return {"title": title, "base": names[base], "rows": rows, "targets": targets or []}


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
    "clone": {"zh": "复制同样大小的输出", "en": "clone() of the same output"},
    "posenc": {"zh": "posenc，逐式写出", "en": "posenc, as the formula"},
    "posenc fused": {"zh": "posenc，fused=True", "en": "posenc, fused=True"},
    "torch": {"zh": "torch.nn.MultiheadAttention", "en": "torch.nn.MultiheadAttention"},
    "kernel": {
        "zh": "只有 scaled_dot_product_attention，没有四个投影",
        "en": "scaled_dot_product_attention alone, without the four projections",
    },
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
        "posenc": lambda: ours(x),
        "posenc fused": lambda: fused(x),
        "torch": lambda: theirs(x, x, x, need_weights=False, attn_mask=mask)[0],
        "kernel": lambda: scaled_dot_product_attention(q, k, v, attn_mask=table),
    }
    for name in ("posenc fused", "torch"):
        torch.testing.assert_close(calls[name](), out)
    return calls


def attention_group(title: Name, table: torch.Tensor | None) -> dict:
    calls = attention_calls(table)
    return group(
        title,
        NAMES,
        seconds(calls, ROUNDS),
        peaks(calls),
        ours=("posenc",),
        setting=LAYER,
        settings={"kernel": HEADED},
    )


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


def benches() -> list[ModuleType]:
    """The modules of the sections that measure something, in the order of the nav."""
    found = [f"bench_{key}" for key in keys()]
    there = {path.stem for path in Path(__file__).parent.glob("bench_*.py")}
    if strays := there.difference(found):
        raise ValueError(f"scripts/bench_<key>.py must be named by a key, got {sorted(strays)}")
    return [importlib.import_module(f"scripts.{name}") for name in found if name in there]


def main() -> None:
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
        sections = [group for module in benches() for group in module.groups()]
        errors = importlib.import_module("scripts.bench_rope").errors()
    print("imports", flush=True)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__.partition("+")[0],
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": 1,
        "groups": [plain, biased, *sections, import_group()],
        "errors": errors,
    }
    OUT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
