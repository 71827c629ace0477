"""Figures of the page on RoPE.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
from matplotlib.patches import Arc, Circle, Rectangle

from posenc.equations.kernel import kernel
from posenc.equations.rope import partial_sums, relative_score, rotate
from posenc.equations.sinusoidal import column_order, frequencies, wavelengths
from scripts.sitegen import style
from scripts.sitegen.style import (
    C0,
    C1,
    C2,
    C3,
    GRID,
    INK,
    MUTED,
    SMALL,
    arrow,
    box,
    heat,
    minus,
    power,
    write,
)

# Two hands

TURN, FIRST, SECOND = np.radians([25, 30, 65])  # per position; of q and of k at position 0


def hands_data():
    """Places (3, 2) of a query and a key, two apart, and where their hands (3, 2, 2) point."""
    places = np.array([[0, 2], [3, 5], [9, 11]])
    turns = [FIRST, SECOND] + places * TURN
    return places, np.stack([np.cos(turns), np.sin(turns)], axis=-1)


def hands(say):
    places, turned = hands_data()
    fig = style.figure(2.35)
    ax = style.canvas(fig)
    for i, ((p, r), pair) in enumerate(zip(places, turned, strict=True)):
        centre = np.array([0.82 + 1.58 * i, 1.28])
        ax.add_patch(Circle(centre, 0.62, fill=False, edgecolor=GRID, linewidth=1.2))
        for hand, colour, name in zip(pair, (C0, C1), "qk", strict=True):
            arrow(ax, centre, centre + 0.6 * hand, colour, linewidth=2)
            write(ax, *(centre + 0.74 * hand), name, colour=colour)
        angles = np.degrees(np.arctan2(pair[:, 1], pair[:, 0]))
        wedge = {"theta1": angles[0], "theta2": angles[1], "color": INK, "linewidth": 1.4}
        ax.add_patch(Arc(centre, 0.5, 0.5, **wedge))
        text = say(f"q 在 {p}，k 在 {r}", f"q at {p}, k at {r}")
        write(ax, centre[0], 0.3, text)
        between = np.degrees(np.arccos(np.clip(pair[0] @ pair[1], -1, 1)))
        write(
            ax, centre[0], 0.1, say(f"夹角 {between:.0f}°", f"angle {between:.0f}°"), SMALL, MUTED
        )
    fig.set_label(
        say(
            "三个钟面，各有查询和键两根针，偏移都是 2。两根针各按自己的位置转动，"
            "指向各不相同，夹角始终是 85°。",
            "Three dials, each with a hand for the query and one for the key, at offset 2. Each "
            "hand turns with its own position; where they point differs, the angle between them "
            "is always 85°.",
        )
    )
    return fig


# Scores of one query and one key at all positions


def diagonals_data(n=12, d=8):
    """Scores (3, n, n): not rotated, q and k rotated, x rotated before the projection."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, d))
    W_Q, W_K = rng.normal(size=(2, d, d)) / np.sqrt(d)
    at = np.arange(n)
    q, k = rotate(x @ W_Q, at, 100), rotate(y @ W_K, at, 100)
    before = rotate(x, at, 100) @ W_Q @ (rotate(y, at, 100) @ W_K).T
    return np.stack([np.full((n, n), x @ W_Q @ W_K.T @ y), q @ k.T, before])


def diagonals(say):
    tables = diagonals_data()
    fig = style.figure(2.35)
    ax = style.canvas(fig)
    cell = 1.36 / tables.shape[-1]
    titles = (
        say("不旋转", "no rotation"),
        say("旋转 q 和 k", "q and k rotated"),
        say("先旋转 x 再投影", "x rotated, then W"),
    )
    for i, (table, title) in enumerate(zip(tables, titles, strict=True)):
        x = 0.3 + 1.55 * i
        heat(ax, table, x, 0.4, (cell, cell), limit=np.abs(tables).max())
        write(ax, x + 0.68, 1.98, title)
    write(ax, 0.98, 0.2, say("键的位置 →", "key position →"), SMALL, MUTED)
    write(ax, 0.16, 1.08, say("← 查询的位置", "← query position"), SMALL, MUTED, rotation=90)
    fig.set_label(
        say(
            "同一个查询与同一个键，放在 12×12 种位置上的内积。不旋转时处处相同；"
            "旋转 q 和 k 时，每条对角线是一个值；先旋转 x 再投影时，没有这样的条纹。",
            "Scores of one query and one key at 12 by 12 places. Without rotation all are "
            "equal; with q and k rotated there is one value per diagonal; with x rotated before "
            "the projection there are no such stripes.",
        )
    )
    return fig


