"""Figures of the page on URPE.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
The small models behind them see nothing but identical tokens; they are trained here, in seconds.
"""

import functools

import numpy as np
import torch
from torch import nn

from posenc.equations.attention import softmax
from posenc.equations.urpe import nearest_factors, toeplitz
from posenc.layers.attention import Attention, PositionEncoding
from posenc.layers.rope import Rope
from posenc.layers.sinusoidal import Sinusoidal
from posenc.layers.urpe import Urpe
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, GRID, MUTED, SMALL, heat, write

N, WIDTH, HEADS = 16, 16, 4

# Schemes in a few lines each, trained from random first values; offsets are t = i - j


class _Table(PositionEncoding):
    """A table of random rows, one for each offset."""

    def __init__(self, width, reach=N):
        super().__init__()
        self.reach = reach
        self.table = nn.Parameter(torch.randn(2 * reach + 1, width))

    def rows(self, q_at, k_at):
        offsets = q_at[..., :, None] - k_at[..., None, :]
        return self.table[offsets.clamp(-self.reach, self.reach) + self.reach]


class LogitBias(_Table):
    """One number per head and offset, added to the logits, as in T5 but without its buckets."""

    def __init__(self):
        super().__init__(HEADS)

    def bias(self, q, k, q_positions, k_positions):
        return self.rows(q_positions, k_positions).movedim(-1, -3)


