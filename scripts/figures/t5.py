"""Figures of the page on T5's bias.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Polygon, Rectangle

from posenc.equations.relative import offsets
from posenc.equations.t5 import buckets, hankel, position_bias
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, INK, MUTED, SMALL, arrow, heat, ticks, write

# The four terms

TERMS = ("ee", "ep", "pe", "pp")  # first letter for the query: content or position
FATES = ("kept", "dropped", "dropped", "replaced")


def terms_data():
    """The four terms of a logit, and what T5 does with each."""
    return dict(zip(TERMS, FATES, strict=True))


def terms(say):
    fig = style.figure(2.0)
    ax = style.canvas(fig)
    words = {
        "kept": (say("留下", "kept"), C2),
        "dropped": (say("去掉", "dropped"), MUTED),
        "replaced": (say("换成一个数", "one number instead"), C0),
    }
    columns = say("内容 j", "content j"), say("位置 j", "position j")
    rows = say("内容 i", "content i"), say("位置 i", "position i")
    left, width, height = 1.05, 1.72, 0.68
    for k, label in enumerate(columns):
        write(ax, left + (k + 0.5) * width, 1.83, label, SMALL, MUTED)
    for k, label in enumerate(rows):
        write(ax, left - 0.12, 1.31 - k * 0.78, label, SMALL, MUTED, ha="right")
    for n, (term, fate) in enumerate(terms_data().items()):
        row, column = divmod(n, 2)
        x, y = left + column * width, 0.97 - row * 0.78
        word, colour = words[fate]
        ground = {"facecolor": colour, "alpha": 0.08 if fate == "dropped" else 0.22}
        ax.add_patch(Rectangle((x, y), width - 0.08, height, edgecolor="none", **ground))
        write(ax, x + (width - 0.08) / 2, y + 0.46, word, colour=colour)
        write(ax, x + (width - 0.08) / 2, y + 0.19, term, SMALL, MUTED)
    fig.set_label(
        say(
            "一个 logit 的四项排成两行两列。内容对内容留下；内容对位置、位置对内容去掉；"
            "位置对位置换成一个数，由头和偏移所在的桶决定。",
            "The four terms of a logit in two rows and two columns. Content with content is kept; "
            "content with position and position with content are dropped; position with position "
            "becomes one number, which the head and the bucket of the offset decide.",
        )
    )
    return fig


# The buckets as a staircase


def staircase_data(last=140):
    """Bucket of every offset (281,) from -140 to 140, for an encoder and a decoder."""
    t = np.arange(-last, last + 1)
    return t, buckets(t), buckets(t, bidirectional=False)


def staircase(say):
    t, encoder, decoder = staircase_data()
    fig = style.figure(3.3)
    titles = say("编码器", "encoder"), say("解码器", "decoder")
    for k, (found, title) in enumerate(zip((encoder, decoder), titles, strict=True)):
        ax = fig.add_axes((0.105 + 0.475 * k, 0.15, 0.4, 0.72))
        before = t <= 0
        seen = before if k else np.ones_like(before)
        ax.step(t[before], found[before], where="mid", color=C0)
        if not k:
            ax.step(t[~before], found[~before], where="mid", color=C1)
            ax.plot([-128, 128], [16, 16], color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
            note = say("16 号：空", "16: empty")
            write(ax, 18, 14.6, note, SMALL, MUTED, ha="left")
        else:
            note = say("被掩码挡住", "masked")
            write(ax, 66, 2.0, note, SMALL, MUTED)
            ax.plot(t[~before], found[~before], color=GRID)
        edge = int(t[seen & (found == (31 if k else 15))].max())
        ax.plot([edge, edge], [0, found[t == edge][0]], color=GRID, linewidth=0.9)
        ticks(ax.xaxis, {v: style.minus(str(v)) for v in (-128, edge, 0, 128) if v != -128})
        ticks(ax.yaxis, {v: str(v) for v in (0, 8, 15, 24, 31)} if not k else
              {v: str(v) for v in (0, 16, 31)})  # fmt: skip
        ax.set(xlim=(-142, 142), ylim=(-1, 33), title=title)
        ax.set_xlabel(say("偏移 t = j − i", "offset t = j − i"))
        if not k:
            ax.set_ylabel(say("桶", "bucket"))
            ax.yaxis.set_label_coords(-0.2, 0.62)
    fig.set_label(
        say(
            "两张阶梯图，横轴是偏移，纵轴是桶号。编码器：向左从 0 升到 15，−91 起是最后一个；"
            "向右从 17 升到 31；16 号没有。"
            "解码器：向左从 0 升到 31，−113 起是最后一个，右边都是 0。",
            "Two staircases, offset against bucket. Encoder: to the left from 0 up to 15, the last "
            "from −91 on; to the right from 17 up to 31; there is no 16. Decoder: to the left from "
            "0 up to 31, the last from −113 on; to the right all are 0.",
        )
    )
    return fig


# The buckets as a matrix

SIDE = 128


def bands_data(n=SIDE):
    """For each bucket of an encoder, the range of offsets (low, high) within n tokens."""
    t = np.arange(1 - n, n)
    at = buckets(t)
    return {int(b): (int(t[at == b].min()), int(t[at == b].max())) for b in np.unique(at)}


def band(low, high, n=SIDE):
    """Corners of the part of an n by n matrix with offsets from low to high, row by row down."""
    low, high = low - 0.5, high + 0.5

    def line(t):  # from the upper or left edge to the lower or right edge
        return (max(t, 0), max(-t, 0)), (min(n, n + t), min(n, n - t))

    (a, b), (c, d) = line(low), line(high)
    corner = [(0, 0)] if low < 0 < high else []
    end = [(n, n)] if low < 0 < high else []
    return [a, *corner, c, d, *end, b]


def bands(say):
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    size, left, bottom = 2.1, 0.62, 0.3
    for bucket, (low, high) in bands_data().items():
        rank = bucket % 16
        shade = 0.12 + 0.78 * (rank / 15) ** 0.8
        points = [
            (left + x / SIDE * size, bottom + (1 - y / SIDE) * size) for x, y in band(low, high)
        ]
        ground = {"facecolor": C1 if bucket > 16 else C0, "alpha": round(shade, 3)}
        ax.add_patch(Polygon(points, closed=True, edgecolor="none", **ground))
    frame = {"fill": False, "edgecolor": GRID, "linewidth": 0.8}
    ax.add_patch(Rectangle((left, bottom), size, size, **frame))
    for k in (0, SIDE - 1):
        y = bottom + (1 - (k + 0.5) / SIDE) * size
        write(ax, left - 0.08, y, str(k), SMALL, MUTED, ha="right")
        write(ax, left + (k + 0.5) / SIDE * size, bottom + size + 0.13, str(k), SMALL, MUTED)
    write(ax, left + size / 2, bottom + size + 0.13, say("键 j", "key j"), SMALL, MUTED)
    label = say("查询 i", "query i")
    write(ax, left - 0.28, bottom + size / 2, label, SMALL, MUTED, rotation=90)
    x = left + size + 0.25
    notes = (
        (2.05, say("查询之后：17 到 31", "after the query: 17 to 31"), C1),
        (1.78, say("查询之前：1 到 15", "before the query: 1 to 15"), C0),
        (1.38, say("角上：最后一个桶", "corners: the last bucket,"), INK),
        (1.14, say("从 91 起", "from 91 on"), INK),
    )
    for y, text, colour in notes:
        write(ax, x, y, text, SMALL, colour, ha="left")
    fig.set_label(
        say(
            "128 × 128 的矩阵，按桶着色，每个桶是一条或宽或窄的对角带，越远越宽越深；"
            "对角线两侧颜色不同，左下角和右上角各是最后一个桶。",
            "A matrix of 128 by 128, coloured by bucket: every bucket is a diagonal band, "
            "wider and darker with distance; the two sides differ in colour, and the lower left "
            "and the upper right corner are the last buckets.",
        )
    )
    return fig


# The view


def hankel_data(n=4):
    """A vector of 2n - 1 numbers and the two matrices (n, n) that it stands for."""
    values = np.arange(1 - n, n).astype(float)
    view = hankel(values, n)
    return values, view, view[::-1]


def hankel_view(say):
    values, view, bias = hankel_data()
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    cell = 0.36
    left = (4.8 - 7 * cell) / 2
    heat(ax, values, left, 2.2, (cell, cell), numbers=".0f")
    write(ax, left - 0.12, 2.38, "b", ha="right")
    for row in range(4):
        y = 2.11 - 0.055 * row
        line = [left + (row + 0.06) * cell, left + (row + 3.94) * cell]
        ax.plot(line, [y, y], color=C2, linewidth=1.6, solid_capstyle="butt")
    titles = say("窗口 = 反序的查询", "windows = queries reversed"), say("偏置", "bias")
    for k, (matrix, title) in enumerate(zip((view, bias), titles, strict=True)):
        x = 0.55 + 2.35 * k
        heat(ax, matrix, x, 0.08, (cell, cell), numbers=".0f")
        write(ax, x + 2 * cell, 0.08 + 4 * cell + 0.14, title, SMALL, MUTED)
        for row in range(4):
            i = row if k else 3 - row
            write(ax, x - 0.1, 0.08 + (3.5 - row) * cell, f"i = {i}", SMALL, MUTED, ha="right")
    arrow(ax, (2.06, 0.8), (2.38, 0.8))
    fig.set_label(
        say(
            "上：偏移 −3 到 3 的七个数排成一行，下面四条线是四个窗口，每个长四。"
            "左：四个窗口排成矩阵，反对角线上是同一个数，各行是查询 3、2、1、0。"
            "右：把行倒过来，主对角线方向上是同一个数，就是偏置。",
            "Above: seven numbers for the offsets −3 to 3 in a row, with four windows of length "
            "four below. Left: the windows as a matrix, one number along each antidiagonal; its "
            "rows are the queries 3, 2, 1, 0. Right: with the rows reversed, one number along each "
            "diagonal, which is the bias.",
        )
    )
    return fig


# Heads


def heads_data(n=24):
    """Weights (3, n, n) that a bias alone makes, for three tables that one might train."""
    rank = np.arange(16)
    tables = np.full((32, 3), -9.0)
    tables[1, 0] = 0  # the token before
    tables[:16, 1] = tables[16:, 1] = -0.5 * rank  # near, on either side
    tables[17:, 2] = 0  # whatever comes later
    tables[0, 2] = -3
    bias = position_bias(tables, offsets(n, n))
    weights = np.exp(bias)
    return weights / weights.sum(axis=-1, keepdims=True)


def heads(say):
    weights = heads_data()
    fig = style.figure(1.85)
    ax = style.canvas(fig)
    cell = 0.0575
    titles = (
        say("前一个词元", "the token before"),
        say("附近的词元", "tokens nearby"),
        say("后面的词元", "tokens after it"),
    )
    for k, title in enumerate(titles):
        x = 0.2 + 1.53 * k
        heat(ax, weights[k], x, 0.12, (cell, cell))
        write(ax, x + 12 * cell, 0.12 + 24 * cell + 0.17, title, SMALL)
    fig.set_label(
        say(
            "三张 24×24 的注意力权重图，只由偏置决定。左：紧挨对角线的下方是亮的。"
            "中：对角线附近亮，越远越暗。右：对角线上方亮。",
            "Three maps of 24 by 24 attention weights that the bias alone makes. Left: the line "
            "below the diagonal is bright. Middle: bright near the diagonal and fading. Right: "
            "bright above the diagonal.",
        )
    )
    return fig
