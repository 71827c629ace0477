"""Figures of the page on the kernel: what two position vectors say to each other.

The offset is k = i - j. Every figure's numbers come from a function ``<figure>_data``.
"""

import functools

import numpy as np
from matplotlib.patches import Arc, Circle, Rectangle

from posenc.equations.kernel import (
    first_negative,
    four_terms,
    kernel,
    kernel_limit,
    log_decay,
    power_limit,
    relative_part,
    toeplitz_share,
    zero_crossing,
)
from posenc.equations.sinusoidal import frequencies, sinusoidal
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, C4, C5, GRID, INK, MUTED, SMALL, heat, write

BASE = 10000.0


def percent(share):
    """A share between 0 and 1 in whole percents."""
    return f"{100 * share:.0f} %"


def above(ax, text, dy=1.06, x=0.0, colour=INK):
    """Write a title above axes, flush left."""
    write(ax, x, dy, text, transform=ax.transAxes, ha="left", colour=colour)


# The idea: a mean of cosines


def cosines_data():
    """Offsets from -60 to 60, six of the 32 cosines of width 64 (6, n), and the mean of all."""
    k = np.linspace(-60, 60, 481)
    return k, np.cos(np.multiply.outer(frequencies(64)[::6], k)), kernel(k, 64)


def cosines(say):
    k, parts, mean = cosines_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.1, 0.16, 0.87, 0.7))
    for part in parts:
        ax.plot(k, part, color=C0, linewidth=0.8, alpha=0.55)
    ax.plot(k, mean, color=C1, linewidth=2.2)
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xlim=(-60, 60), ylim=(-1.05, 1.05))
    style.ticks(ax.xaxis, {t: style.minus(str(t)) for t in range(-60, 61, 20)})
    style.ticks(ax.yaxis, {t: style.minus(f"{t:g}") for t in (-1, -0.5, 0, 0.5, 1)})
    ax.set_xlabel(say("偏移 k = i − j", "offset k = i − j"))
    above(ax, say("32 个余弦中的六个", "six of 32 cosines"), 1.1, colour=C0)
    text = say("32 个的平均 S(k)", "mean of all 32, S(k)")
    write(ax, 1, 1.1, text, transform=ax.transAxes, ha="right", colour=C1)
    fig.set_label(
        say(
            "32 条频率各异的余弦曲线中的六条，以及全部 32 条的平均："
            "在偏移 0 处为 1，向两侧对称地下降。",
            "Six of 32 cosines of different frequencies and the mean of all 32, which is 1 at "
            "offset 0 and falls symmetrically on both sides.",
        )
    )
    return fig


# Four terms that add up to the logit

TOKENS, SHORT_BASE = 16, 100.0


def terms_data(d=32):
    """Logits (5, 16, 16): ee, ep, pe, pp and their sum, for maps that are the identity."""
    x = np.random.default_rng(3).normal(size=(TOKENS, d)) / np.sqrt(2)
    p = sinusoidal(np.arange(TOKENS), d, SHORT_BASE)
    terms = four_terms(x, p, np.eye(d), np.eye(d))
    return np.concatenate([terms, terms.sum(axis=0, keepdims=True)])


def terms(say):
    matrices = terms_data()
    fig = style.figure(4.1)
    ax = style.canvas(fig)
    cell = (0.08, 0.08)
    side, limit = TOKENS * cell[0], 0.75 * np.abs(matrices).max()
    names = (
        say("ee 内容–内容", "ee content–content"),
        say("ep 内容–位置", "ep content–position"),
        say("pe 位置–内容", "pe position–content"),
        say("pp 位置–位置", "pp position–position"),
        say("logit", "logit"),
    )
    corners = ((0.12, 2.28), (1.76, 2.28), (0.12, 0.28), (1.76, 0.28), (3.42, 1.28))
    for matrix, name, (x, y) in zip(matrices, names, corners, strict=True):
        heat(ax, matrix, x, y, cell, limit=limit)
        write(ax, x, y + side + 0.3, name, SMALL, ha="left")
        share = say("Toeplitz 占比 {}", "Toeplitz share {}").format(percent(toeplitz_share(matrix)))
        write(ax, x, y + side + 0.12, share, SMALL, MUTED, ha="left")
    for text, x, y in (("+", 1.58, 2.92), ("+", 0.76, 2.1), ("+", 1.58, 0.92), ("=", 3.23, 1.92)):
        write(ax, x, y, text, 14)
    fig.set_label(
        say(
            "四张 16×16 的热图 ee、ep、pe、pp，逐格相加得到第五张。只有 pp 是一条条平行的对角带。",
            "Four heat maps of 16×16, ee, ep, pe and pp, add up to a fifth, cell by cell. Only pp "
            "is made of parallel diagonal bands.",
        )
    )
    return fig


