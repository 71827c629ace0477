"""Figures of the page on ALiBi.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np

from posenc.equations.alibi import head_slopes, horizon, linear_bias, mass_within
from posenc.equations.relative import offsets
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, INK, SMALL, heat, ticks, write

# Three heads


def heads_data(n=24):
    """Weights (3, n, n) of equal contents under a causal mask, for slopes 1/2, 1/16 and 1/256."""
    e = linear_bias(np.array([2.0**-1, 2.0**-4, 2.0**-8]), offsets(n, n))
    weights = np.exp(np.where(offsets(n, n) > 0, -np.inf, e))
    return weights / weights.sum(axis=-1, keepdims=True)


def heads(say):
    weights = heads_data()
    fig = style.figure(1.85)
    ax = style.canvas(fig)
    cell = 0.0575
    titles = say("斜率", "slope") + " 1/2", "1/16", "1/256"
    for k, title in enumerate(titles):
        x = 0.2 + 1.53 * k
        heat(ax, weights[k], x, 0.12, (cell, cell))
        write(ax, x + 12 * cell, 0.12 + 24 * cell + 0.17, title, SMALL)
    fig.set_label(
        say(
            "三张 24×24 的注意力权重图，只有对角线及其下方。斜率 1/2：只有紧挨对角线的几格是亮的。"
            "1/16：一条宽带，越远越暗。1/256：每行几乎一样亮。",
            "Three maps of 24 by 24 attention weights, on and below the diagonal. Slope 1/2: only "
            "the cells next to the diagonal are bright. 1/16: a wide band that fades with "
            "distance. 1/256: every row is almost even.",
        )
    )
    return fig


# Horizons for three numbers of heads


def horizons_data():
    """Horizons 1 / m for 6, 8 and 12 heads, each with the number of heads of the power of two."""
    return {H: (1 / head_slopes(H), 1 << (H.bit_length() - 1)) for H in (6, 8, 12)}


def horizons(say):
    fig = style.figure(1.75)
    ax = fig.add_axes((0.13, 0.3, 0.83, 0.6))
    for y, (reach, first) in zip((2, 1, 0), horizons_data().values(), strict=True):
        ax.plot([1.2, 300], [y, y], color=GRID, linewidth=0.8, zorder=0)
        ax.plot(reach[:first], [y] * first, "o", color=C0, markersize=6.5)
        ax.plot(reach[first:], [y] * (len(reach) - first), "D", color=C1, markersize=5.5)
    ax.set_xscale("log", base=2)
    ax.set(xlim=(1.2, 300), ylim=(-0.5, 2.5))
    ticks(ax.xaxis, {2.0**k: str(2**k) for k in range(1, 9)})
    names = say(("6 个头", "8 个头", "12 个头"), ("6 heads", "8 heads", "12 heads"))
    ticks(ax.yaxis, dict(zip((2, 1, 0), names, strict=True)))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(say("1/m，以词元计", "1/m, in tokens"))
    fig.set_label(
        say(
            "三行点，横轴是 1/m，取对数。8 个头是 2、4、8 直到 256，间隔相等。"
            "6 个头是 4、16、64、256，另加 2 和 8。12 个头是 8 个头的那些，"
            "另加 1.4、2.8、5.7、11.3。",
            "Three rows of points over 1/m on a logarithmic axis. Eight heads: 2, 4, 8 up to 256, "
            "evenly spaced. Six: 4, 16, 64, 256, and 2 and 8 besides. Twelve: those of eight, and "
            "1.4, 2.8, 5.7, 11.3 besides.",
        )
    )
    return fig


# Share of the mass


def mass_data():
    """Numbers of tokens (n,), shares (8, n) of eight heads, and where each reaches 99 %."""
    L = np.unique(np.round(2 ** np.linspace(0, 11.2, 160)).astype(int))
    return L, mass_within(head_slopes(8)[:, None], L), horizon(head_slopes(8))


def mass(say):
    L, share, ends = mass_data()
    fig = style.figure(2.7)
    ax = fig.add_axes((0.13, 0.19, 0.83, 0.74))
    ax.axhline(0.99, color=GRID, linewidth=0.9)
    for head, (line, end) in enumerate(zip(share, ends, strict=True)):
        ax.plot(L, line, color=C0, alpha=round(1 - 0.085 * head, 3), linewidth=1.6)
        ax.plot(end, 0.99, "o", color=C1, markersize=5)
    ax.set_xscale("log", base=2)
    ax.set(xlim=(1, 2300), ylim=(0, 1.07))
    ticks(ax.xaxis, {2.0**k: str(2**k) for k in (0, 2, 4, 6, 8, 10)})
    ticks(ax.yaxis, {0: "0", 0.5: "0.5", 0.99: "0.99"})
    ax.set_xlabel(say("最后多少个词元", "number of last tokens"))
    ax.set_ylabel(say("所占的份额", "share"))
    ax.yaxis.set_label_coords(-0.1, 0.5)
    write(ax, 1.12, 0.84, "m = 1/2", SMALL, C0, ha="left")
    write(ax, 300, 0.42, "m = 1/256", SMALL, C0, ha="left")
    fig.set_label(
        say(
            "八条上升的曲线，横轴是最后多少个词元，取对数，形状相同，依次右移一格。"
            "各自在 10、19、37、74、148、295、590、1179 处到达 99%。",
            "Eight rising curves over the number of last tokens on a logarithmic axis, of one "
            "shape, each one step further right. They reach 99 % at 10, 19, 37, 74, 148, 295, 590 "
            "and 1179.",
        )
    )
    return fig


# The same loss, another recall


def recall_data(slope=2.0**-8, lead=12.0, rate=1e-3, flip=0.1, gain=10.0):
    """Lengths, and loss and recall there of two models, one without and one with a lead.

    A text is a chain of bits that flips with a chance of 0.1 at each step; both models predict the
    next bit from the last, as well as can be. Once in a thousand tokens the first bit of the text
    is asked for. A head of the given slope looks for it: its value is the bit where it stands and 0
    elsewhere, and the logit of the answer is `gain` times the output. Only the second model's query
    gives that key a lead over the others.

    The loss is the mean over all tokens of a text, in nats; the recall is the chance of the right
    answer at its end.
    """
    lengths = 2 ** np.arange(7, 14)
    D = np.arange(lengths[-1])
    kept = -np.log1p(-flip) * (1 - flip) - np.log(flip) * flip
    losses, recalls = [], []
    for g in (0.0, lead):
        crowd = np.expm1(-slope * D) / np.expm1(-slope)  # the keys after the first
        weight = 1 / (1 + crowd * np.exp(slope * D - g))
        right = 1 / (1 + np.exp(-gain * weight))
        loss = (1 - rate) * kept - rate * np.log(right)
        losses.append(np.cumsum(loss)[lengths - 1] / lengths)
        recalls.append(right[lengths - 1])
    return lengths, np.array(losses), np.array(recalls)


def recall(say):
    lengths, losses, recalls = recall_data()
    fig = style.figure(2.6)
    titles = (
        say("全文的损失（奈特）", "loss of the text (nats)"),
        say("答对的概率", "chance to recall"),
    )
    for k, (data, title) in enumerate(zip((losses, recalls), titles, strict=True)):
        ax = fig.add_axes((0.09 + 0.49 * k, 0.19, 0.4, 0.68))
        ax.plot(lengths, data[0], color=C1, linewidth=3.4 if not k else 1.8, alpha=0.75)
        ax.plot(lengths, data[1], color=C0)
        ax.set_xscale("log", base=2)
        ticks(ax.xaxis, {2.0**e: str(2**e) for e in (7, 9, 11, 13)})
        ax.set_title(title)
        ax.set_xlabel(say("词元数", "tokens"))
        if k:
            ax.set_ylim(0.4, 1.05)
            ticks(ax.yaxis, {0.5: "0.5", 1: "1"})
            write(ax, 150, 0.93, say("有领先", "with a lead"), SMALL, C0, ha="left")
            write(ax, 150, 0.56, say("没有", "without"), SMALL, C1, ha="left")
        else:
            ax.set_ylim(0, 0.5)
            ticks(ax.yaxis, {0: "0", 0.3: "0.3"})
    fig.set_label(
        say(
            "左：两个模型的损失都在 0.325 附近，从 128 到 8192 个词元都是水平线，叠在一起。"
            "右：没有领先的模型总是 0.5；有领先的在 1024 个词元以内是 1，到 4096 落到 0.5。",
            "Left: the loss of both models is near 0.325, level from 128 to 8192 tokens, one line "
            "on the other. Right: without a lead always 0.5; with a lead 1 up to 1024 tokens, and "
            "down to 0.5 at 4096.",
        )
    )
    return fig


# The row form in bfloat16


def bfloat16(x):
    """Round to the nearest number with eight bits, to even where two are as near."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(fraction * 256), exponent - 8)


