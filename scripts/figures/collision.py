"""Figures of the page on word plus position: one vector for two things.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import functools

import numpy as np
from matplotlib.patches import Circle, Rectangle

from posenc.equations.collision import add_positions, decode, gaps, round_to
from posenc.equations.sinusoidal import frequencies, sinusoidal
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, GRID, INK, MUTED, SMALL, heat, write


def _names(say):
    """The words of the sentence of the first page."""
    return say("猫", "cat"), say("抓", "chases"), say("老鼠", "mouse")


# Every position carries the same constellation of words

SMALLER = 0.3


def constellations_data():
    """Positions (4, 2) and two sets of words (2, 3, 2), of which the larger one collides.

    The large cat at position 1 is the large mouse at position 2; the small words are parallel.
    """
    positions = sinusoidal(np.arange(4), 2)
    x, y = (positions[2] - positions[1]) / 2
    words = np.array([[x + 0.1, y], [-0.5, 0.16], [0.1 - x, -y]])
    return positions, np.stack([SMALLER * words, words])


def constellations(say):
    positions, sizes = constellations_data()
    fig = style.figure(3.05)
    titles = (
        say("词向量短：互不相碰", "short words: apart"),
        say("词向量长：会碰撞", "long words: a collision"),
    )
    for i, (words, title) in enumerate(zip(sizes, titles, strict=True)):
        ax = fig.add_axes((0.01 + 0.5 * i, 0.12, 0.48, 0.48 * 4.8 / 3.05))
        ax.set(xlim=(-1.3, 2.3), ylim=(-1.85, 1.75), xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GRID)
        write(ax, 0.5, 1.95, title)
        _constellations(ax, positions, words)
    ax, (x, y) = fig.axes[1], positions[1] + sizes[1, 0]
    ax.add_patch(Circle((x, y), 0.13, fill=False, edgecolor=INK, linewidth=1.2))
    ax.plot((x + 0.1, 1.6), (y + 0.09, 1.2), color=INK, linewidth=0.8)
    clash = say("1 处的猫 =", "cat at 1 ="), say("2 处的老鼠", "mouse at 2")
    for i, line in enumerate(clash):
        write(ax, 2.2, 1.54 - 0.23 * i, line, SMALL, ha="right")
    key = style.canvas(fig)
    for x, name, colour in zip((0.3, 1.2, 2.3), _names(say), (C0, C2, C1), strict=True):
        key.plot(x, 0.17, "o", color=colour, markersize=5)
        write(key, x + 0.13, 0.17, name, SMALL, colour, ha="left")
    key.plot(3.25, 0.17, "+", color=MUTED, markersize=7)
    write(key, 3.38, 0.17, say("位置 0 到 3", "positions 0 to 3"), SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "平面上的四个位置，每个位置周围有三个词。词向量短时各圆不相交；长时圆相交，两个和重合。",
            "Four positions in a plane, three words around each. With short words the circles are "
            "apart; with long ones they overlap, and two of the sums coincide.",
        )
    )
    return fig


def _constellations(ax, positions, words):
    """Draw every sum, with the circle around each position that holds all of its words."""
    radius = np.linalg.norm(words, axis=-1).max()
    for k, centre in enumerate(positions):
        ax.add_patch(Circle(centre, radius, fill=False, edgecolor=GRID, linewidth=1))
        ax.plot(*centre, "+", color=MUTED, markersize=7)
        write(ax, centre[0] + 0.27, centre[1] + 0.02, str(k), SMALL, MUTED)
        for word, colour in zip(words, (C0, C2, C1), strict=True):
            ax.plot(*np.transpose([centre, centre + word]), color=colour, linewidth=0.7)
            ax.plot(*(centre + word), "o", color=colour, markersize=4.5)


# Addition as concatenation with a one-hot row


def projection_data():
    """Row [x | 1₂] (7,), matrix W (7, 3) of small integers, and the two parts of their product."""
    rng = np.random.default_rng(3)
    matrix = rng.integers(-2, 3, size=(7, 3))
    row = np.array([2, -1, 1, 0, 0, 1, 0])
    return row, matrix, np.stack([row[:3] @ matrix[:3], row[3:] @ matrix[3:]])


def projection(say):
    row, matrix, parts = projection_data()
    cell, limit = (0.36, 0.3), 6
    fig = style.figure(2.85)
    ax = style.canvas(fig)
    left, top = 0.12, 2.0
    heat(ax, row[:3], left, top, cell, ".0f", limit)
    heat(ax, row[3:], left + 3 * cell[0], top, cell, ".0f", limit)
    _brace(ax, left, left + 3 * cell[0], top + 0.36, say("词 x", "word x"), C0)
    where = say("one-hot，位置 2", "one-hot, position 2")
    _brace(ax, left + 3 * cell[0] + 0.04, left + 7 * cell[0], top + 0.36, where, C1)
    write(ax, left + 7 * cell[0] + 0.16, top + 0.15, "×", 12)
    x, y = left + 7 * cell[0] + 0.42, 0.2
    heat(ax, matrix[3:], x, y, cell, ".0f", limit)
    heat(ax, matrix[:3], x, y + 4 * cell[1], cell, ".0f", limit)
    beside = x + 3 * cell[0] + 0.08
    write(ax, beside, y + 5.5 * cell[1], "Wₓ", colour=C0, ha="left")
    write(ax, beside, y + 1.5 * cell[1], say("第 2 行", "row 2"), SMALL, C1, ha="left")
    write(ax, beside, y + 2.5 * cell[1], "Wₚ", colour=C1, ha="left")
    frame = {"fill": False, "edgecolor": C1, "linewidth": 2}
    ax.add_patch(Rectangle((x, y + cell[1]), 3 * cell[0], cell[1], **frame))
    ax.add_patch(Rectangle((left + 5 * cell[0], top), *cell, **frame))
    lines = (
        ("x Wₓ", parts[0], C0),
        (say("+ 第 2 行", "+ row 2"), parts[1], C1),
        (say("= 和", "= sum"), parts.sum(axis=0), INK),
    )
    for i, (label, numbers, colour) in enumerate(lines):
        y = 1.1 - 0.45 * i
        write(ax, 0.95, y + 0.15, label, SMALL, colour, ha="right")
        heat(ax, numbers, 1.05, y, cell, ".0f", limit)
    fig.set_label(
        say(
            "一行七个数：词 x 的三个数，接上位置 2 的 one-hot。乘以叠成七行的 W，"
            "one-hot 正好取出位置表的第 2 行，与 x 的投影相加。",
            "A row of seven numbers, three of the word x and the one-hot of position 2, times W "
            "of seven rows: the one-hot picks row 2 of the position table, which is added to the "
            "projection of x.",
        )
    )
    return fig


def _brace(ax, left, right, y, text, colour):
    ax.plot((left + 0.02, right - 0.02), (y, y), color=colour, linewidth=1.2)
    write(ax, (left + right) / 2, y + 0.15, text, SMALL, colour)


# Token + segment + position

SENTENCE = (0, 1, 2, 3, 4, 3, 5, 4)  # [CLS] cat chases mouse [SEP] mouse runs [SEP]


def stack_data():
    """Token, segment and position vectors and their sums (4, 8, 2), in tenths."""
    rng = np.random.default_rng(5)
    words, segments = rng.normal(size=(6, 2)), rng.normal(size=(2, 2))
    places = 0.7 * rng.normal(size=(8, 2))
    parts = np.stack([words[list(SENTENCE)], segments[[0] * 5 + [1] * 3], places]).round(1)
    return np.concatenate([parts, parts.sum(axis=0, keepdims=True)])


def stack(say):
    cat, chases, mouse = _names(say)
    vocabulary = "[CLS]", cat, chases, mouse, "[SEP]", say("跑", "runs")
    titles = (
        (say("词元", "token"), C0, say("可学习", "learned")),
        (say("句段", "segment"), C2, say("可学习", "learned")),
        (say("位置", "position"), C1, say("可学习", "learned")),
        (say("和", "sum"), INK, say("模型的输入", "model input")),
    )
    cell = (0.43, 0.29)
    fig = style.figure(3.55)
    ax = style.canvas(fig)
    for i, (matrix, (title, colour, how)) in enumerate(zip(stack_data(), titles, strict=True)):
        x = 0.83 + 1.01 * i
        heat(ax, matrix, x, 0.5, cell, ".1f", 2.6)
        write(ax, x + cell[0], 3.34, title, colour=colour)
        write(ax, x + cell[0], 3.06, how, SMALL, MUTED)
        write(ax, x - 0.08, 0.5 + 4 * cell[1], (" ", "+", "+", "=")[i], 11, ha="center")
    for row, word in enumerate(SENTENCE):
        y = 0.5 + (7.5 - row) * cell[1]
        write(ax, 0.12, y, str(row), SMALL, C1)
        write(ax, 0.75, y, vocabulary[word], SMALL, MUTED, ha="right")
    ax.plot(
        (0.1, 4.72), (0.5 + 3 * cell[1],) * 2, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3))
    )
    note = say(
        "左边的数是位置；虚线以上是句段 A，以下是句段 B",
        "numbers on the left: positions; segment A above the line, B below",
    )
    write(ax, 0.1, 0.2, note, SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "BERT 式的输入：八个词元各有词元向量、句段向量和位置向量，三者相加。"
            "“老鼠”出现两次，词元向量相同，和却不同。",
            "Input in the manner of BERT: for each of eight tokens a token, a segment and a "
            "position vector, which are added. The mouse occurs twice, with one token vector and "
            "two different sums.",
        )
    )
    return fig


# Who speaks louder

D = 512
CONVENTIONS = (  # name, standard deviation of one entry of the word vector
    ("bert", 0.02),
    ("unscaled", D**-0.5),
    ("original", 1.0),
    ("doubled", D**0.5),
)


@functools.cache
def share_data(words=400, places=64):
    """Curve (3, n) of σ, share and cosine by formula; measured (4, 3) for the conventions."""
    sigma = np.geomspace(0.008, 60, 81)
    share = 1 / (1 + 2 * sigma**2)
    p = sinusoidal(np.arange(places), D)
    rng = np.random.default_rng(0)
    measured = []
    for _, std in CONVENTIONS:
        e = std * rng.normal(size=(words, D))
        energy = (e**2).sum(axis=-1).mean(), (p**2).sum(axis=-1).mean()
        x = e[:, None] + p
        lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(e, axis=-1)[:, None]
        cosine = ((x @ e[..., None])[..., 0] / lengths).mean()
        measured.append((std, energy[1] / sum(energy), cosine))
    return np.stack([sigma, share, np.sqrt(1 - share)]), np.array(measured)


def share(say):
    (sigma, energy, cosine), measured = share_data()
    fig = style.figure(3.4)
    ax = fig.add_axes((0.1, 0.15, 0.87, 0.7))
    ax.semilogx(sigma, energy, color=C1)
    ax.semilogx(sigma, cosine, color=C0)
    ax.plot(measured[:, 0], measured[:, 1], "o", color=C1, markersize=5, clip_on=False)
    ax.plot(measured[:, 0], measured[:, 2], "o", color=C0, markersize=5, clip_on=False)
    ax.set(xlim=(sigma[0], sigma[-1]), ylim=(0, 1.02))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10"})
    style.ticks(ax.yaxis, {i / 4: f"{i / 4:g}" for i in range(5)})
    ax.set_xlabel(
        say("词向量每个分量的标准差 σ", "standard deviation σ of a word vector's entries")
    )
    labels = "N(0, 0.02²)", "N(0, 1/d)", "N(0, 1/d) · √d", "N(0, 1) · √d"
    for (std, *_), label, beside in zip(measured, labels, (0.86, 0.86, 1.17, 0.86), strict=True):
        ax.plot((std, std), (0, 1), color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        write(ax, std * beside, 0.55, label, SMALL, MUTED, rotation=90)
    text = say("位置的能量占比", "share of energy of the position")
    write(ax, 0.0085, 1.08, text, colour=C1, ha="left")
    text = say("和与词的夹角余弦", "cosine of sum and word")
    write(ax, 58, 1.08, text, colour=C0, ha="right")
    fig.set_label(
        say(
            "词向量的标准差越大，位置占的能量越小，和与词的方向越接近。四种约定从 99.9% 到 0.1%。",
            "The larger the standard deviation of the words, the smaller the position's share of "
            "energy, and the closer the sum is to the word. Four conventions are marked.",
        )
    )
    return fig


# When they cannot collide


@functools.cache
def bound_data(words=1000, places=512):
    """Widths; smallest and largest distance of positions (2, n), and of words N(0, 1)."""
    widths = 2 ** np.arange(3, 12)
    offsets = np.arange(1, places)
    rng = np.random.default_rng(0)
    position_gaps, word_gaps = [], []
    for d in widths:
        squares = 2 * (1 - np.cos(np.outer(offsets, frequencies(d)))).sum(axis=1)
        position_gaps.append((squares.min(), squares.max()))
        e = rng.normal(size=(words, d))
        lengths = (e**2).sum(axis=1)
        pairs = np.triu_indices(words, 1)
        squares = (lengths[:, None] + lengths - 2 * e @ e.T)[pairs]
        word_gaps.append((squares.min(), squares.max()))
    return widths, np.sqrt(position_gaps).T, np.sqrt(word_gaps).T


def bound(say):
    widths, position_gaps, word_gaps = bound_data()
    fig = style.figure(3.6)
    ax = fig.add_axes((0.11, 0.15, 0.84, 0.68))
    bands = (
        (position_gaps, C1, "", 0),
        (word_gaps, C0, "N(0, 1)", 0.36),
        (word_gaps / np.sqrt(widths), C2, "N(0, 1/d)", 0.56),
        (0.02 * word_gaps, C3, "N(0, 0.02²)", 0.78),
    )
    above = {"transform": ax.transAxes, "ha": "left"}
    for (low, high), colour, label, x in bands:
        ax.fill_between(widths, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.loglog(widths, low, color=colour, linewidth=1.4)
        ax.loglog(widths, high, color=colour, linewidth=1.4)
        write(ax, x, 1.06, label, colour=colour, **above)
    ax.set(xlim=(8, 2048), ylim=(0.01, 110))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {d: str(d) for d in widths[::2]})
    style.ticks(ax.yaxis, {0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10", 100: "100"})
    ax.set_xlabel(say("宽度 d", "width d"))
    title = say("两个位置的距离：从最小到最大", "distances of two positions, smallest to largest")
    write(ax, -0.1, 1.17, title, colour=C1, **above)
    title = say("两个词的距离：", "of two words, drawn from")
    write(ax, -0.1, 1.06, title, **above)
    fig.set_label(
        say(
            "双对数图上的四条带：位置间的距离，以及三种约定下词间的距离。带不相交就不可能碰撞。"
            "标准差 0.02 的词始终在位置之下；标准差为 1 的词在宽度大时升到位置之上。",
            "Four bands on a log-log plot: distances of positions, and of words by three "
            "conventions. Where bands do not meet, no collision is possible. Words of standard "
            "deviation 0.02 stay below the positions; words of standard deviation 1 rise above "
            "them as the width grows.",
        )
    )
    return fig


# How near two sums come

FORMATS = "float32", "bfloat16", "float8_e4m3"


@functools.cache
def near_data(words=90, places=24):
    """Widths; nearest sums of two words by format (3, n); nearest positions; typical distance."""
    widths = 2 ** np.arange(1, 10)
    rng = np.random.default_rng(0)
    nearest, same_word = [], []
    for d in widths:
        positions = sinusoidal(np.arange(places), d)
        sums = add_positions(rng.normal(size=(words, d)), positions)
        nearest.append([_nearest(round_to(sums, name)) for name in FORMATS])
        same_word.append(gaps(positions)[0])
    return widths, np.transpose(nearest), np.array(same_word), np.sqrt(2 * widths)


def _nearest(sums):
    """Smallest distance of sums (V, N, d) of two words at two positions."""
    words, places, d = sums.shape
    lengths, place = (sums**2).sum(axis=-1), np.arange(places)
    least = []
    for a in range(words - 1):
        products = sums[a] @ sums[a + 1 :].reshape(-1, d).T
        squares = lengths[a][:, None, None] - 2 * products.reshape(places, -1, places)
        squares += lengths[a + 1 :]
        squares[place, :, place] = np.inf
        least.append(squares.min())
    return np.sqrt(max(min(least), 0))


def near(say):
    widths, nearest, same_word, typical = near_data()
    fig = style.figure(3.9)
    ax = fig.add_axes((0.12, 0.13, 0.85, 0.72))
    floor = 3e-4
    ax.loglog(widths, typical, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
    ax.loglog(widths, same_word, color=C3, linewidth=1.4)
    for line, colour, size in zip(nearest, (C0, C1, C2), (8, 5.5, 3), strict=True):
        apart = line > 0
        ax.loglog(widths[apart], line[apart], color=colour, marker="o", markersize=size)
        ax.plot(
            widths[~apart], np.full((~apart).sum(), floor), "X", color=colour, markersize=size + 1
        )
    ax.set(xlim=(1.8, 600), ylim=(1.6e-4, 70))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {d: str(d) for d in widths[::2]})
    style.ticks(ax.yaxis, {floor: "0"} | {10.0**e: f"{10.0**e:g}" for e in range(-3, 2)})
    ax.set_xlabel(say("宽度 d", "width d"))
    title = say("最近的两个和相距多远", "distance of the nearest two sums")
    write(ax, -0.12, 1.14, title, transform=ax.transAxes, ha="left")
    names = zip((0.02, 0.3, 0.62), ("float32", "bfloat16", "float8"), (C0, C1, C2), strict=True)
    for x, name, colour in names:
        write(ax, x, 1.05, "● " + name, SMALL, colour, transform=ax.transAxes, ha="left")
    write(ax, 2.2, 8, say("两个词的典型距离", "typical, two words"), SMALL, MUTED, ha="left")
    write(ax, 90, 0.62, say("同一个词，相邻位置", "one word, neighbouring positions"), SMALL, C3)
    write(ax, 48, 4.1, say("两个词", "two words"), SMALL, ha="left")
    write(ax, 2.5, floor, say("碰撞", "collision"), SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "双对数图：最近的两个和的距离随宽度增大。宽度很小时，bfloat16 和 float8 下距离为零；"
            "宽度 8 起三种格式的线重合。",
            "Log-log plot: the distance of the nearest two sums grows with the width. At very "
            "small widths it is zero in bfloat16 and float8; from width 8 on the lines of the "
            "three formats coincide.",
        )
    )
    return fig


# Reading word and place back

NOISES = np.linspace(0, 3, 13)
WIDTHS = 16, 64, 256
WORDS, PLACES = 200, 64


@functools.cache
def read_back_data(trials=200):
    """Share of right words and places (2, 3, 13) by width and noise."""
    shares = np.empty((2, len(WIDTHS), len(NOISES)))
    for i, d in enumerate(WIDTHS):
        rng = np.random.default_rng(d)
        tokens, positions = rng.normal(size=(WORDS, d)), sinusoidal(np.arange(PLACES), d)
        a, k = rng.integers(WORDS, size=trials), rng.integers(PLACES, size=trials)
        x, noise = tokens[a] + positions[k], rng.normal(size=(trials, d))
        for j, sigma in enumerate(NOISES):
            found = decode(x + sigma * noise, tokens, positions)
            shares[:, i, j] = np.mean(np.equal(found, (a, k)), axis=1)
    return shares


def read_back(say):
    shares = read_back_data()
    fig = style.figure(2.85)
    titles = say("读对词的比例", "right word"), say("读对位置的比例", "right position")
    labels = ((1.3, 0.52), (1.5, 0.72), (2.15, 0.94)), ((1.02, 0.2), (1.22, 0.46), (1.75, 0.72))
    for i, (panel, title) in enumerate(zip(shares, titles, strict=True)):
        ax = fig.add_axes((0.08 + 0.5 * i, 0.17, 0.41, 0.68))
        ax.axhline((1 / WORDS, 1 / PLACES)[i], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        for line, colour, at, d in zip(panel, (C2, C0, C1), labels[i], WIDTHS, strict=True):
            ax.plot(NOISES, line, color=colour, clip_on=False)
            write(ax, *at, f"d = {d}", SMALL, colour, ha="left")
        ax.set(xlim=(0, NOISES[-1]), ylim=(0, 1.02))
        ax.grid(axis="y")
        style.ticks(ax.xaxis, {k: str(k) for k in range(4)})
        style.ticks(ax.yaxis, {k / 4: f"{k / 4:g}" for k in range(5)})
        ax.set_xlabel(say("噪声 σ", "noise σ"))
        write(ax, 0, 1.13, title, ha="left")
    fig.set_label(
        say(
            "两幅图：噪声越大，读对的比例越低；宽度越大，越经得起噪声。词比位置好读得多。",
            "Two panels: the more noise, the fewer are read rightly; the wider the vectors, the "
            "more noise they bear. Words are far easier to read than positions.",
        )
    )
    return fig
