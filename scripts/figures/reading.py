"""The figure of the reading list: where the first note is blank."""

from matplotlib.patches import Rectangle

from scripts.sitegen import style
from scripts.sitegen.style import C0, C1, GRID, MUTED, PAPER, SMALL, write

LINES, ROW = 150, 50  # of the note, of a row of the figure
BLANKS = {  # first and last line of each, by the name that it has in docs/coverage.yml
    "N0-B1": (1, 8),
    "N0-B2": (14, 14),
    "N0-B3": (16, 20),
    "N0-B4": (37, 37),
    "N0-B5": (40, 48),
    "N0-B6": (85, 87),
    "N0-B7": (140, 148),
}
LEFT, WIDE, HIGH = 0.62, 0.081, 0.26


def blanks_data():
    """For each line of the note the number of the blank that it belongs to, else 0."""
    spans = list(BLANKS.values())
    return [
        next((i for i, (first, last) in enumerate(spans, 1) if first <= line <= last), 0)
        for line in range(1, LINES + 1)
    ]


def blanks(say):
    fig = style.figure(2.05)
    ax = style.canvas(fig)
    for row in range(LINES // ROW):
        first, y = row * ROW + 1, 1.42 - 0.56 * row
        write(ax, LEFT - 0.08, y + HIGH / 2, f"{first}–{first + ROW - 1}", SMALL, MUTED, ha="right")
        _row(ax, blanks_data()[first - 1 : first - 1 + ROW], y)
    fig.set_label(
        say(
            "第一篇笔记的 150 行，七处空白标了号；前六处已由某一页填上，最后一处仍然空着。",
            "The 150 lines of the first note with its seven blanks numbered; pages fill the first "
            "six, the last one stays blank.",
        )
    )
    return fig


def _row(ax, numbers, y):
    """Draw the lines of one row from left to right, and a number above each blank."""
    for place, number in enumerate(numbers):
        look = {"facecolor": GRID, "edgecolor": "none", "linewidth": 0}
        if number == len(BLANKS):
            look = {"facecolor": PAPER, "edgecolor": C1, "linewidth": 1}
        elif number:
            look = {"facecolor": C0, "edgecolor": "none", "linewidth": 0}
        corner = (LEFT + place * WIDE, y)
        ax.add_patch(Rectangle(corner, WIDE * 0.72, HIGH, clip_on=False, **look))
    for number in dict.fromkeys(n for n in numbers if n):
        places = [place for place, n in enumerate(numbers) if n == number]
        middle = LEFT + (sum(places) / len(places) + 0.36) * WIDE
        colour = C1 if number == len(BLANKS) else C0
        write(ax, middle, y + HIGH + 0.1, str(number), SMALL, colour)