# Orbits


def orbits_data(steps=20):
    """Paths (2, n, 2) of exp(tB) for a skew generator and for another one, t up to 12."""
    t = np.arange(12 * steps + 1) / steps
    circle = np.stack([np.cos(t), np.sin(t)], axis=-1)
    return np.stack([circle, circle * np.exp(-0.12 * t)[:, None]])


def orbits(say):
    paths = orbits_data()
    steps = (paths.shape[1] - 1) // 12
    fig = style.figure(2.2)
    ax = style.canvas(fig)
    titles = (
        say("B 反对称：圆", "B skew: a circle"),
        say("B 不反对称：螺线", "else: a spiral"),
    )
    for i, (path, title, colour) in enumerate(zip(paths, titles, (C0, C1), strict=True)):
        centre = np.array([0.8 + 1.55 * i, 1.12])
        ax.plot(*(centre + 0.62 * path).T, color=colour, clip_on=False)
        dots = centre + 0.62 * path[: 6 * steps + 1 : steps]
        ax.plot(*dots.T, "o", color=colour, markersize=4.5, clip_on=False)
        write(ax, centre[0], 2.02, title, colour=colour)
    x, y, r = 3.95, 1.12, 0.62
    ax.add_patch(Circle((x, y), r, fill=False, edgecolor=GRID, linewidth=1.2))
    for side, text in ((1, "0, 2, 4 …"), (-1, "1, 3, 5 …")):
        at = x + r * np.cos(0.7), y + side * r * np.sin(0.7)
        ax.plot(*at, "o", color=C2, markersize=6, clip_on=False)
        write(ax, x - 0.08, y + 0.26 * side, text, SMALL, C2)
    ax.plot([x - 0.75, x + 0.75], [y, y], color=MUTED, linewidth=0.8)
    write(ax, x, 2.02, say("镜像：只在整数处", "a mirror: integers"), colour=C2)
    write(ax, 1.58, 0.2, say("圆点：位置 0, 1, …, 6", "dots: positions 0, 1, …, 6"), SMALL, MUTED)
    fig.set_label(
        say(
            "一个向量随位置走过的轨迹。生成元反对称时走圆；否则走螺线，长度会变；"
            "镜像在整数位置之间来回跳，中间没有路。",
            "Paths of a vector as the position grows. A skew generator gives a circle, another "
            "one a spiral on which lengths change; a mirror jumps back and forth between integer "
            "positions, with nothing in between.",
        )
    )
    return fig


# Layouts


def layouts_data(d=8):
    """Interleaved columns in the order of either layout, and the pair of each column."""
    columns = np.stack([column_order(d), column_order(d, "halves")])
    return columns, columns // 2


