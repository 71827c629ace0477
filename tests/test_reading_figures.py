"""The figure of the reading list: the blanks of the first note."""

from scripts.figures import reading as figures
from scripts.sitegen import coverage
from scripts.sitegen.tree import ROOT


def test_the_blanks_are_those_of_the_coverage_in_order_and_apart():
    assert list(figures.BLANKS) == list(coverage.load(ROOT)["blanks"])
    ends = [0, *(line for span in figures.BLANKS.values() for line in span)]
    assert ends == sorted(ends)
    assert all(
        before < after for (_, before), (after, _) in zip(*pairs(figures.BLANKS), strict=True)
    )
    assert ends[-1] <= figures.LINES


def pairs(spans):
    found = list(spans.values())
    return found[:-1], found[1:]


def test_every_line_belongs_to_its_blank_or_to_none():
    lines = figures.blanks_data()
    assert len(lines) == 150
    assert lines.count(0) == 150 - 36
    assert [lines.count(number) for number in range(1, 8)] == [8, 1, 5, 1, 9, 3, 9]
    assert [lines[0], lines[8], lines[139], lines[148]] == [1, 0, 7, 0]
