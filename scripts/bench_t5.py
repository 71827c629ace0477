"""Attention with a bias by offset beside its peers: time and memory, with gradients and without.

Peers are checked to give the same outputs before they are timed.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention, eager_attention_forward

from posenc.layers.t5 import T5, attend_by_offset
from scripts.bench import Name, group, peaks, seconds, target

HEADS, N, WIDTH = 8, 4096, 64
ROUNDS, GRADIENT_ROUNDS = 5, 3
SETTING = {
    "shape": f"1 × {HEADS} × {N} × {WIDTH}",
    "layout": "(batch, heads, n, d_head)",
    "dtype": "float32",
}
PLAIN: Name = {
    "zh": "scaled_dot_product_attention，无偏置",
    "en": "scaled_dot_product_attention without a bias",
}
NAMES: dict[str, Name] = {
    "plain": PLAIN,
    "clone": {"zh": "复制输出", "en": "clone() of the output"},
    "ours": {"zh": "posenc，按偏移的偏置", "en": "posenc, bias by offset"},
    "plain causal": {
        "zh": "scaled_dot_product_attention，is_causal=True，无偏置",
        "en": "scaled_dot_product_attention, is_causal=True, without a bias",
    },
    "ours causal": {
        "zh": "posenc，按偏移的偏置，因果掩码",
        "en": "posenc, bias by offset, causal mask",
    },
    "matrix causal": {
        "zh": "scaled_dot_product_attention，每次算出 T5 的偏置矩阵并填上掩码（transformers）",
        "en": "scaled_dot_product_attention, T5's matrix made and masked each time (transformers)",
    },
    "matrix": {
        "zh": "scaled_dot_product_attention，每次算出 T5 的偏置矩阵（transformers）",
        "en": "scaled_dot_product_attention, T5's matrix made each time (transformers)",
    },
    "stored": {
        "zh": "scaled_dot_product_attention，偏置矩阵已备好",
        "en": "scaled_dot_product_attention, the matrix ready-made",
    },
    "eager": {"zh": "transformers T5（eager）", "en": "transformers T5 (eager)"},
    "learned": {
        "zh": "posenc，按偏移的偏置，连表的梯度",
        "en": "posenc, bias by offset, gradient of the table too",
    },
    "matrix learned": {
        "zh": "scaled_dot_product_attention，T5 的偏置矩阵，连表的梯度（transformers）",
        "en": "scaled_dot_product_attention, T5's matrix, gradient of the table too (transformers)",
    },
}

Calls = dict[str, Callable[[], torch.Tensor]]


def layers(bidirectional: bool = True) -> tuple[T5, T5Attention]:
    """Ours and the library's, with one table."""
    config = T5Config(d_model=HEADS * WIDTH, d_kv=WIDTH, num_heads=HEADS)
    config.is_decoder = not bidirectional
    peer = T5Attention(config, True, layer_idx=0)
    mine = T5(HEADS, bidirectional=bidirectional)
    torch.nn.init.normal_(peer.relative_attention_bias.weight)
    mine.load_state_dict({"weight": peer.relative_attention_bias.weight})
    return mine, peer


def calls(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, n: int) -> Calls:
    """The same attention, several times over; those that should agree are held to it."""
    mine, peer = layers()
    with torch.no_grad():
        stored = mine.bias(q, k, torch.arange(n), torch.arange(n))[None].contiguous()
        out = scaled_dot_product_attention(q, k, v, stored, scale=1.0)

    def matrix() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, peer.compute_bias(n, n), scale=1.0)

    def eager() -> torch.Tensor:
        bias = peer.compute_bias(n, n)
        z, _ = eager_attention_forward(peer, q, k, v, None, scaling=1.0, position_bias=bias)
        return z.transpose(1, 2)

    def ours() -> torch.Tensor:
        return attend_by_offset(q, k, v, mine.by_offset(n, n), scale=1.0)

    made: Calls = {
        "plain": lambda: scaled_dot_product_attention(q, k, v, scale=1.0),
        "clone": out.clone,
        "ours": ours,
        "stored": lambda: scaled_dot_product_attention(q, k, v, stored, scale=1.0),
        "matrix": matrix,
        "eager": eager,
    }
    with torch.no_grad():
        for name in ("ours", "matrix", "eager"):
            torch.testing.assert_close(made[name](), out, rtol=0, atol=1e-4)
    return made