def layouts(say):
    columns, pairs = layouts_data()
    fig = style.figure(2.6)
    ax = style.canvas(fig)
    colours = (C0, C1, C2, C3)
    cell, left = 0.46, 0.72
    centres = []
    for row, y in enumerate((1.75, 0.6)):
        xs = left + cell * (np.arange(8) + 0.5)
        centres.append({int(c): x for c, x in zip(columns[row], xs, strict=True)})
        for column, pair, x in zip(columns[row], pairs[row], xs, strict=True):
            corner = (x - cell / 2, y)
            ground = {"facecolor": colours[pair], "alpha": 0.22, "edgecolor": "none"}
            ax.add_patch(Rectangle(corner, cell, 0.34, **ground))
            ax.add_patch(Rectangle(corner, cell, 0.34, fill=False, edgecolor=MUTED, linewidth=0.8))
            write(ax, x, y + 0.17, str(column))
    for column in range(8):
        start, end = (centres[0][column], 1.72), (centres[1][column], 0.97)
        arrow(ax, start, end, colours[column // 2], linewidth=1)
    write(
        ax,
        left,
        2.27,
        say("交错：一对是相邻的两列", "interleaved: a pair is two neighbours"),
        ha="left",
    )
    text = say("两半：一对相隔 d/2 列", "halves: a pair is d/2 columns apart")
    write(ax, left, 0.4, text, ha="left")
    for m in range(4):
        write(ax, left + cell * (2 * m + 1), 0.14, f"θ{'₀₁₂₃'[m]}", SMALL, colours[m])
    fig.set_label(
        say(
            "d = 8 的两种排法。上：列 0 与 1、2 与 3、4 与 5、6 与 7 各成一对；"
            "下：先放各对的第一列，再放第二列。箭头表示同一列的去处。",
            "Two layouts at d = 8. Above, columns 0 and 1, 2 and 3, 4 and 5, 6 and 7 are pairs; "
            "below, the first columns of all pairs come first, then the second ones. Arrows lead "
            "from each column to its place.",
        )
    )
    return fig


# Wavelengths

LENGTH = 2048


def spectrum_data(d=128, bases=(1e4, 5e5)):
    """Wavelengths (2, d/2) for two bases."""
    return np.stack([wavelengths(d, base) for base in bases])


def spectrum(say):
    curves = spectrum_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.13, 0.16, 0.83, 0.7))
    m = np.arange(curves.shape[1])
    ax.axhspan(LENGTH, 1e7, color=C1, alpha=0.08, linewidth=0)
    ax.axhline(LENGTH, color=C1, linewidth=1)
    ax.semilogy(m, curves[1], color=C2, linewidth=1.4)
    done = curves[0] <= LENGTH
    ax.semilogy(m[done], curves[0, done], "o", color=C0, markersize=3)
    ax.semilogy(m[~done], curves[0, ~done], "o", color=C1, markersize=3)
    write(ax, 1, LENGTH * 1.7, say("L = 2048", "L = 2048"), SMALL, C1, ha="left")
    write(ax, 63, 5e2, say("底数 10 000", "base 10 000"), colour=C0, ha="right")
    write(ax, 47, 1.6e6, say("底数 500 000", "base 500 000"), colour=C2, ha="right")
    count = say(f"{done.sum()} 对转满了一圈", f"{done.sum()} pairs complete a turn")
    write(ax, 27, 30, count, colour=C0, ha="left")
    write(
        ax,
        63,
        4.2e3,
        say(f"{(~done).sum()} 对没有", f"{(~done).sum()} do not"),
        colour=C1,
        ha="right",
    )
    ax.set(xlim=(-1, 64), ylim=(5, 1e7))
    style.ticks(ax.xaxis, {n: str(n) for n in (0, 16, 32, 48, 63)})
    style.ticks(ax.yaxis, {10.0**e: power(e) for e in (1, 3, 5, 7)})
    ax.set_xlabel(say("频率对 m，d = 128", "frequency pair m, d = 128"))
    title = say("转满一圈要走多少位置", "positions per full turn")
    write(ax, -0.12, 1.1, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "64 个频率对的波长，纵轴取对数，从 6 到几万。底数 10 000 时，长度 2048 以内有 41 对"
            "转满一圈，23 对没有；底数 500 000 时没有转满的更多。",
            "Wavelengths of 64 frequency pairs on a logarithmic axis, from 6 to tens of thousands. "
            "With base 10 000, 41 pairs complete a turn within 2048 positions and 23 do not; with "
            "base 500 000 even fewer do.",
        )
    )
    return fig


# Decay


def decay_data(d=128, draws=400):
    """Distances, logits of independent vectors there, the mean logit of a vector with itself."""
    rng = np.random.default_rng(0)
    distances = np.geomspace(1, 4096, draws).round()
    q, k = rng.normal(size=(2, draws, d))
    fine = np.union1d(np.arange(1, 100), np.geomspace(100, 4096, 200).round())
    scaled = relative_score(q, k, distances) / np.sqrt(d)
    return distances, scaled, fine, np.sqrt(d) * kernel(fine, d)


def decay(say):
    distances, logits, fine, mean = decay_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.11, 0.16, 0.85, 0.7))
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.semilogx(distances, logits, "o", color=C1, markersize=2.6, alpha=0.7)
    ax.semilogx(fine, mean, color=C0)
    write(ax, 5, 10.4, say("q = k：平均值", "q = k: the mean"), colour=C0, ha="left")
    text = say("q、k 独立：每点一次抽样", "q, k independent: a draw per dot")
    write(ax, 1.15, -4.9, text, colour=C1, ha="left")
    ax.set(xlim=(1, 4096), ylim=(-5.6, 12))
    style.ticks(ax.xaxis, {n: str(n) for n in (1, 10, 100, 1000)})
    style.ticks(ax.yaxis, {0: "0", 4: "4", 8: "8", 12: "12"})
    ax.set_xlabel(say("距离（词元）", "distance in tokens"))
    write(ax, -0.1, 1.1, say("logit，d = 128", "logit, d = 128"), transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "logit 随距离的变化。同一个向量与自己：从 11.3 降到 4096 处的 −0.6；"
            "独立的查询与键：在任何距离都围绕 0 散布，宽度不变。",
            "Logits against distance. A vector with itself falls from 11.3 to −0.6 at 4096; "
            "independent queries and keys scatter about 0, equally widely at every distance.",
        )
    )
    return fig


# The bound


