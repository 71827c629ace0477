"""Figures of the page on the four terms: who keeps which, and what a constant sequence shows.

The offset is t = j - i, key position minus query position. Every figure's numbers come from a
function ``<figure>_data``.
"""

import functools

import numpy as np
from matplotlib.patches import Rectangle

from posenc.equations.relative import convolve, dependence, score_terms, tupe_logits
from posenc.equations.rope import rotate
from posenc.equations.sinusoidal import sinusoidal
from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, C2, C3, C4, GRID, INK, MUTED, SMALL, heat, write

BASE, WIDTH = 100.0, 8


def above(ax, text, x=0.0, dy=1.06, colour=INK, ha="left"):
    """Write a title above axes."""
    write(ax, x, dy, text, transform=ax.transAxes, ha=ha, colour=colour)


# Logits of published schemes, from the tokens of one head, without the scale


def random_maps(names, d=WIDTH):
    """One random d x d map, scaled to keep the size of vectors, for each name."""
    rng = np.random.default_rng(7)
    return {name: rng.normal(size=(d, d)) / np.sqrt(d) for name in names}


def schemes(d=WIDTH):
    """Logits of each scheme as a function of tokens x, y and of their positions i, j."""
    maps = random_maps(("q", "k", "r_q", "r_k", "u_q", "u_k"), d)
    u, v, b = np.random.default_rng(8).normal(size=(3, d))

    def place(at):
        return sinusoidal(at, d, BASE)

    def apart(i, j):
        """Vector of every offset, (n_q, n_k, d)."""
        return sinusoidal(j - i[:, None], d, BASE)

    def content(x, y):
        return (x @ maps["q"]) @ (y @ maps["k"]).T

    def asks(q, vectors):
        return np.einsum("id,ijd->ij", q, vectors)

    def answers(k, vectors):
        return np.einsum("jd,ijd->ij", k, vectors)

    def absolute(x, y, i, j):
        return content(x + place(i), y + place(j))

    def shaw(x, y, i, j):
        return content(x, y) + asks(x @ maps["q"], apart(i, j))

    def xlnet(x, y, i, j):
        q, k, r = x @ maps["q"], y @ maps["k"], apart(i, j) @ maps["r_k"]
        return (q + u) @ k.T + asks(q + v, r)

    def t5(x, y, i, j):
        return content(x, y) + apart(i, j) @ b

    def deberta(x, y, i, j):
        r = apart(i, j)
        to_place = asks(x @ maps["q"], r @ maps["r_k"])
        return content(x, y) + to_place + answers(y @ maps["k"], r @ maps["r_q"])

    def rope(x, y, i, j):
        return rotate(x @ maps["q"], i, BASE) @ rotate(y @ maps["k"], j, BASE).T

    def tupe(x, y, i, j):
        return content(x, y) + place(i) @ maps["u_q"] @ (place(j) @ maps["u_k"]).T

    return {
        "nope": lambda x, y, i, j: content(x, y),
        "absolute": absolute,
        "shaw": shaw,
        "xlnet": xlnet,
        "t5": t5,
        "deberta": deberta,
        "urpe": t5,  # the same within the softmax; the difference comes after it
        "rope": rope,
        "tupe": tupe,
    }


# The picture of the chapter: what each scheme does with the four terms

BEHIND = {"absolute": ("key", None), "shaw": ("offset", None), "urpe": (None, "offset")}


def choices_data():
    """For each scheme the words of ``dependence`` for ee, ep, pe, pp; then values and weights."""
    x, y = np.random.default_rng(9).normal(size=(2, 5, WIDTH))
    return {
        name: (*dependence(score, x, y), *(w or "none" for w in BEHIND.get(name, (None, None))))
        for name, score in schemes().items()
    }


MARKS = {"none": "", "absent": "", "query": "i", "key": "j", "offset": "j − i", "both": "i, j"}
GROUNDS = {"none": C0, "query": C1, "key": C1, "both": C1, "offset": C2}


