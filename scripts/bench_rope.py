"""The rotary encoding beside its peers: precision of the tables, and the time to turn q and k.

All get their tables ready-made, except in the rows that say otherwise. Peers are checked to turn
alike before they are timed.
"""

import warnings
from collections.abc import Callable

import mpmath
import numpy as np
import torch
from rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb
from transformers import LlamaConfig
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

from posenc.equations.rope import rotate
from posenc.layers.rope import Rope, apply_rotary
from scripts.bench import Name, group, peaks, rounded, seconds, target

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it still uses torch.jit
    from x_transformers import x_transformers

HEADS, KEY_HEADS, N, D = 32, 8, 2048, 128
SHAPE = f"1 × ({HEADS} + {KEY_HEADS}) × {{}} × {D}"
ROUNDS, TOKEN_ROUNDS = 15, 401
POSITIONS = (10**3, 10**5, 10**6, 10**7)
MEMORY = {"(b, n, h, d)": True, "(b, h, n, d)": False}  # is it a transposed view?
LAYOUTS = ("interleaved", "halves")
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.07}  # angles of peers are float32

NAMES: dict[str, Name] = {
    "clone": {"zh": "复制 q 和 k", "en": "clone() of q and k"},
    "hf": {"zh": "transformers Llama（halves）", "en": "transformers Llama (halves)"},
    "hf tables": {
        "zh": "transformers Llama（halves），含算表",
        "en": "transformers Llama (halves), tables included",
    },
    "hf compiled": {
        "zh": "transformers Llama（halves），编译",
        "en": "transformers Llama (halves), compiled",
    },
    "gptj": {"zh": "transformers GPT-J（interleaved）", "en": "transformers GPT-J (interleaved)"},
    "ret": {
        "zh": "rotary-embedding-torch（interleaved）",
        "en": "rotary-embedding-torch (interleaved)",
    },
    "xt": {"zh": "x-transformers（interleaved）", "en": "x-transformers (interleaved)"},
}
for _layout in LAYOUTS:
    NAMES |= {
        _layout: {"zh": f"posenc（{_layout}）", "en": f"posenc ({_layout})"},
        f"{_layout} tables": {
            "zh": f"posenc（{_layout}），含算表",
            "en": f"posenc ({_layout}), tables included",
        },
        f"{_layout} compiled": {
            "zh": f"posenc（{_layout}），编译",
            "en": f"posenc ({_layout}), compiled",
        },
    }

Calls = dict[str, Callable[[], tuple[torch.Tensor, ...]]]


# Precision of the tables


def llama_tables(d: int = D) -> llama.LlamaRotaryEmbedding:
    return llama.LlamaRotaryEmbedding(LlamaConfig(hidden_size=HEADS * d, num_attention_heads=HEADS))


