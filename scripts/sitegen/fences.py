"""Fenced code of a page: what two languages must share of it."""

import doctest
import io
import re
import tokenize

FENCE = re.compile(r"(?ms)^ *(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^ *(?P=mark) *$")


def language(info: str) -> str:
    """First word of an info string: ``python`` of ``python title="x"`` and ``{.python .x}``."""
    return re.split(r"[\s{.}]+", info.strip(" {.}"))[0]


def without_comments(info: str, body: str) -> str:
    """Language and code of a fence; its comments and its title are prose."""
    name = language(info)
    return f"{name}\n{_bare(body, name)}".strip()


def _bare(body: str, name: str) -> str:
    if name == "python" and ">>>" in body:
        examples = [e for e in _parsed(body) if isinstance(e, doctest.Example)]
        return "\n".join(f">>> {_bare_python(e.source)}\n{e.want}" for e in examples)
    if name == "python":
        return _bare_python(body)
    return "\n".join(re.sub(r"(?:^|(?<=\s))#.*", "", line).rstrip() for line in body.splitlines())


def _parsed(body: str) -> list:
    try:
        return doctest.DocTestParser().parse(body)
    except ValueError:  # not a doctest: running it will say why
        return [doctest.Example(body, "")]


def _bare_python(source: str) -> str:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    kept = (token.string for token in tokens if token.type != tokenize.COMMENT)
    return " ".join(part for part in kept if part.strip())
