"""Figures of the page on windows.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

from itertools import pairwise

import numpy as np
from matplotlib.patches import Rectangle

from posenc.equations.windows import (
    bigbird,
    bigbird_edges,
    chunks,
    longformer,
    random_links,
    reach,
    sliding_window,
    streaming_window,
    window_edges,
)
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, GRID, MUTED, SMALL, ticks, write


def paint(ax, mask, x, y, cell, colour=C0):
    """Draw a boolean matrix, first row on top: equal rows together, each run one rectangle."""
    rows, columns = mask.shape
    new = np.flatnonzero(np.r_[True, (mask[1:] != mask[:-1]).any(axis=1), True])
    for top, bottom in pairwise(new):
        edges = np.flatnonzero(np.diff(np.r_[False, mask[top], False]))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            corner = x + first * cell[0], y + (rows - bottom) * cell[1]
            size = (last - first) * cell[0], (bottom - top) * cell[1]
            ground = {"facecolor": colour, "alpha": 0.75, "edgecolor": "none", "linewidth": 0}
            ax.add_patch(Rectangle(corner, *size, **ground))
    frame = {"fill": False, "edgecolor": GRID, "linewidth": 0.8}
    ax.add_patch(Rectangle((x, y), columns * cell[0], rows * cell[1], **frame))


# The masks


def masks_data(n=24):
    """Eight masks (24, 24) by name."""
    at = np.arange(n)
    return {
        "full": np.ones((n, n), bool),
        "chunks": chunks(at, at, 8),
        "overlap": chunks(at, at, 8, 4),
        "window": sliding_window(at, at, 3),
        "dilated": sliding_window(at, at, 3, 2),
        "longformer": longformer(at, at, 2, np.array([0, 11])),
        "bigbird": bigbird(n, 1, random_links(n, 2, np.random.default_rng(1))),
        "sinks": streaming_window(at, at, 5, 2),
    }


def masks(say):
    titles = {
        "full": say("全部", "full"),
        "chunks": say("分块", "chunks"),
        "overlap": say("有重叠的分块", "overlapping"),
        "window": say("滑动窗口", "window"),
        "dilated": say("空洞窗口", "dilated"),
        "longformer": say("Longformer", "Longformer"),
        "bigbird": say("BigBird", "BigBird"),
        "sinks": say("窗口加汇点", "with sinks"),
    }
    fig = style.figure(3.1)
    ax = style.canvas(fig)
    side = 1.02
    for k, (name, mask) in enumerate(masks_data().items()):
        row, column = divmod(k, 4)
        x, y = 0.12 + column * 1.18, 1.78 - row * 1.55
        paint(ax, mask, x, y, (side / 24, side / 24))
        write(ax, x + side / 2, y + side + 0.12, titles[name], SMALL)
        write(ax, x + side / 2, y - 0.14, str(int(mask.sum())), SMALL, MUTED)
    fig.set_label(
        say(
            "八张 24×24 的掩码，上色处可以看，每张下方是边数。"
            "全部：整个方块。分块：对角线上三个小方块。"
            "有重叠的分块：小方块之间有台阶相连。滑动窗口：沿对角线的带。"
            "空洞窗口：隔一格一条的斜线。"
            "Longformer：窄带，外加两行两列。BigBird：窄带，首尾两行和两列，以及零散的格子。"
            "窗口加汇点：对角线下方的带，加最左两列。",
            "Eight masks of 24 by 24, coloured where a query may look, with the number of edges "
            "below each. Full: the whole square. Chunks: three squares on the diagonal. "
            "Overlapping: squares joined like stairs. Window: a band along the diagonal. Dilated: "
            "every other line of a band. Longformer: a narrow band, two rows and two columns. "
            "BigBird: a narrow band, the first and last row and column, and scattered cells. With "
            "sinks: a band below the diagonal and the two leftmost columns.",
        )
    )
    return fig


# Edges per token


def edges_data():
    """Numbers of tokens (12,), and for each kind the edges per token (12,)."""
    n = 2 ** np.arange(9, 21)
    per_token = {
        "full": [int(m) for m in n],
        "loglinear": [window_edges(2048, 256, n_global=1) / 2048 * np.log2(m) / 11 for m in n],
        "bigbird": [bigbird_edges(int(m), 64, min(3, int(m) // 64 - 5)) / m for m in n],
        "longformer": [window_edges(int(m), 256, n_global=1) / m for m in n],
    }
    return n, {name: np.array(values) for name, values in per_token.items()}


def edges(say):
    n, kinds = edges_data()
    fig = style.figure(2.7)
    ax = fig.add_axes((0.155, 0.17, 0.63, 0.76))
    looks = {
        "full": (C1, "-", say("全部", "full")),
        "loglinear": (MUTED, (0, (4, 3)), "n log n"),
        "bigbird": (C2, "-", "BigBird"),
        "longformer": (C0, "-", "Longformer"),
    }
    ax.axis((2**9, 2**20, 256, 4096))
    for name, (colour, line, label) in looks.items():
        values = kinds[name]
        inside = values <= 4096
        ax.loglog(n[inside], values[inside], color=colour, linestyle=line)
        if name != "full":
            write(ax, 2**20.2, values[-1], label, SMALL, colour, ha="left")
    write(ax, 2**12.2, 3300, looks["full"][2], SMALL, C1, ha="left")
    ticks(ax.xaxis, {2**k: f"2{_up(k)}" for k in (9, 12, 14, 17, 20)})
    ticks(ax.yaxis, {v: str(v) for v in (256, 512, 1024, 2048, 4096)})
    ax.set_xlabel(say("词元数 n", "tokens n"))
    label = say("每个词元的边数", "edges per token")
    write(ax, -0.205, 0.5, label, rotation=90, transform=ax.transAxes)
    fig.set_label(
        say(
            "横轴是词元数，从 2⁹ 到 2²⁰；纵轴是每个词元的边数，两轴都取对数。"
            "全部：直线上升，4096 个词元时出界。"
            "Longformer 和 BigBird 先升后平，停在 515 和 640 附近。虚线 n log n 一直在升。",
            "Tokens from 2⁹ to 2²⁰ against edges per token, both on logarithmic axes. Full rises "
            "straight and leaves the figure at 4096 tokens. Longformer and BigBird rise and level "
            "out near 515 and 640. The dashed line n log n goes on rising.",
        )
    )
    return fig


def _up(exponent):
    return style.power(exponent).removeprefix("10")


# Reach by layer

QUERY, TOKENS, LAYERS = 20, 32, 5


def reach_data():
    """For each kind, what the query may know of after 0 to 5 layers, boolean (6, 32)."""
    at = np.arange(TOKENS)
    kinds = {
        "chunks": [chunks(at, at, 8)] * LAYERS,
        "window": [sliding_window(at, at, 2)] * LAYERS,
        "dilated": [sliding_window(at, at, 2, 2**layer) for layer in range(LAYERS)],
        "global": [longformer(at, at, 2, np.array([0]))] * LAYERS,
    }
    return {name: np.array(list(_known(masks))) for name, masks in kinds.items()}


def _known(masks):
    """The query's row after every layer; the last layer is the first step of a path."""
    for layers in range(len(masks) + 1):
        row = np.eye(TOKENS, dtype=bool)[QUERY]
        for mask in reversed(masks[:layers]):
            row = row @ reach(mask, 1)
        yield row