def table_makers() -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """For each library, cosines and sines `(2, n, d / 2)` at some positions."""
    hf, ret, xt = llama_tables(), RotaryEmbedding(D), x_transformers.RotaryEmbedding(D)

    def waves(angles: torch.Tensor) -> torch.Tensor:
        return torch.stack([angles.cos(), angles.sin()])[..., ::2]

    def ours(precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda at: torch.stack(Rope(D, precision=precision).tables(at))[:, 0]

    return {
        "posenc": ours("float64"),
        'posenc, precision="float32"': ours("float32"),
        "transformers Llama": lambda at: torch.stack(hf(torch.zeros(1), at[None]))[
            :, 0, :, : D // 2
        ],
        "rotary-embedding-torch": lambda at: waves(ret(at.float())),
        "x-transformers": lambda at: waves(xt(at)[0][0]),
    }


def true_table(position: int) -> np.ndarray:
    """Cosines and sines at 50 digits, `(2, d / 2)`."""
    with mpmath.workdps(50):
        angles = [position / mpmath.power(10000, mpmath.mpf(2 * m) / D) for m in range(D // 2)]
        return np.array([[float(f(a)) for a in angles] for f in (mpmath.cos, mpmath.sin)])


def errors() -> dict:
    """Greatest error of each library's float32 table near some positions."""
    found: dict[str, list[float]] = {name: [] for name in table_makers()}
    for position in POSITIONS:
        near = torch.arange(position - 20, position + 1)
        want = np.stack([true_table(int(at)) for at in near], axis=1)
        for name, make in table_makers().items():
            found[name].append(rounded(abs(make(near).detach().numpy() - want).max()))
    rows = [
        {"name": name, "ours": name.startswith("posenc"), "errors": values}
        for name, values in found.items()
    ]
    return {"positions": list(POSITIONS), "rows": rows, "limit": 4e-8}


# Time


def tensors(n: int, dtype: torch.dtype, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys with heads first, contiguous or as a transposed view."""

    def made(heads: int) -> torch.Tensor:
        if transposed:
            return torch.randn(1, n, heads, D).to(dtype).transpose(1, 2)
        return torch.randn(1, heads, n, D).to(dtype)

    return made(HEADS), made(KEY_HEADS)


def both(q, k, cos, sin, layout):
    return apply_rotary(q, cos, sin, layout=layout), apply_rotary(k, cos, sin, layout=layout)


def peer_calls(q: torch.Tensor, k: torch.Tensor, at: torch.Tensor) -> Calls:
    cos, sin = llama_tables()(q, at[None])
    freqs, xt_freqs = RotaryEmbedding(D)(at.float()), x_transformers.RotaryEmbedding(D)(at)[0]
    waves = gptj.create_sinusoidal_positions(int(at[-1]) + 1, D)[at].to(q.dtype)[None]

    def gptj_turn(x: torch.Tensor) -> torch.Tensor:
        return gptj.apply_rotary_pos_emb(x.transpose(1, 2), *waves.chunk(2, -1)).transpose(1, 2)

    return {
        "clone": lambda: (q.clone(), k.clone()),
        "hf": lambda: llama.apply_rotary_pos_emb(q, k, cos, sin),
        "gptj": lambda: (gptj_turn(q), gptj_turn(k)),
        "ret": lambda: (apply_rotary_emb(freqs, q), apply_rotary_emb(freqs, k)),
        "xt": lambda: tuple(x_transformers.apply_rotary_pos_emb(x, xt_freqs) for x in (q, k)),
    }


def our_calls(q: torch.Tensor, k: torch.Tensor, at: torch.Tensor) -> Calls:
    tables = Rope(D).tables(at)
    return {layout: lambda layout=layout: both(q, k, *tables, layout) for layout in LAYOUTS}


def compiled_calls(q: torch.Tensor, k: torch.Tensor, at: torch.Tensor) -> Calls:
    """The same in one compiled graph each."""
    torch.compiler.reset()
    fused = torch.compile(both, fullgraph=True, dynamic=False)
    hf = torch.compile(llama.apply_rotary_pos_emb, dynamic=False)
    tables, hf_tables = Rope(D).tables(at), llama_tables()(q, at[None])
    ours = {
        f"{layout} compiled": lambda layout=layout: fused(q, k, *tables, layout)
        for layout in LAYOUTS
    }
    return {"hf compiled": lambda: hf(q, k, *hf_tables), **ours}


def whole_calls(q: torch.Tensor, k: torch.Tensor, at: torch.Tensor) -> Calls:
    """From positions to turned queries and keys, tables included."""
    hf, layers = llama_tables(), {layout: Rope(D, layout=layout) for layout in LAYOUTS}
    calls: Calls = {"hf tables": lambda: llama.apply_rotary_pos_emb(q, k, *hf(q, at[None]))}
    for layout, layer in layers.items():
        calls[f"{layout} tables"] = lambda layer=layer: layer.rotate(q, k, at, at)
    return calls


def check(calls: Calls, dtype: torch.dtype) -> None:
    """Hold all calls of a layout to the uncompiled one of ours."""
    for name, call in calls.items():
        if name != "clone":
            layout = "halves" if name.startswith(("hf", "halves")) else "interleaved"
            for got, want in zip(call(), calls[layout](), strict=True):
                torch.testing.assert_close(got.to(dtype), want, rtol=0, atol=TOLERANCE[dtype])


def error_share(q: torch.Tensor, at: torch.Tensor, calls: Calls) -> float:
    """Greatest error of ours as a share of that of transformers, both in halves."""
    want = torch.tensor(rotate(q.double().numpy(), at.numpy(), layout="halves"))
    ours, theirs = ((calls[name]()[0].double() - want).abs().max() for name in ("halves", "hf"))
    return float(ours / theirs)


def targets(found: dict[str, float], dtype: torch.dtype) -> list[dict]:
    """What the project aims at, and what was measured."""
    base, low = found["clone"], dtype == torch.bfloat16
    rival = {"halves": "hf", "interleaved": "gptj"}
    result = []
    for layout, peer in rival.items():
        result += [
            target(
                f"{layout}，与 transformers 之比",
                f"{layout}, as a share of transformers",
                found[layout] / found[peer],
                1 if low else 0.5,
            ),
            target(
                f"{layout}，编译，与复制之比",
                f"{layout}, compiled, against the copy",
                found[f"{layout} compiled"] / base,
                1.4 if low else 1.3,
            ),
        ]
    if not low:
        result.append(
            target(
                "interleaved，与复制之比",
                "interleaved, against the copy",
                found["interleaved"] / base,
                1.4,
            )
        )
    return result


def rope_group(dtype: torch.dtype, memory: str) -> dict:
    q, k = tensors(N, dtype, MEMORY[memory])
    at = torch.arange(N)
    calls = peer_calls(q, k, at) | our_calls(q, k, at) | compiled_calls(q, k, at)
    check(calls, dtype)
    found, held = seconds(calls, ROUNDS), peaks(calls)
    promised = targets(found, dtype)
    if dtype == torch.bfloat16:
        share = error_share(q, at, calls)
        promised.append(
            target(
                "halves 的最大误差，与 transformers 之比",
                "greatest error of halves, as a share of transformers",
                share,
                0.5,
            )
        )
    kind = str(dtype).removeprefix("torch.")
    title = {"zh": f"RoPE，{kind}，{memory}", "en": f"RoPE, {kind}, {memory}"}
    setting = {"shape": SHAPE.format(N), "layout": memory, "dtype": kind}
    return group(title, NAMES, found, held, ours=LAYOUTS, targets=promised, setting=setting)


def token_group(dtype: torch.dtype) -> dict:
    q, k = tensors(1, dtype, False)
    at = torch.tensor([1000])
    calls = peer_calls(q, k, at) | our_calls(q, k, at) | whole_calls(q, k, at)
    check(calls, dtype)
    found, held = seconds(calls, TOKEN_ROUNDS), peaks(calls)
    promised = [
        target(f"{zh}，与 transformers 之比", f"{en}, as a share of transformers", share, 1)
        for zh, en, share in [
            ("halves", "halves", found["halves"] / found["hf"]),
            ("interleaved", "interleaved", found["interleaved"] / found["gptj"]),
            (
                "halves，含算表",
                "halves, tables included",
                found["halves tables"] / found["hf tables"],
            ),
        ]
    ]
    kind = str(dtype).removeprefix("torch.")
    title = {"zh": f"RoPE，解码一个词元，{kind}", "en": f"RoPE, one decoded token, {kind}"}
    setting = {"shape": SHAPE.format(1), "layout": "(b, h, n, d)", "dtype": kind}
    return group(title, NAMES, found, held, ours=LAYOUTS, targets=promised, setting=setting)


def groups() -> list[dict]:
    """All groups of the rotary encoding, largest first."""
    result = []
    for dtype in (torch.float32, torch.bfloat16):
        for memory in MEMORY:
            print(f"rotary encoding, {dtype}, {memory}", flush=True)
            result.append(rope_group(dtype, memory))
    for dtype in (torch.float32, torch.bfloat16):
        print(f"rotary encoding, one token, {dtype}", flush=True)
        result.append(token_group(dtype))
    return result
