"""Figures of the page on the experiment, drawn from its committed results.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import math
from itertools import pairwise

import numpy as np

from posenc.equations.extrapolation import order_entropies
from scripts.sitegen import results, style
from scripts.sitegen.style import C0, C1, C2, C3, C4, GRID, INK, MUTED, SMALL, heat, ticks, write

LINES = {
    "sinusoidal": C1,
    "learned": C4,
    "rope": C0,
    "t5": C3,
    "alibi": C2,
    "none": MUTED,
}
LEGEND = (0.115, 0.3, 0.455, 0.57, 0.655, 0.775)  # where the six words begin
FAR = results.FAR
SHORT = {
    "none": ("无编码", "NoPE"),
    "sinusoidal": ("正弦", "sinusoidal"),
    "learned": ("训练的表", "learned"),
    "rope": ("RoPE", "RoPE"),
    "t5": ("T5", "T5"),
    "alibi": ("ALiBi", "ALiBi"),
}

# Curves: a score against the position


def curve_data(task):
    """Middles of the buckets (14,), and for six encodings least, mean and most (3, 14)."""
    data = results.load()
    edges = data["edges"]
    middles = [math.sqrt(a * b) for a, b in pairwise(edges)]
    found = {}
    for name in LINES:
        rows = [results.values(data, task, name, "plain", a, b) for a, b in pairwise(edges)]
        rows = np.array(rows)
        found[name] = np.stack([rows.min(1), rows.mean(1), rows.max(1)])
    return np.array(middles), found


def _curves(say, task, height, label, **axes):
    middles, found = curve_data(task)
    fig = style.figure(height)
    ax = fig.add_axes((0.115, 0.45 / height, 0.845, 1 - 0.85 / height))
    for name, (least, mean, most) in found.items():
        ax.fill_between(middles, least, most, color=LINES[name], alpha=0.18, linewidth=0)
        ax.plot(middles, mean, color=LINES[name])
    ax.set(xscale="log", xlim=(2, 1024), **axes)
    ax.axvline(64, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
    ticks(ax.xaxis, {k: str(k) for k in (2, 8, 64, 128, 256, 512, 1024)})
    ax.set_xlabel(say("位置", "position"))
    middle = 0.5 + 0.025 / height
    turned = {"rotation": 90, "rotation_mode": "anchor", "ha": "center", "va": "center_baseline"}
    fig.text(0.022, middle, label, fontsize=style.SIZE, **turned)
    for x, (name, colour) in zip(LEGEND, LINES.items(), strict=True):
        word = say(*SHORT[name])
        fig.text(x, 1 - 0.17 / height, word, fontsize=SMALL, color=colour, va="center_baseline")
    return fig, ax


def markov_data():
    """Curves of the chain, and what is lost by whoever sees none of the symbols."""
    entropies = order_entropies(markov_law())
    return *curve_data("markov"), float(entropies[0] - entropies[2])


def markov_law():
    """The law of the experiment's chain."""
    weights = np.exp(1.5 * np.random.default_rng(0).standard_normal((8, 8, 8)))
    return weights / weights.sum(-1, keepdims=True)


def markov(say):
    fig, ax = _curves(say, "markov", 3.2, say("散度，nat", "divergence, nats"), yscale="log")
    blind = markov_data()[2]
    ax.axhline(blind, color=MUTED, linewidth=0.9)
    write(ax, 2.2, blind * 1.36, say("什么都不看", "seeing nothing"), SMALL, MUTED, ha="left")
    ax.set(ylim=(0.0012, 3))
    ticks(ax.yaxis, {0.01: "0.01", 0.1: "0.1", 1: "1"})
    fig.set_label(
        say(
            "折线图，横轴是位置，纵轴是散度，都用对数刻度，虚线在 64。"
            "虚线左边各条线都低，只有无编码高。"
            "右边：正弦、训练的表、RoPE 升到 1 上下，T5 慢一些；ALiBi 一直是平的。",
            "Lines, divergence against position, both logarithmic, with a dashed line at 64. "
            "Left of it all are low but NoPE. To the right sinusoidal, learned and RoPE rise to "
            "about 1, T5 more slowly; ALiBi stays flat.",
        )
    )
    return fig


def recall_data():
    """Curves of the recall."""
    return curve_data("recall")


