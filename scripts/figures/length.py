"""Figures of the page on the length of the input.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np

from posenc.equations.length import (
    Shape,
    cache_bytes,
    crossover,
    doubling,
    entropy,
    flops,
    key_weight,
    log_scale,
    logit_bytes,
)
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, INK, MUTED, SMALL, write

CLASSIC = Shape(4096, 32)  # the first Transformer's layer at LLaMA's width
LLAMA = Shape(4096, 32, d_ff=11008, gated=True, n_layers=32)  # the 7B model
NAMES = {
    2**6: "64",
    2**9: "512",
    2**12: "4K",
    2**13: "8K",
    2**15: "32K",
    2**17: "128K",
    2**20: "1M",
}


def powers(low, high, per=4):
    """Whole lengths from 2^low to 2^high, evenly spaced in the logarithm."""
    return np.unique(np.round(2.0 ** np.linspace(low, high, (high - low) * per + 1)).astype(int))


def lengths(ax, ticks):
    """Give an axis of lengths its logarithm and its labels."""
    ax.set_xscale("log")
    style.ticks(ax.xaxis, {n: NAMES[n] for n in ticks})


# Cost


def cost_data():
    """Lengths, GFLOPs per token of maps and pairs (2, n), and what doubling costs."""
    n = powers(9, 20)
    parts = np.array([flops(int(k), CLASSIC) for k in n]).T / n / 1e9
    return n, parts, np.array([doubling(int(k), CLASSIC) for k in n])


def cost(say):
    n, (maps, pairs), factor = cost_data()
    mark = crossover(CLASSIC)
    fig = style.figure(2.75)
    left = fig.add_axes((0.1, 0.18, 0.37, 0.66))
    right = fig.add_axes((0.6, 0.18, 0.37, 0.66))
    left.plot(n, maps, color=C0)
    left.plot(n, pairs, color=C1)
    left.set_yscale("log")
    left.set(ylim=(0.006, 40), title=say("每个词元的 GFLOPs", "GFLOPs per token"))
    style.ticks(left.yaxis, {0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10"})
    write(left, 600, 0.75, say("映射", "maps"), SMALL, C0, ha="left")
    write(left, 14000, 0.07, say("词元对", "pairs"), SMALL, C1, ha="left")
    right.plot(n, factor, color=C2)
    right.plot([mark], [3], "o", color=C2, markersize=5)
    for height in (2, 4):
        right.axhline(height, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    right.set(ylim=(1.9, 4.12), title=say("翻倍要花几倍", "cost of doubling"))
    style.ticks(right.yaxis, {2: "2", 3: "3", 4: "4"})
    for ax in (left, right):
        ax.axvline(mark, color=GRID, linewidth=0.9)
        lengths(ax, (2**9, 2**13, 2**17))
        ax.set_xlabel("n")
    write(left, mark * 1.25, 18, "n = 6d", SMALL, MUTED, ha="left")
    write(right, mark * 0.8, 3.18, "n = 6d", SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "左：每个词元的计算量，映射是水平线，词元对随长度上升，两线在 n = 6d 相交。"
            "右：长度翻倍后总计算量是原来的几倍，从 2 升向 4，在 n = 6d 处恰为 3。",
            "Left: work per token; the maps are level, the pairs rise with the length, and both "
            "meet at n = 6d. Right: how many times as much doubling costs, rising from 2 towards "
            "4, exactly 3 at n = 6d.",
        )
    )
    return fig


# Memory


def memory_data():
    """Lengths, and GiB of logits, fused sums (one layer) and KV cache (all), and of the weights."""
    n = powers(9, 20, 1)
    gib = {
        "logits": np.array([logit_bytes(int(k), LLAMA) for k in n]) / 2**30,
        "cache": np.array([cache_bytes(int(k), LLAMA) for k in n]) / 2**30,
        "sums": np.array([logit_bytes(int(k), LLAMA, fused=True) for k in n]) / 2**30,
        "weights": np.full(len(n), 2 * LLAMA.n_layers * LLAMA.weights / 2**30),
    }
    return n, gib


def memory(say):
    n, gib = memory_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.13, 0.15, 0.6, 0.8))
    rows = (
        ("logits", C1, say("一层的 logit", "logits, one layer"), gib["logits"][-1]),
        ("cache", C0, say("KV 缓存，32 层", "KV cache, all 32"), gib["cache"][-1]),
        ("weights", INK, say("权重，32 层", "weights, all 32"), gib["weights"][-1]),
        ("sums", C2, say("融合后，一层", "fused, one layer"), gib["sums"][-1]),
    )
    for name, colour, label, end in rows:
        ax.plot(n, gib[name], color=colour)
        write(ax, n[-1] * 1.25, end, label, SMALL, colour, ha="left")
    ax.set_yscale("log")
    lengths(ax, (2**9, 2**12, 2**15, 2**20))
    style.ticks(ax.yaxis, {2.0**-10: "1 MiB", 1: "1 GiB", 2.0**10: "1 TiB", 2.0**-14: "64 KiB"})
    ax.set(xlim=(n[0], n[-1]), ylim=(2.0**-15, 2.0**17))
    ax.set_xlabel("n")
    fig.set_label(
        say(
            "LLaMA-7B 半精度的内存，横纵轴都是对数。一层的 logit 按平方上升，最陡；"
            "KV 缓存按长度上升；融合之后留下的最少；权重是水平线。",
            "Memory of LLaMA-7B in half precision, both axes logarithmic. The logits of one layer "
            "rise with the square and are steepest; the KV cache rises with the length; what "
            "fused attention keeps is least; the weights are level.",
        )
    )
    return fig


# The softmax


def dilution_data():
    """Lengths, entropy of equal and of normal logits, and a key's weight, plain and rescaled."""
    n = powers(6, 20)
    equal, normal = (np.array([entropy(int(k), std) for k in n]) for std in (0.0, 1.0))
    plain = np.array([key_weight(5.0, int(k)) for k in n])
    scales = [log_scale(int(k), 64) for k in n]
    scaled = [key_weight(5.0 * s, int(k), s) for k, s in zip(n, scales, strict=True)]
    return n, equal, normal, plain, np.array(scaled)