# One pair on the unit circle

ANGLE, OFFSETS, QUERY = 0.25, (1, 3, 7), 9
MAP = np.array([[0.8, 0.4], [-0.1, -0.6]])  # the block A of a W that keeps nothing relative


def arrows(positions):
    """Points (sin, cos) of one frequency pair, which turns by ANGLE per position."""
    return np.stack([np.sin(ANGLE * positions), np.cos(ANGLE * positions)], axis=-1)


def pair_data():
    """Query positions, and the values (3, 2, n) of p_i p_j and p_i A p_j for offsets 1, 3, 7."""
    i = np.arange(7, 33)
    values = [
        [np.einsum("na,ab,nb->n", arrows(i), block, arrows(i - k)) for block in (np.eye(2), MAP)]
        for k in OFFSETS
    ]
    return i, np.array(values)


def pair(say):
    i, values = pair_data()
    fig = style.figure(3.9)
    ax = style.canvas(fig)
    radius = 0.62
    for column, k in enumerate(OFFSETS):
        centre = np.array([0.98 + 1.5 * column, 2.72])
        ax.add_patch(Circle(centre, radius, fill=False, edgecolor=GRID, linewidth=1))
        for name, position, colour in (("i", QUERY, C0), ("j", QUERY - k, C1)):
            tip = arrows(np.array(position))
            style.arrow(ax, centre, centre + radius * tip, colour, linewidth=1.6)
            write(ax, *(centre + (radius + 0.11) * tip), name, SMALL, colour)
        first, last = (90 - np.degrees(ANGLE * at) for at in (QUERY, QUERY - k))
        ax.add_patch(Arc(centre, 0.6, 0.6, theta1=first, theta2=last, color=INK, linewidth=1.2))
        write(ax, centre[0], 3.68, f"i − j = {k}")
        cosine = f"cos {ANGLE * k:g} = {values[column, 0, 0]:.2f}"
        write(ax, centre[0], 1.86, style.minus(cosine), SMALL, MUTED)
        low = fig.add_axes(((0.46 + 1.5 * column) / 4.8, 0.13, 1.12 / 4.8, 0.26))
        low.plot(i, values[column, 0], color=C0, marker="o", markersize=2, linewidth=1)
        low.plot(i, values[column, 1], color=C1, marker="o", markersize=2, linewidth=1)
        low.set(xlim=(6, 33), ylim=(-1.15, 1.15))
        style.ticks(low.xaxis, {10: "10", 20: "20", 30: "30"})
        style.ticks(low.yaxis, {t: style.minus(str(t)) if not column else "" for t in (-1, 0, 1)})
        low.grid(axis="y")
    write(ax, 2.4, 0.1, say("查询的位置 i", "query position i"), SMALL, MUTED)
    write(ax, 0.2, 1.64, say("W 为单位阵", "identity"), SMALL, C0, ha="left")
    write(ax, 4.6, 1.64, say("任意取的 W", "an arbitrary W"), SMALL, C1, ha="right")
    fig.set_label(
        say(
            "单位圆上两个位置的箭头，夹角只由偏移决定。"
            "下排：W 为单位阵时内积不随 i 变化，任意取的 W 则变化。",
            "Arrows of two positions on the unit circle, the angle between them given by the "
            "offset. Below: with the identity the inner product does not depend on i, with an "
            "arbitrary W it does.",
        )
    )
    return fig


# One clock per pair

WIDTH = 12
PLACES = (0, 1, 10, 100)


def clocks_data():
    """Angles (4, 6) of the hands at positions 0, 1, 10, 100, and their kernel with position 0."""
    return np.multiply.outer(PLACES, frequencies(WIDTH)), kernel(np.array(PLACES), WIDTH)


