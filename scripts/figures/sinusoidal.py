"""Figures of the page on the sinusoidal encoding: clocks, tables, shifts, near misses, rounding.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import functools

import numpy as np
from matplotlib.patches import Circle, PathPatch, Rectangle
from matplotlib.path import Path

from posenc.equations.sinusoidal import column_order, frequencies, shift_matrix, sinusoidal
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, C4, GRID, INK, MUTED, SMALL, arrow, heat, write

SIGNS = {True: C1, False: C0}  # negative, positive


def levels(ax, matrix, x, y, cell, steps=5, limit=1.0):
    """Draw a large matrix in few colours: one path per colour, equal neighbours in a column joined.

    First row on top, lower left corner at (x, y); opacity is rounded to `steps` steps.
    """
    matrix = np.asarray(matrix, dtype=float)
    rounded = np.rint(np.clip(matrix / limit, -1, 1) * steps).astype(int)
    rows, columns = rounded.shape
    for level in np.unique(rounded[rounded != 0]):
        corners = []
        for column in range(columns):
            hit = np.concatenate([[False], rounded[:, column] == level, [False]])
            edges = np.flatnonzero(hit[1:] != hit[:-1])
            for first, last in edges.reshape(-1, 2):
                left, top = x + column * cell[0], y + (rows - first) * cell[1]
                right, bottom = left + cell[0], y + (rows - last) * cell[1]
                corners += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
        path = Path(corners, codes * (len(corners) // 5))
        colour, share = SIGNS[bool(level < 0)], round(abs(level) / steps, 3)
        ax.add_patch(PathPatch(path, facecolor=colour, alpha=share, edgecolor="none", linewidth=0))
    outline = {"fill": False, "edgecolor": GRID, "linewidth": 0.8}
    ax.add_patch(Rectangle((x, y), columns * cell[0], rows * cell[1], **outline))


def above(ax, x, y, text, **more):
    """Write a title at a place of the axes, in shares of their size."""
    write(ax, x, y, text, transform=ax.transAxes, **{"ha": "left", **more})


# One hand per frequency pair

CLOCK_POSITIONS = (0, 1, 2, 10, 100)


def clocks_data():
    """Hands (5, 4, 2) as (sin, cos) at five positions, and the four frequencies; d = 8."""
    return sinusoidal(np.array(CLOCK_POSITIONS), 8).reshape(-1, 4, 2), frequencies(8)


def clocks(say):
    hands, theta = clocks_data()
    fig = style.figure(4.35)
    ax = style.canvas(fig)
    radius, x, y = 0.31, 1.35 + 0.94 * np.arange(4), 3.55 - 0.78 * np.arange(5)
    for m, frequency in enumerate(theta):
        write(ax, x[m], 4.15, f"θ{'₀₁₂₃'[m]} = {frequency:.4g}", SMALL)
    for k, row in enumerate(hands):
        write(ax, 0.12, y[k], say("位置 {}", "position {}").format(CLOCK_POSITIONS[k]), ha="left")
        for m, (sin, cos) in enumerate(row):
            ax.add_patch(Circle((x[m], y[k]), radius, fill=False, edgecolor=GRID, linewidth=1))
            ax.plot((x[m], x[m]), (y[k] + radius - 0.05, y[k] + radius), color=MUTED, linewidth=1)
            tip = x[m] + 0.27 * sin, y[k] + 0.27 * cos
            ax.plot((x[m], tip[0]), (y[k], tip[1]), color=(C0, C1, C2, C3)[m])
            ax.plot(x[m], y[k], "o", color=(C0, C1, C2, C3)[m], markersize=3)
    fig.set_label(
        say(
            "四面钟在位置 0、1、2、10、100 的指针：每步分别转 1、0.1、0.01、0.001 弧度。",
            "Four clocks at positions 0, 1, 2, 10 and 100: their hands turn by 1, 0.1, 0.01 and "
            "0.001 radians per step.",
        )
    )
    return fig


# From a counter to clocks


def counter_data(n=16, bits=4):
    """Binary digits (bits, n) of the positions, fine positions, waves (bits, fine) and at n."""
    k, fine = np.arange(n), np.linspace(0, n - 1, 16 * (n - 1) + 1)
    turns = 0.5 ** np.arange(1, bits + 1)[:, None]
    digits = (k >> np.arange(bits)[:, None]) & 1
    return digits, fine, -np.sin(2 * np.pi * turns * (fine + 0.5)), turns[:, 0]


def counter(say):
    digits, fine, waves, turns = counter_data()
    bits, n = digits.shape
    fig = style.figure(4.2)
    ax = style.canvas(fig)
    left, step = 0.75, 0.25
    write(ax, left - 0.12, 3.95, "k", SMALL, MUTED, ha="right")
    for k in range(n):
        write(ax, left + (k + 0.5) * step, 3.95, str(k), SMALL, MUTED)
    for m in range(bits):
        colour, y, centre = (C0, C1, C2, C3)[m], 3.55 - 0.27 * m, 2.2 - 0.58 * m
        write(
            ax, left - 0.12, y + 0.13, say("位 {}", "bit {}").format(m), SMALL, colour, ha="right"
        )
        for k in range(n):
            shade = {"facecolor": colour, "alpha": 0.28 * float(digits[m, k]), "linewidth": 0}
            ax.add_patch(Rectangle((left + k * step, y), step, 0.27, edgecolor="none", **shade))
            write(ax, left + (k + 0.5) * step, y + 0.13, str(digits[m, k]), SMALL)
        at = left + (np.arange(n) + 0.5) * step
        ax.plot((left, left + n * step), (centre, centre), color=GRID, linewidth=0.8)
        ax.plot(left + (fine + 0.5) * step, centre + 0.2 * waves[m], color=colour)
        ax.plot(at, centre + 0.2 * waves[m, ::16], "o", color=colour, markersize=3.5)
        text = say("波长 {:g}", "λ = {:g}").format(1 / turns[m])
        write(ax, left - 0.12, centre, text, SMALL, colour, ha="right")
    fig.set_label(
        say(
            "上：0 到 15 的四个二进制位。下：把每一位的方波磨圆成波长相同的正弦。",
            "Top: the four binary digits of 0 to 15. Below: the square wave of each digit rounded "
            "off to a sinusoid of the same wavelength.",
        )
    )
    return fig


# I am a robot


def worked_data():
    """Encoding (4, 4) of the four positions, base 100 and width 4."""
    return sinusoidal(np.arange(4), 4, base=100)


def worked(say):
    fig = style.figure(2.0)
    ax = style.canvas(fig)
    x, y, cell = 1.5, 0.12, (0.79, 0.36)
    heat(ax, worked_data(), x, y, cell, ".4f", limit=1.6)
    for column, head in enumerate(("sin(k/1)", "cos(k/1)", "sin(k/10)", "cos(k/10)")):
        write(ax, x + (column + 0.5) * cell[0], y + 4 * cell[1] + 0.17, head, SMALL)
    for k, token in enumerate(("I", "am", "a", "robot")):
        height = y + (3.5 - k) * cell[1]
        write(ax, 0.15, height, token, ha="left")
        write(ax, x - 0.12, height, f"k = {k}", SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "四个词元 I、am、a、robot 的位置向量：底数 100，宽 4，四位小数。",
            "Position vectors of the four tokens I, am, a, robot: base 100, width 4.",
        )
    )
    return fig


# Layouts and spacings

WIDTH = 8


def layouts_data():
    """Columns (2, 8) of both layouts; exponents -log_b θ (2, 4) of both spacings."""
    columns = np.array([column_order(WIDTH, layout) for layout in ("interleaved", "halves")])
    both = [frequencies(WIDTH, spacing=spacing) for spacing in ("paper", "tensor2tensor")]
    return columns, -np.log10(both) / 4


def layouts(say):
    columns, exponents = layouts_data()
    fig = style.figure(3.1)
    ax = style.canvas(fig)
    cell = (0.56, 0.34)
    names = (say("交错", "interleaved"), say("两半", "halves"))
    for i, (order, name) in enumerate(zip(columns, names, strict=True)):
        y = 2.35 - 0.72 * i
        write(ax, 0.16, y + 0.5, name, ha="left")
        for place, column in enumerate(order):
            colour, x = (C0, C1, C2, C3)[column // 2], 0.16 + place * cell[0]
            shade = {"facecolor": colour, "alpha": 0.25, "edgecolor": "none", "linewidth": 0}
            ax.add_patch(Rectangle((x + 0.01, y), cell[0] - 0.02, cell[1], **shade))
            text = f"{('sin', 'cos')[column % 2]} θ{'₀₁₂₃'[column // 2]}"
            write(ax, x + cell[0] / 2, y + cell[1] / 2, text, SMALL)
    left, width = 1.35, 3.0
    for i, (row, name) in enumerate(zip(exponents, ("paper", "tensor2tensor"), strict=True)):
        y = 0.98 - 0.38 * i
        write(ax, 0.16, y, name, ha="left")
        ax.plot((left, left + width), (y, y), color=GRID, linewidth=0.8)
        for m, exponent in enumerate(row):
            colour = (C0, C1, C2, C3)[m]
            ax.plot(left + width * exponent, y, "o", color=colour, markersize=6, clip_on=False)
    for exponent in range(5):
        text = "1" if not exponent else style.power(-exponent)
        write(ax, left + width * exponent / 4, 0.3, text, SMALL, MUTED)
    write(ax, left - 0.3, 0.3, "θ", SMALL, MUTED)
    fig.set_label(
        say(
            "上：d = 8 时两种排法的八列。下：两种频率间距，b = 10000；paper 到不了 1/b。",
            "Top: the eight columns in both layouts, d = 8. Below: the two spacings, b = 10000; "
            "that of the paper does not reach 1/b.",
        )
    )
    return fig


# A curve per pair


def waves_data(n=100, d=16, pairs=6):
    """Positions, sines and cosines (pairs, positions), wavelengths of the first pairs of d = 16."""
    k = np.linspace(0, n, 401)
    rows = sinusoidal(k, d).reshape(len(k), -1, 2)[:, :pairs]
    return k, rows[..., 0].T, rows[..., 1].T, 2 * np.pi / frequencies(d)[:pairs]


def waves(say):
    k, sines, cosines, wavelengths = waves_data()
    fig = style.figure(4.8)
    for m, wavelength in enumerate(wavelengths):
        ax = fig.add_axes((0.04, 0.84 - 0.142 * m, 0.74, 0.11))
        ax.axhline(0, color=GRID, linewidth=0.8)
        ax.plot(k, sines[m], color=C0, linewidth=1.4)
        ax.plot(k, cosines[m], color=C1, linewidth=1.4)
        ax.set(xlim=(0, k[-1]), ylim=(-1.1, 1.1))
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        style.ticks(ax.yaxis, {})
        last = m == len(wavelengths) - 1
        style.ticks(ax.xaxis, {i: str(i) for i in range(0, 101, 20)} if last else {})
        above(ax, 1.03, 0.72, f"m = {m}")
        above(ax, 1.03, 0.2, say("波长 {:,.1f}", "λ = {:,.1f}").format(wavelength), size=SMALL)
        if m == 0:
            above(ax, 0, 1.2, say("正弦", "sine"), colour=C0)
            above(ax, 0.13, 1.2, say("余弦", "cosine"), colour=C1)
    ax.set_xlabel(say("位置 k", "position k"))
    fig.set_label(
        say(
            "d = 16 前六对的正弦与余弦，位置 0 到 100：波长从 6.3 长到近两千，后几对几乎是直线。",
            "Sine and cosine of the first six pairs at d = 16, positions 0 to 100: the wavelengths "
            "grow from 6.3 to almost two thousand, and the last pairs are nearly straight.",
        )
    )
    return fig


# 100 × 512


def heat_map_data(n=100, d=512):
    """The table (100, 512) and the range of every column."""
    table = sinusoidal(np.arange(n), d)
    return table, np.ptp(table, axis=0)


def heat_map(say):
    table, spread = heat_map_data()
    some = table[::2].reshape(50, 256, 2)[:, ::8]  # every second position, every eighth pair
    fig = style.figure(5.6)
    ax = style.canvas(fig)
    left, cell = 0.55, (4.1 / 64, 0.026)
    panels = (
        (
            some.reshape(50, 64),
            3.93,
            say("交错：原来的列序", "interleaved: the order of the formula"),
        ),
        (
            np.concatenate([some[..., 0], some[..., 1]], axis=1),
            2.2,
            say("左半全是正弦，右半全是余弦", "sines left, cosines right"),
        ),
    )
    for matrix, y, title in panels:
        levels(ax, matrix, left, y, cell)
        write(ax, left, y + 1.43, title, ha="left")
        for row, text in ((0, "0"), (25, "50"), (50, "100")):
            write(ax, left - 0.08, y + 1.3 - row * cell[1], text, SMALL, MUTED, ha="right")
    ax = fig.add_axes((left / 4.8, 0.075, 4.1 / 4.8, 0.23))
    ax.plot(np.arange(0, 512, 2), spread[::2], color=C0)
    ax.plot(np.arange(1, 512, 2), spread[1::2], color=C1)
    ax.set(xlim=(0, 512), ylim=(0, 2.05))
    ax.grid(axis="y")
    style.ticks(ax.yaxis, {0: "0", 0.5: "0.5", 1: "1", 2: "2"})
    style.ticks(ax.xaxis, {i: str(i) for i in (0, 128, 256, 384, 512)})
    above(ax, 0, 1.13, say("每列的极差（最大减最小）", "range of every column"))
    write(ax, 290, 1.55, say("正弦", "sine"), colour=C0, ha="left")
    write(ax, 150, 0.75, say("余弦", "cosine"), colour=C1, ha="right")
    text = say("{:.1%} 的列小于 0.5", "{:.1%} of columns below 0.5").format((spread < 0.5).mean())
    write(ax, 508, 1.12, text, SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "100 个位置、512 列的正弦位置编码，底数 10000：左边起伏，右边几乎不变。"
            "下方是每列的极差。",
            "Sinusoidal encoding of 100 positions in 512 columns, base 10000: the left half is "
            "wavy, the right half nearly constant; below, the range of every column.",
        )
    )
    return fig


# How many directions a table uses

SHARES = (0.5, 0.9, 0.99)


@functools.cache
def rank_data(d=512, lengths=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096)):
    """Lengths, and per share of energy the number of directions (3, lengths) that hold it."""
    table = sinusoidal(np.arange(lengths[-1]), d)
    counts = []
    for n in lengths:
        rows = table[:n]
        energy = np.linalg.eigvalsh(rows @ rows.T if n < d else rows.T @ rows)[::-1]
        held = np.cumsum(energy) / energy.sum()
        counts.append([int(np.searchsorted(held, share)) + 1 for share in SHARES])
    return np.array(lengths), np.array(counts).T


def rank(say):
    lengths, counts = rank_data()
    fig = style.figure(3.1)
    ax = fig.add_axes((0.11, 0.155, 0.66, 0.71))
    for row, share, colour in zip(counts, SHARES, (C2, C0, C1), strict=True):
        ax.loglog(lengths, row, color=colour, marker="o", markersize=4, clip_on=False)
        nudge = {0.9: 0.85, 0.99: 1.18}.get(share, 1) * row[-1]
        write(ax, 1.13 * lengths[-1], nudge, f"{share:.0%}", colour=colour, ha="left")
    ax.loglog((16, 512, 4096), (16, 512, 512), color=MUTED, linewidth=1, linestyle=":")
    write(ax, 1.13 * lengths[-1], 540, say("全部 512", "all 512"), SMALL, MUTED, ha="left")
    ax.set(xlim=(16, 4096), ylim=(0.9, 600))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {n: str(n) for n in (16, 64, 256, 1024, 4096)})
    style.ticks(ax.yaxis, {n: str(n) for n in (1, 4, 16, 64, 256)})
    ax.set_xlabel(say("位置数 n", "number of positions n"))
    above(
        ax,
        -0.14,
        1.1,
        say("占去多少能量需要多少个方向", "directions that hold a share of the energy"),
    )
    fig.set_label(
        say(
            "宽度 512 的表：装下 50%、90%、99% 能量的方向数随长度增长，远少于 512。",
            "Table of width 512: the number of directions that hold 50, 90 and 99 per cent of "
            "the energy grows with the length and stays far below 512.",
        )
    )
    return fig


# A shift is a matrix

SHIFTED, START, OFFSET = 6, 2, 3


def shift_data():
    """A row, the matrix that moves it by 3 positions, and the row there; d = 6, b = 100."""
    start, end = sinusoidal([START, START + OFFSET], SHIFTED, base=100)
    return start, shift_matrix(OFFSET, SHIFTED, base=100), end


def shift(say):
    start, matrix, end = shift_data()
    fig = style.figure(3.55)
    ax = style.canvas(fig)
    x, cell = 0.85, (0.6, 0.31)
    for values, y, title in (
        (start, 3.05, f"PE{'₂'}"),
        (matrix, 0.72, "M₃"),
        (end, 0.12, f"PE{'₅'}"),
    ):
        heat(ax, values, x, y, cell, ".2f", limit=1.6)
        middle = y + np.atleast_2d(values).shape[0] * cell[1] / 2
        write(ax, x - 0.3, middle, title, ha="right")
    write(ax, x - 0.12, 3.2, "·", ha="right")
    write(ax, x - 0.12, 0.275, "=", ha="right")
    for m in range(3):
        corner = x + 2 * m * cell[0], 0.72 + (4 - 2 * m) * cell[1]
        frame = {"fill": False, "edgecolor": (C0, C1, C2)[m], "linewidth": 2}
        ax.add_patch(Rectangle(corner, 2 * cell[0], 2 * cell[1], **frame))
        name = f"m = {m}"
        write(ax, x + (2 * m + 1) * cell[0], 2.73, name, SMALL, (C0, C1, C2)[m])
    fig.set_label(
        say(
            "位置 2 的编码乘以平移矩阵，得到位置 5 的编码；矩阵只有三个 2×2 的块。",
            "The encoding of position 2 times the shift matrix is the encoding of position 5; the "
            "matrix has three 2×2 blocks and nothing else.",
        )
    )
    return fig


# Which frequencies to take


def spectrum_data(pairs=32, base=10000.0, n=61):
    """Frequencies (3, pairs) of three laws, offsets, and how far positions are apart (3, n).

    The laws are uniform, quadratic and geometric; distances are 1 - mean cos, 1 on average.
    """
    t = (np.arange(pairs) + 0.5) / pairs
    theta = np.array([t, t**2, frequencies(2 * pairs, base)])
    offsets = np.unique(np.rint(np.geomspace(1, 10000, n)))
    fine = (np.arange(4096) + 0.5) / 4096  # the law itself, without the ripple of 32 pairs
    laws = np.array([fine, fine**2, base**-fine])
    return theta, offsets, 1 - np.cos(laws[:, None] * offsets[:, None]).mean(axis=-1)


def spectrum(say):
    theta, offsets, apart = spectrum_data()
    names = (say("等差", "uniform"), say("平方", "quadratic"), say("等比", "geometric"))
    colours = (C2, C1, C0)
    fig = style.figure(4.6)
    ax = fig.add_axes((0.2, 0.66, 0.77, 0.25))
    for i, (row, name, colour) in enumerate(zip(theta, names, colours, strict=True)):
        ax.vlines(2 * np.pi / row, 2 - i - 0.3, 2 - i + 0.3, color=colour, linewidth=1.2)
        above(ax, -0.03, (2.5 - i) / 3, name, colour=colour, ha="right")
    ax.set(xscale="log", xlim=(5, 1e5), ylim=(-0.5, 2.5))
    ax.spines["left"].set_visible(False)
    style.ticks(ax.yaxis, {})
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e > 2 else f"{10**e}" for e in range(1, 6)})
    above(ax, -0.26, 1.13, say("32 对的波长", "wavelengths of 32 pairs"))
    ax = fig.add_axes((0.2, 0.11, 0.77, 0.37))
    for row, colour in zip(apart, colours, strict=True):
        ax.semilogx(offsets, row, color=colour)
    ax.set(xlim=(1, 10000), ylim=(0, 1.3))
    ax.grid(axis="y")
    style.ticks(ax.yaxis, {i / 2: f"{i / 2:g}" for i in range(3)})
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e > 2 else f"{10**e}" for e in range(5)})
    ax.set_xlabel(say("偏移 s", "offset s"))
    above(
        ax, -0.26, 1.1, say("相隔 s 的两个位置有多不同", "how different two positions are, s apart")
    )
    fig.set_label(
        say(
            "三种取频率的办法。等差：波长挤在短的一端，隔几步就分不出远近。等比：每个数量级一样多，"
            "差别一路增大。",
            "Three laws of frequencies. Uniform: the wavelengths crowd at the short end, and a few "
            "steps apart is as far as it gets. Geometric: every decade has its share, and the "
            "difference keeps growing.",
        )
    )
    return fig


# Nearest misses

MISS_WIDTHS = (2, 4, 8, 16, 64)


@functools.cache
def misses_data(largest=1_000_000):
    """Per width: the offsets at which two positions come nearer than ever before, and how near."""
    s = np.arange(1, largest + 1)
    records = []
    for d in MISS_WIDTHS:
        squared = np.zeros(largest)
        for theta in frequencies(d):
            squared += 4 * np.sin(theta * s / 2) ** 2
        best = np.minimum.accumulate(squared)
        new = np.flatnonzero(np.diff(best, prepend=np.inf) < 0)
        records.append((s[new], np.sqrt(best[new])))
    return records


def misses(say):
    fig = style.figure(3.7)
    ax = fig.add_axes((0.12, 0.13, 0.72, 0.77))
    colours = (C1, C3, C2, C4, C0)
    for (s, distance), d, colour in zip(misses_data(), MISS_WIDTHS, colours, strict=True):
        steps = np.append(s, 1e6), np.append(distance, distance[-1])
        ax.loglog(*steps, color=colour, drawstyle="steps-post")
        ax.plot(s[1:], distance[1:], "o", color=colour, markersize=3.5)
        nudge = {16: 0.75, 64: 1.3}.get(d, 1)
        write(ax, 1.35e6, nudge * distance[-1], f"d = {d}", colour=colour, ha="left")
        for at in set(s) & {6, 44, 710} if d == 2 else ():
            y = distance[list(s).index(at)]
            write(ax, 0.83 * at, 0.75 * y, str(at), SMALL, MUTED, ha="right")
    ax.set(xlim=(1, 1e6), ylim=(1e-6, 3))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e > 2 else f"{10**e}" for e in range(7)})
    style.ticks(ax.yaxis, {10.0**e: style.power(e) if e else "1" for e in range(-6, 1)})
    ax.set_xlabel(say("允许的最大偏移", "largest offset allowed"))
    above(ax, -0.15, 1.08, say("最近的两个位置相距", "distance of the two nearest positions"))
    fig.set_label(
        say(
            "双对数图：允许的偏移越大，最近的两个位置越近。d = 2 时一路下降，"
            "d = 64 时始终是相邻位置。",
            "Log-log plot: the larger the offset allowed, the nearer the nearest two positions. "
            "At d = 2 it keeps falling, at d = 64 the neighbour stays the nearest.",
        )
    )
    return fig


# One exponent per column


def per_column(positions, d_model, base=10000.0):
    """Encode with an exponent per column instead of per pair: the mistake of E-13."""
    angle = np.asarray(positions)[..., None] * base ** (-2 * np.arange(d_model) / d_model)
    return np.where(np.arange(d_model) % 2, np.cos(angle), np.sin(angle))


def broken_data(d=16, n=32):
    """Frequencies (2, 16) of the columns, right and wrong; inner products (2, 32, 32) at d = 4."""
    right, wrong = np.repeat(frequencies(d), 2), 10000.0 ** (-2 * np.arange(d) / d)
    tables = sinusoidal(np.arange(n), 4), per_column(np.arange(n), 4)
    tables[1][0] = 0
    return np.array([right, wrong]), np.array([t @ t.T for t in tables])


def broken(say):
    theta, gram = broken_data()
    fig = style.figure(4.75)
    ax = fig.add_axes((0.12, 0.63, 0.85, 0.29))
    for row, colour in zip(theta, (C0, C1), strict=True):
        ax.semilogy(row, "o", color=colour, markersize=4.5, clip_on=False)
    ax.set(xlim=(-0.4, 15.4), ylim=(1e-8, 2))
    ax.grid(axis="y")
    style.ticks(ax.yaxis, {10.0**e: style.power(e) if e else "1" for e in (-8, -6, -4, -2, 0)})
    style.ticks(ax.xaxis, {i: str(i) for i in range(0, 16, 2)})
    above(ax, -0.14, 1.12, say("每列的频率，d = 16", "frequency of every column, d = 16"))
    text = say("公式：两列一个频率", "formula: one per two columns")
    write(ax, 6, 10**-0.5, text, colour=C0, ha="left")
    write(ax, 6.6, 10**-6.6, say("错：每列一个", "wrong: one per column"), colour=C1, ha="right")
    ax = style.canvas(fig)
    write(
        ax,
        0.15,
        2.35,
        say("内积减去平均值，d = 4", "inner products less their mean, d = 4"),
        ha="left",
    )
    names = (
        say("公式：沿对角线不变", "formula: diagonals hold"),
        say("错：对角线也在变", "wrong: they do not"),
    )
    for i, (matrix, name, colour) in enumerate(zip(gram, names, (C0, C1), strict=True)):
        x = 0.3 + 2.3 * i
        levels(ax, matrix - matrix.mean(), x, 0.12, (0.06, 0.06), limit=1.5)
        write(ax, x, 2.13, name, SMALL, colour, ha="left")
    fig.set_label(
        say(
            "上：正确的实现每两列共用一个频率，错误的实现每列一个，一直降到一亿分之一附近。"
            "下：正确的内积矩阵沿对角线不变，错误的不是。",
            "Top: the right table has one frequency per two columns, the wrong one per column, "
            "down to nearly one in a hundred million. Below: the inner products of the right table "
            "are constant along diagonals, those of the wrong one are not.",
        )
    )
    return fig


# Rounding


def bfloat16(x):
    """Round to the nearest bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + (bits >> 16 & 1)
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32)


