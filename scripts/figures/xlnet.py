"""Figures of the page on Transformer-XL and XLNet.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Rectangle

from posenc.equations.xlnet import (
    column_offsets,
    factorisation_mask,
    offset_vectors,
    shift,
    terms,
)
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, GRID, H0, INK, MUTED, SMALL, arrow, heat, minus, write

# The four terms of one head

N_TERMS, D_TERMS = 12, 32


def four_data():
    """Terms (a) to (d) of a random head over 12 tokens: (4, 12, 12)."""
    rng = np.random.default_rng(5)
    x, W_q, W_k, W_r = (rng.normal(size=(n, D_TERMS)) for n in (N_TERMS, D_TERMS, D_TERMS, D_TERMS))
    u, v = rng.normal(size=(2, D_TERMS))
    at = np.arange(N_TERMS)
    r = offset_vectors(at[:, None] - at, D_TERMS, base=100) @ W_r
    return terms(x @ W_q, x @ W_k, r, u, v)


def four(say):
    found, cell = four_data(), 0.088
    fig = style.figure(1.99)
    ax = style.canvas(fig)
    side = N_TERMS * cell
    labels = (
        (say("内容对 内容", "content, content"), "a"),
        (say("内容对 位置", "content, position"), "b"),
        (say("位置对 内容", "position, content"), "c"),
        (say("位置对 位置", "position, position"), "d"),
    )
    for i, (values, (label, letter)) in enumerate(zip(found, labels, strict=True)):
        x = 0.1 + 1.17 * i
        heat(ax, values, x, 0.56, (cell, cell))
        write(ax, x + side / 2, 0.56 + side + 0.14, f"({letter})", SMALL)
        for line, part in enumerate(label.split()):
            write(ax, x + side / 2, 0.44 - 0.15 * line, part, SMALL, MUTED)
    fig.set_label(
        say(
            "一个随机注意力头的四项，12 个词元，行是查询，列是键。(a) 没有规律；(b) 每一行是一条"
            "随偏移起伏的波，各行不同；(c) 每一列是同一个数；(d) 每条对角线是同一个数。",
            "The four terms of a random head over 12 tokens, queries down, keys across. (a) has no "
            "pattern; in (b) every row is a wave over the offset, another for each query; (c) has "
            "one number per column; (d) has one number per diagonal.",
        )
    )
    return fig


# The relative shift

N_Q, N_K = 3, 4


def fold_data():
    """Offsets of the columns (3, 7), their rows, and both after the shift (3, 4)."""
    offsets = np.tile(column_offsets(N_Q, N_K), (N_Q, 1))
    rows = np.repeat(np.arange(N_Q)[:, None], N_Q + N_K, axis=1)
    return offsets, rows, shift(offsets), shift(rows)


def _cells(ax, numbers, rows, x, y, size, kept):
    """Draw numbers in cells; what is not kept has no ground."""
    for (i, j), value in np.ndenumerate(numbers):
        corner = x + j * size[0], y - (i + 1) * size[1]
        if kept[i, j]:
            ground = {"facecolor": H0, "alpha": (0.25, 0.6, 1.0)[rows[i, j]], "edgecolor": "none"}
            ax.add_patch(Rectangle(corner, *size, linewidth=0, **ground))
        ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=GRID, linewidth=0.8))
        at = corner[0] + size[0] / 2, corner[1] + size[1] / 2
        write(ax, *at, minus(str(value)), SMALL, INK if kept[i, j] else MUTED)


def fold(say):
    offsets, rows, _, _ = fold_data()
    n = N_Q + N_K
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    size = 0.4, 0.26
    used = np.zeros((N_Q, n), bool)
    for i in range(N_Q):
        used[i, N_Q - i : N_Q - i + N_K] = True
    _cells(ax, offsets, rows, 0.95, 2.45, size, used)
    flat = [part.ravel()[N_Q:].reshape(N_Q, n - 1) for part in (offsets, rows, used)]
    _cells(ax, flat[0], flat[1], 0.95, 1.08, size, flat[2])
    frame = {"fill": False, "edgecolor": C1, "linewidth": 1.6}
    ax.add_patch(Rectangle((0.95, 1.08 - N_Q * size[1]), N_K * size[0], N_Q * size[1], **frame))
    for i in range(N_Q):
        write(ax, 0.85, 2.45 - (i + 0.5) * size[1], f"i = {i}", SMALL, MUTED, ha="right")
        write(ax, 0.85, 1.08 - (i + 0.5) * size[1], f"i = {i}", SMALL, MUTED, ha="right")
    write(ax, 0.95, 2.6, say("每个查询对每个偏移", "every query, every offset"), SMALL, ha="left")
    note = say("去掉前 3 个数，每行改排 6 个", "drop the first 3 numbers, fold into rows of 6")
    write(ax, 1.15, 1.4, note, SMALL, MUTED, ha="left")
    arrow(ax, (1.03, 1.58), (1.03, 1.2))
    for j in range(N_K):
        write(ax, 0.95 + (j + 0.5) * size[0], 0.16, f"j = {j}", SMALL, MUTED)
    fig.set_label(
        say(
            "3 个查询、4 个键的平移。上面是 3 行 7 列，格里写着偏移 4 到 −2，"
            "每行用到的四格往左错一格；"
            "去掉最前面的 3 个数，改排成每行 6 个，用到的格就对齐成前四列，每条对角线上偏移相同。",
            "The shift for 3 queries and 4 keys. Above, three rows of seven cells with the offsets "
            "4 to −2; the four cells that a row uses move left from row to row. With the first 3 "
            "numbers dropped and rows of 6, they line up as the first four columns, one offset on "
            "each diagonal.",
        )
    )
    return fig


# How far memory reaches

N_LAYERS, N_SEGMENTS, LENGTH = 3, 5, 3


def memory_data():
    """Which segments reach the last one at the top: booleans (layers + 1, segments)."""
    reached = np.zeros((N_LAYERS + 1, N_SEGMENTS), bool)
    reached[N_LAYERS, -1] = True
    for layer in range(N_LAYERS, 0, -1):
        below = reached[layer] | np.append(reached[layer][1:], False)
        reached[layer - 1] = below
    return reached


def memory(say):
    reached = memory_data()
    fig = style.figure(2.45)
    ax = style.canvas(fig)
    width, height = 0.78, 0.56

    def place(layer, segment):
        return 0.98 + width * segment, 0.45 + height * layer

    for (layer, segment), is_reached in np.ndenumerate(reached):
        x, y = place(layer, segment)
        colour = C0 if is_reached else GRID
        for token in range(LENGTH):
            ax.plot(x + 0.19 * (token - 1), y, "o", color=colour, markersize=5.5)
        frame = {"fill": False, "edgecolor": MUTED if is_reached else GRID, "linewidth": 0.8}
        ax.add_patch(Rectangle((x - 0.31, y - 0.12), 0.62, 0.24, **frame))
        if layer and is_reached:
            arrow(ax, (x, y - height + 0.14), (x, y - 0.14), C0)
            start = place(layer - 1, segment - 1)
            arrow(ax, (start[0] + 0.2, start[1] + 0.14), (x - 0.2, y - 0.14), C1, linestyle="--")
    for layer in range(N_LAYERS + 1):
        label = say(f"第 {layer} 层", f"layer {layer}") if layer else say("输入", "input")
        write(ax, 0.58, place(layer, 0)[1], label, SMALL, MUTED, ha="right")
    for segment in range(N_SEGMENTS):
        write(ax, place(0, segment)[0], 0.16, str(segment + 1), SMALL, MUTED)
    write(ax, 0.58, 0.16, say("文段", "segment"), SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "三层、五个文段、每段三个词元。实线箭头从本段往上，虚线箭头来自前一段的记忆，没有梯度。"
            "第五段的输出依赖第二段及以后的输入，第一段够不到。",
            "Three layers and five segments of three tokens. Solid arrows go up within a segment; "
            "dashed ones come from the memory of the segment before and carry no gradient. The "
            "output of the fifth segment depends on inputs from the second on, not on the first.",
        )
    )
    return fig


# A factorisation order

ORDER = (3, 0, 4, 1, 2)


def orders_data():
    """Masks of the content and the query stream, booleans (2, 5, 5)."""
    return np.array([factorisation_mask(ORDER, stream=s) for s in ("content", "query")])


def orders(say):
    masks, cell = orders_data(), 0.26
    fig = style.figure(2.5)
    ax = style.canvas(fig)
    headings = say("内容流", "content stream"), say("查询流", "query stream")
    for k, (mask, heading) in enumerate(zip(masks, headings, strict=True)):
        x, y, side = 0.62 + 2.3 * k, 0.5, len(ORDER) * cell
        heat(ax, mask, x, y, (cell, cell), limit=1.6)
        for i in range(1, len(ORDER)):
            ax.plot((x, x + side), (y + i * cell,) * 2, color=GRID, linewidth=0.6)
            ax.plot((x + i * cell,) * 2, (y, y + side), color=GRID, linewidth=0.6)
        write(ax, x + side / 2, y + side + 0.16, heading, SMALL)
        write(ax, x + side / 2, 0.13, say("键的位置", "position of the key"), SMALL, MUTED)
        for i in range(len(ORDER)):
            write(ax, x + (i + 0.5) * cell, 0.37, str(i), SMALL, MUTED)
            write(ax, x - 0.12, y + side - (i + 0.5) * cell, str(i), SMALL, MUTED)
    text = say("预测的次序：", "order of prediction: ") + " → ".join(map(str, ORDER))
    write(ax, 2.4, 2.34, text, SMALL)
    fig.set_label(
        say(
            "位置 0 到 4，预测次序 3、0、4、1、2。左：内容流的掩码，每个位置看得到次序不晚于自己的"
            "位置，包括自己。右：查询流的掩码，没有对角线；次序最先的位置 3 什么也看不到。",
            "Positions 0 to 4, predicted in the order 3, 0, 4, 1, 2. Left: the mask of the content "
            "stream; each position sees those not later in the order, itself included. Right: that "
            "of the query stream, without the diagonal; position 3, the first, sees nothing.",
        )
    )
    return fig