def clocks(say):
    angles, similarity = clocks_data()
    fig = style.figure(3.3)
    ax = style.canvas(fig)
    radius = 0.21
    for row, (hands, value) in enumerate(zip(angles, similarity, strict=True)):
        y = 2.5 - 0.66 * row
        place = say("位置 {}", "position {}").format(PLACES[row])
        write(ax, 0.08, y, place, SMALL, ha="left")
        for m, angle in enumerate(hands):
            centre = np.array([1.22 + 0.52 * m, y])
            ax.add_patch(Circle(centre, radius, fill=False, edgecolor=MUTED, linewidth=0.8))
            tip = centre + 0.85 * radius * np.array([np.sin(angle), np.cos(angle)])
            ax.plot(*np.transpose([centre, tip]), color=C0, linewidth=1.8)
            ax.plot(*tip, "o", color=C0, markersize=3)
        write(ax, 4.72, y, style.minus(f"{value:.2f}"), ha="right", colour=C1)
    for m in range(WIDTH // 2):
        write(ax, 1.22 + 0.52 * m, 3.0, f"m = {m}", SMALL, MUTED)
    write(ax, 4.72, 3.0, "S(k)", ha="right", colour=C1)
    fig.set_label(
        say(
            "六个频率对画成六只钟，分别在位置 0、1、10、100：前面的指针转得快，后面的几乎不动。",
            "Six frequency pairs as six clocks at positions 0, 1, 10 and 100: the first hands "
            "turn fast, the last hardly move.",
        )
    )
    return fig


# Identity, random, relative part


def maps_data(d=32):
    """P A Pᵀ (3, 16, 16) for A the identity, random, and the relative part of that random one."""
    A = np.random.default_rng(1).normal(size=(d, d)) / np.sqrt(d)
    p = sinusoidal(np.arange(TOKENS), d)
    return np.stack([p @ matrix @ p.T for matrix in (np.eye(d), A, relative_part(A))])


def maps(say):
    fig = style.figure(2.15)
    ax = style.canvas(fig)
    names = (
        say("单位阵", "identity"),
        say("随机", "random"),
        say("随机的相对部分", "its relative part"),
    )
    for column, (matrix, name) in enumerate(zip(maps_data(), names, strict=True)):
        x = 0.12 + 1.6 * column
        heat(ax, matrix, x, 0.1, (0.088, 0.088))
        write(ax, x, 1.95, name, SMALL, ha="left")
        share = say("Toeplitz 占比 {}", "Toeplitz share {}").format(percent(toeplitz_share(matrix)))
        write(ax, x, 1.7, share, SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "三张 16×16 的热图：单位阵给出对称的带，随机矩阵没有带，"
            "取它的相对部分又出现带，而且左右不对称。",
            "Three heat maps of 16×16: the identity gives symmetric bands, a random matrix none, "
            "and its relative part gives bands again, no longer symmetric.",
        )
    )
    return fig


# Rectangles under the integrand


STEPS = (1, 20, 300)


