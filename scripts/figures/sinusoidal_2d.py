"""Figures of the page on the sinusoidal encoding in two dimensions.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Circle, Rectangle

from posenc.equations.kernel import kernel
from posenc.equations.sinusoidal import sinusoidal
from posenc.equations.sinusoidal_2d import grid, kernel_2d, sinusoidal_2d
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, INK, MUTED, SMALL, arrow, heat, minus, write

# One number per patch, or two

HEIGHT, WIDTH, CENTRE = 6, 14, (2, 5)


def two_positions_data(d_model=512):
    """Similarity (2, 6, 14) of all patches to one: numbered row by row, and by row and column."""
    places = grid(HEIGHT, WIDTH)
    h, w = np.subtract(places, CENTRE).T
    both = kernel(h * WIDTH + w, d_model), kernel_2d(h, w, d_model)
    return np.reshape(both, (2, HEIGHT, WIDTH))


def two_positions(say):
    similar, cell = two_positions_data(), 0.31
    low = np.floor(20 * similar.min()) / 20
    fig = style.figure(4.9)
    ax = style.canvas(fig)
    headings = (
        say("一个编号：一维编码", "One number: the encoding of a sequence"),
        say("行号和列号：二维编码", "Row and column: the encoding of an image"),
    )
    for i, heading in enumerate(headings):
        x, y = 0.23, 2.72 - 2.42 * i
        write(ax, x, y + HEIGHT * cell + 0.14, heading, ha="left")
        heat(ax, (similar[i] - low) / (1 - low), x, y, (cell, cell), limit=1)
        corner = x + CENTRE[1] * cell, y + (HEIGHT - 1 - CENTRE[0]) * cell
        ax.add_patch(Rectangle(corner, cell, cell, fill=False, edgecolor=INK, linewidth=1.6))
    scale = np.linspace(0, 1, 21)
    heat(ax, scale[None], 1.5, 0.02, (0.08, 0.12), limit=1)
    write(ax, 1.43, 0.08, f"{low:.2f}", SMALL, MUTED, ha="right")
    write(
        ax, 1.5 + 21 * 0.08 + 0.07, 0.08, say("1 = 相同", "1 = the same"), SMALL, MUTED, ha="left"
    )
    fig.set_label(
        say(
            "两张 6×14 的相似度图。按编号时，同一行左右的块最像，正上方和正下方的块不像；"
            "按行号和列号时，同行与同列的块一样像，形成十字。",
            "Two maps of similarity, 6 by 14 patches. By number, the patches left and right in the "
            "row are similar and those above and below are not; by row and column, row and "
            "column are equally similar and form a cross.",
        )
    )
    return fig


# Two halves

SHAPE, PATCH, WIDE = (3, 5), (2, 3), 16


def halves_data():
    """Encodings of the rows (3, 8) and of the columns (5, 8), and the vector (16,) of a patch."""
    rows, columns = (sinusoidal(np.arange(n), WIDE // 2, base=100) for n in SHAPE)
    return rows, columns, sinusoidal_2d(PATCH, WIDE, base=100)


def halves(say):
    rows, columns, vector = halves_data()
    fig = style.figure(3.9)
    ax = style.canvas(fig)
    cell, patch = 0.11, 0.42
    left, bottom = 1.95, 1.1
    top = bottom + SHAPE[0] * patch
    for h, w in grid(*SHAPE):
        corner = left + w * patch, top - (h + 1) * patch
        ax.add_patch(Rectangle(corner, patch, patch, fill=False, edgecolor=MUTED, linewidth=0.8))
    h, w = PATCH
    chosen = left + w * patch, top - (h + 1) * patch
    ax.add_patch(Rectangle(chosen, patch, patch, facecolor=C2, alpha=0.35, edgecolor="none"))
    write(ax, chosen[0] + patch / 2, chosen[1] + patch / 2, f"({h}, {w})", SMALL)
    for i, row in enumerate(rows):
        y = top - (i + 0.5) * patch - 0.09
        heat(ax, row[None], left - 0.15 - 8 * cell, y, (cell, 0.18), limit=1)
        write(ax, left - 0.25 - 8 * cell, y + 0.09, f"h = {i}", SMALL, MUTED, ha="right")
    for i, column in enumerate(columns):
        x = left + (i + 0.5) * patch - 0.09
        heat(ax, column[:, None], x, top + 0.15, (0.18, cell), limit=1)
        label = f"w = {i}" if i == 0 else str(i)
        write(ax, x + 0.19, top + 0.25 + 8 * cell, label, SMALL, MUTED, ha="right")
    code = 8 * cell
    beside = left - 0.15 - code, top - (h + 0.5) * patch - 0.09
    above = left + (w + 0.5) * patch - 0.09, top + 0.15
    parts = (
        (beside, (code, 0.18), beside[0] + code / 2, C0, say("行的编码", "encoding of the row")),
        (above, (0.18, code), above[0] + 0.09, C1, say("列的编码", "encoding of the column")),
    )
    for i, (corner, size, start, colour, name) in enumerate(parts):
        x = 0.85 + i * 1.6
        heat(ax, vector[None, 8 * i : 8 * i + 8], x, 0.4, (0.2, 0.24), limit=1)
        frame = {"fill": False, "edgecolor": colour, "linewidth": 1.6, "zorder": 3}
        ax.add_patch(Rectangle(corner, *size, **frame))
        ax.add_patch(Rectangle((x, 0.4), 1.6, 0.24, **frame))
        write(ax, x + 0.8, 0.2, name, colour=colour)
        arrow(ax, (start, bottom - 0.04), (x + 0.8, 0.68), colour)
    fig.set_label(
        say(
            "3×5 个图像块。每一行、每一列各有一个 8 维编码；"
            "块 (2, 3) 的 16 维向量由第 2 行和第 3 列的编码拼成。",
            "An image of 3 by 5 patches. Every row and every column has an encoding of 8 numbers; "
            "the vector of patch (2, 3) is that of row 2 followed by that of column 3.",
        )
    )
    return fig


# The exponent of the notes


def exponent_data(d_model=512):
    """Offsets along one axis, and its kernel with the right exponent and with the notes'."""
    offsets = np.union1d(np.arange(1, 101), np.geomspace(100, 2000, 150).round())
    right = kernel(offsets, d_model // 2)
    return offsets, right, kernel(offsets, d_model // 2, base=100)


def exponent(say):
    offsets, right, wrong = exponent_data()
    fig = style.figure(3.1)
    ax = fig.add_axes((0.12, 0.16, 0.84, 0.7))
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.semilogx(offsets, right, color=C0)
    ax.semilogx(offsets, wrong, color=C1)
    first = offsets[wrong < 0][0]
    ax.plot(first, 0, "o", color=C1, markersize=6)
    write(ax, first * 1.1, 0.07, f"{first:.0f}", colour=C1, ha="left")
    write(ax, 120, 0.52, say("指数 4m/d", "exponent 4m/d"), colour=C0, ha="left")
    write(ax, 1.25, 0.2, say("笔记的 2m/d", "the notes' 2m/d"), colour=C1, ha="left")
    ax.set(xlim=(1, 2000), ylim=(-0.25, 1))
    style.ticks(ax.xaxis, {n: str(n) for n in (1, 10, 100, 1000)})
    style.ticks(ax.yaxis, {0: "0", 0.5: "0.5", 1: "1"})
    ax.grid(axis="y")
    ax.set_xlabel(say("沿一条轴的偏移（块）", "offset along one axis, in patches"))
    title = say("一条轴的核 S，d = 512", "kernel S of one axis, d = 512")
    write(ax, -0.12, 1.1, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "一条轴的核随偏移的变化，横轴取对数。指数正确时一路缓降，2000 以内始终为正；"
            "用笔记的指数，到 60 第一次为负，随后在零附近振荡。",
            "Kernel of one axis against the offset, logarithmic. With the right exponent it falls "
            "slowly and stays positive up to 2000; with the notes' it is first negative at 60 and "
            "then swings about zero.",
        )
    )
    return fig


# The kernel in the plane

REACH, LEVELS = 22, np.arange(0.62, 1.0, 0.05)


def waves(directions, d_model=512):
    """Wave vectors as columns: every frequency in each of some directions, d/2 in all."""
    n = d_model // 2 // directions
    turn = np.pi * np.arange(directions) / directions
    theta = 10000.0 ** (-np.arange(n) / n)
    return np.multiply.outer([np.cos(turn), np.sin(turn)], theta).reshape(2, -1)


def contours_data(steps=45):
    """Offsets along an axis, and the kernel (2, n, n): two directions of waves, and sixteen."""
    offsets = np.linspace(-REACH, REACH, steps)
    plane = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1)
    return offsets, np.stack([np.cos(plane @ waves(n)).mean(axis=-1) for n in (2, 16)])