def precision_data(d=128, places=22, around=32):
    """Positions, and the largest error (3, positions) near each of them, of three ways to round.

    Angle in float64 and result in float32; angle in float32; angle in bfloat16.
    """
    positions = np.unique(np.rint(np.geomspace(1, 1e7, places))).astype(int)
    k = positions[:, None] + np.arange(around)
    theta = frequencies(d)
    exact = sinusoidal(k, d).reshape(*k.shape, -1, 2)
    float32 = k[..., None].astype(np.float32) * theta.astype(np.float32)
    coarse = bfloat16(bfloat16(k[..., None]) * bfloat16(theta))
    rounded = [np.stack([np.sin(x), np.cos(x)], axis=-1) for x in (float32, coarse)]
    ways = exact.astype(np.float32), *rounded
    return positions, np.array([abs(way - exact).max(axis=(1, 2, 3)) for way in ways])


def precision(say):
    positions, errors = precision_data()
    fig = style.figure(3.5)
    ax = fig.add_axes((0.12, 0.14, 0.85, 0.75))
    for row, colour in zip(errors, (C0, C2, C1), strict=True):
        ax.loglog(positions, row, color=colour, marker="o", markersize=3.5, clip_on=False)
    ax.set(xlim=(1, 1e7), ylim=(1e-8, 3))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {10.0**e: style.power(e) if e > 2 else f"{10**e}" for e in range(8)})
    style.ticks(ax.yaxis, {10.0**e: style.power(e) if e else "1" for e in (-8, -6, -4, -2, 0)})
    ax.set_xlabel(say("位置 k", "position k"))
    above(ax, -0.14, 1.08, say("表中最大的误差", "largest error in the table"))
    write(ax, 4e3, 0.25, say("bfloat16 的角度", "angle in bfloat16"), colour=C1, ha="left")
    write(ax, 3e4, 3e-4, say("float32 的角度", "angle in float32"), colour=C2, ha="left")
    text = say("float64 的角度，最后才舍入", "angle in float64, rounded last")
    write(ax, 3e2, 1.3e-7, text, colour=C0, ha="left")
    fig.set_label(
        say(
            "双对数图：角度用 bfloat16 或 float32 计算，误差随位置增长；"
            "用 float64 计算、最后舍入，误差不变。",
            "Log-log plot: with angles in bfloat16 or float32 the error grows with the position; "
            "with angles in float64 that are rounded last it stays.",
        )
    )
    return fig


