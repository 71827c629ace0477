"""Figures of the page on recursive positions: chains, circles, norms, four tables and their use.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
"""

import numpy as np
import torch
from torch import nn

from posenc.equations.floater import generator, growth, solve
from posenc.equations.sinusoidal import column_order, sinusoidal
from posenc.layers.floater import Floater
from scripts.figures.learned import one_thread
from scripts.figures.sinusoidal import above, levels
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, INK, MUTED, SMALL, arrow, box, write

# Four tables, trained to point one token back

D, TRAINED, ALL, STEPS = 16, 32, 252, 30


class Fixed(nn.Module):
    """The sinusoidal table: nothing to train."""

    def table(self, n):
        return torch.tensor(sinusoidal(np.arange(n), D))


class Rows(nn.Module):
    """A learned table with a row for every position, small at first."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(0.02 * torch.randn(ALL, D, dtype=torch.float64))

    def table(self, n):
        return self.rows[:n]


class Recursion(nn.Module):
    """Every vector from the one before: a recurrent network without input."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(D, D, dtype=torch.float64)
        self.first = nn.Parameter(0.5 * torch.randn(D, dtype=torch.float64))

    def table(self, n):
        rows = [self.first]
        for _ in range(n - 1):
            rows.append(self.step(rows[-1]).tanh())
        return torch.stack(rows)


TABLES = {
    "sinusoidal": Fixed,
    "learned": Rows,
    "floater": lambda: Floater(D, n_hidden=16, time_step=0.1, method="rk4").double(),
    "rnn": Recursion,
}


def nats(rows, W):
    """Loss at every position but the first: look at the one before, later ones are hidden."""
    unit = rows / rows.square().mean(dim=1, keepdim=True).sqrt()
    logits = unit @ W @ unit.T / D**0.5
    later = torch.ones(len(rows), len(rows), dtype=torch.bool).triu(1)
    logits = logits.masked_fill(later, -torch.inf)
    before = torch.arange(len(rows) - 1)
    return nn.functional.cross_entropy(logits[1:], before, reduction="none")


def train(name):
    """A table of 252 rows and the loss at 1 .. 251, after training on 32 positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoding = TABLES[name]()
        W = nn.Parameter(torch.eye(D, dtype=torch.float64))
    optimiser = torch.optim.Adam([W, *encoding.parameters()], lr=0.04)
    for _ in range(STEPS):
        loss = nats(encoding.table(TRAINED), W).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        rows = encoding.table(ALL)
        return rows.numpy(), nats(rows, W).numpy()


@one_thread
def study():
    """Table (252, 16) and loss (251,) of the four encodings, by name."""
    return {name: train(name) for name in TABLES}


# Where the chain runs


def chains(say):
    fig = style.figure(3.75)
    ax = style.canvas(fig)
    x, gap = 0.85, 0.95
    rows = (
        (2.95, say("一层 RNN 在前", "a recurrent layer in front"), "h", C1),
        (1.0, say("递推出来的位置向量", "a recursion for position vectors"), "p", C0),
    )
    for y, title, letter, colour in rows:
        write(ax, 0.1, y + 0.42, title, ha="left")
        for k in range(4):
            box(ax, x + k * gap, y, 0.6, 0.36, f"{letter}{'₀₁₂₃'[k]}", colour)
            if k:
                arrow(ax, (x + (k - 1) * gap + 0.32, y), (x + k * gap - 0.32, y), colour)
        write(ax, x + 4 * gap - 0.42, y, "…", colour=MUTED)
    for k in range(4):
        token = f"x{'₀₁₂₃'[k]}"
        write(ax, x + k * gap, 2.12, token)
        arrow(ax, (x + k * gap, 2.28), (x + k * gap, 2.74))
        write(ax, x + k * gap, 0.17, token)
        write(ax, x + k * gap, 0.52, "+", colour=MUTED)
        arrow(ax, (x + k * gap, 0.8), (x + k * gap, 0.64))
    fig.set_label(
        say(
            "上：RNN 的状态 h 一个接一个，每个都要读一个词元。"
            "下：位置向量 p 也是一个接一个，但不读词元，最后才加到词元上。",
            "Above: the states h of a recurrent layer follow one another, and each reads a token. "
            "Below: position vectors p follow one another without reading any token; they are "
            "added to the tokens afterwards.",
        )
    )
    return fig


# One pair on its circle

TURNS = 13


def circle_data(step=0.5):
    """Points (14, 2) as (sin, cos), of the exact solution and of three methods; step ½."""
    powers = np.arange(TURNS + 1)
    factors = {"exact": np.exp(1j * step)}
    factors |= {m: growth(step, m) for m in ("euler", "trapezoid", "rk4")}
    points = {name: factor**powers for name, factor in factors.items()}
    return {name: np.stack([z.imag, z.real], axis=-1) for name, z in points.items()}


def circle(say):
    points = circle_data()
    fig = style.figure(3.9)
    ax = fig.add_axes((0.02, 0.03, 0.96, 0.94))
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.sin(turn), np.cos(turn), color=MUTED, linewidth=0.9)
    names = {
        "euler": (C1, "o-", say("欧拉法", "Euler")),
        "trapezoid": (C2, "s", say("梯形法", "trapezoid rule")),
        "exact": (C0, "o", say("精确解", "exact")),
    }
    for name, (colour, mark, _) in names.items():
        ax.plot(*points[name].T, mark, color=colour, markersize=4.5, linewidth=1.2)
    write(ax, 0, 1.22, "p(0)", SMALL)
    for i, (colour, mark, text) in enumerate(names.values()):
        ax.plot(1.65, 3.4 - 0.42 * i, mark, color=colour, markersize=4.5)
        write(ax, 1.82, 3.4 - 0.42 * i, text, colour=colour, ha="left")
    ax.axis("equal")
    ax.axis("off")
    fig.set_label(
        say(
            "一对列 (sin, cos) 的平面，步长 0.5，走 13 步。精确解绕着单位圆走；"
            "欧拉法一路向外盘旋；梯形法留在圆上，但越落越后。",
            "The plane of one pair (sin, cos), thirteen steps of 0.5. The exact solution runs "
            "round the unit circle, Euler's method spirals outwards, and the trapezoid rule stays "
            "on the circle but falls behind.",
        )
    )
    return fig


# Norms along the way

CURVES = {
    "euler 1": ("euler", 1),
    "euler 0.1": ("euler", 10),
    "euler 0.01": ("euler", 100),
    "midpoint 1": ("midpoint", 1),
    "rk4 1": ("rk4", 1),
}


def norms_data(n=201, d_model=16):
    """Positions, and the norm of every solution of p' = pA; the exact one is √8 throughout."""
    A, first = generator(d_model), sinusoidal(0, d_model)
    found = {}
    for name, (method, substeps) in CURVES.items():
        rows = solve(lambda t, p: p @ A, first, n, method=method, substeps=substeps)
        found[name] = np.linalg.norm(rows, axis=1)
    return np.arange(n), found


