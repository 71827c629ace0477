"""Figures of the page on attention: what it can and cannot know about order.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import itertools

import numpy as np
from matplotlib.patches import Rectangle

from posenc.equations.attention import (
    attention,
    attention_weights,
    bos_weight,
    causal_mask,
    mixed_difference,
    second_order_terms,
)
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, C4, INK, MUTED, SMALL, arrow, heat, write

ORDERS = np.array([[0, 1, 2], [2, 1, 0]])  # cat chases mouse, mouse chases cat


def circles(n, pairs):
    """Position vectors for the figures: each pair of numbers is a point on the unit circle."""
    angles = np.multiply.outer(np.arange(n), 4.0 ** -np.arange(pairs))
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(n, -1)


def words(order, say):
    """The words of a sentence, one label each."""
    labels = (say("猫", "cat"), say("抓", "chases"), say("老鼠", "mouse"))
    return [labels[word] for word in order]


def _labelled_heat(ax, matrix, x, y, cell, rows, numbers=".2f", limit=None):
    """Draw a matrix of numbers with its row labels; return its upper right corner."""
    heat(ax, matrix, x, y, cell, numbers, limit)
    for i, label in enumerate(reversed(rows)):
        write(ax, x - 0.08, y + (i + 0.5) * cell[1], label, SMALL, MUTED, ha="right")
    return x + matrix.shape[1] * cell[0], y + len(matrix) * cell[1]


# Attention matrices of both sentences


def two_orders_data():
    """Attention weights (2, 2, 3, 3): without and with positions, of either sentence."""
    rng = np.random.default_rng(4939)
    tokens, query, key = rng.normal(size=(3, 4)), *0.6 * rng.normal(size=(2, 4, 4))
    inputs = tokens[ORDERS] + np.stack([np.zeros((3, 4)), circles(3, 2)])[:, None]
    return attention_weights(inputs @ query, inputs @ key)


def two_orders(say):
    weights, cell = two_orders_data(), (0.53, 0.36)
    fig = style.figure(3.75)
    ax = style.canvas(fig)
    headings = (
        say("不加位置：九个数只是换了格子", "Without positions: the same nine numbers, moved"),
        say("加上位置：九个数变了", "With positions: other numbers"),
    )
    for i, heading in enumerate(headings):
        y = 2.0 - 1.85 * i
        write(ax, 0.05, y + 1.57, heading, ha="left")
        for j, order in enumerate(ORDERS):
            x, names = 0.65 + 2.48 * j, words(order, say)
            _labelled_heat(ax, weights[i, j], x, y, cell, names, limit=0.75)
            for k, name in enumerate(names):
                write(ax, x + (k + 0.5) * cell[0], y + 1.2, name, SMALL, MUTED)
            row, column = list(order).index(0), list(order).index(2)
            corner = x + column * cell[0], y + (2 - row) * cell[1]
            ax.add_patch(Rectangle(corner, *cell, fill=False, edgecolor=C1, linewidth=2))
    fig.set_label(
        say(
            "两句话的注意力矩阵。不加位置时，猫看老鼠的权重在两句话里相同；加上位置后不同。",
            "Attention matrices of both sentences. Without positions the weight that cat gives to "
            "mouse is the same in both; with positions it differs.",
        )
    )
    return fig


# Shuffle, then attend = attend, then shuffle

SHUFFLE = np.array([2, 0, 1])


def square_data():
    """Input and output (2, 3, 2) of attention, before and after the tokens are shuffled."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(3, 2)).round(1)
    query, key, value = rng.normal(size=(3, 2, 2))
    both = np.stack([x, x[SHUFFLE]])
    return both, attention(both @ query, both @ key, both @ value)


def square(say):
    inputs, outputs = square_data()
    fig = style.figure(3.3)
    ax = style.canvas(fig)
    left, right, cell = 0.65, 3.5, (0.5, 0.3)
    for y, i, order, titles in (
        (2.05, 0, np.arange(3), ("X", "f(X)")),
        (0.1, 1, SHUFFLE, ("ΠX", "f(ΠX) = Π f(X)")),
    ):
        for x, matrix, title in zip((left, right), (inputs[i], outputs[i]), titles, strict=True):
            _labelled_heat(ax, matrix, x, y, cell, words(order, say), limit=2)
            write(ax, x + cell[0], y + 1.05, title)
        arrow(ax, (left + 1.1, y + 0.45), (right - 0.7, y + 0.45))
        write(ax, 2.27, y + 0.58, say("注意力 f", "attention f"), colour=C0)
    for x in (left, right):
        arrow(ax, (x + 0.5, 1.97), (x + 0.5, 1.32))
        write(ax, x + 0.6, 1.65, say("打乱 Π", "shuffle Π"), colour=C1, ha="left")
    fig.set_label(
        say(
            "交换图：先打乱再做注意力，与先做注意力再打乱，得到同一组数。",
            "Commuting square: shuffling and then attending gives the same numbers as attending "
            "and then shuffling.",
        )
    )
    return fig


