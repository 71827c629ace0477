"""The cells of a notebook kept as a script in jupytext's percent format."""

import re
from collections.abc import Iterator
from itertools import zip_longest

CELL = re.compile(r'(?m)^# %%(?: +\[(?P<type>\w+)\])?(?:.*?\blang="(?P<lang>\w+)")?.*$')


def cells(source: str) -> Iterator[tuple[int, str, str]]:
    """First line, kind and text: the kind is ``code``, a language, or ``all`` for both."""
    starts = list(CELL.finditer(source))
    for cell, after in zip_longest(starts, starts[1:]):
        body = source[cell.end() + 1 : after.start() if after else None]
        kind = "code" if cell["type"] is None else cell["lang"] or "all"
        text = body if kind == "code" else re.sub(r"(?m)^# ?", "", body)
        yield source.count("\n", 0, cell.start()) + 2, kind, text