def rounding_data(slope=0.5, last=64):
    """Bias of the last 64 keys in bfloat16, the last at 0: by distance, and as two rows.

    Distances, bias by distance, as a row over 2048 keys, as a row over 8192; (64,) each.
    """
    d = np.arange(last)
    rows = [bfloat16(slope * (n - 1 - d)) for n in (2048, 8192)]
    return d, -bfloat16(slope * d), *(row - row[0] for row in rows)


def rounding(say):
    d, exact, *rows = rounding_data()
    fig = style.figure(2.7)
    ax = fig.add_axes((0.15, 0.19, 0.81, 0.74))
    ax.plot(d, exact, color=INK, linewidth=1.2)
    for row, colour in zip(rows, (C2, C1), strict=True):
        ax.step(d, row, where="mid", color=colour, linewidth=1.6)
    ax.set(xlim=(63.5, -0.5), ylim=(-36, 3))
    ticks(ax.xaxis, {v: str(v) for v in (0, 16, 32, 48, 63)})
    ticks(ax.yaxis, {v: style.minus(str(v)) for v in (0, -16, -32)})
    ax.set_xlabel(say("距离 i − j", "distance i − j"))
    ax.set_ylabel(say("偏置", "bias"))
    ax.yaxis.set_label_coords(-0.12, 0.5)
    write(ax, 8, -11.5, say("按距离", "by distance"), SMALL, INK)
    write(ax, 22, -19.5, say("行，2048 个键", "row, 2048 keys"), SMALL, C2, ha="left")
    write(ax, 42, 0.2, say("行，8192 个键", "row, 8192 keys"), SMALL, C1)
    fig.set_label(
        say(
            "斜率 1/2，最后 64 个键的偏置，以最后一个为 0。按距离算是一条直线；"
            "2048 个键的行是小台阶，8192 个键的行只剩三级。",
            "Slope 1/2, the bias of the last 64 keys, the last at 0. By distance it is a straight "
            "line; the row over 2048 keys has small stairs, that over 8192 keys has only three.",
        )
    )
    return fig
