"""Figures of the page on disentangled attention.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays.
"""

from itertools import pairwise

import numpy as np

from posenc.equations.deberta import log_bucket, row
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, MUTED, SMALL, arrow, box, heat, minus, write

K, REACH = 4, 7


def rows_data():
    """Offsets from -7 to 7 and their rows, k = 4; (2, 15)."""
    t = np.arange(-REACH, REACH + 1)
    return np.array([t, row(t, K)])


def rows(say):
    t, r = rows_data()
    fig = style.figure(2.5)
    ax = fig.add_axes((0.1, 0.2, 0.87, 0.72))
    ax.axhline(2 * K - 1, color=GRID, linewidth=0.8)
    ax.axhline(0, color=GRID, linewidth=0.8)
    ax.step(t, r, where="mid", color=GRID, linewidth=1.2)
    near = (t > -K) & (t < K)
    ax.plot(t[near], r[near], "o", color=C0, markersize=5.5)
    ax.plot(t[~near], r[~near], "o", color=C1, markersize=5.5)
    style.ticks(ax.xaxis, {k: minus(str(k)) for k in range(-6, 7, 2)})
    style.ticks(ax.yaxis, {k: str(k) for k in (0, 4, 7)})
    ax.set(xlim=(-REACH - 0.6, REACH + 0.6), ylim=(-0.8, 8.2))
    ax.set_xlabel(say("偏移 i − j", "offset i − j"))
    ax.set_ylabel(say("表的行", "row"))
    write(ax, -7.3, 1.75, say("−k 及更小", "−k and below"), SMALL, C1, ha="left")
    write(ax, -7.3, 0.95, say("同一行", "share a row"), SMALL, C1, ha="left")
    write(ax, 3.6, 5.6, say("k − 1 和更大", "k − 1 and above"), SMALL, C1, ha="left")
    write(ax, 3.6, 4.8, say("同一行", "share a row"), SMALL, C1, ha="left")
    fig.set_label(
        say(
            "k = 4 时偏移到行的阶梯。−7 到 −4 都是 0 行，−3 到 3 依次是 1 到 7 行，"
            "4 到 7 与 3 同在 7 行。",
            "The staircase from offset to row for k = 4. Offsets −7 to −4 have row 0, −3 to 3 "
            "have rows 1 to 7, and 4 to 7 share row 7 with 3.",
        )
    )
    return fig


N_INDEX, K_INDEX = 6, 3


def index_data():
    """Rows that the position-to-content term reads: released code and paper; (2, 6, 6)."""
    t = np.arange(N_INDEX)[:, None] - np.arange(N_INDEX)
    return np.stack([row(t, K_INDEX), row(-t, K_INDEX)])


def index(say):
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    titles = (
        (say("δ(i, j)：内容→位置，", "δ(i, j): content to position,"), C0),
        (say("δ(j, i)：论文的", "δ(j, i): the paper's"), C1),
    )
    tails = (
        say("代码中两项都用它", "and both terms in the code"),
        say("位置→内容", "position to content"),
    )
    for m, (table, (title, colour), tail) in enumerate(
        zip(index_data(), titles, tails, strict=True)
    ):
        x, y, cell = 0.36 + 2.34 * m, 0.3, 0.31
        heat(ax, table, x, y, (cell, cell), numbers=".0f", limit=2 * K_INDEX - 1)
        side = N_INDEX * cell
        write(ax, x + side / 2, y + side + 0.36, title, SMALL, colour)
        write(ax, x + side / 2, y + side + 0.15, tail, SMALL, colour)
        write(ax, x + side / 2, y - 0.16, "j", SMALL, MUTED)
        write(ax, x - 0.15, y + side / 2, "i", SMALL, MUTED)
    fig.set_label(
        say(
            "六个词元，k = 3，两张行号表。左：δ(i, j) 在主对角线上是 3，往左下增到 5，"
            "往右上减到 0。右：δ(j, i) 是左表的转置。",
            "Six tokens, k = 3, two tables of rows. Left: δ(i, j) is 3 on the diagonal, grows to 5 "
            "below and falls to 0 above it. Right: δ(j, i) is the transpose.",
        )
    )
    return fig