def recall(say):
    fig, ax = _curves(say, "recall", 2.6, say("答对的比例", "share correct"), ylim=(0, 1.04))
    ax.axhline(1 / 8, color=MUTED, linewidth=0.9)
    write(ax, 2.2, 0.185, say("乱猜", "guessing"), SMALL, MUTED, ha="left")
    ticks(ax.yaxis, {0: "0", 0.5: "0.5", 1: "1"})
    fig.set_label(
        say(
            "折线图，横轴是位置，纵轴是答对的比例。64 以内都是 1；往后 RoPE 在 200 左右落下，"
            "到乱猜的八分之一附近，正弦晚一些，其余四条都停在 1。",
            "Lines, share of correct answers against position. Up to 64 all are at 1; beyond, RoPE "
            "falls at about 200 to near the one in eight of guessing, sinusoidal later, and the "
            "other four stay at 1.",
        )
    )
    return fig


def text_data():
    """Curves of the text: what is lost more than at positions 32 to 63."""
    return curve_data("text")


def text(say):
    fig, ax = _curves(say, "text", 2.6, say("多损失，nat", "extra loss, nats"))
    ax.set(ylim=(-0.25, 2.4))
    ticks(ax.yaxis, {0: "0", 1: "1", 2: "2"})
    fig.set_label(
        say(
            "折线图，横轴是位置，纵轴是比位置 32–63 多出的损失。64 以后 RoPE 升得最高，"
            "然后是正弦和 T5；训练的表色带很宽；ALiBi 和无编码留在零附近。",
            "Lines, loss beyond that at positions 32–63 against position. After 64 RoPE rises the "
            "most, then sinusoidal and T5; learned has a wide band; ALiBi and NoPE stay near zero.",
        )
    )
    return fig


# Repairs

REPAIRS = {"plain": C1, "window": C0, "restart": C2}


def repairs_data():
    """For every encoding the divergence far off, mean over seeds: plain, window, restarts."""
    data = results.load()
    found = {
        name: {
            way: float(np.mean(results.by_seed(data, "markov", name, way, *FAR))) for way in REPAIRS
        }
        for name in results.PAGES
    }
    return dict(sorted(found.items(), key=lambda item: item[1]["window"]))


def repairs(say):
    found = repairs_data()
    titles = results.names(say("zh", "en"))
    height = 0.62 + 0.225 * len(found)
    fig = style.figure(height)
    ax = fig.add_axes((0.285, 0.44 / height, 0.69, 1 - 0.66 / height))
    for row, values in enumerate(found.values()):
        ax.plot([min(values.values()), max(values.values())], [row, row], color=GRID)
        for way, marker in zip(REPAIRS, "os^", strict=True):
            ax.plot(values[way], row, marker, color=REPAIRS[way], markersize=5.5)
    ax.set(xscale="log", xlim=(0.0012, 2.5), ylim=(len(found) - 0.4, -0.6))
    ticks(ax.xaxis, {0.01: "0.01", 0.1: "0.1", 1: "1"})
    ticks(ax.yaxis, dict(enumerate(titles[name] for name in found)))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(say("位置 512–1023 的散度，nat", "divergence at positions 512–1023, nats"))
    notes = (
        (0.285, say("● 照常", "● as it is"), C1),
        (0.47, say("■ 窗口 64", "■ window of 64"), C0),
        (0.74, say("▲ 重新计位", "▲ restarts"), C2),
    )
    for x, text, colour in notes:
        fig.text(x, 1 - 0.11 / height, text, fontsize=SMALL, color=colour, va="center_baseline")
    fig.set_label(
        say(
            "每种编码一行，三个点：远处的散度，照常、有窗口、重新计位。"
            "RoPE 和 URPE 照常约为 1，有窗口就到千分之几；正弦、训练的表、TUPE 有窗口也还在高处。"
            "重新计位之后，除无编码外都很低。",
            "One row for each encoding with three points: divergence far off as it is, with a "
            "window, with restarts. RoPE and URPE are at about 1 and with a window at a few "
            "thousandths; sinusoidal, learned and TUPE stay high with it. With restarts all are "
            "low but NoPE.",
        )
    )
    return fig


# Scalings