def riemann_data(d=32):
    """For k = 1, 20, 300: left ends t, heights cos(k b^-t), the sum and the integral."""
    t = 2 * np.arange(d // 2) / d
    k = np.array(STEPS)
    heights = np.cos(k[:, None] * BASE**-t)
    return t, heights, kernel(k, d), kernel_limit(k)


def riemann(say):
    t, heights, sums, limits = riemann_data()
    fig = style.figure(2.5)
    for column, k in enumerate(STEPS):
        ax = fig.add_axes((0.075 + 0.313 * column, 0.17, 0.285, 0.53))
        for left, height in zip(t, heights[column], strict=True):
            corner = (left, min(height, 0.0))
            cell = {"facecolor": C0, "alpha": 0.3, "edgecolor": C0, "linewidth": 0.6}
            ax.add_patch(Rectangle(corner, t[1], abs(height), **cell))
        angle = np.concatenate([np.arange(k, 0.15, -0.15), np.geomspace(0.15, k / BASE)])
        ax.plot(np.log(k / angle) / np.log(BASE), np.cos(angle), color=C1, linewidth=0.7)
        ax.set(xlim=(0, 1), ylim=(-1.05, 1.05))
        style.ticks(ax.xaxis, {0: "0", 0.5: "t", 1: "1"})
        style.ticks(ax.yaxis, {v: style.minus(str(v)) if not column else "" for v in (-1, 0, 1)})
        above(ax, f"k = {k}", 1.36)
        above(ax, style.minus(f"S = {sums[column]:.3f}"), 1.21, colour=C0)
        above(ax, style.minus(f"F = {limits[column]:.3f}"), 1.07, colour=C1)
    fig.set_label(
        say(
            "曲线 cos(k·b⁻ᵗ) 下面的十六个矩形。k = 1 时贴合，"
            "k = 20 时开头几个已跟不上，k = 300 时前半混叠。",
            "Sixteen rectangles under the cosine of k times b to the minus t. They fit at k = 1, "
            "the first ones lose the curve at k = 20, and half of them alias at k = 300.",
        )
    )
    return fig


# How far the sum is from the integral

WIDTHS = (64, 128, 512)


def error_data():
    """Offsets, the error (3, n) of the sum at widths 64, 128, 512, and the offset πd/(2 ln b)."""
    k = np.geomspace(1, 1e4, 600)
    errors = np.array([np.abs(kernel(k, d) - kernel_limit(k)) for d in WIDTHS])
    return k, errors, np.pi * np.array(WIDTHS) / (2 * np.log(BASE))


def error(say):
    k, errors, ends = error_data()
    fig = style.figure(3.2)
    ax = fig.add_axes((0.13, 0.14, 0.84, 0.73))
    for d, line, end, colour in zip(WIDTHS, errors, ends, (C0, C1, C2), strict=True):
        ax.loglog(k, _envelope(line), color=colour, linewidth=1.4)
        ax.axvline(end, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        write(ax, end, 0.75, f"{end:.0f}", SMALL, colour)
        write(ax, 9.5, 1.4 * line[k < 9.5].max(), f"d = {d}", SMALL, colour, ha="right")
    ax.set(xlim=(1, 1e4), ylim=(2e-4, 0.55))
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e else "1" for e in range(5)})
    style.ticks(ax.yaxis, {10.0**e: style.power(e) for e in (-3, -2, -1)})
    ax.grid(axis="y")
    ax.set_xlabel(say("偏移 k", "offset k"))
    above(ax, say("有限和与积分之差的上包络", "largest distance of sum and integral up to k"), 1.12)
    fig.set_label(
        say(
            "双对数图：有限和与积分之差。虚线左边小而平，右边逐渐升到十分之一以上；宽度越大，虚线越靠右。",
            "Log-log plot of the error of the integral: small and flat left of the dashed line, "
            "rising above a tenth to its right; the wider the encoding, the further right it is.",
        )
    )
    return fig


def _envelope(line):
    return np.maximum.accumulate(line)


# The closed form

SHOWN = 0.41  # height of the horizontal axis in the picture of the notes


def closed_data():
    """Offsets -128..128 with F, S of width 128 and 512; offsets 1..10⁵ with F and its logarithm."""
    near, far = np.arange(-128, 129), np.geomspace(1, 1e5, 400)
    sums = [kernel(near, d) for d in (128, 512)]
    return near, np.array([kernel_limit(near), *sums]), far, kernel_limit(far), log_decay(far)


