"""Causal attention with ALiBi beside its peers: time and memory, with gradients and without.

Peers are checked to give the same outputs before they are timed.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from posenc.layers.alibi import Alibi
from scripts.bench import Name, group, peaks, seconds, target

HEADS, N, WIDTH = 8, 4096, 64
ROUNDS, GRADIENT_ROUNDS = 5, 3
SETTING = {
    "shape": f"1 × {HEADS} × {N} × {WIDTH}",
    "layout": "(batch, heads, n, d_head)",
    "dtype": "float32",
}
NAMES: dict[str, Name] = {
    "plain": {
        "zh": "scaled_dot_product_attention，is_causal=True，无偏置",
        "en": "scaled_dot_product_attention, is_causal=True, without a bias",
    },
    "ours": {"zh": "posenc，按偏移的偏置", "en": "posenc, bias by offset"},
    "coordinate": {
        "zh": "scaled_dot_product_attention，is_causal=True，行作为多出的一个坐标",
        "en": "scaled_dot_product_attention, is_causal=True, the row as one more coordinate",
    },
    "row": {
        "zh": "scaled_dot_product_attention，每次把行填进因果掩码的矩阵（transformers 的行）",
        "en": "scaled_dot_product_attention, the row put into a causal matrix each time "
        "(transformers' row)",
    },
    "eager": {
        "zh": "transformers Bloom 的算法（eager）",
        "en": "what transformers' Bloom computes (eager)",
    },
}

Calls = dict[str, Callable[[], torch.Tensor]]


def calls(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, n: int) -> Calls:
    """The same attention, several times over."""
    encoding, scale, ones = Alibi(HEADS), WIDTH**-0.5, torch.ones(1, n)
    after = torch.ones(n, n, dtype=torch.bool).triu(1)
    slopes = torch.tensor(encoding.slopes)[:, None]

    def coordinate() -> torch.Tensor:
        column = (slopes * torch.arange(n) / scale).view(1, HEADS, n, 1)
        longer = torch.cat([q, torch.ones_like(column)], -1), torch.cat([k, column], -1)
        wide = torch.nn.functional.pad(v, (0, 1))  # one width for all keeps the fast kernel
        return scaled_dot_product_attention(*longer, wide, is_causal=True, scale=scale)[..., :-1]

    def row() -> torch.Tensor:
        bias = build_alibi_tensor(ones, HEADS, q.dtype)[None].masked_fill(after, -torch.inf)
        return scaled_dot_product_attention(q, k, v, bias, scale=scale)

    def eager() -> torch.Tensor:
        bias = build_alibi_tensor(ones, HEADS, q.dtype)
        logits = bias.baddbmm(q.flatten(0, 1), k.flatten(0, 1).mT, beta=1, alpha=scale)
        logits = logits.view(1, HEADS, n, n).masked_fill(after, torch.finfo(q.dtype).min)
        return torch.bmm(logits.softmax(-1).flatten(0, 1), v.flatten(0, 1)).view_as(q)

    return {
        "plain": lambda: scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale),
        "ours": lambda: _ours(encoding, q, k, v, scale),
        "coordinate": coordinate,
        "row": row,
        "eager": eager,
    }


def _ours(encoding: Alibi, q, k, v, scale: float) -> torch.Tensor:
    z = encoding.attend(q, k, v, scale, True)
    assert z is not None
    return z


def agree(made: Calls) -> None:
    want = made["eager"]()
    for name in ("ours", "coordinate", "row"):
        torch.testing.assert_close(made[name](), want, rtol=0, atol=2e-4)


def forward_group(n: int = N, rounds: int = ROUNDS) -> dict:
    made = calls(*(torch.randn(1, HEADS, n, WIDTH) for _ in range(3)), n)
    with torch.no_grad():
        agree(made)
        times, memory = seconds(made, rounds), peaks(made)
    return group(
        {"zh": f"ALiBi，因果掩码，n = {n}", "en": f"ALiBi, causal mask, n = {n}"},
        NAMES,
        times,
        memory,
        base="plain",
        ours=("ours",),
        targets=[
            target(
                "ALiBi，因果掩码，与 is_causal=True、无偏置之比",
                "ALiBi, causal mask, as a multiple of is_causal=True without a bias",
                times["ours"] / times["plain"],
                1.15,
            )
        ],
        setting=SETTING,
    )


def gradient_group(n: int = N, rounds: int = GRADIENT_ROUNDS) -> dict:
    q, k, v, g = (torch.randn(1, HEADS, n, WIDTH) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    forwards = calls(q, k, v, n)
    with torch.no_grad():
        agree(forwards)

    def backwards(call: Callable[[], torch.Tensor]):
        return lambda: torch.autograd.grad(call(), inputs, g)

    made = {name: backwards(forwards[name]) for name in ("plain", "ours", "coordinate", "row")}
    for one, other in zip(made["ours"](), made["row"](), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-2)
    times, memory = seconds(made, rounds), peaks(made)
    return group(
        {
            "zh": f"ALiBi，因果掩码，前向与反向，n = {n}",
            "en": f"ALiBi, causal mask, forward and backward, n = {n}",
        },
        NAMES,
        times,
        memory,
        base="plain",
        ours=("ours",),
        targets=[
            target(
                "ALiBi，q、k、v 的梯度，与 is_causal=True、无偏置之比",
                "ALiBi, gradients of q, k and v, as a multiple of is_causal=True without a bias",
                times["ours"] / times["plain"],
                1.15,
            )
        ],
        setting=SETTING,
    )


def groups() -> list[dict]:
    """ALiBi forward and with gradients."""
    print("ALiBi", flush=True)
    forward = forward_group()
    print("ALiBi, gradients", flush=True)
    with torch.enable_grad():
        return [forward, gradient_group()]