def reached(say):
    titles = {
        "chunks": (say("分块，每块 8 个", "chunks of 8"), C3),
        "window": (say("窗口，两侧各 2 个", "window, 2 on each side"), C0),
        "dilated": (say("空洞逐层加倍：1、2、4……", "dilation doubles: 1, 2, 4, …"), C2),
        "global": (say("窗口，加一个全局词元", "window and a global token"), C1),
    }
    fig = style.figure(2.55)
    ax = style.canvas(fig)
    cell = (0.0655, 0.125)
    for k, (name, known) in enumerate(reach_data().items()):
        row, column = divmod(k, 2)
        title, colour = titles[name]
        x, y = 0.38 + column * 2.3, 1.47 - row * 1.25
        paint(ax, known, x, y, cell, colour)
        write(ax, x, y + 6 * cell[1] + 0.14, title, SMALL, ha="left")
        for layers in (0, 5) if column == 0 else ():
            at = y + (5.5 - layers) * cell[1]
            write(ax, x - 0.08, at, str(layers), SMALL, MUTED, ha="right")
    write(ax, 0.16, 1.84, say("层", "layers"), SMALL, MUTED, rotation=90)
    write(ax, 0.16, 0.6, say("层", "layers"), SMALL, MUTED, rotation=90)
    fig.set_label(
        say(
            "四块图，每行一个层数，从 0 到 5，每列一个词元，共 32 个；"
            "上色的是词元 20 可能知道的词元。"
            "分块：始终是同一块的八个。窗口：每层两边各宽两格，像一个三角形。空洞逐层加倍：很快铺满。"
            "全局词元：一层时多出最左一格，两层时全部上色。",
            "Four panels with a row for 0 to 5 layers and a column for each of 32 tokens; coloured "
            "are those that token 20 may know of. Chunks: always the eight of its chunk. Window: "
            "two wider on each side per layer, a triangle. Doubling dilation: soon everything. "
            "Global token: with one layer also the leftmost cell, with two layers all.",
        )
    )
    return fig