def bound_data(d=128):
    """Distances, the bound by parts for q = k = 1, and the score, both over |q||k|."""
    fine = np.union1d(np.arange(0, 100), np.geomspace(100, 4096, 200).round())
    return fine, partial_sums(fine, d), np.abs(kernel(fine, d))


def bound(say):
    fine, limit, score = bound_data()
    fig = style.figure(2.9)
    ax = fig.add_axes((0.11, 0.17, 0.85, 0.68))
    ax.axhline(1, color=MUTED, linewidth=1.2)
    ax.loglog(fine[1:], limit[1:], color=C1)
    ax.loglog(fine[1:], score[1:], color=C0)
    write(ax, 30, 24, say("分部求和的上界", "bound by parts"), colour=C1, ha="left")
    text = say("总成立的上界 |q||k|", "the bound |q||k|, always true")
    write(ax, 1.2, 1.5, text, colour=MUTED, ha="left")
    write(ax, 1.2, 0.45, say("内积", "score"), colour=C0, ha="left")
    ax.set(xlim=(1, 4096), ylim=(0.02, 50))
    style.ticks(ax.xaxis, {n: str(n) for n in (1, 10, 100, 1000)})
    style.ticks(ax.yaxis, {0.1: "0.1", 1: "1", 10: "10"})
    ax.set_xlabel(say("距离（词元）", "distance in tokens"))
    title = say("以 |q||k| 为单位，q = k = (1, …, 1)", "in units of |q||k|, q = k = (1, …, 1)")
    write(ax, -0.1, 1.11, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "分部求和得到的上界从 32 降到约 4，始终高于总成立的上界 1；真正的内积更低。",
            "The bound by parts falls from 32 to about 4 and always stays above 1, the bound that "
            "always holds; the score itself is lower.",
        )
    )
    return fig


# Beyond the length

FITTED = 512