BUCKETS, DISTANCE, FAR = 256, 512, 620


def buckets_data():
    """Distances 0 to 620 and the rows right of the middle: logarithmic and plain; (3, 621)."""
    t = np.arange(FAR + 1)
    logarithmic = row(log_bucket(t, BUCKETS, DISTANCE), BUCKETS)
    return np.array([t, logarithmic - BUCKETS, row(t, BUCKETS) - BUCKETS])


def buckets(say):
    t, logarithmic, plain = buckets_data()
    fig = style.figure(2.5)
    ax = fig.add_axes((0.13, 0.2, 0.84, 0.72))
    ax.axhline(BUCKETS - 1, color=GRID, linewidth=0.8)
    ax.axvline(BUCKETS // 2, color=GRID, linewidth=0.8)
    ax.plot(t, plain, color=MUTED, linewidth=1.4, linestyle=(0, (4, 3)))
    ax.plot(t, logarithmic, color=C0)
    style.ticks(ax.xaxis, {k: str(k) for k in (0, 128, 256, 511)})
    style.ticks(ax.yaxis, {k: str(k) for k in (0, 128, 255)})
    ax.set(xlim=(0, FAR), ylim=(0, 285))
    ax.set_xlabel(say("偏移 i − j", "offset i − j"))
    ax.set_ylabel(say("桶", "bucket"))
    write(ax, 215, 238, say("每个偏移一行", "a row each"), SMALL, MUTED, ha="right")
    write(ax, 330, 190, say("对数桶", "logarithmic"), SMALL, C0, ha="left")
    fig.set_label(
        say(
            "偏移 0 到 620 的桶，每侧 256 个。128 以内两条线重合；之后对数桶升得越来越慢，"
            "到 511 才用完；每个偏移一行的，255 就用完了。",
            "Buckets of the offsets 0 to 620, 256 a side. Up to 128 the lines coincide; from there "
            "the logarithmic one rises more and more slowly and ends at 511, while one row per "
            "offset is used up at 255.",
        )
    )
    return fig


def absolute(say):
    fig = style.figure(3.0)
    ax = style.canvas(fig)
    words, layers = say("词", "words"), say("各层：只有相对位置", "layers: relative only")
    lower, upper = say("各层", "layers"), say("解码：同一层两次", "decoder: a layer, twice")
    output, position = say("预测被掩盖的词", "predict the masked word"), say("绝对位置", "absolute")
    for x, name, entry, steps in (
        (1.25, "BERT", 0, (words, lower, output)),
        (3.55, "DeBERTa", 1, (words, layers, upper, output)),
    ):
        write(ax, x, 2.82, name)
        heights = np.linspace(0.28, 2.45, len(steps))
        for y, step in zip(heights, steps, strict=True):
            box(ax, x, y, 2.0, 0.36, step, size=SMALL)
        for k, (low, high) in enumerate(pairwise(heights)):
            arrow(ax, (x, low + 0.18), (x, high - 0.2))
            if k == entry:
                y = (low + high) / 2
                write(ax, x + 0.42, y, f"+ {position}", SMALL, C1, ha="left")
                arrow(ax, (x + 0.38, y), (x + 0.04, y), C1)
            if k == entry == 1:
                arrow(ax, (x - 0.5, low + 0.18), (x - 0.5, high - 0.2))
                write(ax, x - 0.6, y, "H", SMALL, C2, ha="right")
                write(ax, x - 0.1, y, "I", SMALL, C2, ha="right")
    fig.set_label(
        say(
            "两列流程。BERT：绝对位置加在词上，然后是各层和预测。DeBERTa：各层只有相对位置，"
            "之后绝对位置才加进来，再过两次解码层，然后预测。",
            "Two columns. BERT adds absolute positions to the words, before the layers and the "
            "prediction. In DeBERTa the layers know relative positions only; absolute ones are "
            "added after them, before a decoder layer that is used twice, and the prediction.",
        )
    )
    return fig