def choices(say):
    rows = choices_data()
    fig = style.figure(4.75)
    ax = style.canvas(fig)
    names = {
        "nope": say("无位置编码", "none (NoPE)"),
        "absolute": say("绝对位置", "absolute"),
        "shaw": "Shaw",
        "xlnet": "XLNet",
        "t5": "T5",
        "deberta": "DeBERTa",
        "urpe": "URPE",
        "rope": "RoPE",
        "tupe": "TUPE",
    }
    heads = ("ee", "ep", "pe", "pp", say("值", "values"), say("权重", "weights"))
    left, top, width, height = 1.12, 4.05, 0.56, 0.37
    column = [left + n * (width + 0.03) + 0.12 * (n > 3) for n in range(6)]
    for x, head in zip(column, heads, strict=True):
        write(ax, x + width / 2, top + 0.2, head, SMALL, MUTED)
    write(ax, column[1] + 2 * width - width / 2, top + 0.48, say("四项", "four terms"), SMALL)
    for n, (name, words) in enumerate(rows.items()):
        y = top - (n + 1) * height - 0.1 * (n > 0) - 0.1 * (n > 1) - 0.1 * (n > 6)
        write(ax, left - 0.1, y + 0.16, names[name], SMALL, ha="right")
        for m, (x, word) in enumerate(zip(column, words, strict=True)):
            _choice(ax, x, y, (width, height - 0.05), word if m < 4 or word != "none" else "absent")
    legend = (
        (C0, say("只有内容", "content alone")),
        (C1, say("绝对位置", "places")),
        (C2, say("偏移", "offset")),
        (None, say("没有", "absent")),
    )
    for (colour, text), x in zip(legend, (0.32, 1.62, 2.62, 3.62), strict=True):
        _choice(ax, x, 0.1, (0.2, 0.2), {C0: "none", C1: "key", C2: "offset"}.get(colour), False)
        write(ax, x + 0.28, 0.2, text, SMALL, ha="left")
    fig.set_label(
        say(
            "九种编码各一行，六列是四项、值、权重。颜色说明每一格知道什么：只有内容、绝对位置、"
            "偏移，空白表示没有这一项。",
            "One row for each of nine schemes; six columns for the four terms, values and weights. "
            "Colours say what a cell knows: content alone, places, the offset; blank is absent.",
        )
    )
    return fig


def _choice(ax, x, y, size, word, marked=True):
    colour = GROUNDS.get(word)
    look = {"facecolor": colour, "alpha": 0.28} if colour else {"fill": False}
    ax.add_patch(Rectangle((x, y), *size, linewidth=0, edgecolor="none", **look))
    ax.add_patch(Rectangle((x, y), *size, fill=False, linewidth=0.8, edgecolor=GRID))
    if marked and MARKS.get(word):
        write(ax, x + size[0] / 2, y + size[1] / 2, MARKS[word], SMALL)


# Four terms that add up to the fifth, twice: absolute, and relative

TOKENS = 12


def terms_data():
    """Terms and sum (5, n, n) of one random sentence, for absolute positions and for XLNet's."""
    d = 16
    x = np.random.default_rng(3).normal(size=(TOKENS, d)) / np.sqrt(2)
    i = np.arange(TOKENS)
    found = {}
    for name in ("absolute", "xlnet"):
        score = schemes(d)[name]
        terms = score_terms(lambda x, y, score=score: score(x, y, i, i), x, x)
        found[name] = np.concatenate([terms, terms.sum(axis=0, keepdims=True)])
    return found


def terms(say):
    fig = style.figure(3.0)
    ax = style.canvas(fig)
    cell = (0.065, 0.065)
    side = TOKENS * cell[0]
    left = (0.1, 1.06, 2.02, 2.98, 3.92)
    titles = {
        "absolute": say("绝对位置：词元加位置向量", "absolute: token plus position vector"),
        "xlnet": say(
            "XLNet：ep 和 pp 只看偏移，pe 不看位置", "XLNet: offsets in ep, pp; none in pe"
        ),
    }
    for (name, maps), y in zip(terms_data().items(), (1.62, 0.18), strict=True):
        limit = 0.75 * np.abs(maps).max()
        write(ax, left[0], y + side + 0.36, titles[name], ha="left")
        for matrix, x, head in zip(maps, left, ("ee", "ep", "pe", "pp", "logit"), strict=True):
            heat(ax, matrix, x, y, cell, limit=limit)
            write(ax, x + side / 2, y + side + 0.12, head, SMALL, MUTED)
        for x, sign in zip(left[1:], "+++=", strict=True):
            write(ax, x - 0.09, y + side / 2, sign, 12)
    fig.set_label(
        say(
            "两行热图，每行四张相加得到第五张。上行绝对位置：ep 沿行渐变，pe 沿列渐变，"
            "pp 两个方向都渐变。"
            "下行 XLNet：ep 的渐变跟着偏移走，pe 由竖条组成，pp 是平行的对角带。",
            "Two rows of heat maps, four of which add up to the fifth. Above, absolute positions: "
            "ep changes smoothly along rows, pe along columns, pp along both. Below, XLNet: ep "
            "changes with the offset, pe is striped, pp is made of parallel diagonal bands.",
        )
    )
    return fig


# Identical tokens: who can tell their places?

SAME = 10