# (n × d) + (n × d)


def adder_data():
    """Token vectors, position vectors and their sums (3, 3, 4)."""
    tokens = np.random.default_rng(2).normal(size=(3, 4)).clip(-1.5, 1.5)
    return np.stack([tokens, circles(3, 2), tokens + circles(3, 2)])


def adder(say):
    fig = style.figure(4.2)
    ax = style.canvas(fig)
    at = say("{}，位置 {}", "{} at {}")
    position = say("位置 {}", "position {}")
    parts = (
        (say("词向量 X", "token vectors X"), words(ORDERS[0], say)),
        (say("位置向量 P", "position vectors P"), [position.format(i) for i in range(3)]),
        ("X + P", [at.format(word, i) for i, word in enumerate(words(ORDERS[0], say))]),
    )
    cell, x = (0.58, 0.29), 1.15
    for i, (matrix, (title, rows)) in enumerate(zip(adder_data(), parts, strict=True)):
        y = 2.95 - 1.43 * i
        _labelled_heat(ax, matrix, x, y, cell, rows, limit=2.5)
        write(ax, x, y + 1.03, title, ha="left")
        write(ax, x + 4 * cell[0] + 0.12, y + 0.43, "n × d = 3 × 4", SMALL, MUTED, ha="left")
    for sign, y in (("+", 2.62), ("=", 1.19)):
        write(ax, x - 0.25, y, sign, 14)
    fig.set_label(
        say(
            "三个 3×4 的数表：词向量加位置向量，逐格相加得到模型的输入。",
            "Three tables of 3×4 numbers: token vectors plus position vectors, added cell by "
            "cell, give the model's input.",
        )
    )
    return fig


# Remainder of the second-order expansion


def moved_attention():
    """A function of the shifts of two tokens, and two shifts (2, 3) of length one."""
    rng = np.random.default_rng(0)
    tokens, query, key, value = 0.7 * rng.normal(size=(4, 3, 3))
    direction, p = rng.normal(size=3), rng.normal(size=(2, 3))

    def f(moved):
        """Mean output of attention along a direction; the first two tokens are moved."""
        x = tokens + np.concatenate([moved.reshape(2, 3), np.zeros((1, 3))])
        return attention(x @ query, x @ key, x @ value).mean(axis=0) @ direction

    return f, p / np.linalg.norm(p, axis=1, keepdims=True)


def taylor_data():
    """Scales ε, remainders with both halves, remainders without them."""
    f, p = moved_attention()
    expansion = f(np.zeros(6)), *_derivatives(f, 6)
    scales = np.geomspace(1e-3, 1e-1, 9)
    exact = np.array([f(scale * p.ravel()) for scale in scales])
    terms = np.array([second_order_terms(*expansion, *(scale * p)) for scale in scales])
    doubled = terms * [1, 1, 1, 2, 2, 1]
    return scales, abs(exact - terms.sum(axis=1)), abs(exact - doubled.sum(axis=1))


def _derivatives(f, n):
    """Gradient and Hessian of f at 0, by central differences."""
    one, two = 1e-5 * np.eye(n), 1e-3 * np.eye(n)
    gradient = [mixed_difference(f, -s / 2, s[None]) / 1e-5 for s in one]
    pairs = [np.stack(pair) for pair in itertools.product(two, two)]
    hessian = [mixed_difference(f, -pair.sum(axis=0) / 2, pair) / 1e-6 for pair in pairs]
    return np.array(gradient), np.reshape(hessian, (n, n))


