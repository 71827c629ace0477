"""Docstrings in Chinese: what is translated, what stays, and that nothing is missing or stale."""

import doctest
import re
from pathlib import Path
from textwrap import dedent

import griffe
import pytest

from scripts.sitegen import docstrings

ROOT = Path(__file__).resolve().parents[1]
DOC = r"""Halve a number.

    $$
    h(n) = \frac{n}{2}
    $$

    What is left of $n$ is
    again a number:

    - the first point
      goes on,
    - the second.

    Parameters
    ----------
    n
        Number to halve,
        in tokens.
    m, k : int
        Both.

    Returns
    -------
    float
        Half of it.

    Raises
    ------
    TypeError
        If it is a text.

        At once.
    ValueError
        If it is odd.

    Examples
    --------
    Four becomes two.

    >>> for n in [4]:
    ...     half(n)
    2

    A text is refused. Its name : value form too.
    >>> half("x")
    Traceback (most recent call last):
        ...
    TypeError: Number to halve,

    $$a = b$$

    See Also
    --------
    double : The way back,
        as ever.
    posenc.other.triple : Another.

    References
    ----------
    Somebody. *Something*. 2017, arXiv:1706.03762, Section 2.
    """
UNITS = [
    "Halve a number.",
    "What is left of $n$ is again a number:",
    "the first point goes on,",
    "the second.",
    "Number to halve, in tokens.",
    "Both.",
    "Half of it.",
    "If it is a text.",
    "At once.",
    "If it is odd.",
    "Four becomes two.",
    "A text is refused. Its name : value form too.",
    "The way back, as ever.",
    "Another.",
]


def test_units_are_the_prose_and_nothing_else():
    assert docstrings.units(DOC) == UNITS


def test_translation_replaces_units_and_keeps_the_lines_around_them():
    text = docstrings.translated(DOC, {unit: f"<{i}>" for i, unit in enumerate(UNITS)}.get)
    assert text.split("Parameters", 1)[0] == dedent(r"""        <0>

        $$
        h(n) = \frac{n}{2}
        $$

        <1>

        - <2>
        - <3>

        """)
    for lines in (
        "n\n    <4>\nm, k : int\n    <5>\n",
        "float\n    <6>\n",
        "TypeError\n    <7>\n\n    <8>\nValueError\n    <9>\n",
        "<10>\n\n>>> for n in [4]:\n...     half(n)\n2\n\n<11>\n>>> half",
        "\n$$a = b$$\n",
        "double : <12>\nposenc.other.triple : <13>\n",
        "Somebody. *Something*. 2017, arXiv:1706.03762, Section 2.",
    ):
        assert lines in text


def test_a_unit_without_translation_stays_english():
    text = docstrings.translated(DOC, lambda unit: None)
    assert text.split() == docstrings.inspect.cleandoc(DOC).split()


def test_doctests_survive_translation():
    parse = doctest.DocTestParser().get_examples
    for name, text in docstrings.docstrings(ROOT):
        translated = docstrings.translated(text, lambda unit: "译文")
        assert [(e.source, e.want) for e in parse(translated)] == [
            (e.source, e.want) for e in parse(text)
        ], name


def test_only_public_objects_are_wanted(tmp_path):
    package(tmp_path)
    names = [name for name, _ in docstrings.docstrings(tmp_path)]
    assert names == ["posenc", "posenc.a", "posenc.a.f", "posenc.a.C", "posenc.a.C.method"]


SOURCE = '''
"""Module."""


def f(n):
    """Say `n`.

    Parameters
    ----------
    n : int
        A number $n$.

    Examples
    --------
    >>> f(1)
    1

    See Also
    --------
    C : A class.
    """
    def inner():
        """Inner."""


def _g():
    """Private."""


class C:
    """Class."""

    def method(self):
        """Method."""

    def _hidden(self):
        """Hidden."""


class _D:
    """Private too."""
'''
ENTRIES = {
    ("posenc", "Package."): "包。",
    ("posenc.a", "Module."): "模块。",
    ("posenc.a.f", "Say `n`."): "说出 `n`。",
    ("posenc.a.f", "A number $n$."): "一个数 $n$。",
    ("posenc.a.f", "A class."): "一个类。",
    ("posenc.a.C", "Class."): "类。",
    ("posenc.a.C.method", "Method."): "方法。",
}


def package(root: Path, entries: dict | None = None) -> Path:
    """Write a small package and its catalogue."""
    (root / "posenc").mkdir()
    (root / "docs").mkdir()
    (root / "posenc/__init__.py").write_text('"""Package."""\n')
    (root / "posenc/a.py").write_text(SOURCE, encoding="utf-8")
    (root / "posenc/_private.py").write_text('"""Private."""\n')
    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n'
    texts = [
        f'msgctxt "{context}"\nmsgid "{unit}"\nmsgstr "{text}"\n'
        for (context, unit), text in (ENTRIES if entries is None else entries).items()
    ]
    (root / docstrings.CATALOGUE).write_text("\n".join([header, *texts]), encoding="utf-8")
    return root