class KeyVectors(_Table):
    """A vector per offset that meets the query, as on Shaw's keys."""

    def __init__(self):
        super().__init__(WIDTH // HEADS)

    def bias(self, q, k, q_positions, k_positions):
        rows = self.rows(q_positions, k_positions)
        return torch.einsum("bhid,ijd->bhij", q, rows) / (WIDTH // HEADS) ** 0.5


class ValueVectors(_Table):
    """A vector per offset that joins the sum, as on Shaw's values."""

    def __init__(self):
        super().__init__(WIDTH // HEADS)

    def combine(self, weights, v, q_positions, k_positions):
        rows = self.rows(q_positions, k_positions)
        return weights @ v + torch.einsum("bhij,ijd->bhid", weights, rows)


class AbsoluteInLogits(PositionEncoding):
    """A vector per position, added to queries and keys and never to values."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * N, WIDTH // HEADS))

    def rotate(self, q, k, q_positions, k_positions):
        return q + self.table[q_positions], k + self.table[k_positions]


def random_factors(inner=None):
    """URPE with random factors."""
    layer = Urpe(inner, HEADS, N)
    nn.init.normal_(layer.weight)
    return layer


SCHEMES = {
    "nope": PositionEncoding,
    "rope": lambda: Rope(WIDTH // HEADS),
    "bias": LogitBias,
    "keys": KeyVectors,
    "absolute_in_logits": AbsoluteInLogits,
    "sinusoidal": lambda: Sinusoidal(WIDTH),
    "values": ValueVectors,
    "ones": lambda: Urpe(LogitBias(), HEADS, N),
    "urpe": lambda: random_factors(LogitBias()),
}


class Stack(nn.Module):
    """Attention and a feed-forward network, each added to the residual stream; float64."""

    def __init__(self, make, n_layers=1, causal=False, outputs=WIDTH):
        super().__init__()
        self.encoding = make()
        options = {"encoding": self.encoding, "causal": causal, "first": False}
        self.attention = nn.ModuleList(Attention(WIDTH, HEADS, **options) for _ in range(n_layers))
        self.network = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))
            for _ in range(n_layers)
        )
        self.output = nn.Linear(WIDTH, outputs)
        self.double()

    def forward(self, x):
        x = self.encoding.embed(x, torch.arange(x.shape[1]))
        for attention, network in zip(self.attention, self.network, strict=True):
            x = x + attention(x)
            x = x + network(x)
        return self.output(x)


def one_thread(function):
    """Run on one thread, so that sums have one order; remember the result."""

    @functools.cache
    def run(*args):
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*args)
        finally:
            torch.set_num_threads(before)

    return run


@one_thread
def outputs(scheme, causal, bos, n_layers=1):
    """Outputs (16, 16) of an untrained model for 16 equal tokens; a BOS before them is cut off."""
    torch.manual_seed(0)
    word, first = torch.randn(2, 1, WIDTH, dtype=torch.float64)
    model = Stack(SCHEMES[scheme], n_layers, causal)
    x = torch.cat([*([first] if bos else []), word.expand(N, WIDTH)])
    with torch.no_grad():
        return model(x[None])[0, int(bos) :].numpy()


# Where the position is lost, and found

FEW = 6


def sums_data():
    """Weights (6, 6) of equal tokens under a bias; a factor of their offsets; the product."""
    i = np.arange(FEW)
    weights = softmax(-0.5 * np.abs(i[:, None] - i))
    matrix = toeplitz(np.repeat([0.5, 1.0, 1.5], [FEW - 1, 1, FEW - 1]))
    return weights, matrix, weights * matrix


def sums(say):
    weights, matrix, product = sums_data()
    fig = style.figure(1.95)
    ax = style.canvas(fig)
    cell, bottom = 0.185, 0.36
    side = FEW * cell
    titles = "α", "C", "α ⊙ C"
    for x, values, title, limit in zip(
        (0.12, 1.94, 3.3), (weights, matrix, product), titles, (0.6, 1.5, 0.6), strict=True
    ):
        heat(ax, values, x, bottom, (cell, cell), limit=limit)
        write(ax, x + side / 2, bottom + side + 0.2, title)
        if title == "C":
            continue
        write(ax, x + side + 0.22, bottom + side + 0.2, "Σ", colour=MUTED)
        for row, total in enumerate(values.sum(axis=1)):
            colour = C1 if title == "α" else C0
            at = x + side + 0.22, bottom + (FEW - 0.5 - row) * cell
            write(ax, *at, f"{total:.2f}", SMALL, colour)
    for x, sign in ((1.79, "⊙"), (3.16, "=")):
        write(ax, x, bottom + side / 2, sign)
    notes = (
        (0.85, say("每行的和都是 1", "every row sums to 1"), C1),
        (
            3.95,
            say("每行的和不同", "the sums differ"),
            C0,
        ),
    )
    for x, text, colour in notes:
        write(ax, x, 0.12, text, SMALL, colour)
    fig.set_label(
        say(
            "三个 6 × 6 的热图。左：六个相同词元的注意力权重，每行的和都是 1。中：Toeplitz 矩阵 C，"
            "对角线下方是 1.5，上方是 0.5。右：两者逐元素的积，各行的和从上到下递增。",
            "Three heat maps of 6 × 6. Left: attention weights of six equal tokens, whose rows all "
            "sum to 1. Middle: a Toeplitz matrix C with 1.5 below the diagonal and 0.5 above. "
            "Right: their product, entry by entry, whose row sums grow from top to bottom.",
        )
    )
    return fig


# A function of position, to be learnt from tokens that are all the same

STEPS = 300


def targets():
    """Three functions of the position, (16, 3): a ramp, a parity, and random numbers."""
    i = np.arange(N)
    noise = np.random.default_rng(1).uniform(-1, 1, N)
    return np.stack([2 * i / (N - 1) - 1, (-1.0) ** i, noise], axis=1)


@one_thread
def trained(scheme, causal=False):
    """Outputs (16, 3) of a trained model, and its mean square errors at every step."""
    torch.manual_seed(0)
    model, wanted = Stack(SCHEMES[scheme], 1, causal, 3), torch.from_numpy(targets())
    word, errors = torch.randn(1, WIDTH, dtype=torch.float64), []
    optimizer = torch.optim.Adam(model.parameters(), 0.04, fused=True)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, STEPS)
    for _ in range(STEPS):
        error = (model(word.expand(1, N, WIDTH))[0] - wanted).square().mean()
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        slower.step()
    with torch.no_grad():
        return model(word.expand(1, N, WIDTH))[0].numpy(), np.array(errors)


def learnt_data():
    """Targets (16, 3), and outputs (16, 3) with a bias inside the softmax and with factors."""
    return targets(), trained("bias")[0], trained("ones")[0]


def learnt(say):
    wanted, inside, after = learnt_data()
    fig = style.figure(2.5)
    titles = say("斜坡", "ramp"), say("奇偶", "parity"), say("随机数", "random numbers")
    for column, title in enumerate(titles):
        ax = fig.add_axes((0.075 + 0.315 * column, 0.33, 0.28, 0.55))
        ax.axhline(0, color=GRID, linewidth=0.8)
        ax.plot(wanted[:, column], "o", color=MUTED, markersize=6, fillstyle="none")
        ax.plot(inside[:, column], color=C1)
        ax.plot(after[:, column], "o-", color=C0, linewidth=0.9, markersize=2.6)
        ax.set(ylim=(-1.25, 1.25), xlim=(-0.8, N - 0.2))
        ax.set_title(title, fontsize=style.SIZE)
        style.ticks(ax.xaxis, {0: "0", 5: "5", 10: "10", 15: "15"})
        style.ticks(ax.yaxis, {-1: "−1", 0: "0", 1: "1"} if column == 0 else {})
    ax = style.canvas(fig)
    legend = (
        (0.2, MUTED, "○", say("目标", "wanted")),
        (1.15, C1, "—", say("softmax 内的偏置", "bias inside the softmax")),
        (3.25, C0, "•", say("加上 URPE 的因子", "with factors")),
    )
    for x, colour, mark, text in legend:
        write(ax, x, 0.2, mark, colour=colour)
        write(ax, x + 0.13, 0.2, text, SMALL, colour, ha="left")
    fig.set_label(
        say(
            "三条随位置变化的目标：斜坡、奇偶、随机数。softmax 内有偏置的模型，训练后在每个位置输出"
            "同一个数，即目标的均值；加上 URPE 的因子，输出落在目标上。",
            "Three functions of position: a ramp, a parity, random numbers. A model with a bias "
            "inside the softmax ends with the same number at every position, the mean of the "
            "targets; with URPE's factors the outputs lie on the targets.",
        )
    )
    return fig


# The factors alone


@one_thread
def factors_data():
    """Factors (3, 31) that gradient descent finds for the targets, from ones; and the nearest."""
    layer, at = Urpe(None, 3, N - 1, dtype=torch.float64), torch.arange(N)
    weights = torch.full((1, 3, N, N), 1 / N, dtype=torch.float64)
    wanted = torch.from_numpy(targets().T.copy())
    optimizer = torch.optim.SGD(layer.parameters(), 1.0, momentum=0.95)
    for _ in range(1500):
        error = (layer.reweight(weights, at, at)[0].sum(-1) - wanted).square().sum() / 2
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return layer.weight.detach().numpy(), nearest_factors(targets().T)


def factors(say):
    found, nearest = factors_data()
    fig = style.figure(3.5)
    ax = style.canvas(fig)
    titles = say("斜坡", "ramp"), say("奇偶", "parity"), say("随机数", "random numbers")
    cell, offsets = 0.083, np.arange(-N + 1, N)
    for column, title in enumerate(titles):
        x = 0.3 + 1.5 * column
        heat(ax, toeplitz(found[column]), x, 1.85, (cell, cell))
        write(ax, x + N * cell / 2, 1.85 + N * cell + 0.17, title)
        panel = fig.add_axes((x / 4.8, 0.42 / 3.5, N * cell / 4.8, 1.15 / 3.5))
        panel.axhline(0, color=GRID, linewidth=0.8)
        panel.plot(offsets, nearest[column], color=C1, linewidth=1)
        panel.plot(offsets, found[column], "o", color=C0, markersize=2.4)
        top = 1.2 * np.abs(found[column]).max()
        panel.set(ylim=(-top, top), xlim=(-N, N))
        style.ticks(panel.xaxis, {-15: "−15", 0: "0", 15: "15"})
        style.ticks(panel.yaxis, {})
        largest = np.abs(found[column]).max()
        write(ax, x + N * cell / 2, 1.7, f"|g| ≤ {largest:.1f}", SMALL, MUTED)
    write(ax, 2.46, 0.1, "t = i − j", SMALL, MUTED)
    fig.set_label(
        say(
            "训练得到的因子，三个目标各一列。上：矩阵 C 的热图，每条对角线上是同一个数。"
            "下：因子 g(t) 随偏移变化，点是梯度下降的结果，线是公式。斜坡只有两个水平。",
            "The factors that training found, one column for each target. Above: the matrix C, "
            "one number along each diagonal. Below: the factor g(t) against the offset; dots are "
            "the result of gradient descent, the line is the formula. The ramp has two levels.",
        )
    )
    return fig