def slope(x, y):
    """Exponent of the power law that fits best."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def taylor(say):
    scales, with_halves, without = taylor_data()
    fig = style.figure(3.4)
    ax = fig.add_axes((0.12, 0.13, 0.85, 0.76))
    ax.loglog(scales, without, color=C1, marker="o", markersize=4)
    ax.loglog(scales, with_halves, color=C0, marker="o", markersize=4)
    text = say("丢掉两个 ½：斜率 {:.1f}", "without the halves: slope {:.1f}")
    text = text.format(slope(scales, without))
    write(ax, 0.00105, 1e-5, text, colour=C1, ha="left")
    text = say("带两个 ½：斜率 {:.1f}", "with both halves: slope {:.1f}")
    text = text.format(slope(scales, with_halves))
    write(ax, 0.0095, 1e-9, text, colour=C0, ha="left")
    style.ticks(ax.xaxis, {0.001: "0.001", 0.01: "0.01", 0.1: "0.1"})
    style.ticks(ax.yaxis, {10.0**e: style.power(e) for e in range(-12, 0, 2)})
    ax.grid(axis="y")
    above = {"transform": ax.transAxes, "ha": "left"}
    title = say("二阶展开的余项", "remainder of the second-order expansion")
    write(ax, -0.12, 1.08, title, **above)
    ax.set_xlabel(say("位置向量的大小 ε", "size of the position vectors ε"))
    fig.set_label(
        say(
            "双对数图：带 ½ 的余项斜率为 3，丢掉 ½ 后斜率为 2。",
            "Log-log plot: with the halves the remainder has slope 3, without them slope 2.",
        )
    )
    return fig


# Absolute, relative, mixed


def taxonomy_data():
    """Classes of position encodings: name, rule and schemes, each as (zh, en)."""
    return (
        (
            ("绝对", "absolute"),
            ("词元 i 得到属于位置 i 的向量", "token i gets a vector of position i"),
            (("正弦", "sinusoidal"), ("可学习", "learned"), ("FLOATER", "FLOATER")),
        ),
        (
            ("相对", "relative"),
            ("logit、权重或值用到 i 与 j 的偏移", "logits, weights or values use the offset"),
            tuple((name, name) for name in ("Shaw", "XLNet", "T5", "DeBERTa", "URPE", "ALiBi")),
        ),
        (
            ("混合式（乘性）", "mixed (multiplicative)"),
            ("位置不是加上去，而是乘上去（旋转）", "position multiplies (turns) instead of adding"),
            (("RoPE", "RoPE"), ("complex-order", "complex-order")),
        ),
    )


def taxonomy(say):
    fig = style.figure(4.1)
    ax = style.canvas(fig)
    write(ax, 0.05, 3.95, say("位置编码", "position encodings"), 11, ha="left")
    y = 3.55
    for colour, (name, rule, schemes) in zip((C0, C2, C1), taxonomy_data(), strict=True):
        ax.plot((0.15, 0.15, 0.4), (3.8, y, y), color=MUTED, linewidth=1)
        write(ax, 0.5, y, say(*name), 11, colour, ha="left")
        write(ax, 0.5, y - 0.26, say(*rule), SMALL, MUTED, ha="left")
        for i, scheme in enumerate(schemes):
            centre = 1.1 + 1.32 * (i % 3), y - 0.6 - 0.36 * (i // 3)
            style.box(ax, *centre, 1.2, 0.29, say(*scheme), colour)
        y -= 1.13 + 0.36 * ((len(schemes) - 1) // 3)
    fig.set_label(
        say(
            "位置编码的分类树：绝对、相对、混合三类，以及每一类的方案。",
            "Tree of position encodings: absolute, relative and mixed, with the schemes of each.",
        )
    )
    return fig


# Five doors


def doors_data():
    """Doors in the order of the computation: name as (zh, en), method, schemes."""
    return (
        (("输入", "input"), "embed", ("正弦 · 可学习 · FLOATER", "sinusoidal · learned · FLOATER")),
        (("查询与键", "query/key"), "rotate", ("RoPE", "RoPE")),
        (("logit", "logits"), "bias", ("Shaw · XLNet · T5 · DeBERTa · ALiBi",) * 2),
        (("权重", "weights"), "reweight", ("URPE", "URPE")),
        (("值", "values"), "combine", ("Shaw", "Shaw")),
    )


def doors(say):
    steps = (
        "x",
        say("投影成 q, k, v", "project to q, k, v"),
        "e = q·k / √d",
        "α = softmax e",
        "z = Σ α v",
    )
    fig = style.figure(4.6)
    ax = style.canvas(fig)
    x, height = 0.85, 0.32
    levels = 4.35 - 0.84 * np.array([0, 1, 2, 3, 4.3, 5])
    for y, below, step in zip(levels, levels[1:], steps, strict=False):
        style.box(ax, x, y, 1.6, height, step, INK)
        arrow(ax, (x, y - height / 2), (x, below + height / 2))
    heights = [*(levels[:4] + levels[1:5]) / 2, levels[4]]
    for i, (y, (name, method, schemes)) in enumerate(zip(heights, doors_data(), strict=True)):
        start, colour = (x if i < 4 else x + 0.8), (C0, C1, C2, C3, C4)[i]
        ax.plot((start, 1.85), (y, y), color=colour, linewidth=1.4)
        ax.plot(start, y, "o", color=colour, markersize=6)
        write(ax, 1.95, y + 0.11, f"{i + 1} {say(*name)} · {method}", colour=colour, ha="left")
        write(ax, 1.95, y - 0.11, say(*schemes), SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "注意力层的流程，标出位置信息可以进入的五道门：输入、查询与键、logit、权重、值。",
            "Pipeline of an attention layer with the five doors through which positions can come "
            "in: input, query/key, logits, weights, values.",
        )
    )
    return fig


# What the causal mask gives away


def causal_leak_data(layers=5, n=5, d=8):
    """Change of the last output, relative to its length, over all orders of the tokens before.

    Two rows, without and with causal mask; a column for every number of layers.
    """
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(n, d))
    maps = rng.normal(size=(layers, 3, d, d)) / np.sqrt(d)
    orders = np.array([[*order, n - 1] for order in itertools.permutations(range(n - 1))])
    return np.array([_order_spread(tokens[orders], maps, mask) for mask in (None, causal_mask(n))])


def _order_spread(x, maps, mask):
    spreads = []
    for query, key, value in maps:
        x = x + attention(x @ query, x @ key, x @ value, mask=mask)
        last = x[:, -1]
        change = np.linalg.norm(last - last[0], axis=-1).max() / np.linalg.norm(last[0])
        spreads.append(change)
    return spreads


def causal_leak(say):
    bidirectional, causal = causal_leak_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.12, 0.16, 0.84, 0.68))
    depth = np.arange(1, len(causal) + 1)
    ax.plot(depth, causal, color=C1, marker="o", markersize=6, clip_on=False)
    ax.plot(depth, bidirectional, color=C0, marker="o", markersize=6, clip_on=False)
    top = np.ceil(2 * causal.max()) / 2
    ax.set(ylim=(0, top), xlim=(0.8, len(causal) + 0.2))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {i: str(i) for i in depth})
    style.ticks(ax.yaxis, {i / 2: f"{i / 2:g}" for i in range(round(2 * top) + 1)})
    ax.set_xlabel(say("层数", "number of layers"))
    title = say(
        "打乱前文，末位输出的相对变化", "relative change of the last output, prefix shuffled"
    )
    write(ax, -0.12, 1.12, title, transform=ax.transAxes, ha="left")
    write(ax, 3.2, 0.3 * top, say("因果掩码", "causal mask"), colour=C1, ha="left")
    write(ax, 5, 0.07 * top, say("无掩码：0", "no mask: 0"), colour=C0, ha="right")
    fig.set_label(
        say(
            "末位输出对前文顺序的敏感度。一层时为零；有因果掩码时从第二层起不为零，没有掩码时始终为零。",
            "Sensitivity of the last output to the order of the tokens before it: zero for one "
            "layer; from two layers on not zero with a causal mask, and always zero without.",
        )
    )
    return fig


# The weight of the first token tells the position

BOS_LOGIT, OTHER_LOGIT = 2.0, 0.0


def bos_data(n=41):
    """Weight of the first token for every position: measured causal, measured unmasked, formula."""
    keys = np.full((n, 1), OTHER_LOGIT)
    keys[0] = BOS_LOGIT
    queries = np.ones((n, 1))
    causal = attention_weights(queries, keys, mask=causal_mask(n))[:, 0]
    unmasked = attention_weights(queries, keys)[:, 0]
    return causal, unmasked, bos_weight(np.arange(n), BOS_LOGIT, OTHER_LOGIT)


def bos(say):
    causal, unmasked, formula = bos_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.1, 0.16, 0.86, 0.7))
    t = np.arange(len(causal))
    ax.plot(t, formula, color=C1, linewidth=1.4)
    ax.plot(t, causal, "o", color=C1, markersize=4, clip_on=False)
    ax.plot(t, unmasked, color=C0)
    ax.set(xlim=(0, t[-1]), ylim=(0, 1))
    ax.grid(axis="y")
    style.ticks(ax.xaxis, {i: str(i) for i in range(0, len(t), 10)})
    style.ticks(ax.yaxis, {i / 4: f"{i / 4:g}" for i in range(5)})
    ax.set_xlabel(say("查询的位置 t", "position t of the query"))
    title = say("首个词元（BOS）分到的权重", "weight of the first token (BOS)")
    write(ax, -0.1, 1.1, title, transform=ax.transAxes, ha="left")
    text = say("因果掩码：每个位置的权重不同", "causal mask: another weight at every position")
    write(ax, 8.5, 0.56, text, colour=C1, ha="left")
    text = say("无掩码：处处相同", "no mask: the same everywhere")
    write(ax, 0.8, 0.08, text, colour=C0, ha="left")
    fig.set_label(
        say(
            "BOS 的注意力权重随位置下降，测得的点落在公式的曲线上；没有掩码时是一条水平线。",
            "The weight of BOS falls with the position, measured points lie on the curve of the "
            "formula; without a mask it is a flat line.",
        )
    )
    return fig
