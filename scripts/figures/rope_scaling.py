"""Figures of the page on scaled RoPE.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np

from posenc.equations.rope import rotate_pairs
from posenc.equations.rope_scaling import (
    DynamicNtk,
    Llama3,
    LongRope,
    NtkAware,
    NtkByParts,
    PositionInterpolation,
    Proportional,
    Yarn,
    overshoot,
    ramp_by_turns,
)
from posenc.equations.sinusoidal import frequencies
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, GRID, INK, MUTED, SMALL, ticks, write

# Lists in the configuration of Phi-3.5-mini-instruct, 48 pairs, to two decimals, as they are there.
PHI_LONG = (
    *(1.08, 1.11, 1.14, 1.34, 1.59, 1.6, 1.62, 2.62, 3.23, 3.23, 4.79, 7.4, 7.7, 9.09, 12.2, 17.67),
    *(24.46, 28.57, 30.42, 30.84, 32.59, 32.93, 42.32, 44.96, 50.34, 50.45, 57.55, 57.93, 58.21),
    *(60.14, 62.61, 62.62, 62.71, 63.14, 63.14, 63.77, 63.93, 63.96, 63.97, 64.03, 64.07, 64.08),
    *(64.12, 64.41, 64.48, 64.51, 64.53, 64.84),
)
PHI_SHORT = (
    *(1.0, 1.02, 1.03, 1.03, 1.05, 1.05, 1.05, 1.05, 1.05, 1.07, 1.1, 1.11, 1.16, 1.16, 1.17, 1.29),
    *(1.34, 1.68, 1.79, 1.82, 1.85, 1.88, 1.91, 1.94, 1.99, 2.02, 2.02, 2.02, 2.02, 2.02, 2.02),
    *(2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.03, 2.08, 2.09, 2.19, 2.22, 2.59, 2.73),
    *(2.75, 2.84),
)
PHI = LongRope(PHI_SHORT, PHI_LONG, 4096, 32)


def upright(ax, x, text):
    """Name the vertical axis, at x in units of the axes."""
    write(ax, x, 0.5, text, rotation=90, transform=ax.transAxes)


# All schemes

WIDTH, LENGTH, FACTOR = 128, 4096, 8


def schemes_data():
    """Wavelength over L and log of the divisor to the base s, for every scheme by name."""
    schemes = {
        "interpolation": (PositionInterpolation(FACTOR), None),
        "ntk": (NtkAware(FACTOR), None),
        "dynamic": (DynamicNtk(1, LENGTH), 2 * LENGTH),
        "proportional": (Proportional(0.5), None),
        "parts": (NtkByParts(FACTOR, LENGTH), None),
        "yarn": (Yarn(FACTOR, LENGTH, ramp="truncated"), None),
        "llama": (Llama3(FACTOR, LENGTH), None),
        "longrope": (PHI, LENGTH + 1),
    }
    found = {}
    for name, (scaling, length) in schemes.items():
        d, s = (2 * len(PHI_LONG), PHI.factor) if scaling is PHI else (WIDTH, FACTOR)
        theta, scaled = frequencies(d), scaling.frequencies(d, length=length)
        wavelengths, turns = 2 * np.pi / theta / LENGTH, scaled > 0
        found[name] = wavelengths[turns], np.log(theta[turns] / scaled[turns]) / np.log(s)
    return found


def schemes(say):
    data = schemes_data()
    fig = style.figure(4.9)
    still = say("不转", "still")
    rows = (
        (
            ("interpolation", C0, say("位置插值", "PI"), 0.0024, 1.09),
            ("ntk", C1, "NTK-aware", 0.016, 0.72),
            ("dynamic", C2, say("动态 NTK，L′ = 2L", "dynamic NTK, L′ = 2L"), 0.62, 0.1),
            ("proportional", C3, say("按比例", "proportional"), 0.019, -0.1),
        ),
        (
            ("parts", C0, "NTK-by-parts", 1.3, 0.86),
            ("yarn", C1, say("YaRN，程序", "YaRN, programs"), 1.15, 0.58),
            ("llama", C2, "Llama 3", 0.55, 0.2),
            ("longrope", C3, "LongRoPE, Phi-3.5", 0.0018, 1.1),
        ),
    )
    for row, lines in enumerate(rows):
        ax = fig.add_axes((0.115, 0.565 - 0.455 * row, 0.865, 0.4))
        for x in (1 / 32, 1):
            ax.axvline(x, color=GRID, linewidth=0.9, zorder=0)
        for name, colour, label, x, y in lines:
            ax.plot(*data[name], color=colour)
            write(ax, x, y, label, SMALL, colour, ha="left")
        if not row:
            edge, level = data["proportional"][0][-1], data["proportional"][1][-1]
            ax.plot([edge, edge], [level, 1.25], color=C3, linestyle=(0, (2, 2)))
            write(ax, edge * 1.15, 1.2, still, SMALL, C3, ha="left")
        ax.set(xscale="log", xlim=(0.0013, 17), ylim=(-0.18, 1.3))
        ticks(ax.yaxis, {0: "1", 1: "s"})
        labels = {0.01: "0.01", 1 / 32: "1/32", 0.1: "0.1", 1: "1", 10: "10"}
        ticks(ax.xaxis, labels if row else dict.fromkeys(labels, ""))
        upright(ax, -0.075, say("频率除以", "frequency divided by"))
    ax.set_xlabel(say("波长 / 训练长度 L", "wavelength / length of training L"))
    fig.set_label(
        say(
            "八种方案，横轴是波长除以训练长度，纵轴是频率被除以多少，从 1 到 s，对数刻度。"
            "上：位置插值处处是 s；NTK-aware 从 1 匀速升到 s；动态 NTK 在两倍长度时升到三分之一高；"
            "按比例先是 1，过了中点就不转。下：三种分段的方案，短波长是 1，波长超过 L 后是 s，"
            "中间的坡各不相同；Phi-3.5 的表超过 s。",
            "Eight schemes: wavelength over the length of training against what the frequency is "
            "divided by, from 1 to s on a logarithmic scale. Above: position interpolation is s "
            "everywhere; NTK-aware rises evenly from 1 to s; dynamic NTK at twice the length rises "
            "to a third of the height; proportional is 1 and stands still past the middle. Below: "
            "three schemes by parts, 1 at short wavelengths and s beyond L with different ramps "
            "between; the list of Phi-3.5 goes above s.",
        )
    )
    return fig


# Overshoot


def overshoot_data(d=128, length=2048, factor=4):
    """Arc needed over arc seen at `factor` times the length, for every pair, by scheme."""
    theta = frequencies(d)
    whole = int((length * theta >= 2 * np.pi).sum())
    enough = factor ** ((d / 2 - 1) / whole)
    scaled = {
        "none": theta,
        "ntk": NtkAware(factor).frequencies(d),
        "enough": NtkAware(enough).frequencies(d),
        "parts": NtkByParts(factor, length).frequencies(d),
    }
    ratios = {k: overshoot(theta, v, length, factor * length) for k, v in scaled.items()}
    return whole, enough, ratios


def overshoot_arcs(say):
    whole, enough, ratios = overshoot_data()
    fig = style.figure(2.9)
    ax = fig.add_axes((0.11, 0.17, 0.87, 0.78))
    ax.axhline(1, color=GRID, linewidth=0.9, zorder=0)
    ax.axvline(whole - 0.5, color=GRID, linewidth=0.9, zorder=0)
    bigger = f"NTK, s = {enough:.2f}"
    lines = (
        ("none", MUTED, say("不改", "as it was"), (47.5, 3.4)),
        ("ntk", C1, "NTK, s = 4", (31.6, 1.62)),
        ("parts", C2, "NTK-by-parts", (1, 0.8)),
        ("enough", C0, bigger, (44.5, 0.42)),
    )
    for name, colour, label, at in lines:
        ax.plot(ratios[name], color=colour, marker="o", markersize=2.6, linewidth=1.2)
        write(ax, *at, label, SMALL, colour, ha="left" if name != "none" else "right")
    write(ax, 1, 1.26, say("转满一圈的对", "pairs that made a whole turn"), SMALL, MUTED, ha="left")
    ticks(ax.xaxis, {v: str(v) for v in (0, 20, whole, 63)})
    ticks(ax.yaxis, {v: str(v) for v in (0, 1, 2, 3, 4)})
    ax.set(xlim=(-1, 64), ylim=(0, 4.25), xlabel=say("频率对 m", "pair m"))
    upright(ax, -0.08, say("要用的弧 / 见过的弧", "arc needed / arc seen"))
    fig.set_label(
        say(
            f"64 个频率对，长度 2048 变成 4 倍。前 {whole} 对是 1。不改时其余各对升到 4。"
            "NTK 取 s = 4 时升到 1.5 左右再回到 1；按部分的是 1；s 大一倍时不超过 1。",
            f"64 pairs, length 2048 becomes four times as long. The first {whole} are at 1. "
            "Unchanged, the others rise to 4. NTK with s = 4 rises to about 1.5 and comes back to "
            "1; NTK-by-parts is at 1; with twice that s nothing is above 1.",
        )
    )
    return fig


# Two ramps


def ramps_data(slow=1.0, fast=32.0, factor=4):
    """Turns, the share kept by paper and programs, and what frequencies differ by; and dots."""
    r = np.geomspace(0.5, 64, 400)
    paper = ramp_by_turns(r, 2 * np.pi, slow, fast)
    program = np.clip(np.log(r / slow) / np.log(fast / slow), 0, 1)
    kept = np.stack([paper, program])
    theta = kept + (1 - kept) / factor
    model = Yarn(factor, 32768, ramp="truncated")
    base = frequencies(128, 1e6)
    dots = (model.frequencies(128, 1e6) / base - 1 / factor) / (1 - 1 / factor)
    return r, kept, theta[1] / theta[0], (32768 * base / (2 * np.pi), dots)


def ramps(say):
    r, (paper, program), ratio, (turns, dots) = ramps_data()
    fig = style.figure(3.9)
    labels = {0.5: "½", 1: "1", 4: "4", 32: "32", 64: "64"}
    upper, lower = (fig.add_axes((0.115, y, 0.865, h)) for y, h in ((0.46, 0.51), (0.13, 0.26)))
    for ax in (upper, lower):
        for x in (1, 32):
            ax.axvline(x, color=GRID, linewidth=0.9, zorder=0)
        ax.set(xscale="log", xlim=(0.5, 64))
        ticks(ax.xaxis, labels if ax is lower else dict.fromkeys(labels, ""))
    upper.plot(r, paper, color=C0)
    upper.plot(r, program, color=C1)
    inside = (turns > 0.5) & (turns < 64)
    upper.plot(turns[inside], dots[inside], "o", color=C1, markersize=3)
    write(upper, 11.5, 0.2, say("论文", "paper"), SMALL, C0, ha="left")
    write(upper, 2.1, 0.6, say("程序", "programs"), SMALL, C1, ha="right")
    ticks(upper.yaxis, {0: "0", 0.5: "½", 1: "1"})
    upper.set(ylim=(-0.05, 1.08))
    lower.plot(r, ratio, color=INK)
    ticks(lower.yaxis, {1: "1", 1.5: "1.5", 2: "2"})
    lower.set(ylim=(0.92, 2.0), xlabel=say("训练中转过的圈数 r", "turns r in training"))
    upright(upper, -0.105, say("保留份额 γ", "share kept γ"))
    upright(lower, -0.105, say("程序 / 论文", "ratio"))
    fig.set_label(
        say(
            "上：保留份额随圈数的变化，圈数是对数刻度，从 1 圈到 32 圈。论文的曲线先平后陡，"
            "程序的是直线；圆点是 Qwen2.5 的各对，在直线附近。下：两种做法的频率之比，最高约 1.8。",
            "Above: share kept against turns on a logarithmic axis, from 1 to 32 turns. The "
            "paper's curve is flat and then steep, the programs' is a straight line; dots are the "
            "pairs of Qwen2.5, close to that line. Below: ratio of the two frequencies, up to "
            "about 1.8.",
        )
    )
    return fig


# A toy decode


BACK, STEPS, TRAINED = 100, 256, 64


def decode_data(d=64, gain=3.0):
    """Weights of the last query, which looks 100 places back: keys recomputed, or as cached."""
    scaling, x, at = DynamicNtk(1, TRAINED), np.tile([1.0, 0.0], d // 2), np.arange(STEPS)
    theta = scaling.frequencies(d, length=STEPS)
    query = gain * rotate_pairs(x, (STEPS - 1 - BACK) * theta)
    now = np.outer(at, theta)
    then = np.stack([j * scaling.frequencies(d, length=j + 1) for j in at])
    logits = [rotate_pairs(np.tile(x, (STEPS, 1)), a) @ query / np.sqrt(d) for a in (now, then)]
    weights = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def decode(say):
    right, cached = decode_data()
    fig = style.figure(2.7)
    ax = fig.add_axes((0.125, 0.18, 0.855, 0.76))
    ax.axvline(TRAINED, color=GRID, linewidth=0.9, zorder=0)
    ax.plot(cached, color=C1, linewidth=1.4)
    ax.plot(right, color=C0, linewidth=1.4)
    aim, top = STEPS - 1 - BACK, float(right.max())
    write(ax, aim + 5, 0.93 * top, say("键全部重算", "keys recomputed"), SMALL, C0, ha="left")
    label = say("缓存里转过的键", "turned keys from the cache")
    write(ax, 4, 1.25 * cached.max(), label, SMALL, C1, ha="left")
    ticks(ax.xaxis, {v: str(v) for v in (0, TRAINED, aim, STEPS - 1)})
    ticks(ax.yaxis, {0: "0", 0.1: "0.1"})
    ax.set(xlim=(-3, 258), ylim=(-0.02 * top, 1.08 * top))
    upright(ax, -0.095, say("权重", "weight"))
    ax.set_xlabel(say("键的位置 j，查询在 255", "position j of the key; the query is at 255"))
    fig.set_label(
        say(
            "查询在位置 255，要找往前 100 个的键。键全部重算时，权重在 155 处有一个尖峰；"
            "键是按当时的底数转好存下的，尖峰就散到别处。",
            "The query is at position 255 and looks for the key 100 places back. With all keys "
            "recomputed the weights have a sharp peak at 155; with keys that were turned by the "
            "base of their time the peak is spread over other places.",
        )
    )
    return fig