def forward_group(n: int = N, rounds: int = ROUNDS) -> dict:
    q, k, v = (torch.randn(1, HEADS, n, WIDTH) for _ in range(3))
    made = calls(q, k, v, n)
    with torch.no_grad():
        times, memory = seconds(made, rounds), peaks(made)
    return group(
        {"zh": f"T5 的偏置，n = {n}", "en": f"T5's bias, n = {n}"},
        NAMES,
        times,
        memory,
        base="plain",
        ours=("ours",),
        targets=[
            target(
                "按偏移的偏置，与无偏置之比",
                "bias by offset, as a multiple of no bias",
                times["ours"] / times["plain"],
                1.15,
            )
        ],
        setting=SETTING,
    )


def causal_group(n: int = N, rounds: int = ROUNDS) -> dict:
    """A decoder: the base leaves out the keys after the query as well."""
    q, k, v = (torch.randn(1, HEADS, n, WIDTH) for _ in range(3))
    mine, peer = layers(bidirectional=False)
    after = torch.ones(n, n, dtype=torch.bool).triu(1)

    def matrix() -> torch.Tensor:
        bias = peer.compute_bias(n, n).masked_fill(after, -torch.inf)
        return scaled_dot_product_attention(q, k, v, bias, scale=1.0)

    made: Calls = {
        "plain causal": lambda: scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0),
        "ours causal": lambda: attend_by_offset(
            q, k, v, mine.by_offset(n, n), scale=1.0, causal=True
        ),
        "matrix causal": matrix,
    }
    with torch.no_grad():
        torch.testing.assert_close(made["ours causal"](), matrix(), rtol=0, atol=1e-4)
        times, memory = seconds(made, rounds), peaks(made)
    return group(
        {
            "zh": f"T5 的偏置，因果掩码，n = {n}",
            "en": f"T5's bias, causal mask, n = {n}",
        },
        NAMES,
        times,
        memory,
        base="plain causal",
        ours=("ours",),
        targets=[
            target(
                "按偏移的偏置，因果掩码，与 is_causal=True、无偏置之比",
                "bias by offset, causal mask, as a multiple of is_causal=True without a bias",
                times["ours causal"] / times["plain causal"],
                1.15,
            )
        ],
        setting=SETTING,
    )


def gradient_group(n: int = N, rounds: int = GRADIENT_ROUNDS) -> dict:
    q, k, v, g = (torch.randn(1, HEADS, n, WIDTH) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    mine, peer = layers()
    table = peer.relative_attention_bias.weight
    frozen = mine.by_offset(n, n).detach()

    def matrix() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, peer.compute_bias(n, n), scale=1.0)

    def learned() -> torch.Tensor:
        return attend_by_offset(q, k, v, mine.by_offset(n, n), scale=1.0)

    def backwards(call: Callable[[], torch.Tensor], *more: torch.Tensor):
        return lambda: torch.autograd.grad(call(), [*inputs, *more], g)

    made = {
        "plain": backwards(lambda: scaled_dot_product_attention(q, k, v, scale=1.0)),
        "ours": backwards(lambda: attend_by_offset(q, k, v, frozen, scale=1.0)),
        "learned": backwards(learned, mine.weight),
        "matrix learned": backwards(matrix, table),
    }
    one, other = made["learned"](), made["matrix learned"]()
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-2)
    times, memory = seconds(made, rounds), peaks(made)
    return group(
        {
            "zh": f"T5 的偏置，前向与反向，n = {n}",
            "en": f"T5's bias, forward and backward, n = {n}",
        },
        NAMES,
        times,
        memory,
        base="plain",
        ours=("ours", "learned"),
        targets=[
            target(
                "按偏移的偏置，q、k、v 的梯度，与无偏置之比",
                "bias by offset, gradients of q, k and v, as a multiple of no bias",
                times["ours"] / times["plain"],
                1.15,
            )
        ],
        setting=SETTING,
    )


def groups() -> list[dict]:
    """T5's bias forward, with a causal mask, and with gradients."""
    print("T5's bias", flush=True)
    forwards = [forward_group(), causal_group()]
    print("T5's bias, gradients", flush=True)
    with torch.enable_grad():
        return [*forwards, gradient_group()]
