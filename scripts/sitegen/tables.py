"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], rules: Sequence[str] = ()) -> str:
    r"""A Markdown table; a rule such as `---:` aligns its column.

    >>> print(table(["name", "size"], [["a", "1"]], ["---", "---:"]))
    | name | size |
    | --- | ---: |
    | a | 1 |
    """
    lines = [head, rules or ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
