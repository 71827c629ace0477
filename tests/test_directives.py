"""Directives of a page: found in prose, left alone in code, errors with their place."""

import pytest

from scripts.sitegen.directives import expand, find

PAGE = """# Title
One [[claim a.b | 1.2]] and [[value a.b.c | .2f]].
```python title="x"
[[claim not.this]]
```
[[figure a.f | A caption with $x_{[1]}$ | and a bar.]]
~~~~
[[code nor.this]]
```
~~~~
[[ledger]]
"""


def test_directives_are_found_with_their_lines():
    found = find(PAGE)
    assert [(d.name, d.argument, d.line) for d in found] == [
        ("claim", "a.b", 2),
        ("value", "a.b.c", 2),
        ("figure", "a.f", 6),
        ("ledger", "", 11),
    ]
    assert found[2].rest == "A caption with $x_{[1]}$ | and a bar."


def test_code_is_left_alone():
    makers = dict.fromkeys(("claim", "value", "figure", "ledger"), lambda argument, rest: "#")
    assert expand(PAGE, makers, "page.md") == PAGE.replace(
        "One [[claim a.b | 1.2]] and [[value a.b.c | .2f]].", "One # and #."
    ).replace("[[figure a.f | A caption with $x_{[1]}$ | and a bar.]]", "#").replace(
        "[[ledger]]", "#"
    )


def test_an_unknown_directive_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"page\.md:2: no directive 'clam'; known: claim"):
        expand("\n[[clam x]]", {"claim": str}, "page.md")


def test_an_error_of_a_maker_is_named_with_its_place():
    def fails(argument, rest):
        raise KeyError("no such thing")

    with pytest.raises(ValueError, match=r"page\.md:1: \[\[claim x\]\]: no such thing"):
        expand("[[claim x]]", {"claim": fails}, "page.md")
