"""The first picture of the site."""

import numpy as np

from posenc.equations.attention import attention
from scripts.figures.attention import ORDERS, circles, words
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, GRID, INK, MUTED, PAPER, SMALL, write


def first_data():
    """Outputs (2, 2, 3, 2): without and with positions, of either sentence, by word."""
    rng = np.random.default_rng(1929)
    tokens, (query, key, value) = rng.normal(size=(3, 2)), rng.normal(size=(3, 2, 2))
    inputs = tokens[ORDERS] + np.stack([np.zeros((3, 2)), circles(3, 1)])[:, None]
    outputs = attention(inputs @ query, inputs @ key, inputs @ value)
    return outputs[:, [[0], [1]], np.argsort(ORDERS)]


NAMES_AT = (  # where each word's label stands, from its point, in hundredths of the panel
    ((0, 9), (0, 9), (0, 9)),
    ((-9, 7), (0, -9), (-5, -9)),
)


def first(say):
    outputs = first_data()
    low, high = outputs.min(axis=(0, 1, 2)), outputs.max(axis=(0, 1, 2))
    width = 1.4 * (high - low).max()
    corner = (low + high - width) / 2
    fig = style.figure(3.0)
    titles = say("不加位置", "without positions"), say("加上位置", "with positions")
    for i, title in enumerate(titles):
        ax = fig.add_axes((0.02 + 0.5 * i, 0.14, 0.46, 0.46 * 4.8 / 3.0))
        ax.set(xlim=(0, 100), ylim=(0, 100), xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GRID)
        write(ax, 50, 106, title)
        _points(ax, 100 * (outputs[i] - corner) / width, NAMES_AT[i], words(ORDERS[0], say))
    key = style.canvas(fig)
    for x, order, draw in ((0.35, ORDERS[0], _dot), (2.6, ORDERS[1], _ring)):
        draw(key, (x, 0.2), INK)
        write(key, x + 0.18, 0.2, say("", " ").join(words(order, say)), SMALL, MUTED, ha="left")
    fig.set_label(
        say(
            "三个词在两句话里的注意力输出。不加位置，两句话的点重合；加上位置，点分开。",
            "Attention outputs of three words in two sentences. Without positions the points of "
            "both sentences coincide; with positions they part.",
        )
    )
    return fig


def _points(ax, outputs, names_at, names):
    """Draw every word's output in both sentences, joined by a dotted line."""
    for i, colour in enumerate((C0, C2, C1)):
        first, second = outputs[:, i]
        ax.plot(*outputs[:, i].T, color=colour, linewidth=1, linestyle=(0, (2, 2)))
        _ring(ax, second, colour)
        _dot(ax, first, colour)
        write(ax, *(first + names_at[i]), names[i], colour=colour)


def _dot(ax, at, colour):
    ax.plot(*at, "o", color=colour, markersize=6)


def _ring(ax, at, colour):
    look = {"markerfacecolor": PAPER, "markersize": 11, "markeredgewidth": 1.4}
    ax.plot(*at, "o", color=colour, **look)
