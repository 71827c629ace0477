"""Figures of the page on the learned table.

Every figure's numbers come from a function ``<figure>_data`` that returns arrays or plain lists.
The small model behind some of them is trained here, in seconds and on one thread.
"""

import copy
import functools

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import nn

from posenc.equations.learned import hierarchical, padded_positions, sampling_points
from posenc.layers.attention import Attention
from posenc.layers.learned import Learned
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, GRID, INK, MUTED, SMALL, arrow, heat, write

# A small model: words, a learned table, one attention layer

SHORT, LONG, WIDTH, WORDS = 12, 24, 64, 10
STEPS, MORE = 250, 80
REMEDIES = ("random", "ends", "hierarchical", "copy")


class Reader(nn.Module):
    """Reads one token of the sequence at every position; which one, training decides."""

    def __init__(self, n_positions=SHORT):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        nn.init.normal_(self.words.weight, std=0.3)
        self.attention = Attention(WIDTH, 1, Learned(n_positions, WIDTH, std=0.1))
        self.output = nn.Linear(WIDTH, WORDS)

    def forward(self, ids, mask=None):
        return self.output(self.attention(self.words(ids), mask=mask))


def wanted(task, ids):
    """Return the answers: the token before ("previous"), or the one as far from the other end."""
    return ids.roll(1, 1) if task == "previous" else ids.flip(1)


