"""Figures of the page on rotary encoding with several axes.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Rectangle

from posenc.equations.rope_axes import (
    axis_string,
    kernel_axes,
    multimodal_positions,
    wave_vectors,
)
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, MUTED, SMALL, arrow, heat, minus, write

COLOURS = {"T": C0, "H": C1, "W": C2}
QWEN2 = {"sections": [16, 24, 24], "arrangement": "chunked"}
QWEN3 = {"sections": [24, 20, 20], "arrangement": "interleaved"}
BASE = 1e6

# Every pair is a wave over the image

SIDE = 9
WAVES = {"h": (0.8, 0.0), "w": (0.0, 0.8), "hw": (0.8 * 2**-0.5, 0.8 * 2**-0.5)}


def waves_data():
    """Cosines (3, 9, 9) of the angles by which three pairs turn at the patches of an image."""
    places = np.stack(np.indices((SIDE, SIDE)), axis=-1) - SIDE // 2
    return np.stack([kernel_axes(places, [wave]) for wave in WAVES.values()])


def waves(say):
    patterns = waves_data()
    fig = style.figure(2.15)
    ax = style.canvas(fig)
    cell = 0.145
    titles = (
        say("随行转", "turns with the row"),
        say("随列转", "turns with the column"),
        say("斜着转", "turns obliquely"),
    )
    for i, (pattern, wave, title) in enumerate(zip(patterns, WAVES.values(), titles, strict=True)):
        x, y = 0.15 + 1.6 * i, 0.42
        heat(ax, pattern, x, y, (cell, cell), limit=1)
        middle = np.array([x, y]) + SIDE * cell / 2
        step = 0.6 * np.array([wave[1], -wave[0]])
        arrow(ax, middle, middle + step, style.INK, linewidth=1.6)
        write(ax, middle[0], y + SIDE * cell + 0.16, title, SMALL)
        kappa = "κ = ({:.2g}, {:.2g})".format(*wave)
        write(ax, middle[0], 0.17, kappa, SMALL, MUTED)
    fig.set_label(
        say(
            "三幅 9×9 的图样：余弦只随行变化、只随列变化、沿对角线变化；"
            "箭头是波矢，指向变化的方向。",
            "Three patterns of 9 by 9 patches: the cosine changes with the row only, with the "
            "column only, and along the diagonal; an arrow, the wave vector, points the way in "
            "which it changes.",
        )
    )
    return fig


# Which pair turns with which axis


def maps_data():
    """Letters of the 64 pairs of two models, and the wavelength of every pair of the ladder."""
    theta = wave_vectors([64], BASE)[:, 0]
    return axis_string(**QWEN2), axis_string(**QWEN3), 2 * np.pi / theta


def _strip(ax, letters, x, y, size):
    for m, letter in enumerate(letters):
        ground = {"facecolor": COLOURS[letter], "edgecolor": "none", "linewidth": 0}
        ax.add_patch(Rectangle((x + m * size[0], y), size[0] * 0.86, size[1], **ground))


def maps(say):
    chunked, dealt, wavelengths = maps_data()
    fig = style.figure(2.95)
    ax = style.canvas(fig)
    left, width, height = 0.2, 4.4, 0.26
    rows = (
        (2.3, chunked, say("分段，16/24/24（Qwen2-VL）", "chunked, 16/24/24 (Qwen2-VL)")),
        (1.6, dealt, say("交错，24/20/20（Qwen3-VL）", "interleaved, 24/20/20 (Qwen3-VL)")),
    )
    for y, letters, name in rows:
        write(ax, left, y + height + 0.14, name, SMALL, ha="left")
        _strip(ax, letters, left, y, (width / 64, height))
    name = say("轴向：每条轴自成一梯，各 32 对", "axial: a ladder for each axis, 32 pairs each")
    write(ax, left, 0.9 + height + 0.14, name, SMALL, ha="left")
    for letter, y in (("H", 0.9 + height / 2), ("W", 0.9)):
        _strip(ax, letter * 32, left, y, (width / 32, height / 2 * 0.86))
    for power in range(1, 7):
        at = np.interp(power, np.log10(wavelengths), np.arange(64) + 0.5)
        x = left + at * width / 64
        ax.plot([x, x], [0.72, 0.8], color=MUTED, linewidth=0.8)
        write(ax, x, 0.58, style.power(power) if power > 2 else str(10**power), SMALL, MUTED)
    label = say("波长（位置数），底数 10⁶", "wavelength in positions, base 10⁶")
    write(ax, left, 0.36, label, SMALL, MUTED, ha="left")
    names = (("T", say("时间", "time")), ("H", say("高", "height")), ("W", say("宽", "width")))
    for i, (letter, name) in enumerate(names):
        x = left + 0.9 * i
        ax.add_patch(Rectangle((x, 0.05), 0.14, 0.14, facecolor=COLOURS[letter], linewidth=0))
        write(ax, x + 0.2, 0.12, name, SMALL, ha="left")
    fig.set_label(
        say(
            "频率对从快到慢排成一行，颜色表示它随哪条轴转。分段时，前 16 对给时间，"
            "接着 24 对给高，最慢的 24 对给宽；交错时三色轮流出现，末尾四对给时间；"
            "轴向时，高和宽各有一整条梯子。",
            "Pairs in a row from fast to slow, coloured by their axis. Chunked, the first 16 go "
            "to time, the next 24 to height, the slowest 24 to width; interleaved, the three "
            "take turns and the last four go to time; axial, height and width each have a whole "
            "ladder.",
        )
    )
    return fig


# What is left along each axis


def along_data(far=100):
    """Offsets 0..100, and kernels (2, 3, 101) along time, height and width for both models."""
    steps = np.arange(far + 1)
    offsets = steps[:, None, None] * np.eye(3)
    kernels = [kernel_axes(offsets, wave_vectors(base=BASE, **m)).T for m in (QWEN2, QWEN3)]
    return steps, np.stack(kernels)


def along(say):
    steps, kernels = along_data()
    fig = style.figure(2.6)
    titles = (say("分段", "chunked"), say("交错", "interleaved"))
    names = {"T": say("时间", "time"), "H": say("高", "height"), "W": say("宽", "width")}
    for i, (curves, title) in enumerate(zip(kernels, titles, strict=True)):
        ax = fig.add_axes((0.105 + 0.455 * i, 0.19, 0.4, 0.65))
        for letter, curve in zip("THW", curves, strict=True):
            ax.plot(steps, curve, color=COLOURS[letter])
        ax.set(xlim=(0, 100), ylim=(0.65, 1.01))
        style.ticks(ax.xaxis, {n: str(n) for n in (0, 50, 100)})
        labels = {0.7: "0.7", 0.8: "0.8", 0.9: "0.9", 1: "1"}
        style.ticks(ax.yaxis, labels if i == 0 else dict.fromkeys(labels, ""))
        ax.grid(axis="y")
        ax.set_xlabel(say("沿一条轴的偏移", "offset along one axis"))
        write(ax, 0.5, 1.08, title, transform=ax.transAxes)
        where = ((36, 0.805, "T"), (40, 0.93, "H"), (80, 0.982, "W"))
        if i == 0:
            for x, y, letter in where:
                write(ax, x, y, names[letter], colour=COLOURS[letter])
    fig.set_label(
        say(
            "沿时间、高、宽三条轴的核。分段时，时间降到 0.7 左右，高降到 0.86，"
            "宽始终是 1，是一条水平线；交错时三条曲线都降到 0.85 左右。",
            "Kernel along time, height and width. Chunked, time falls to about 0.7, height to "
            "0.86, and width stays at 1, a level line; interleaved, all three fall to about 0.85.",
        )
    )
    return fig


# What a head can prefer

REACH, LEVELS = 12, np.arange(0.3, 1.0, 0.1)


def directions(n, n_pairs=32, base=100.0):
    """Wave vectors (n_pairs, 2) in some directions, a ladder for each."""
    theta = base ** (-np.arange(n_pairs // n) * n / n_pairs)
    turn = np.pi * np.arange(n) / n
    return np.multiply.outer(theta, np.stack([np.sin(turn), np.cos(turn)], -1)).reshape(-1, 2)


def stripe(n_pairs=32, base=100.0):
    """Wave vectors (n_pairs, 2) in one direction, across the diagonal."""
    return np.multiply.outer(base ** (-np.arange(n_pairs) / n_pairs), [0.5**0.5, -(0.5**0.5)])


def contours_data(steps=49):
    """Offsets along an axis, and kernels (3, n, n): two directions, eight, and one diagonal."""
    offsets = np.linspace(-REACH, REACH, steps)
    plane = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), axis=-1)
    chosen = directions(2), directions(8), stripe()
    return offsets, np.stack([kernel_axes(plane, waves) for waves in chosen])


def contours(say):
    offsets, kernels = contours_data()
    fig = style.figure(2.25)
    titles = (
        say("轴向", "axial"),
        say("八个方向", "eight directions"),
        say("一个方向", "one direction"),
    )
    for i, (values, title) in enumerate(zip(kernels, titles, strict=True)):
        ax = fig.add_axes((0.085 + 0.31 * i, 0.2, 0.28, 0.6))
        alphas = np.linspace(0.1, 0.9, len(LEVELS))
        for level, alpha in zip(LEVELS, np.diff(alphas, prepend=0), strict=True):
            band = {"colors": [C0], "alpha": round(float(alpha), 3)}
            ax.contourf(offsets, offsets, values, [level, 2], **band)
        ax.contour(offsets, offsets, values, LEVELS, colors=[C0], linewidths=0.6)
        ax.set(xlim=(-REACH, REACH), ylim=(REACH, -REACH))
        labels = {n: minus(str(n)) for n in (-10, 0, 10)}
        style.ticks(ax.xaxis, labels)
        style.ticks(ax.yaxis, labels if i == 0 else dict.fromkeys(labels, ""))
        ax.set_xlabel("Δw")
        write(ax, 0.5, 1.1, title, SMALL, transform=ax.transAxes)
    fig.axes[0].set_ylabel("Δh", labelpad=-4)
    fig.set_label(
        say(
            "核随偏移的等高线。轴向：十字形；八个方向：接近圆；只取一个斜方向：沿对角线的条带。",
            "Contours of the kernel over offsets. Axial: a cross. Eight directions: nearly "
            "circles. One oblique direction: a band along the diagonal.",
        )
    )
    return fig


# Positions of text and image

PARTS = [4, (1, 3, 5), 4]


def triplets_data():
    """Positions (n, 3) of four words, an image of 3 × 5 patches, and four words."""
    return multimodal_positions(PARTS)


def triplets(say):
    places = triplets_data()
    fig = style.figure(2.9)
    ax = fig.add_axes((0.085, 0.17, 0.885, 0.64))
    slots = np.arange(len(places))
    ax.axvspan(3.5, 18.5, color=GRID, alpha=0.5, linewidth=0)
    ax.plot(slots, slots, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    for axis, (letter, marker) in enumerate(zip("THW", ("o", "s", "D"), strict=True)):
        ax.plot(
            slots,
            places[:, axis],
            marker,
            color=COLOURS[letter],
            markersize=(7, 5, 3)[axis],
            clip_on=False,
        )
    ax.set(xlim=(-0.5, 22.5), ylim=(-0.5, 14.5))
    style.ticks(ax.xaxis, {n: str(n) for n in (0, 4, 9, 14, 19, 22)})
    style.ticks(ax.yaxis, {n: str(n) for n in (0, 4, 8, 12)})
    ax.grid(axis="y")
    ax.set_xlabel(say("槽位", "slot"), labelpad=2)
    spans = (
        (1.5, say("文本", "text")),
        (11, say("图像，3 × 5 块", "image, 3 × 5 patches")),
        (20.7, say("文本", "text")),
    )
    for x, text in spans:
        write(ax, x, 15.3, text, SMALL)
    write(ax, 12.4, 13.4, say("槽位编号", "numbers of the slots"), SMALL, MUTED, ha="right")
    legend = (
        (2.9, "T", say("● 时间", "● time")),
        (1.65, "H", say("■ 高", "■ height")),
        (0.4, "W", say("◆ 宽", "◆ width")),
    )
    for y, letter, text in legend:
        write(ax, 14.6, y, text, SMALL, COLOURS[letter], ha="left")
    title = say("位置 (t, h, w)", "position (t, h, w)")
    write(ax, -0.09, 1.19, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "四个词、3×5 的图像、四个词的位置。词的三个数相同，逐词加一；图像里时间停在 4，"
            "高每五块加一，宽每行从 4 数到 8；后面的词从 9 接着数，远低于槽位编号 19。",
            "Positions of four words, an image of 3 by 5 patches, and four words. The three "
            "numbers of a word are equal and rise by one; in the image time stays at 4, height "
            "rises every five patches, width runs from 4 to 8 in each row; the next word goes on "
            "at 9, far below its slot, 19.",
        )
    )
    return fig