def test_a_complete_catalogue_has_no_problems(tmp_path):
    assert docstrings.problems(package(tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({("posenc.a.f", "Say `n`."): ""}, "posenc.a.f: no translation of 'Say `n`.'"),
        ({("posenc.a.f", "Gone."): "没了。"}, "posenc.a.f: stale translation of 'Gone.'"),
        ({("posenc.a.C", "Say `n`."): "说 `n`"}, "posenc.a.C: stale translation of 'Say `n`.'"),
        (
            {("posenc.a.f", "A number $n$."): "一个数 $m$。"},
            "posenc.a.f: formulas or code differ in the translation of 'A number $n$.'",
        ),
        (
            {("posenc.a.f", "Say `n`."): "说出。"},
            "posenc.a.f: formulas or code differ in the translation of 'Say `n`.'",
        ),
    ],
)
def test_a_missing_stale_or_garbled_entry_is_named(tmp_path, change, problem):
    root = package(tmp_path, ENTRIES | change)
    assert docstrings.problems(root) == [f"docs/docstrings.po: {problem}"]


def test_a_fuzzy_entry_counts_as_missing(tmp_path):
    path = package(tmp_path) / docstrings.CATALOGUE
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('msgctxt "posenc.a.C"', '#, fuzzy\nmsgctxt "posenc.a.C"'), "utf-8")
    assert docstrings.problems(tmp_path) == [
        "docs/docstrings.po: posenc.a.C: no translation of 'Class.'"
    ]


def test_an_edited_docstring_makes_its_translation_stale(tmp_path):
    path = package(tmp_path) / "posenc/a.py"
    path.write_text(SOURCE.replace("A number $n$.", "An integer $n$."), encoding="utf-8")
    assert docstrings.problems(tmp_path) == [
        "docs/docstrings.po: posenc.a.f: no translation of 'An integer $n$.'",
        "docs/docstrings.po: posenc.a.f: stale translation of 'A number $n$.'",
    ]


def test_missing_entries_are_printed_ready_to_be_filled_in(tmp_path):
    package(tmp_path, {key: text for key, text in ENTRIES.items() if key[0] != "posenc.a.C"})
    assert docstrings.missing_entries(tmp_path) == (
        'msgctxt "posenc.a.C"\nmsgid "Class."\nmsgstr ""\n'
    )


def loaded(root: Path, language: str) -> griffe.Module:
    """Load the small package with the extension, by file, as mkdocstrings loads it."""
    path = ROOT / "scripts/sitegen/docstrings.py"
    options = {f"{path}:Translate": {"language": language, "root": str(root)}}
    module = griffe.load(
        "posenc.a",
        search_paths=[root],
        extensions=griffe.load_extensions(options),
        docstring_parser="numpy",
    )
    assert isinstance(module, griffe.Module)
    return module


def sections(module: griffe.Module) -> dict[str, str]:
    """Texts of the sections of `f`."""
    parsed = module["f"].docstring.parsed
    values = {section.kind.value: section.value for section in parsed}
    values["parameters"] = [item.description for item in values["parameters"]]
    return values


@pytest.mark.parametrize(
    ("language", "summary", "parameter", "title"),
    [
        ("zh", "说出 `n`。", "一个数 $n$。", "另见：</span></p>\n\n- [`C`][posenc.a.C]：一个类。"),
        (
            "en",
            "Say `n`.",
            "A number $n$.",
            "See also:</span></p>\n\n- [`C`][posenc.a.C]: A class.",
        ),
    ],
)
def test_the_reference_takes_the_language_of_the_site(
    tmp_path, language, summary, parameter, title
):
    found = sections(loaded(package(tmp_path), language))
    assert found["text"] == summary
    assert found["parameters"] == [parameter]
    kinds = [(kind.value, text) for kind, text in found["examples"]]
    assert kinds[0] == ("examples", ">>> f(1)\n1")
    assert kinds[1][1].endswith(title)


def test_citations_lead_to_arxiv():
    text = docstrings.with_links(docstrings.inspect.cleandoc(DOC), "m", docstrings.TITLES["zh"])
    assert "参考文献：" in text
    assert "2017, [arXiv:1706.03762](https://arxiv.org/abs/1706.03762), Section 2." in text
    assert "- [`double`][m.double]：The way back," in text
    assert "- [`triple`][posenc.other.triple]：Another." in text


def test_the_catalogue_is_complete_and_fresh():
    assert docstrings.problems(ROOT) == []


def test_every_translation_is_chinese():
    known = docstrings.catalogue(ROOT / docstrings.CATALOGUE)
    assert [text for text in known.values() if not re.search(r"[\u3000-\u9fff]", text)] == []