def train(model, task, n, steps, rate, seed, **options):
    """Train on random sequences of n tokens; of "previous", the first position has no answer."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, **{"weight_decay": 0, **options})
    first = int(task == "previous")
    for _ in range(steps):
        ids = torch.randint(WORDS, (32, n), generator=draw)
        scores, answers = model(ids)[:, first:], wanted(task, ids)[:, first:]
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def right(model, task, n, mask=None):
    """Share of right answers at every position, over 256 sequences."""
    ids = torch.randint(WORDS, (256, n), generator=torch.Generator().manual_seed(9))
    return (model(ids, mask).argmax(-1) == wanted(task, ids)).double().mean(0).numpy()


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
def trained(task):
    """Return the model trained at length 12."""
    torch.manual_seed(0)
    return train(Reader(), task, SHORT, STEPS, 5e-3, seed=0)


def lengthened(model, remedy):
    """Return a copy of the model with a table of 24 rows."""
    longer = copy.deepcopy(model)
    method, alpha = ("hierarchical", 0.0) if remedy == "copy" else (remedy, 0.4)
    torch.manual_seed(1)
    longer.attention.encoding = model.attention.encoding.resize(LONG, method, alpha=alpha)
    return longer


# The table, half of it trained


@one_thread
def table_data(decay=0.0, steps=STEPS):
    """Tables (24, 64) before and after training on sequences of 12 tokens."""
    torch.manual_seed(0)
    model = Reader(LONG)
    before = model.attention.encoding.weight.detach().numpy().copy()
    train(model, "previous", SHORT, steps, 5e-3, seed=0, weight_decay=decay)
    return before, model.attention.encoding.weight.detach().numpy().copy()


def table(say):
    before, after = (rows[:, :32] for rows in table_data())
    fig = style.figure(3.15)
    ax = style.canvas(fig)
    cell, bottom = (0.062, 0.1), 0.12
    titles = say("训练前", "before training"), say("训练后", "after training")
    for i, (rows, title) in enumerate(zip((before, after), titles, strict=True)):
        x = 0.5 + 2.25 * i
        heat(ax, rows, x, bottom, cell, limit=0.8)
        write(ax, x + 16 * cell[0], bottom + 24 * cell[1] + 0.3, title)
    for k in (0, 12, 23):
        write(ax, 0.42, bottom + (23.5 - k) * cell[1], str(k), SMALL, MUTED, ha="right")
    corner = 2.75, bottom
    size = 32 * cell[0], 12 * cell[1]
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=C1, linewidth=1.6))
    fig.set_label(
        say(
            "24 行的表的热图，训练前和训练后。用 12 个词元的序列训练，"
            "0 到 11 行变了，数值变大；框里的 12 到 23 行一个数也没变。",
            "Heat maps of a table of 24 rows before and after training on sequences of 12 tokens. "
            "Rows 0 to 11 have changed and grown; rows 12 to 23, framed, are what they were.",
        )
    )
    return fig


# What training makes of the table


@torch.no_grad()
def between(model):
    """Logits between positions alone: the rows as queries against the rows as keys."""
    layer = model.attention
    rows = layer.encoding.weight
    return (layer.query(rows) @ layer.key(rows).T).numpy() / WIDTH**0.5


def geometry_data():
    """Logits (3, 12, 12) between positions: untrained, and trained for the two tasks."""
    torch.manual_seed(0)
    untrained = Reader()
    return np.stack([between(m) for m in (untrained, trained("previous"), trained("mirror"))])


def geometry(say):
    logits = geometry_data()
    # Each row without its mean, which a softmax does not see.
    logits = np.maximum(logits - logits.mean(axis=-1, keepdims=True), 0)
    fig = style.figure(2.05)
    ax = style.canvas(fig)
    cell = 0.112
    titles = (
        say("未训练", "untrained"),
        say("读前一个词元", "the token before"),
        say("读镜像位置的词元", "the mirrored token"),
    )
    for i, title in enumerate(titles):
        x = 0.32 + 1.5 * i
        heat(ax, logits[i], x, 0.3, (cell, cell))  # each with a scale of its own
        write(ax, x + 6 * cell, 0.3 + 12 * cell + 0.18, title, SMALL)
    write(ax, 0.32 + 6 * cell, 0.13, say("键的位置", "key position"), SMALL, MUTED)
    label = say("查询的位置", "query position")
    write(ax, 0.17, 0.3 + 6 * cell, label, SMALL, MUTED, rotation=90)
    fig.set_label(
        say(
            "位置之间的 logit，三张 12×12 的图。未训练时没有规律；"
            "学读前一个词元，紧挨对角线的下方变亮；学读镜像位置的词元，反对角线变亮。",
            "Logits between positions, three maps of 12 by 12. Untrained there is no pattern; "
            "trained to read the token before, the line below the diagonal is bright; trained to "
            "read the mirrored token, the other diagonal is.",
        )
    )
    return fig


# Two ways to line up the old and the new rows


def sampling_data(n=4, n_new=8):
    """Points in a table of 4 rows at which 8 rows are read, for both conventions."""
    return {align: sampling_points(n, n_new, align=align) for align in ("ends", "centres")}


def sampling(say):
    points = sampling_data()
    fig = style.figure(2.9)
    ax = style.canvas(fig)
    left, step = 0.62, 1.02
    titles = {
        "ends": say("对齐首尾", "ends on ends"),
        "centres": say("对齐单元格", "cells on cells"),
    }
    for (align, at), y in zip(points.items(), (1.75, 0.3), strict=True):
        write(ax, 0.08, y + 0.87, titles[align], ha="left")
        ax.plot([left, left + 3 * step], [y, y], color=GRID, linewidth=1.2)
        for row in range(4):
            x = left + row * step
            if align == "centres":
                edge = {"fill": False, "edgecolor": GRID, "linewidth": 0.8}
                ax.add_patch(Rectangle((x - step / 2, y - 0.11), step, 0.22, **edge))
            ax.plot(x, y, "o", color=C0, markersize=8)
            write(ax, x, y - 0.22, str(row), SMALL, C0)
        for k, t in enumerate(at):
            shown = left + step * (t if align == "ends" else (k + 0.5) / 2 - 0.5)
            ax.plot(shown, y + 0.5, "o", color=C1, markersize=5)
            write(ax, shown, y + 0.66, str(k), SMALL, C1)
            arrow(ax, (shown, y + 0.45), (left + step * t, y + 0.09), MUTED)
    fig.set_label(
        say(
            "四行旧表和八行新表的两种对法。对齐首尾：新的 0 行和 7 行落在旧的 0 行和 3 行上。"
            "对齐单元格：新的点在旧行两侧各偏四分之一，最外两个点退回到边上的旧行。",
            "Four old rows and eight new ones, lined up in two ways. Ends on ends: new rows 0 and "
            "7 lie on old rows 0 and 3. Cells on cells: new points lie a quarter to both sides of "
            "every old row, and the two outermost are moved onto the rows at the edges.",
        )
    )
    return fig


# Blocks

ALPHAS = (0.0, 0.4, 0.5)


def blocks_data(n=4, d=64):
    """Distances (3, 16, 16) of the rows made of 4 random ones, for three shares of the block."""
    p = np.random.default_rng(0).normal(size=(n, d)) / d**0.5
    made = [hierarchical(p, n * n, alpha=alpha) for alpha in ALPHAS]
    return np.stack([np.linalg.norm(q[:, None] - q, axis=-1) for q in made])


def blocks(say):
    distances = blocks_data()
    fig = style.figure(2.1)
    ax = style.canvas(fig)
    cell = 0.088
    tails = (
        say("照抄", "copies"),
        say("各不相同", "all differ"),
        say("两两重合", "coincide in pairs"),
    )
    for i, (alpha, tail) in enumerate(zip(ALPHAS, tails, strict=True)):
        x = 0.17 + 1.55 * i
        near = np.maximum(1 - distances[i] / 2, 0)
        heat(ax, near, x, 0.15, (cell, cell), limit=1)
        for r, s in np.argwhere(distances[i] < 1e-9):
            if r != s:
                corner = x + s * cell, 0.15 + (15 - r) * cell
                frame = {"fill": False, "edgecolor": C1, "linewidth": 1.4}
                ax.add_patch(Rectangle(corner, cell, cell, **frame))
        write(ax, x + 8 * cell, 0.15 + 16 * cell + 0.17, f"α = {alpha:g} · {tail}", SMALL)
    fig.set_label(
        say(
            "四行随机向量造出十六行，三张 16×16 的相似图。α = 0 时每四行重复一遍；"
            "α = 0.4 时除自己之外没有相同的；α = ½ 时，(r, s) 与 (s, r) 相同。",
            "Sixteen rows made of four random ones, three maps of 16 by 16. With α = 0 every four "
            "rows repeat; with 0.4 no row equals another; with ½ the rows (r, s) and (s, r) do.",
        )
    )
    return fig


# The remedies compared


@one_thread
def remedies_data(task):
    """Share of right answers (4, 2, 24) per remedy, before and after 80 more steps, and place."""
    model, found = trained(task), []
    for remedy in REMEDIES:
        longer = lengthened(model, remedy)
        before = right(longer, task, LONG)
        found.append((before, right(train(longer, task, LONG, MORE, 3e-3, 7), task, LONG)))
    return np.array(found)


@one_thread
def window_data():
    """Share of right answers (24,) with the table copied and a window of ± 5 positions."""
    at = torch.arange(LONG)
    near = (at[:, None] - at).abs() <= SHORT // 2 - 1
    return right(lengthened(trained("previous"), "copy"), "previous", LONG, near)


def remedies(say):
    fig = style.figure(4.75)
    ax = style.canvas(fig)
    left, cell = 1.28, (0.141, 0.2)
    names = (
        say("随机行", "random rows"),
        say("拉伸", "stretched"),
        say("分层", "hierarchical"),
        say("照抄", "copied"),
    )
    titles = say("读前一个词元", "the token before"), say("读镜像位置的词元", "the mirrored token")
    for i, (task, title) in enumerate(zip(("previous", "mirror"), titles, strict=True)):
        shares = remedies_data(task)
        for j, when in enumerate(
            (say("不再训练", "no more training"), say(f"再训练 {MORE} 步", f"{MORE} more steps"))
        ):
            y = 3.6 - 2.34 * i - 1.15 * j
            write(ax, left, y + 4 * cell[1] + 0.12, f"{title} · {when}", SMALL, ha="left")
            first = int(task == "previous")
            heat(ax, shares[:, j, first:], left + first * cell[0], y, cell, limit=1)
            x = left + SHORT * cell[0]
            ax.plot([x, x], [y - 0.03, y + 4 * cell[1]], color=C1, linewidth=1.6)
            for k, name in enumerate(names):
                write(ax, left - 0.08, y + (3.5 - k) * cell[1], name, SMALL, MUTED, ha="right")
    fig.set_label(
        say(
            "四种补救在每个位置上的正确率，两个任务，再训练之前和之后。随机行：读前一个词元时，"
            "旧位置全对、新位置全错，再训练后仍多半错；其余三种起初处处出错，再训练后几乎全对。",
            "Share of right answers at every position for four remedies and two tasks, before and "
            "after more training. Random rows keep the old positions right for the token before, "
            "and leave most new ones wrong even after training; the other three are wrong all over "
            "at first and nearly all right afterwards.",
        )
    )
    return fig


# Padding

SENTENCES = ("<s> the cat sleeps </s>", "<s> cats sleep </s> <pad>")


def roberta_data():
    """Words, positions and rows of two sentences in RoBERTa's numbering, each (2, 5)."""
    words = [sentence.split() for sentence in SENTENCES]
    real = np.array([[word != "<pad>" for word in row] for row in words])
    positions = padded_positions(real)
    return words, positions, positions + 1 + 1