def closed(say):
    near, (limit, narrow, wide), far, curve, logarithm = closed_data()
    fig = style.figure(5.0)
    ax = fig.add_axes((0.1, 0.58, 0.87, 0.35))
    ax.plot(near, limit, color=C1, linewidth=3.5, alpha=0.4)
    ax.plot(near, narrow, color=C2, linewidth=0.9)
    ax.plot(near, wide, color=C0, linewidth=0.9)
    right = near[near > 0]
    ax.plot(right, log_decay(right), color=C4, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.axhline(SHOWN, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    ax.set(xlim=(-128, 128), ylim=(-0.1, 1.05))
    style.ticks(ax.xaxis, {t: style.minus(str(t)) for t in (-128, -64, 0, 64, 128)})
    style.ticks(ax.yaxis, {0: "0", SHOWN: f"{SHOWN:g}", 1: "1"})
    above(ax, say("偏移 −128 到 128", "offsets −128 to 128"), 1.07)
    items = (("F", C1), ("S, d = 512", C0), ("S, d = 128", C2), (say("对数", "logarithm"), C4))
    for row, (text, colour) in enumerate(items):
        write(ax, -122, 0.98 - 0.105 * row, text, SMALL, colour, ha="left")
    write(
        ax,
        0,
        0.35,
        say("笔记里的图把横轴画在这里", "axis of the picture in the notes"),
        SMALL,
        MUTED,
    )
    ax = fig.add_axes((0.1, 0.1, 0.87, 0.35))
    above(ax, say("偏移 1 到 10⁵", "offsets 1 to 10⁵"), 1.07)
    ax.semilogx(far, logarithm, color=C4, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.semilogx(far, curve, color=C1, linewidth=1.6)
    ax.axhline(0, color=MUTED, linewidth=0.8)
    zero = zero_crossing(BASE)
    ax.plot(zero, 0, "o", color=C1, markersize=5)
    write(ax, zero, 0.12, f"{zero:.0f}", SMALL, C1, ha="left")
    ax.set(xlim=(1, 1e5), ylim=(-0.2, 1.05))
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e else "1" for e in range(6)})
    style.ticks(ax.yaxis, {0: "0", 1: "1"})
    ax.set_xlabel(say("偏移 k", "offset k"))
    fig.set_label(
        say(
            "上：偏移 −128 到 128，积分、两个宽度的和与对数近似几乎重合，在 128 处约为 0.41。"
            "下：偏移到十万，积分在 6166 附近穿过零。",
            "Top: from offset −128 to 128 the integral, the sums of two widths and the logarithm "
            "nearly coincide and end near 0.41. Bottom: up to a hundred thousand the integral "
            "crosses zero near 6166.",
        )
    )
    return fig


# The sum never settles


def tail_data():
    """Offsets up to 10⁶, the sums (2, n) of width 64 and 512 there, and the integral."""
    k = np.unique(np.geomspace(1, 1e6, 500).round())
    return k, np.array([kernel(k, d) for d in (64, 512)]), kernel_limit(k)


def tail(say):
    k, sums, limit = tail_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.1, 0.16, 0.87, 0.7))
    for d, values, colour in zip((64, 512), sums, (C2, C0), strict=True):
        ax.semilogx(k, values, color=colour, linewidth=0.8)
        text = f"S, d = {d}"
        write(ax, 1e6, 1.0 - 0.11 * (d > 64), text, SMALL, colour, ha="right")
    ax.semilogx(k, limit, color=C1, linewidth=1.8)
    write(ax, 1e6, 0.78, "F", SMALL, C1, ha="right")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xlim=(1, 1e6), ylim=(-0.5, 1.05))
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e else "1" for e in range(7)})
    style.ticks(ax.yaxis, {t: style.minus(f"{t:g}") for t in (-0.5, 0, 0.5, 1)})
    ax.set_xlabel(say("偏移 k", "offset k"))
    fig.set_label(
        say(
            "偏移到一百万：积分趋于零，宽 64 的和一直大幅摆动，宽 512 的和摆动小一些，都不趋于零。",
            "Offsets up to a million: the integral goes to zero, the sum of width 64 keeps "
            "swinging widely, that of width 512 less; neither goes to zero.",
        )
    )
    return fig


# Six curves, twice

BASES = (1e3, 1e4, 1e5)
POWERS = (1, 3, 6)
COLOURS = (C0, C1, C2, C3, C4, C5)


def curves_data():
    """Offsets up to 512 and up to 20 000, with the six limits (6, n) on each."""
    near, far = np.arange(513.0), np.geomspace(1, 2e4, 500)
    return near, _six(near), far, _six(far)


def _six(k):
    limits = [kernel_limit(k, base) for base in BASES]
    return np.array(limits + [power_limit(k, power) for power in POWERS])