def _layers():
    """Torch modules of the experiment, made here so that the other figures need no torch."""
    import torch
    from torch import nn

    from posenc.layers.attention import Attention, PositionEncoding
    from posenc.layers.relative import Tupe
    from posenc.layers.rope import Rope
    from posenc.layers.shaw import Shaw, ShawKeys
    from posenc.layers.sinusoidal import Sinusoidal
    from posenc.layers.t5 import T5
    from posenc.layers.urpe import Urpe

    class InQueries(PositionEncoding):
        """Position vectors in queries and keys only."""

        def rotate(self, q, k, q_positions, k_positions):
            return q + places(q_positions), k + places(k_positions)

    def places(at):
        return torch.from_numpy(sinusoidal(at.numpy(), 4, BASE))

    class Model(nn.Module):
        """Layers with residual stream, normalisation and feed-forward network."""

        def __init__(self, encoding, depth=1, causal=False):
            super().__init__()
            torch.manual_seed(1)
            self.encoding = encoding
            options = {"causal": causal, "first": False}
            self.attend = nn.ModuleList(Attention(8, 2, encoding, **options) for _ in range(depth))
            self.norm = nn.ModuleList(nn.LayerNorm(8) for _ in range(2 * depth))
            self.feed = nn.ModuleList(
                nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(depth)
            )
            self.double()

        def forward(self, x):
            at = torch.arange(x.shape[1])
            x = self.encoding.embed(x, at)
            for n, (attend, feed) in enumerate(zip(self.attend, self.feed, strict=True)):
                x = x + attend(self.norm[2 * n](x), at)
                x = x + feed(self.norm[2 * n + 1](x))
            return x

    torch.manual_seed(0)
    encodings = {
        "nope": PositionEncoding(),
        "t5": T5(2),
        "shaw_keys": ShawKeys(4, SAME),
        "rope": Rope(4),
        "tupe": Tupe(SAME + 1, 8, 2, class_token=True),
        "in_queries": InQueries(),
        "absolute": Sinusoidal(8),
        "shaw_values": Shaw(4, SAME),
        "urpe": Urpe(T5(2), 2, SAME),
    }
    for parameter in nn.ModuleDict(encodings).parameters():
        nn.init.normal_(parameter)
    return encodings, Model


INSIDE = ("nope", "t5", "shaw_keys", "rope", "tupe", "in_queries")