def contours(say):
    offsets, kernels = contours_data()
    fig = style.figure(2.95)
    titles = (
        say("行与列：两个方向", "rows and columns: two directions"),
        say("十六个方向", "sixteen directions"),
    )
    for i, (values, title) in enumerate(zip(kernels, titles, strict=True)):
        ax = fig.add_axes((0.095 + 0.485 * i, 0.17, 0.415, 0.675))
        alphas = np.linspace(0.1, 0.9, len(LEVELS))
        for level, alpha in zip(LEVELS, np.diff(alphas, prepend=0), strict=True):
            band = {"colors": [C0], "alpha": round(float(alpha), 3)}
            ax.contourf(offsets, offsets, values, [level, 2], **band)
        ax.contour(offsets, offsets, values, LEVELS, colors=[C0], linewidths=0.7)
        ring = {"fill": False, "edgecolor": C1, "linewidth": 1.6, "linestyle": (0, (4, 2))}
        ax.add_patch(Circle((0, 0), 10, **ring))
        ax.set(xlim=(-REACH, REACH), ylim=(REACH, -REACH))
        labels = {n: minus(str(n)) for n in (-20, -10, 0, 10, 20)}
        style.ticks(ax.xaxis, labels)
        style.ticks(ax.yaxis, labels if i == 0 else dict.fromkeys(labels, ""))
        ax.set_xlabel("Δw")
        write(ax, 0.5, 1.07, title, transform=ax.transAxes)
    fig.axes[0].set_ylabel("Δh", labelpad=-4)
    fig.set_label(
        say(
            "二维核的等高线，偏移 ±22。左：两条轴上隆起成十字，半径 10 的圆穿过好几层；"
            "右：波有十六个方向，等高线近乎圆。",
            "Contours of the kernel over offsets of ±22. Left: ridges along both axes form a "
            "cross, and the circle of radius 10 passes through several levels. Right: with waves "
            "in sixteen directions the contours are nearly circles.",
        )
    )
    return fig