SCALINGS = {
    "plain": "RoPE",
    "pi_4": "PI, 4",
    "pi_16": "PI, 16",
    "ntk_4": "NTK, 4",
    "ntk_16": "NTK, 16",
    "dynamic_ntk": "dynamic NTK",
    "by_parts_4": "by parts, 4",
    "by_parts_16": "by parts, 16",
    "yarn_4": "YaRN, 4",
    "yarn_16": "YaRN, 16",
    "llama3_4": "Llama 3, 4",
    "llama3_16": "Llama 3, 16",
    "long_rope": "LongRoPE, 16",
}
SCALINGS_ZH = {
    "dynamic NTK": "动态 NTK",
    "by parts, 4": "按部分，4",
    "by parts, 16": "按部分，16",
}


def scalings_data():
    """Means over seeds (12, 5), by scaling and range: divergence, and share of recalls."""
    data = results.load()
    return {
        task: np.array(
            [
                [np.mean(results.by_seed(data, task, "rope", way, *one)) for one in results.RANGES]
                for way in SCALINGS
            ]
        )
        for task in ("markov", "recall")
    }


def scalings(say):
    found = scalings_data()
    cell, left, bottom = (0.352, 0.235), 1.13, 0.1
    fig = style.figure(bottom + cell[1] * len(SCALINGS) + 0.55)
    ax = style.canvas(fig)
    top = bottom + cell[1] * len(SCALINGS)
    titles = say("链：散度", "chain: divergence"), say("召回：答对", "recall: correct")
    for k, (matrix, title) in enumerate(zip(found.values(), titles, strict=True)):
        x = left + k * (5 * cell[0] + 0.1)
        heat(ax, matrix, x, bottom, cell, numbers=".2f", limit=1.4 if k == 0 else 1.0)
        write(ax, x + 2.5 * cell[0], top + 0.4, title, SMALL)
        for column, (_, end) in enumerate(results.RANGES):
            write(ax, x + (column + 0.5) * cell[0], top + 0.15, str(end - 1), SMALL, MUTED)
    for row, name in enumerate(SCALINGS.values()):
        label = say(SCALINGS_ZH.get(name, name.replace(", ", "，")), name)
        write(ax, left - 0.08, top - (row + 0.5) * cell[1], label, SMALL, INK, ha="right")
    head = say("位置不超过", "up to position")
    write(ax, left - 0.08, top + 0.15, head, SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "两张表，行是 RoPE 及其各种缩放，列是五段位置。"
            "左表是链的散度，越小越好；右表是召回答对的比例，越大越好。",
            "Two tables with RoPE and its scalings as rows and five ranges of positions as "
            "columns. Left, divergence of the chain, less is better; right, share of correct "
            "recalls, more is better.",
        )
    )
    return fig


# Probes


def probes_data():
    """Share of the position that a linear map reads, by encoding and layer (16, 3): two tasks."""
    data = results.load()
    return {
        task: np.array(
            [
                np.mean(
                    [
                        run["probe"]
                        for run in data["runs"]
                        if (run["task"], run["encoding"]) == (task, name)
                    ],
                    axis=0,
                )
                for name in results.PAGES
            ]
        )
        for task in ("markov", "text")
    }


def probes(say):
    found = probes_data()
    names = results.names(say("zh", "en"))
    cell, left, bottom = (0.5, 0.225), 1.4, 0.1
    fig = style.figure(bottom + cell[1] * len(names) + 0.55)
    ax = style.canvas(fig)
    top = bottom + cell[1] * len(names)
    titles = say("链", "chain"), say("文本", "text")
    for k, (matrix, title) in enumerate(zip(found.values(), titles, strict=True)):
        x = left + k * (3 * cell[0] + 0.2)
        heat(ax, np.maximum(matrix, 0), x, bottom, cell, numbers=".2f", limit=1.0)
        write(ax, x + 1.5 * cell[0], top + 0.4, title, SMALL)
        for column in range(3):
            write(ax, x + (column + 0.5) * cell[0], top + 0.15, str(column), SMALL, MUTED)
    for row, name in enumerate(names.values()):
        write(ax, left - 0.08, top - (row + 0.5) * cell[1], name, SMALL, INK, ha="right")
    write(ax, left - 0.08, top + 0.15, say("几层之后", "after layers"), SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "两张表，行是编码，列是第 0、1、2 层之后，数字是线性探针读出位置的 R²。"
            "绝对编码从 1 开始，逐层略减；其余从 0 开始，有几种在第 1 层之后升起来。",
            "Two tables with encodings as rows and 0, 1 and 2 layers as columns; the numbers are "
            "the R² of a linear probe for the position. Absolute encodings start at 1 and lose a "
            "little; the others start at 0, and some rise after layer 1.",
        )
    )
    return fig