def curves(say):
    near, close, far, distant = curves_data()
    fig = style.figure(6.6)
    names = ("1000⁻ᵗ", "10000⁻ᵗ", "100000⁻ᵗ", "t", "t³", "t⁶")
    ax = fig.add_axes((0.1, 0.71, 0.72, 0.255))
    for line, colour, name, y in zip(close, COLOURS, names, LABELS, strict=True):
        ax.plot(near, line, color=colour, linewidth=1.2)
        write(ax, 518, y, name, SMALL, colour, ha="left")
    above(ax, say("偏移 0 到 512", "offsets 0 to 512"), 1.09)
    _curve_axes(ax, (0, 512), {t: str(t) for t in range(0, 513, 128)})
    ax = fig.add_axes((0.1, 0.395, 0.87, 0.21))
    for line, colour in zip(distant, COLOURS, strict=True):
        ax.semilogx(far, line, color=colour, linewidth=1.2)
    for base, colour in zip(BASES[:2], COLOURS, strict=False):
        _mark_zero(ax, base, colour)
    above(ax, say("偏移 1 到 20 000", "offsets 1 to 20 000"), 1.09)
    _curve_axes(ax, (1, 2e4), {10.0**e: style.power(e) if e else "1" for e in range(5)})
    ax = fig.add_axes((0.1, 0.08, 0.87, 0.21))
    k = np.geomspace(1, 1e6, 400)
    for base, colour in zip(LONG, (C1, C2, C4, C5), strict=True):
        ax.semilogx(k, kernel_limit(k, base), color=colour, linewidth=1.2)
        _mark_zero(ax, base, colour)
    for row, (base, colour) in enumerate(zip(LONG, (C1, C2, C4, C5), strict=True)):
        text = f"b = {base:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        write(ax, 1e6, 0.97 - 0.15 * row, text, SMALL, colour, ha="right")
    above(ax, say("更大的底数，偏移 1 到 10⁶", "larger bases, offsets 1 to 10⁶"), 1.09)
    _curve_axes(ax, (1, 1e6), {10.0**e: style.power(e) if e else "1" for e in range(7)})
    ax.set_xlabel(say("偏移 k", "offset k"))
    fig.set_label(
        say(
            "六条曲线：偏移到 512、到两万（对数轴），再加底数五十万和一百万到一百万。"
            "底数 1000 的曲线在 618 处穿过零，10000 的在 6166 处。",
            "Six curves up to offset 512 and up to 20 000 on a log axis, then bases up to a "
            "million up to offset a million. The curve of base 1000 crosses zero at 618, that of "
            "10000 at 6166.",
        )
    )
    return fig


LABELS = (-0.025, 0.225, 0.475, -0.15, 0.1, 0.35)  # heights of the names beside the first panel
LONG = (1e4, 1e5, 5e5, 1e6)


def _curve_axes(ax, limits, labels):
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xlim=limits, ylim=(-0.25, 1.05))
    style.ticks(ax.xaxis, labels)
    style.ticks(ax.yaxis, {0: "0", 0.5: "0.5", 1: "1"})
    ax.grid(axis="y")


def _mark_zero(ax, base, colour):
    zero = zero_crossing(base)
    ax.plot(zero, 0, "o", color=colour, markersize=4.5)
    if base < 2e4:
        write(ax, zero, -0.13, f"{zero:.0f}", SMALL, colour)


# How far a base reaches


@functools.cache
@functools.cache
def reach_data():
    """Bases 10²..10⁵, the first negative offset (3, n) at widths 64, 128, 512, and 0.6165 b."""
    bases = np.geomspace(1e2, 1e5, 91)
    reach = [[first_negative(d, base) for base in bases] for d in WIDTHS]
    return bases, np.array(reach), np.array([zero_crossing(base) for base in bases])


def reach(say):
    bases, firsts, limit = reach_data()
    fig = style.figure(3.6)
    ax = fig.add_axes((0.13, 0.13, 0.84, 0.77))
    ax.loglog(bases, limit, color=C1, linewidth=1.8)
    write(ax, 120, 6.2e4, say("积分：0.6165 b", "integral: 0.6165 b"), SMALL, C1, ha="left")
    for row, (d, colour) in enumerate(zip(WIDTHS, (C0, C4, C2), strict=True)):
        ax.loglog(bases, firsts[row], color=colour, linewidth=1.2)
        write(ax, 120, 4.1e4 / 1.5 ** (2 - row), f"d = {d}", SMALL, colour, ha="left")
    ax.set(xlim=(1e2, 1e5), ylim=(20, 1e5))
    style.ticks(ax.xaxis, {10.0**e: style.power(e) for e in range(2, 6)})
    style.ticks(ax.yaxis, {10.0**e: style.power(e) for e in range(2, 6)})
    ax.grid()
    ax.set_xlabel(say("底数 b", "base b"))
    above(ax, say("核第一次为负的偏移", "first offset at which the kernel is negative"), 1.07)
    fig.set_label(
        say(
            "双对数图：核第一次为负的偏移随底数增长。积分最高，宽度越小越低，曲线带锯齿。",
            "Log-log plot: the first negative offset grows with the base. The integral is on top, "
            "smaller widths lie lower, and their curves are jagged.",
        )
    )
    return fig