# Around the circle


def around_data(radius=10):
    """Degrees from the row, and the kernel on a circle: two directions of waves, and sixteen."""
    degrees = np.linspace(0, 90, 91)
    turn = np.radians(degrees)
    offsets = radius * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    return degrees, *(np.cos(offsets @ waves(n)).mean(axis=-1) for n in (2, 16))


def around(say):
    degrees, two, sixteen = around_data()
    fig = style.figure(2.9)
    ax = fig.add_axes((0.12, 0.18, 0.82, 0.66))
    ax.plot(degrees, two, color=C0)
    ax.plot(degrees, sixteen, color=C1)
    for at in (0, 45):
        ax.plot(degrees[at], two[at], "o", color=C0, markersize=6, clip_on=False)
        write(
            ax,
            degrees[at] + 2.5,
            two[at] + 0.006,
            f"{two[at]:.3f}",
            colour=C0,
            ha="left",
        )
    write(ax, 20, 0.79, say("行与列", "rows and columns"), colour=C0, ha="left")
    write(ax, 45, sixteen[45] - 0.009, say("十六个方向", "sixteen directions"), colour=C1)
    ax.set(xlim=(0, 90), ylim=(0.7, 0.85))
    style.ticks(ax.xaxis, {n: f"{n}°" for n in (0, 45, 90)})
    ax.set_xlabel(
        say("方向：0° 沿行，90° 沿列", "direction: 0° along the row, 90° along the column")
    )
    style.ticks(ax.yaxis, {0.7: "0.70", 0.75: "0.75", 0.8: "0.80", 0.85: "0.85"})
    ax.grid(axis="y")
    title = say("距离都是 10 的块有多像", "similarity of patches at distance 10")
    write(ax, -0.12, 1.1, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "距离固定为 10，相似度随方向变化：同行或同列时最高，斜向较低；"
            "波有十六个方向时是一条水平线。",
            "Similarity at distance 10 against the direction: highest in the same row or column, "
            "lowest in between; with waves in sixteen directions it is a level line.",
        )
    )
    return fig


# Counted along the wrong side


def grids_data(height=3, width=5):
    """Places (2, 3, 5, 2) of the patches in a flattened image: row by row, and as mixed up."""
    wrong = grid(width, height)[:, ::-1]
    return np.stack([grid(height, width), wrong]).reshape(2, height, width, 2)


def grids(say):
    right, wrong = grids_data()
    fig = style.figure(3.3)
    ax = style.canvas(fig)
    size = 0.68, 0.38
    headings = (
        say("块的真实位置 (h, w)", "Where the patches are, (h, w)"),
        say("先宽后高、逐列计数得到的位置", "What a count by columns takes them for"),
    )
    for i, (places, heading) in enumerate(zip((right, wrong), headings, strict=True)):
        x, y = 0.7, 1.77 - 1.65 * i
        write(ax, x, y + 3 * size[1] + 0.15, heading, ha="left")
        for h, w in np.ndindex(3, 5):
            corner = x + w * size[0], y + (2 - h) * size[1]
            same = (places[h, w] == right[h, w]).all()
            if not same:
                ax.add_patch(Rectangle(corner, *size, facecolor=C1, alpha=0.2, edgecolor="none"))
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=GRID, linewidth=0.8))
            text = "({}, {})".format(*places[h, w])
            centre = corner[0] + size[0] / 2, corner[1] + size[1] / 2
            write(ax, *centre, text, colour=INK if same else C1)
    fig.set_label(
        say(
            "3×5 图像的 15 个块。上：真实的行号和列号；"
            "下：逐列计数的程序给出的位置，其中 12 个错了。",
            "The 15 patches of a 3 by 5 image. Above: their rows and columns; below: the places "
            "that a count by columns gives them, 12 of which are wrong.",
        )
    )
    return fig