@functools.cache
def constant_data():
    """Greatest distance between outputs of ten identical tokens, for each model."""
    import torch

    encodings, Model = _layers()
    x = torch.randn(8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    same = x.expand(1, SAME, 8)
    first = torch.cat([-x[None, None], same], dim=1)

    def spread(model, tokens=same, skip=0):
        with torch.no_grad():
            z = model(tokens)[0, skip:]
        return float((z - z[:1]).abs().max())

    found = {name: spread(Model(encoding)) for name, encoding in encodings.items()}
    found["t5_causal"] = spread(Model(encodings["t5"], causal=True))
    found["rope_causal"] = spread(Model(encodings["rope"], causal=True))
    found["t5_deep"] = spread(Model(encodings["t5"], depth=6))
    found["rope_deep"] = spread(Model(encodings["rope"], depth=6, causal=True))
    found["bos"] = spread(Model(encodings["t5"]), first, skip=1)
    found["bos_nope"] = spread(Model(encodings["nope"]), first, skip=1)
    found["bos_causal"] = spread(Model(encodings["nope"], causal=True), first, skip=1)
    return found


FLOOR = 1e-17


def constant(say):
    data = constant_data()
    rows = (
        ("nope", say("无位置编码", "none (NoPE)")),
        ("t5", say("按偏移的偏置（T5）", "bias per offset (T5)")),
        ("t5_causal", say("同上，因果掩码", "the same, causal mask")),
        ("t5_deep", say("同上，六层", "the same, six layers")),
        ("shaw_keys", say("Shaw 的键", "Shaw's keys")),
        ("rope", "RoPE"),
        ("rope_deep", say("RoPE，六层，因果", "RoPE, six layers, causal")),
        ("tupe", "TUPE"),
        ("in_queries", say("p 只进 q 和 k", "p in q and k only")),
        (None, ""),
        ("absolute", say("p 加到输入上", "p added to the input")),
        ("shaw_values", say("Shaw 的值", "Shaw's values")),
        ("bos", say("按偏移的偏置，加 BOS", "bias per offset, BOS")),
        ("bos_causal", say("只有因果掩码和 BOS", "causal mask and BOS alone")),
        ("urpe", say("softmax 后的系数（URPE）", "factor behind softmax (URPE)")),
    )
    fig = style.figure(4.3)
    ax = fig.add_axes((0.44, 0.13, 0.53, 0.85))
    for n, (name, text) in enumerate(rows):
        if name:
            size = max(data[name], FLOOR)
            colour = C1 if size > 1e-9 else C0
            ax.barh(-n, np.log10(size) - np.log10(FLOOR), left=np.log10(FLOOR), color=colour)
            write(ax, -0.02, -n, text, SMALL, transform=ax.get_yaxis_transform(), ha="right")
            if data[name] == 0:
                write(ax, -16.8, -n, "0", SMALL, MUTED, ha="left")
    ax.set(xlim=(-17, 1), ylim=(-len(rows) + 0.4, 0.6), yticks=[])
    style.ticks(ax.xaxis, {e: style.power(e) for e in (-16, -12, -8, -4, 0)})
    ax.set_xlabel(say("各位置输出之间的最大差距", "greatest distance between outputs"))
    fig.set_label(
        say(
            "十四根横条，横轴取对数。位置只在 softmax 之内的九个模型都在 10⁻¹⁴ 以下；"
            "五条出路都在 0.1 以上。",
            "Fourteen bars on a logarithmic axis. The nine models with positions inside the "
            "softmax only stay below 10 to the minus 14, the five ways out lie above 0.1.",
        )
    )
    return fig


# What zero padding gives away

PIXELS, DEPTHS = 41, (1, 4, 16)


def padding_data():
    """Outputs (3, n) of 1, 4 and 16 mean filters on a sequence of ones: zeros, and circular."""
    mean = np.full(3, 1 / 3)
    return {
        padding: np.array(
            [convolve(np.ones(PIXELS), mean, padding=padding, layers=n) for n in DEPTHS]
        )
        for padding in ("zeros", "circular")
    }


def padding(say):
    data = padding_data()
    fig = style.figure(2.9)
    ax = fig.add_axes((0.1, 0.17, 0.87, 0.68))
    for depth, curve, colour in zip(DEPTHS, data["zeros"], (C0, C3, C4), strict=True):
        ax.plot(curve, color=colour, linewidth=1.8, marker=".", markersize=4)
        height = {1: 0.62, 4: 0.46, 16: 0.3}[depth]
        write(
            ax, 20, height, say(f"{depth} 层", f"{depth} layer{'s' * (depth > 1)}"), SMALL, colour
        )
    ax.plot(data["circular"][-1], color=C2, linewidth=1, linestyle="--")
    ax.set(xlim=(0, PIXELS - 1), ylim=(0, 1.15))
    style.ticks(ax.xaxis, {n: str(n) for n in range(0, PIXELS, 10)})
    style.ticks(ax.yaxis, {y: f"{y:g}" for y in (0, 0.5, 1)})
    ax.set_xlabel(say("位置", "position"))
    above(ax, say("填充零", "padded with zeros"))
    above(ax, say("首尾相接（虚线）", "circular (dashed)"), 1, colour=C2, ha="right")
    fig.set_label(
        say(
            "输入处处是 1。填充零时，输出在两端下降，层数越多下降得越深入；首尾相接时处处是 1。",
            "All inputs are 1. Padded with zeros, outputs fall towards both ends, and reach "
            "further inwards with every layer; circular padding leaves 1 everywhere.",
        )
    )
    return fig


# Untied positions, with and without a class token


def tupe_data():
    """The term v of TUPE (2, 12, 12): for words alone, and with a class token in place 0."""
    d, maps = 16, random_maps(("u_q", "u_k"), 16)
    p = sinusoidal(np.arange(TOKENS), d, BASE)
    none, both = np.zeros((TOKENS, d)), (np.eye(d), np.eye(d), maps["u_q"], maps["u_k"])
    return np.array([tupe_logits(none, p, *both, theta=theta) for theta in (None, (0.3, 1.2))])


def tupe(say):
    words, cls = tupe_data()
    fig = style.figure(2.35)
    ax = style.canvas(fig)
    cell = (0.15, 0.15)
    side, limit = TOKENS * cell[0], np.abs(words).max()
    titles = (say("只有词", "words alone"), say("位置 0 是 [CLS]", "place 0 is [CLS]"))
    for matrix, x, title in zip((words, cls), (0.4, 2.65), titles, strict=True):
        heat(ax, matrix, x, 0.1, cell, limit=limit)
        write(ax, x, side + 0.27, title, ha="left")
    write(ax, 2.58, 0.1 + side - 0.07, "ϑ₁", SMALL, C3, ha="right")
    write(ax, 2.58, 0.1 + side / 2, "ϑ₂", SMALL, C3, ha="right")
    fig.set_label(
        say(
            "两张 12×12 的热图。左边每一格都不同；右边第一行是一个数，第一列其余各格是另一个数。",
            "Two heat maps of 12×12. Left, all cells differ; right, the first row is one number, "
            "and the rest of the first column another.",
        )
    )
    return fig
