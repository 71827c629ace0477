"""How figures look: colours that follow the page's palette, type, and a few drawing helpers.

A colour here is a stand-in: the finished SVG says ``currentColor`` or ``var(--pe-...)`` instead,
so that a figure follows the switch between light and dark.
"""

import functools
import importlib.util
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import NullLocator

INK, PAPER, MUTED, GRID = "#010203", "#fefdfc", "#5f6470", "#d4d8e0"
C0, C1, C2, C3, C4, C5 = "#0067a5", "#b84a00", "#00795a", "#a2407c", "#7d6200", "#5a5fc0"
H0, H1 = "#74b4df", "#f0a070"  # grounds of heat-map cells: ink stays readable on them

VARIABLES = {
    INK: "currentColor",
    PAPER: "var(--pe-paper)",
    MUTED: "var(--pe-muted)",
    GRID: "var(--pe-grid)",
    **{colour: f"var(--pe-c{i})" for i, colour in enumerate((C0, C1, C2, C3, C4, C5))},
    H0: "var(--pe-h0)",
    H1: "var(--pe-h1)",
}

SIZE, SMALL = 9.6, 9.2  # points; a figure 4.8 inches wide shows them as CSS pixels on a phone

SETTINGS = {
    "font.family": ["Noto Sans SC", "DejaVu Sans"],
    "font.size": SIZE,
    "axes.titlesize": SIZE,
    "axes.labelsize": SIZE,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "patch.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "posenc",
    "svg.image_inline": False,
}


def prepare():
    """Set matplotlib up from its own defaults, whatever the machine's settings say."""
    _add_font()
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(SETTINGS)


@functools.cache
def _add_font():
    """Add a font that has metrics for Chinese; importing its package would change settings."""
    package = importlib.util.find_spec("zhplot")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("figures need the package zhplot, for its Chinese font")
    fonts = sorted(Path(package.origin).parent.rglob("NotoSansSC-Regular.ttf"))
    fontManager.addfont(str(fonts[0]))


def figure(height, width=4.8):
    """Return an empty figure, in inches; 4.8 wide keeps text readable on a phone."""
    return Figure(figsize=(width, height))


def canvas(fig, box=(0, 0, 1, 1)):
    """Return axes without frame whose unit is the inch, for diagrams."""
    width, height = fig.get_size_inches()
    ax = fig.add_axes(box)
    ax.set(xlim=(box[0] * width, (box[0] + box[2]) * width))
    ax.set(ylim=(box[1] * height, (box[1] + box[3]) * height))
    ax.axis("off")
    return ax


def heat(ax, matrix, x=0.0, y=0.0, cell=(1.0, 1.0), numbers=None, limit=None):
    """Draw a matrix as cells, first row on top, with its lower left corner at (x, y).

    Opacity is proportional to |value| / limit; negative values take the second colour.
    ``numbers`` is the format of the numbers written in the cells, for instance ``".2f"``.
    """
    matrix = np.atleast_2d(np.asarray(matrix, dtype=float))
    colours = (H0, H1) if numbers else (C0, C1)
    limit = limit or np.abs(matrix).max() or 1.0
    for (row, column), value in np.ndenumerate(matrix):
        corner = (x + column * cell[0], y + (len(matrix) - 1 - row) * cell[1])
        share = round(min(abs(value) / limit, 1.0), 3)
        ground = {"facecolor": colours[int(value < 0)], "alpha": share, "edgecolor": "none"}
        ax.add_patch(Rectangle(corner, *cell, clip_on=False, linewidth=0, **ground))
        if numbers:
            at = (corner[0] + cell[0] / 2, corner[1] + cell[1] / 2)
            write(ax, *at, minus(format(value, numbers)))
    outline = {"fill": False, "edgecolor": GRID, "linewidth": 0.8, "clip_on": False}
    ax.add_patch(Rectangle((x, y), matrix.shape[1] * cell[0], len(matrix) * cell[1], **outline))


def minus(text):
    """Replace the hyphen of a negative number by a minus sign, and minus zero by zero."""
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", "\N{MINUS SIGN}")


def write(ax, x, y, text, size=SIZE, colour=INK, ha="center", va="center_baseline", **more):
    """Write one line of text that keeps its alignment in any font."""
    more = {"rotation_mode": "anchor", "clip_on": False, **more}
    return ax.text(x, y, text, fontsize=size, color=colour, ha=ha, va=va, **more)


def arrow(ax, start, end, colour=MUTED, **more):
    """Draw an arrow from start to end."""
    more = {"linewidth": 1.2, "shrinkA": 0, "shrinkB": 0, "clip_on": False, **more}
    head = "-|>,head_length=4,head_width=2"
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle=head, color=colour, **more))


def ticks(axis, labels):
    """Put the given labels, a dict from value to plain text, on an axis; no other ticks."""
    axis.set_ticks(list(labels), list(labels.values()))
    axis.set_minor_locator(NullLocator())


def power(exponent):
    """Return 10 to an integer power as plain text."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def box(ax, x, y, width, height, text, colour=MUTED, size=SIZE):
    """Draw a rounded box with one line of text; (x, y) is its centre."""
    corner = (x - width / 2 + 0.06, y - height / 2 + 0.06)
    shape = {"boxstyle": "round,pad=0.06,rounding_size=0.08", "fill": False, "edgecolor": colour}
    ax.add_patch(FancyBboxPatch(corner, width - 0.12, height - 0.12, linewidth=1, **shape))
    write(ax, x, y, text, size)