def unseen_data(d=64):
    """Offsets, the line, and a logit that was fitted to it below the length."""
    s = np.arange(2 * FITTED)
    line = -4.0 * s / FITTED
    turns = np.outer(s, frequencies(d))
    terms = np.concatenate([np.cos(turns), np.sin(turns)], axis=1)
    inside = terms[:FITTED]
    ridge = inside.T @ inside + 1e-4 * np.eye(d)
    a, b = np.linalg.solve(ridge, inside.T @ line[:FITTED]).reshape(2, -1)
    q, k = np.tile([1.0, 0.0], d // 2), np.stack([a, -b], axis=-1).ravel()
    return s, line, relative_score(q, k, s)


def unseen(say):
    s, line, got = unseen_data()
    fig = style.figure(2.9)
    ax = fig.add_axes((0.11, 0.17, 0.85, 0.68))
    ax.axvspan(FITTED, s[-1], color=C1, alpha=0.08, linewidth=0)
    ax.plot(s, line, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.plot(s[:FITTED], got[:FITTED], color=C0)
    ax.plot(s[FITTED:], got[FITTED:], color=C1)
    write(ax, 345, -0.5, say("拟合过的偏移", "offsets that were fitted"), colour=C0)
    write(ax, 770, -0.5, say("没见过的偏移", "offsets never seen"), colour=C1)
    write(ax, 700, -6.9, say("目标", "target"), SMALL, MUTED)
    ax.set(xlim=(0, s[-1]), ylim=(-8.2, 0.2))
    style.ticks(ax.xaxis, {n: str(n) for n in (0, 256, 512, 768, 1023)})
    style.ticks(ax.yaxis, {n: minus(str(n)) for n in (0, -4, -8)})
    ax.set_xlabel(say("距离（词元）", "distance in tokens"))
    title = say("一个查询与一个键的内积，d = 64", "score of one query and one key, d = 64")
    write(ax, -0.1, 1.11, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "内积拟合一条下降的直线。距离 512 以内两者重合；再远，内积先变平，然后回升，"
            "而直线继续下降。",
            "A score fitted to a falling line. Below distance 512 the two coincide; beyond, the "
            "score levels off and rises again while the line goes on falling.",
        )
    )
    return fig


# Precision

SHIFTS = 10.0 ** np.arange(0, 7.01, 0.25)


def bfloat16(x):
    """Round float32 numbers to bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    bits = bits + 0x7FFF + ((bits >> 16) & 1)
    return (bits & 0xFFFF0000).view(np.float32)


def tables(positions, how, d=128):
    """Cosines and sines (2, n, d/2) in float32, with angles of one of three precisions."""
    theta = frequencies(d)
    if how == "float64":
        angles = np.outer(positions, theta)
    else:
        cast = bfloat16 if how == "bfloat16" else np.float32
        angles = np.float32(cast(positions))[:, None] * np.float32(cast(theta))
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32).astype(float)


def precision_data(d=128):
    """Shifts, and by how much the score at offset 7 changes there, for three kinds of angle."""
    rng = np.random.default_rng(1)
    q, k = rng.normal(size=(2, 64, d))
    z = [x[:, ::2] + 1j * x[:, 1::2] for x in (q, k)]
    z = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in z]
    shifts = SHIFTS.round()
    errors = []
    for how in ("float64", "float32", "bfloat16"):
        (c, s), (e, f) = tables(shifts, how), tables(shifts + 7, how)
        turned = np.einsum("sm,bm->sb", (c - 1j * s) * (e + 1j * f), z[0].conj() * z[1]).real
        exact = ((z[0].conj() * z[1]) * np.exp(7j * frequencies(d))).sum(axis=1).real
        errors.append(np.abs(turned - exact).max(axis=1))
    return shifts, np.stack(errors)


def precision(say):
    shifts, errors = precision_data()
    fig = style.figure(3.0)
    ax = fig.add_axes((0.13, 0.16, 0.83, 0.7))
    names = (
        (say("角度用 float64", "angles in float64"), C0, 3e3, 6e-10),
        (say("角度用 float32", "angles in float32"), C1, 60, 1e-4),
        (say("角度用 bfloat16", "angles in bfloat16"), C2, 20, 5),
    )
    for values, (name, colour, x, y) in zip(errors, names, strict=True):
        ax.loglog(shifts, values, color=colour)
        write(ax, x, y, name, colour=colour, ha="left")
    ax.set(xlim=(1, 1e7), ylim=(1e-10, 20))
    style.ticks(ax.xaxis, {10.0**e: power(e) for e in (0, 2, 4, 6)})
    style.ticks(ax.yaxis, {10.0**e: power(e) for e in (-8, -6, -4, -2, 0)})
    ax.set_xlabel(say("整段文字平移多远", "how far the text is shifted"))
    title = say(
        "偏移 7 处内积的误差，|q| = |k| = 1", "error of the score at offset 7, |q| = |k| = 1"
    )
    write(ax, -0.12, 1.1, title, transform=ax.transAxes, ha="left")
    fig.set_label(
        say(
            "平移越远，内积的误差：角度用 float64 时始终在 10⁻⁷ 以下；用 float32 时随位置线性增长；"
            "用 bfloat16 时几百个位置之内就超过内积本身。",
            "Error of the score against the shift: always below 10⁻⁷ with angles in float64, "
            "growing in proportion to the position in float32, and larger than the score itself "
            "after some hundred positions in bfloat16.",
        )
    )
    return fig


# Where it acts


def where(say):
    fig = style.figure(3.0)
    ax = style.canvas(fig)
    xs, lower = (0.85, 2.4, 3.95), say("位置", "position")
    box(ax, 2.4, 2.74, 1.9, 0.34, say("词元 x，不带位置", "tokens x, no position"))
    for x, name, colour in zip(xs, "qkv", (C0, C0, MUTED), strict=True):
        arrow(ax, (2.4 + (x - 2.4) * 0.45, 2.55), (x, 2.3))
        box(ax, x, 2.12, 1.1, 0.34, name, colour)
    for x, name in zip(xs[:2], "ij", strict=True):
        arrow(ax, (x, 1.93), (x, 1.7), C0)
        box(ax, x, 1.5, 1.4, 0.38, say(f"按{lower} {name} 转", f"turn by {lower} {name}"), C0)
    arrow(ax, (xs[0], 1.3), (1.35, 1.1), C0)
    arrow(ax, (xs[1], 1.3), (1.9, 1.1), C0)
    box(ax, 1.62, 0.9, 2.3, 0.36, say("softmax：只看偏移", "softmax: sees the offset"), C0)
    arrow(ax, (xs[2], 1.93), (xs[2], 0.57))
    arrow(ax, (1.62, 0.71), (1.62, 0.57))
    box(ax, 2.4, 0.38, 4.2, 0.34, say("加权求和：v 不转", "weighted sum: v is not turned"))
    write(
        ax, 2.4, 0.1, say("每一层、每个头都如此", "the same in every layer and head"), SMALL, MUTED
    )
    fig.set_label(
        say(
            "一层注意力。x 先投影成 q、k、v；q 和 k 按各自的位置旋转，v 不动；"
            "softmax 只看到偏移。每一层、每一个头都这样做。",
            "One layer of attention. x is projected to q, k and v; q and k are rotated by their "
            "positions, v is not; the softmax sees the offset only. Every layer and head does so.",
        )
    )
    return fig