def norms(say):
    at, found = norms_data()
    fig = style.figure(3.3)
    ax = fig.add_axes((0.13, 0.16, 0.7, 0.7))
    colours = dict(zip(CURVES, (C1, C1, C1, C3, C2), strict=True))
    for name, norm in found.items():
        ax.semilogy(at, norm, color=colours[name], linewidth=1.6)
    ax.axhline(8**0.5, color=C0, linewidth=1.6, linestyle=(0, (4, 2)))
    words = {
        "euler": say("欧拉", "Euler"),
        "midpoint": say("中点", "midpoint"),
        "rk4": "RK4",
    }
    for name, norm in found.items():
        method, step = name.split()
        lift = {"euler 0.01": 4, "rk4 1": 0.12}.get(name, 1)
        text = f"{words[method]} {step}"
        write(ax, 204, norm[-1] * lift, text, SMALL, colours[name], ha="left")
    ax.set(xlim=(0, 200), ylim=(0.1, 1e31))
    style.ticks(ax.yaxis, {10.0**n: style.power(n) if n else "1" for n in (0, 10, 20, 30)})
    style.ticks(ax.xaxis, {n: str(n) for n in (0, 50, 100, 150, 200)})
    ax.grid(axis="y")
    ax.set_xlabel(say("位置", "position"))
    above(ax, -0.13, 1.1, say("位置向量的范数，d = 16", "norm of the position vector, d = 16"))
    fig.set_label(
        say(
            "范数随位置的变化，纵轴取对数。欧拉法步长 1、0.1、0.01 都在增长，步长 1 时"
            "到 200 处约为 10 的 30 次方；中点法步长 1 也在增长；RK4 步长 1 略降。",
            "Norm against position, logarithmic. Euler's method grows with steps of 1, 0.1 and "
            "0.01, to about 10 to the power 30 at position 200 with a step of 1; the midpoint "
            "method grows, too; Runge and Kutta's falls slightly.",
        )
    )
    return fig


# Four tables


def maps_data():
    """The four tables (252, 16) by name, with the even columns first: sines, then cosines."""
    return {name: rows[:, column_order(D, "halves")] for name, (rows, _) in study().items()}