def dilution(say):
    n, equal, normal, plain, scaled = dilution_data()
    fig = style.figure(2.75)
    left = fig.add_axes((0.09, 0.18, 0.37, 0.66))
    right = fig.add_axes((0.6, 0.18, 0.37, 0.66))
    left.plot(n, equal, color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)))
    left.plot(n, normal, color=C0)
    left.set(ylim=(2, 15), title=say("权重的熵（nat）", "entropy (nats)"))
    style.ticks(left.yaxis, {4: "4", 8: "8", 12: "12"})
    write(left, 2**9.4, 10.6, say("一样的 logit", "equal logits"), SMALL, MUTED)
    write(left, 2**15, 6.6, say("正态 logit", "normal logits"), SMALL, C0)
    right.plot(n, plain, color=C1)
    right.plot(n, scaled, color=C2)
    right.set(ylim=(0, 0.65), title=say("突出的键的权重", "weight of one key"))
    style.ticks(right.yaxis, {0: "0", 0.2: "0.2", 0.4: "0.4", 0.6: "0.6"})
    write(right, 2**13.4, 0.47, "× ln n / ln 64", SMALL, C2, ha="left")
    write(right, 2**12.4, 0.05, say("不变", "as it is"), SMALL, C1, ha="left")
    for ax in (left, right):
        lengths(ax, (2**6, 2**12, 2**17))
        ax.set_xlabel("n")
    fig.set_label(
        say(
            "左：权重的熵随长度的对数直线上升，正态 logit 比一样的 logit 低半个 nat。"
            "右：logit 高出 5 的键，权重从 0.59 降到接近零；logit 乘上对数之比，下降慢得多。",
            "Left: the entropy of the weights rises in line with the logarithm of the length; "
            "normal logits lie half a nat below equal ones. Right: the weight of a key whose logit "
            "stands out by 5 falls from 0.59 to nearly zero; with all logits multiplied by a ratio "
            "of logarithms it falls far more slowly.",
        )
    )
    return fig
