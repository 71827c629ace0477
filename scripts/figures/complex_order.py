"""Figures of the page on complex-order.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Circle

from posenc.equations.complex_order import complex_order, geometric, real_product
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, MUTED, SMALL, arrow, heat, write

# One dimension of three words

WORDS = (  # name in both languages, amplitude, frequency, phase
    (("的", "the"), 0.45, 0.0, 0.5),
    (("不", "not"), 0.8, 0.35, -0.4),
    (("猫", "cat"), 1.0, 1.0, 0.2),
)
N_CLOCKS = 6


def clocks_data():
    """One dimension of three words at positions 0 to 5: complex numbers (3, 6)."""
    r, omega, theta = np.array([numbers for _, *numbers in WORDS]).T[..., None, None]
    return complex_order(np.arange(N_CLOCKS), r, omega, theta)[..., 0]


def clocks(say):
    fig = style.figure(2.35)
    ax = style.canvas(fig)
    radius = 0.62
    for i, (numbers, word, colour) in enumerate(
        zip(clocks_data(), WORDS, (C0, C1, C2), strict=True)
    ):
        x, y = 0.82 + 1.58 * i, 0.98
        for line in ((x - 0.72, y, x + 0.72, y), (x, y - 0.72, x, y + 0.72)):
            ax.plot(line[::2], line[1::2], color=GRID, linewidth=0.8)
        size = radius * abs(numbers[0])
        ax.add_patch(Circle((x, y), size, fill=False, edgecolor=MUTED, linewidth=0.8))
        for k, z in enumerate(numbers):
            tip = x + radius * z.real, y + radius * z.imag
            ax.plot(*tip, "o", color=colour, markersize=5)
            if word[2] or k == 0:
                label = str(k) if word[2] else f"0 … {N_CLOCKS - 1}"
                out = 0.13 if word[2] else 0.2
                at = tip[0] + out * z.real / abs(z), tip[1] + out * z.imag / abs(z)
                write(ax, *at, label, SMALL, MUTED)
        arrow(ax, (x, y), (x + radius * numbers[0].real, y + radius * numbers[0].imag), colour)
        write(ax, x, 2.18, say(f"“{word[0][0]}”", f"“{word[0][1]}”"), colour=colour)
        write(ax, x, 1.93, f"r = {word[1]}", SMALL, MUTED)
        write(ax, x, 0.1, f"ω = {word[2]:g}", SMALL, MUTED)
    fig.set_label(
        say(
            "三个词在同一维上的复数，位置 0 到 5。频率为 0 的词停在原处；"
            "另外两个词在半径等于振幅的圆上等步前进，频率大的走得快。",
            "One dimension of three words at the positions 0 to 5. The word of frequency 0 stays; "
            "the other two move in equal steps on a circle whose radius is the amplitude, the one "
            "of higher frequency faster.",
        )
    )
    return fig


# Which sequences a constant factor moves

N_STEPS = 40


def steps_data():
    """Factors g(k+1) / g(k), complex (3, 39): an exponential, a square phase, two exponentials."""
    k = np.arange(N_STEPS)
    kinds = np.exp(0.3j * k), np.exp(1j * k**2 / 40), np.exp(0.3j * k) + 0.6 * np.exp(0.8j * k)
    return np.array([g[1:] / g[:-1] for g in kinds])


def _plane(fig, box, reach):
    """Axes of the complex plane, with the unit circle."""
    ax = fig.add_axes(box)
    ax.axis("off")
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    for line in (((-reach, reach), (0, 0)), ((0, 0), (-reach, reach))):
        ax.plot(*line, color=GRID, linewidth=0.8)
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=MUTED, linewidth=0.8))
    return ax


def steps(say):
    fig = style.figure(2.1)
    formulas = (
        say("一个指数", "one exponential"),
        say("相位 k²/40", "phase k²/40"),
        say("两个指数之和", "sum of two exponentials"),
    )
    verdicts = (
        say("一个因子", "one factor"),
        say("因子随 k 转", "it turns with k"),
        say("因子随 k 摆动", "it swings with k"),
    )
    rows = zip(steps_data(), formulas, verdicts, (C0, C1, C2), strict=True)
    for i, (ratios, formula, verdict, colour) in enumerate(rows):
        ax = _plane(fig, (0.01 + 0.33 * i, 0.12, 0.32, 0.7), 1.75)
        ax.plot(ratios.real, ratios.imag, color=colour, linewidth=0.8)
        ax.plot(ratios.real, ratios.imag, "o", color=colour, markersize=4)
        write(ax, 0.5, 1.13, formula, SMALL, transform=ax.transAxes)
        write(ax, 0.5, -0.08, verdict, SMALL, colour, transform=ax.transAxes)
    fig.set_label(
        say(
            "复平面上的 39 个因子 g(k+1)/g(k)。指数函数只有一个点；相位随平方增长时，"
            "因子沿单位圆移动；两个指数之和，因子沿一条曲线摆动。",
            "The 39 factors g(k+1)/g(k) in the complex plane. An exponential has one point; with "
            "a phase that grows like a square the factor moves along the unit circle; for a sum "
            "of two exponentials it swings along a curve.",
        )
    )
    return fig


# The size of the factor

MODULI, N_SPIRAL = (0.93, 1.0, 1.07), 25


def spirals_data():
    """Sequences (3, 25) of the three moduli, all from 1 and with the same angle."""
    return np.array([geometric(1, modulus * np.exp(0.5j), N_SPIRAL) for modulus in MODULI])


def spirals(say):
    sequences = spirals_data()
    fig = style.figure(2.35)
    reaches = 1.5, 1.5, 5.5
    verdicts = (
        say("有界，但渐渐消失", "bounded, fading"),
        say("有界，长度不变", "bounded, constant"),
        say("无界", "unbounded"),
    )
    rows = zip(sequences, MODULI, reaches, verdicts, (C2, C0, C1), strict=True)
    for i, (g, modulus, reach, verdict, colour) in enumerate(rows):
        ax = _plane(fig, (0.01 + 0.33 * i, 0.14, 0.32, 0.68), reach)
        ax.plot(g.real, g.imag, color=colour, linewidth=0.8)
        ax.plot(g.real, g.imag, "o", color=colour, markersize=4)
        write(ax, 0.5, 1.12, f"|z₁| = {modulus}", SMALL, transform=ax.transAxes)
        write(ax, 0.5, -0.1, verdict, SMALL, colour, transform=ax.transAxes)
    fig.set_label(
        say(
            "z₁ 的模是 0.93、1、1.07 时的序列，都从 1 出发，每步转 0.5 弧度：向内的螺线、圆、"
            "向外的螺线。细圆是单位圆，右图的尺度较小。",
            "The sequence for a factor of modulus 0.93, 1 and 1.07, from 1 on, 0.5 radians a step: "
            "a spiral inwards, a circle, a spiral outwards. The thin circle is the unit circle; "
            "the right panel has a smaller scale.",
        )
    )
    return fig


# Two words at all pairs of positions

N_PAIRS, N_DIMENSIONS = 20, 8


def pairs_data():
    """Cosine similarity (2, 20, 20) of two words at all positions: shared and own frequencies."""
    rng = np.random.default_rng(3)
    shape = 2, N_DIMENSIONS
    r, theta = rng.uniform(0.5, 1.5, shape), rng.uniform(-0.4, 0.4, shape)
    own = np.geomspace(1, 0.05, N_DIMENSIONS) * np.array([[1.0], [0.45]])
    k = np.arange(N_PAIRS)
    tables = []
    for omega in (own[[0, 0]], own):
        first, second = (complex_order(k, r[j], omega[j], theta[j]) for j in (0, 1))
        tables.append(real_product(first[:, None], second) / np.prod(np.linalg.norm(r, axis=1)))
    return np.array(tables)


def pairs(say):
    tables, cell = pairs_data(), 0.105
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    headings = (
        say("频率由所有词共用", "frequencies shared by all words"),
        say("每个词有自己的频率", "each word has its own"),
    )
    for i, (values, heading) in enumerate(zip(tables, headings, strict=True)):
        x, y, side = 0.22 + 2.38 * i, 0.28, N_PAIRS * cell
        heat(ax, values, x, y, (cell, cell), limit=1)
        write(ax, x + side / 2, y + side + 0.18, heading, SMALL)
        write(ax, x + side / 2, y - 0.14, "k′", SMALL, MUTED)
        write(ax, x - 0.11, y + side / 2, "k", SMALL, MUTED)
    fig.set_label(
        say(
            "两个词在各对位置上的余弦相似度，位置都是 0 到 19。频率共用时，每条对角线上的数相同；"
            "频率各有各的，花纹就不沿对角线了。",
            "Cosine similarity of two words at all pairs of positions from 0 to 19. With shared "
            "frequencies every diagonal holds one number; with frequencies of their own the "
            "pattern leaves the diagonals.",
        )
    )
    return fig