def maps(say):
    tables = maps_data()
    fig = style.figure(4.7)
    ax = style.canvas(fig)
    titles = {
        "sinusoidal": say("正弦", "sinusoidal"),
        "learned": say("可学习的表", "learned"),
        "floater": "FLOATER",
        "rnn": say("tanh 递推", "tanh recursion"),
    }
    width, height = 0.92, 3.78
    for i, (name, title) in enumerate(titles.items()):
        x = 0.5 + 1.08 * i
        levels(ax, tables[name], x, 0.5, (width / D, height / ALL), steps=3)
        write(ax, x + width / 2, 4.45, title)
    for row in (0, TRAINED, 100, 200, ALL):
        y = 0.5 + height * (1 - row / ALL)
        colour = INK if row == TRAINED else MUTED
        write(ax, 0.43, y, str(row), SMALL, colour, ha="right")
    y = 0.5 + height * (1 - TRAINED / ALL)
    ax.plot([0.5, 0.5 + 3 * 1.08 + width], [y, y], color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
    scale = np.linspace(-1, 1, 7)[None]
    levels(ax, scale, 1.86, 0.13, (0.16, 0.14), steps=3)
    write(ax, 1.79, 0.2, style.minus("≤ -1"), SMALL, MUTED, ha="right")
    write(ax, 3.05, 0.2, "≥ 1", SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "四张 252×16 的表，颜色同一刻度，虚线在位置 32。正弦：波纹一直延续；可学习的表："
            "虚线以下几乎空白；FLOATER：平滑延续并逐渐变大；tanh 递推：不久就逐行相同。",
            "Four tables of 252 by 16 on one colour scale, with a dashed line at position 32. "
            "Sinusoidal: the waves go on. Learned: almost blank below the line. FLOATER: goes on "
            "smoothly and grows. Tanh recursion: soon all rows are the same.",
        )
    )
    return fig


# What the tables are good for


def pointing_data():
    """Middles of blocks of eight positions, and the mean loss of each block, by name."""
    edges = np.arange(0, ALL, 8)
    edges[0] = 1  # the first position has none before it
    sizes = np.diff(edges, append=ALL)
    means = {name: np.add.reduceat(loss, edges - 1) / sizes for name, (_, loss) in study().items()}
    return edges + (sizes - 1) / 2, means


def pointing(say):
    at, losses = pointing_data()
    fig = style.figure(3.3)
    ax = fig.add_axes((0.1, 0.16, 0.86, 0.7))
    ax.axvline(TRAINED, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
    every = np.arange(1, ALL)
    ax.plot(every, np.log(every + 1), color=MUTED, linewidth=1.2, linestyle=(0, (1, 1.5)))
    colours = dict(zip(losses, (C0, C3, C1, C2), strict=True))
    for name, loss in losses.items():
        ax.plot(at, loss, color=colours[name], linewidth=1.6)
    words = {
        "learned": (150, 9.4, say("可学习的表", "learned")),
        "rnn": (140, 5.75, say("tanh 递推", "tanh recursion")),
        "floater": (147, 0.8, "FLOATER"),
        "sinusoidal": (222, 0.8, say("正弦", "sinusoidal")),
    }
    for name, (x, y, text) in words.items():
        write(ax, x, y, text, colour=colours[name])
    write(ax, 249, 6.0, say("乱猜", "guessing"), SMALL, MUTED, ha="right")
    write(ax, TRAINED + 3, 10.3, say("训练到这里", "trained up to here"), SMALL, MUTED, ha="left")
    ax.set(xlim=(0, ALL), ylim=(0, 11))
    style.ticks(ax.xaxis, {n: str(n) for n in (0, TRAINED, 100, 150, 200, 250)})
    style.ticks(ax.yaxis, {n: str(n) for n in (0, 5, 10)})
    ax.grid(axis="y")
    ax.set_xlabel(say("位置", "position"))
    title = say("指出前一个位置：损失（奈特）", "pointing at the position before: loss in nats")
    above(ax, -0.1, 1.1, title)
    fig.set_label(
        say(
            "四种表在位置 1 到 251 的损失。32 以内，可学习的表和 FLOATER 接近零；32 以外都变差，"
            "可学习的表最差，tanh 递推等于乱猜。",
            "Loss of the four tables at the positions 1 to 251. Within 32 the learned table and "
            "FLOATER are near zero; beyond, all get worse, the learned table most, and the tanh "
            "recursion is as good as guessing.",
        )
    )
    return fig
