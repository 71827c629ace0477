"""Figures of the page on relative position vectors.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from posenc.equations.relative import offsets
from posenc.equations.shaw import clip_offsets, gather_logits, sinusoidal_table
from posenc.equations.sinusoidal import sinusoidal
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, INK, MUTED, SMALL, arrow, heat, write

SUBSCRIPTS = str.maketrans("-0123456789", "₋₀₁₂₃₄₅₆₇₈₉")

# The paper's arcs, and the grid of all pairs

TOKENS, REACH = 9, 3
ARCS = ((2, 1), (2, 4), (4, TOKENS))  # positions counted from 1, as in the paper
COLOURS = C1, C0, C2


def edges_data():
    """Clipped offsets (9, 9) of all pairs, and those of the three arcs."""
    grid = clip_offsets(offsets(TOKENS, TOKENS), REACH)
    return grid, [int(grid[i - 1, j - 1]) for i, j in ARCS]


def frame(ax, x, y, width, height, colour, linewidth=1.6):
    shape = {"fill": False, "edgecolor": colour, "linewidth": linewidth, "clip_on": False}
    ax.add_patch(Rectangle((x, y), width, height, **shape))


def edges(say):
    grid, arcs = edges_data()
    fig = style.figure(4.55)
    ax = style.canvas(fig)
    left, step, base = 0.5, 0.475, 3.36
    for token in range(1, TOKENS + 1):
        name = "xₙ" if token == TOKENS else f"x{token}".translate(SUBSCRIPTS)
        write(ax, left + (token - 1) * step, base, name)
    for (i, j), offset, colour in zip(ARCS, arcs, COLOURS, strict=True):
        start, end = left + (i - 1) * step, left + (j - 1) * step
        bend = 0.7 if abs(j - i) == 1 else 0.45
        more = {"connectionstyle": f"arc3,rad={bend if end < start else -bend}", "linewidth": 1.4}
        head = "-|>,head_length=4,head_width=2"
        ends = (start, base + 0.15), (end, base + 0.15)
        bow = FancyArrowPatch(*ends, arrowstyle=head, color=colour, shrinkA=0, shrinkB=0, **more)
        bow.set_clip_on(False)
        ax.add_patch(bow)
        name = "wₖ" if abs(offset) == REACH else f"w{offset}".translate(SUBSCRIPTS)
        top = base + 0.15 + bend * abs(end - start) / 2 + 0.13
        write(ax, (start + end) / 2, top, name, colour=colour)
    cell, x, y = 0.315, 0.99, 0.12
    heat(ax, grid, x, y, (cell, cell), numbers=".0f", limit=REACH)
    for (i, j), colour in zip(ARCS, COLOURS, strict=True):
        frame(ax, x + (j - 1) * cell, y + (TOKENS - i) * cell, cell, cell, colour)
    high = y + TOKENS * cell
    write(ax, x - 0.14, y + 4.5 * cell, say("查询 i", "query i"), SMALL, MUTED, rotation=90)
    write(ax, x + 4.5 * cell, high + 0.13, say("键 j", "key j"), SMALL, MUTED)
    fig.set_label(
        say(
            "上：九个词元和三条弧，2 到 1 是 w₋₁，2 到 4 是 w₂，4 到 n 是 wₖ。"
            "下：9×9 的网格，每格写着截断后的偏移 j − i，k = 3；每条对角线上是同一个数，"
            "右上角全是 3，左下角全是 −3，三条弧对应的格子加了框。",
            "Above, nine tokens and three arcs: 2 to 1 is w₋₁, 2 to 4 is w₂, 4 to n is wₖ. Below, "
            "a grid of 9 by 9 with the clipped offset j − i in each cell, k = 3: one number along "
            "each diagonal, 3 in the whole upper right corner, −3 in the lower left; the cells of "
            "the three arcs are framed.",
        )
    )
    return fig


# Few products, looked up for all pairs


def lookup_data(n=7, k=2):
    """Products (7, 5) of queries and vectors, and the key term (7, 7) that is looked up there."""
    rng = np.random.default_rng(4)
    q, table = rng.normal(size=(n, 8)), rng.normal(size=(2 * k + 1, 8))
    return q @ table.T / 8**0.5, gather_logits(q, table, offsets(n, n), k)


def lookup(say):
    products, logits = lookup_data()
    n, width = products.shape
    fig = style.figure(2.85)
    ax = style.canvas(fig)
    cell, y, limit = 0.27, 0.28, np.abs(products).max()
    left, right = 0.42, 2.62
    heat(ax, products, left, y, (cell, cell), limit=limit)
    heat(ax, logits, right, y, (cell, cell), limit=limit)
    high = y + n * cell
    for column, offset in enumerate(range(-2, 3)):
        text = style.minus(str(offset))
        write(ax, left + (column + 0.5) * cell, high + 0.13, text, SMALL, MUTED)
    for j in range(n):
        write(ax, right + (j + 0.5) * cell, high + 0.13, str(j), SMALL, MUTED)
    row = 4  # one query, of which all offsets occur
    at = y + (n - 1 - row) * cell
    frame(ax, left, at, width * cell, cell, C1)
    for start, length in ((0, 3), (3, 1), (4, 1), (5, 1), (6, 1)):
        frame(ax, right + start * cell, at, length * cell, cell, C1)
    arrow(ax, (left + width * cell + 0.1, at + cell / 2), (right - 0.1, at + cell / 2), C1)
    write(ax, left + width * cell / 2, high + 0.36, say("q wᵀ，按偏移", "q wᵀ, by offset"), SMALL)
    write(ax, right + n * cell / 2, high + 0.36, say("键项，按键 j", "key term, by key j"), SMALL)
    write(ax, left - 0.15, y + n * cell / 2, say("查询 i", "query i"), SMALL, MUTED, rotation=90)
    write(ax, left + width * cell / 2, y - 0.16, f"{n} × {width}", SMALL, MUTED)
    write(ax, right + n * cell / 2, y - 0.16, f"{n} × {n}", SMALL, MUTED)
    fig.set_label(
        say(
            "左：7 个查询与 5 个向量的乘积。右：7×7 的键项。加框的一行是查询 4："
            "最左边的乘积用在键 0、1、2 上，其余四个各用一次。",
            "Left, the products of 7 queries with 5 vectors. Right, the key term, 7 by 7. The "
            "framed row is query 4: its leftmost product serves keys 0, 1 and 2, the other four "
            "serve one key each.",
        )
    )
    return fig


# Memory

HEADS, WIDTH, FAR = 8, 64, 16


def memory_data():
    """Lengths, and the bytes in float32 of vectors per pair, of logits, and of the products."""
    n = 2.0 ** np.arange(7, 15)
    return n, {
        "pairs": 4 * n**2 * WIDTH,
        "logits": 4 * n**2 * HEADS,
        "products": 4 * n * (2 * FAR + 1) * HEADS,
    }


def memory(say):
    n, held = memory_data()
    fig = style.figure(2.75)
    ax = fig.add_axes((0.14, 0.17, 0.55, 0.75))
    names = {
        "pairs": say("每对一个向量 n²d", "a vector per pair, n²d"),
        "logits": say("logit 本身 n²h", "the logits, n²h"),
        "products": say("乘积 n(2k+1)h", "products, n(2k+1)h"),
    }
    for (kind, values), colour in zip(held.items(), (C1, MUTED, C0), strict=True):
        ax.plot(n, values, color=colour)
        write(ax, n[-1] * 1.15, values[-1], names[kind], SMALL, colour, ha="left")
    ax.set(xscale="log", yscale="log", xlim=(n[0], n[-1]), ylim=(2**16, 2**37))
    style.ticks(ax.xaxis, {2**e: str(2**e) for e in (7, 9, 11, 13)})
    units = {2**20: "1 MiB", 2**25: "32 MiB", 2**30: "1 GiB", 2**35: "32 GiB"}
    style.ticks(ax.yaxis, units)
    ax.set_xlabel(say("长度 n", "length n"))
    ax.grid(axis="y")
    fig.set_label(
        say(
            "内存随长度的变化，双对数图，d = 64，h = 8，k = 16，float32。"
            "每对一个向量是 logit 的 8 倍，长 16384 时到 64 GiB；乘积只有十几 MiB。",
            "Memory against length, both axes logarithmic, d = 64, h = 8, k = 16, float32. A "
            "vector for every pair is 8 times the logits and reaches 64 GiB at 16384; the products "
            "stay below 20 MiB.",
        )
    )
    return fig


# NEZHA: the table of the paper, and that of the code


def nezha_data(d=32, k=12):
    """Tables (25, 32) as printed in the paper and as in the code."""
    return sinusoidal_table(d, k), sinusoidal(np.arange(2 * k + 1), d)


def nezha(say):
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    cell, y = (0.058, 0.082), 0.12
    titles = (
        say("论文：正弦的 j − i", "paper: sinusoid of j − i"),
        say("代码：正弦的 j − i + k", "code: sinusoid of j − i + k"),
    )
    for column, (rows, title) in enumerate(zip(nezha_data(), titles, strict=True)):
        x, n = 0.62 + 2.25 * column, len(rows)
        heat(ax, rows, x, y, cell, limit=1)
        write(ax, x + 16 * cell[0], y + n * cell[1] + 0.2, title, SMALL)
        for row, name in ((0, "−k"), (n // 2, "0"), (n - 1, "k")):
            write(ax, x - 0.08, y + (n - 0.5 - row) * cell[1], name, SMALL, INK, ha="right")
        middle = y + (n - 1 - n // 2) * cell[1]
        frame(ax, x, middle, 32 * cell[0], cell[1], C3, 1.2)
    fig.set_label(
        say(
            "两张正弦表的热图，行是偏移 −k 到 k，k = 12。左：论文，中间一行是位置 0 的编码，"
            "正弦为 0、余弦为 1，上下对称。右：代码，最上一行才是位置 0。",
            "Heat maps of two sinusoidal tables, rows are offsets −k to k, k = 12. Left, the "
            "paper: the middle row encodes position 0, sines 0 and cosines 1, with symmetry above "
            "and below. Right, the code: the top row encodes position 0.",
        )
    )
    return fig
