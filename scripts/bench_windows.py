"""Attention within a window beside its peers: time and memory, with gradients and without.

Peers are checked to give the same outputs before they are timed.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LongformerConfig
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from posenc.equations.windows import sliding_window
from posenc.layers.windows import attend_in_window, mask_tensor
from scripts.bench import Name, group, peaks, seconds, target

HEADS, LENGTHS, WIDTH, WINDOW = 8, (4096, 8192), 64, 512
ROUNDS, GRADIENT_ROUNDS = 5, 3
NAMES: dict[str, Name] = {
    "full": {
        "zh": "scaled_dot_product_attention，is_causal=True，没有窗口",
        "en": "scaled_dot_product_attention, is_causal=True, without a window",
    },
    "ours": {"zh": "posenc，分块的因果窗口", "en": "posenc, causal window in blocks"},
    "ours both": {
        "zh": "posenc，分块的窗口，两侧各一半",
        "en": "posenc, window in blocks, half on each side",
    },
    "mask": {
        "zh": "scaled_dot_product_attention，因果窗口写成 n×n 的布尔掩码",
        "en": "scaled_dot_product_attention, the causal window as an n by n boolean mask",
    },
    "longformer": {
        "zh": "transformers Longformer，两侧各一半，不含投影",
        "en": "transformers Longformer, half on each side, without projections",
    },
}


def setting(n: int) -> dict[str, str]:
    return {
        "shape": f"1 × {HEADS} × {n} × {WIDTH}",
        "layout": "(batch, heads, n, d_head)",
        "dtype": "float32",
    }


def library(n: int, window: int) -> Callable[..., torch.Tensor]:
    """Longformer's sliding chunks, between the projections."""
    config = LongformerConfig(
        hidden_size=HEADS * WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=1,
        attention_window=[window],
        attention_probs_dropout_prob=0.0,
    )
    layer = LongformerSelfAttention(config, 0).eval()
    for name in ("query", "key", "value"):
        setattr(layer, name, torch.nn.Identity())
    none = torch.zeros(1, n)
    options = {
        "attention_mask": none,
        "is_index_masked": none > 0,
        "is_index_global_attn": none > 0,
        "is_global_attn": False,
    }

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        joined = [x.transpose(1, 2).flatten(2).transpose(0, 1) for x in (q, k, v)]
        parts = joined[0].clone(), *joined[1:]  # it divides the queries in place
        for name, part in zip(("query", "key", "value"), parts, strict=True):
            getattr(layer, name).forward = partial(_give, part)
        z = layer(joined[0].transpose(0, 1), **options)[0]
        return z.unflatten(2, (HEADS, WIDTH)).transpose(1, 2)

    return attend


def _give(part: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return part


def forward_group(n: int, rounds: int = ROUNDS, window: int = WINDOW) -> dict:
    q, k, v = (torch.randn(1, HEADS, n, WIDTH) for _ in range(3))
    scale, half, at = WIDTH**-0.5, window // 2, np.arange(n)
    mask = mask_tensor(sliding_window(at, at, (window - 1, 0)))
    theirs = library(n, window)
    made: dict[str, Callable[[], torch.Tensor]] = {
        "full": lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
        "ours": lambda: attend_in_window(q, k, v, window, scale=scale),
        "mask": lambda: scaled_dot_product_attention(q, k, v, mask),
        "ours both": lambda: attend_in_window(q, k, v, half + 1, scale=scale, after=half),
        "longformer": lambda: theirs(q, k, v),
    }
    with torch.no_grad():
        torch.testing.assert_close(made["ours"](), made["mask"](), rtol=0, atol=1e-4)
        torch.testing.assert_close(made["ours both"](), made["longformer"](), rtol=0, atol=1e-4)
        times, memory = seconds(made, rounds), peaks(made)
    return group(
        {"zh": f"窗口 {window}，n = {n}", "en": f"Window of {window}, n = {n}"},
        NAMES,
        times,
        memory,
        base="full",
        ours=("ours",),
        targets=[
            target(
                f"因果窗口，n = {n}，与没有窗口之比",
                f"causal window, n = {n}, as a multiple of no window",
                times["ours"] / times["full"],
                1.0,
            )
        ],
        setting=setting(n),
    )


def gradient_group(n: int, rounds: int = GRADIENT_ROUNDS, window: int = WINDOW) -> dict:
    q, k, v, g = (torch.randn(1, HEADS, n, WIDTH) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    at = np.arange(n)
    mask = mask_tensor(sliding_window(at, at, (window - 1, 0)))

    def backwards(call: Callable[[], torch.Tensor]):
        return lambda: torch.autograd.grad(call(), inputs, g)

    made = {
        "full": backwards(lambda: scaled_dot_product_attention(q, k, v, is_causal=True)),
        "ours": backwards(lambda: attend_in_window(q, k, v, window, scale=WIDTH**-0.5)),
        "mask": backwards(lambda: scaled_dot_product_attention(q, k, v, mask)),
    }
    for a, b in zip(made["ours"](), made["mask"](), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    times, memory = seconds(made, rounds), peaks(made)
    return group(
        {
            "zh": f"窗口 {window}，前向与反向，n = {n}",
            "en": f"Window of {window}, forward and backward, n = {n}",
        },
        NAMES,
        times,
        memory,
        base="full",
        ours=("ours",),
        targets=[
            target(
                f"因果窗口，前向与反向，n = {n}，与没有窗口之比",
                f"causal window, forward and backward, n = {n}, as a multiple of no window",
                times["ours"] / times["full"],
                1.0,
            )
        ],
        setting=setting(n),
    )


def groups() -> list[dict]:
    """A window forward at two lengths, and with gradients."""
    print("windows", flush=True)
    forwards = [forward_group(n) for n in LENGTHS]
    print("windows, gradients", flush=True)
    with torch.enable_grad():
        return [*forwards, gradient_group(LENGTHS[0])]