# The layer


def layer(say):
    fig = style.figure(3.75)
    ax = style.canvas(fig)
    left, right, height = 1.2, 3.6, 0.32
    style.box(ax, left, 3.5, 1.9, height, say("词元 x", "tokens x"), INK)
    style.box(ax, right, 3.5, 2.1, height, say("位置 k（整数）", "positions k (integers)"), INK)
    style.box(ax, left, 2.75, 1.9, height, "token_scale · x", C1)
    style.box(ax, right, 2.75, 2.1, height, say("角度 kθ", "angles kθ"), C0)
    style.box(ax, right, 2.0, 2.1, height, "sin, cos", C0)
    write(ax, right + 0.1, 2.375, "float64", SMALL, MUTED, ha="left")
    write(ax, (left + right) / 2 - 0.3, 2.13, "float32", SMALL, MUTED)
    write(ax, left, 1.98, "+", 14)
    style.box(ax, left, 1.3, 1.9, height, "dropout", C1)
    style.box(ax, left, 0.55, 1.9, height, say("舍入到 x 的 dtype", "to the dtype of x"), INK)
    for start, end in (
        ((left, 3.34), (left, 2.91)),
        ((left, 2.59), (left, 2.13)),
        ((left, 1.85), (left, 1.46)),
        ((left, 1.14), (left, 0.71)),
        ((left, 0.39), (left, 0.08)),
        ((right, 3.34), (right, 2.91)),
        ((right, 2.59), (right, 2.16)),
        ((right - 1.05, 2.0), (left + 0.15, 2.0)),
    ):
        arrow(ax, start, end)
    write(ax, left + 0.12, 0.2, say("进入第一层", "into the first layer"), SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "层的数据流：词元乘以 token_scale，加上由位置算出的编码，过 dropout，最后才舍入。",
            "Data flow of the layer: tokens times token_scale, plus the encoding computed from the "
            "positions, then dropout, and rounding last.",
        )
    )
    return fig
