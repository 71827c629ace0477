"""Figures of the page on word times position.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Rectangle

from posenc.equations.multiplicative import (
    damped_estimate,
    damped_share,
    factors,
    multiply,
    score_parts,
)
from posenc.equations.rope import rotate_complex
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, INK, MUTED, SMALL, arrow, heat, write

# Scaling and turning a pair

CAT, MOUSE, STEPS, THETA = (1.0, 0.75), (-0.6, 0.75), 6, 0.5


def pairs_data():
    """Cat and mouse (2, 6, 2) at six positions: real products, and complex ones."""
    words, k = np.array([CAT, MOUSE])[:, None], THETA * np.arange(STEPS)
    return multiply(words, factors(k, 2)), rotate_complex(words, k)


def pairs(say):
    fig = style.figure(2.75)
    titles = (say("实数乘积：拉伸", "real: stretched"), say("复数乘积：转动", "complex: turned"))
    names = say("猫", "cat"), say("老鼠", "mouse")
    for panel, (points, title) in enumerate(zip(pairs_data(), titles, strict=True)):
        ax = fig.add_axes((0.02 + 0.5 * panel, 0.02, 0.46, 0.84))
        ax.set(xlim=(-1.45, 1.45), ylim=(-1.28, 1.5))
        ax.axis("off")
        for line in (((-1.35, 1.35), (0, 0)), ((0, 0), (-1.2, 1.3))):
            ax.plot(*line, color=GRID, linewidth=0.8)
        for word, colour, name, start in zip(points, (C0, C1), names, (CAT, MOUSE), strict=True):
            ax.plot(*word.T, "-", color=colour, linewidth=1, alpha=0.6)
            ax.plot(*word.T, "o", color=colour, markersize=5)
            if panel == 0:
                arrow(ax, (0, 0), start, colour, linestyle=(0, (3, 2)))
                write(ax, 1.25 * start[0], 1.27 * start[1], name, colour=colour)
            else:
                write(ax, 0.58 * start[0], 0.74 * start[1], name, colour=colour)
                write(ax, start[0] + 0.12, start[1] + 0.14, "0", SMALL, MUTED)
            for k in range(1 if panel or colour == C1 else 0, STEPS):
                at = word[k]
                out = at / np.linalg.norm(at) * 0.2
                if k:
                    write(ax, *(at + out), str(k), SMALL, MUTED)
        if panel == 0:
            ax.plot(*points[0, 0], "o", color=INK, markersize=8, fillstyle="none")
            write(ax, 0, points[0, 0, 1] + 0.22, "0", colour=INK)
        write(ax, 0.5, 1.06, title, transform=ax.transAxes)
    fig.set_label(
        say(
            "左：两个词的一对分量乘正弦和余弦，位置 0 处两点重合，之后沿椭圆走。"
            "右：同样两个词按位置转动，各沿一个圆走，彼此的距离不变。",
            "Left: two components of two words times sine and cosine; at position 0 both are one "
            "point, and from there they move along ellipses. Right: the same words turned by the "
            "position move along circles and keep their distance.",
        )
    )
    return fig


# What survives at each position

ROWS, COLUMNS = 16, 32


def survives_data():
    """Sizes (16, 32) of the factors of the first 16 positions, all sines first."""
    return np.abs(factors(np.arange(ROWS), COLUMNS, layout="halves"))


def survives(say):
    sizes = survives_data()
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    cell, x, y = (0.128, 0.128), 0.5, 0.22
    heat(ax, sizes, x, y, cell, limit=1)
    top = y + ROWS * cell[1]
    for half, name in enumerate((say("正弦列", "sines"), say("余弦列", "cosines"))):
        middle = x + (half + 0.5) * COLUMNS / 2 * cell[0]
        write(ax, middle, top + 0.14, name)
    ax.plot([x + 16 * cell[0]] * 2, [y, top], color=INK, linewidth=1)
    frame = {"fill": False, "edgecolor": C1, "linewidth": 1.6, "zorder": 3}
    ax.add_patch(Rectangle((x, top - cell[1]), 16 * cell[0], cell[1], **frame))
    for k in (0, 5, 10, 15):
        write(ax, x - 0.06, top - (k + 0.5) * cell[1], str(k), SMALL, MUTED, ha="right")
    write(ax, x, 0.1, say("快", "fast"), SMALL, MUTED, ha="left")
    write(ax, x + 16 * cell[0] - 0.03, 0.1, say("慢", "slow"), SMALL, MUTED, ha="right")
    write(ax, x + 16 * cell[0] + 0.03, 0.1, say("快", "fast"), SMALL, MUTED, ha="left")
    write(ax, x + 32 * cell[0], 0.1, say("慢", "slow"), SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "前 16 个位置上各列因子的大小，宽度 32。位置 0 一行，正弦列全空；"
            "慢的正弦列在所有位置上都几乎是空的；慢的余弦列始终是满的。",
            "Sizes of the factors of the first 16 positions at width 32. In the row of position 0 "
            "all sines are blank; slow sines are nearly blank at every position, slow cosines "
            "full at every one.",
        )
    )
    return fig


# How much is damped


def damped_data(d_model=512):
    """Positions (60,), mean shares around them of the raw product and of 1 + p, the estimate."""
    edges = np.unique(np.geomspace(1, 10_000, 61).round().astype(int))
    k = np.arange(1, edges[-1])
    shares = [damped_share(factors(k, d_model, centre=c)) for c in (0, 1)]
    means = [np.add.reduceat(share, edges[:-1] - 1) / np.diff(edges) for share in shares]
    middle = np.sqrt(edges[:-1] * (edges[1:] - 1))
    return middle, *means, damped_estimate(middle)


def damped(say):
    k, raw, around, estimate = damped_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.13, 0.17, 0.83, 0.68))
    ax.semilogx(k, raw, color=C0)
    ax.semilogx(k[::6], estimate[::6], "o", color=C0, markersize=5, clip_on=False)
    ax.semilogx(k, around, color=C1)
    ax.semilogx(k, 0 * k, color=C2, clip_on=False)
    write(ax, 1.3, 0.44, say("直接乘正弦", "times the sinusoid"), colour=C0, ha="left")
    write(ax, 1000, 0.15, "1 + p", colour=C1)
    write(ax, 200, 0.03, "1 + p/2", colour=C2)
    ax.set(xlim=(1, 10_000), ylim=(0, 0.5))
    style.ticks(ax.xaxis, {n: f"{n}" for n in (1, 10, 100, 1000, 10_000)})
    style.ticks(ax.yaxis, {0: "0", 0.25: "25%", 0.5: "50%"})
    ax.grid(axis="y")
    ax.set_xlabel(say("位置", "position"))
    title = say("因子小于 0.1 的特征，d = 512", "features with a factor below 0.1, d = 512")
    write(ax, -0.13, 1.1, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "被压到十分之一以下的特征所占的比例。直接乘正弦，从位置 1 的 37.5% 起，"
            "每过一个数量级约降 11 个百分点；1 + p 从 0 升到约 14%；1 + p/2 始终为 0。",
            "Share of features scaled to less than a tenth. With the raw sinusoid it starts at "
            "37.5% at position 1 and falls by about 11 points per factor of ten; with 1 + p it "
            "rises from 0 to about 14%; with 1 + p/2 it is always 0.",
        )
    )
    return fig


# Scores by both positions

SIDE, WORD, BASE = 24, np.array([1.0, 0.1, 0.9, 0.2]), 16.0


def scores_data():
    """Inner products (24, 24) of a word with itself, times the sinusoid, and turned."""
    i = np.arange(SIDE)
    real = score_parts(WORD, WORD, i[:, None], i, BASE).sum(axis=0)
    turned = rotate_complex(WORD, i, BASE)
    return real, turned @ turned.T


def scores(say):
    fig = style.figure(2.7)
    ax = style.canvas(fig)
    cell, y = (0.0875, 0.0875), 0.1
    titles = say("实数乘积", "real product"), say("复数乘积", "complex product")
    for panel, (E, title) in enumerate(zip(scores_data(), titles, strict=True)):
        x = 0.3 + 2.35 * panel
        heat(ax, E, x, y, cell)
        write(ax, x + SIDE / 2 * cell[0], y + SIDE * cell[1] + 0.3, title)
        write(ax, x + SIDE * cell[0] - 0.06, y + SIDE * cell[1] + 0.13, "j", SMALL, MUTED)
        write(ax, x - 0.1, y + SIDE * cell[1] - 0.08, "i", SMALL, MUTED)
    fig.set_label(
        say(
            "同一个词在位置 i 与 j 的内积。左：实数乘积，花纹沿两个方向的对角线交织。"
            "右：复数乘积，每条对角线上是同一个数。",
            "Inner products of one word with itself at positions i and j. Left: the real product "
            "has a pattern along both diagonals. Right: the complex product has one number along "
            "each diagonal.",
        )
    )
    return fig