def roberta(say):
    words, positions, rows = roberta_data()
    fig = style.figure(2.75)
    ax = style.canvas(fig)
    left, step = 1.0, 0.76
    labels = (
        say("词元", "token"),
        say("位置", "position"),
        say("表的行", "row"),
    )
    for i in range(2):
        top = 2.55 - 1.0 * i
        for j, label in enumerate(labels):
            write(ax, left - 0.25, top - 0.26 * j, label, SMALL, MUTED, ha="right")
        for k, word in enumerate(words[i]):
            x, padding = left + 0.25 + k * step, word == "<pad>"
            colour = C1 if padding else INK
            write(ax, x, top, word, SMALL, colour)
            write(ax, x, top - 0.26, style.minus(str(positions[i, k])), colour=colour)
            write(ax, x, top - 0.52, str(rows[i, k]), colour=C1 if padding else C0)
    y, cell = 0.22, 0.4
    texts = [("0", GRID), ("1", C1), *((str(k), C0) for k in range(2, 7)), ("…", C0), ("513", C0)]
    for k, (text, colour) in enumerate(texts):
        ground = {"facecolor": colour, "alpha": 0.25, "edgecolor": "none"}
        ax.add_patch(Rectangle((0.7 + k * cell, y), cell - 0.04, 0.26, **ground))
        write(ax, 0.7 + (k + 0.45) * cell, y + 0.13, text, SMALL)
    unused, pad = say("不用", "unused"), say("填充", "padding")
    write(ax, 0.62, y + 0.13, unused, SMALL, MUTED, ha="right")
    write(ax, 0.7 + 1.45 * cell, y - 0.13, pad, SMALL, C1)
    write(ax, 0.7 + 5.4 * cell, y - 0.13, say("512 个位置", "512 positions"), SMALL, C0)
    fig.set_label(
        say(
            "两句话在 RoBERTa 里的编号。第一句五个词元，位置 0 到 4，取表的 2 到 6 行；"
            "第二句末尾是填充，位置 −1，取第 1 行。"
            "整张表 514 行：0 行不用，1 行给填充，其余给位置。",
            "Two sentences numbered as in RoBERTa. The first has five tokens, positions 0 to 4, "
            "rows 2 to 6; the second ends with padding, position −1, row 1. The table has 514 "
            "rows: row 0 is unused, row 1 is for padding, the others are for positions.",
        )
    )
    return fig
