"""One language of the site: what each directive becomes, and which pages are generated."""

import re
from functools import cached_property, lru_cache
from hashlib import sha256
from html import escape
from pathlib import Path

from scripts.sitegen import (
    benchmarks,
    claims,
    coverage,
    directives,
    docstrings,
    doors,
    figures,
    formulas,
    notebooks,
    references,
    results,
    schemes,
    snippets,
    sources,
    terms,
    tree,
)

SLOT = re.compile(r'<div class="pe-slot" data-kind="(\w+)" data-name="([\w.]+)"></div>')
HEAVY = re.compile(
    r"(?P<open><pe-math\b[^>]*>)(?P<inner>.+?)</pe-math>"
    r'|<svg class="pe-drawing".+?</svg>|<pre class="pe-runnable".+?</pre>'
    r'|<div class="[^"]*\bhighlight".+?</pre></div>',
    re.DOTALL,
)
TITLE = re.compile(r"(?m)^# .*\n")
FOLD = '<pe-fold data-search-exclude="true">{}</pe-fold>'
FOLDED = re.compile(r"<pe-fold[^>]*>(\d+)</pe-fold>")
ROLES = {
    "zh": {
        "equations": "方程（NumPy）",
        "layers": "层（PyTorch）",
        "api": "接口",
        "code": "代码",
        "source": "源代码",
        "notes": "原笔记第 {} 节",
        "of": "{} / {} 条",
        "formula": "公式",
        "reference": "文档",
        "ipynb": "下载笔记本",
    },
    "en": {
        "equations": "Equations (NumPy)",
        "layers": "Layers (PyTorch)",
        "api": "API",
        "code": "Code",
        "source": "source",
        "notes": "Notes, section {}",
        "of": "{} of {}",
        "formula": "formula",
        "reference": "reference",
        "ipynb": "Download the notebook",
    },
}


def _slot(kind: str, name: str) -> str:
    return f'<div class="pe-slot" data-kind="{kind}" data-name="{name}"></div>'


@lru_cache(maxsize=1024)
def _runnable(name: str, _code: str) -> str:
    """The copy of an object, made again only if any code of the package is another."""
    return snippets.runnable(name)


class Site:
    """Everything that one build of one language needs to know; read once per build."""

    def __init__(self, root: Path, language: str, address: str) -> None:
        self.root, self.language, self.address = root, language, address
        self.say = ROLES[language]

    @cached_property
    def claims(self) -> dict[str, dict]:
        return claims.measured(self.root)

    @cached_property
    def places(self) -> dict[str, tuple[str, int]]:
        return claims.places(self.root, self.claims)

    @cached_property
    def statements(self) -> dict[str, dict]:
        return claims.statements(self.root)

    @cached_property
    def references(self) -> dict[str, dict]:
        return references.load(self.root)

    @cached_property
    def code_now(self) -> str:
        return tree.fingerprint(self.root, tree.files(self.root, "posenc/**/*.py"))

    @cached_property
    def svgs(self) -> dict[tuple[str, str], str]:
        pages = tree.files(self.root, "docs/*/*.md")
        found = (d for path in pages for d in directives.find(path.read_text("utf-8")))
        return figures.figure_svgs(
            sorted({d.argument for d in found if d.name == "figure"}), self.root
        )

    def prepare(self) -> None:
        """Typeset all formulas in one go, before the pages ask for them one by one."""
        formulas.warm_all(self.root)

    def problems(self) -> list[str]:
        """What must stop a build: failed claims, stale translations, lost audit keys."""
        return [
            *claims.failures(self.claims),
            *docstrings.problems(self.root),
            *coverage.problems(self.root, coverage.anchors(self.root)),
        ]

    # Pages

    def generated(self, with_sources: bool = True) -> dict[str, str]:
        """Markdown of the pages that no file in docs/ holds, by path in the site."""
        pages = sources.pages(self.root) if with_sources else {}
        for key in tree.keys(self.root):
            pages[f"api/{key}.md"] = self.api(key)
        for key in tree.notebooks(self.root):
            pages[f"notebooks/{key}.md"] = self.notebook(key)
        return pages

    def downloads(self) -> dict[str, bytes]:
        """Files that pages offer for download, by path in the site."""
        return {
            f"notebooks/{key}.ipynb": self._woven(key, "ipynb").encode()
            for key in tree.notebooks(self.root)
        }

    def notebook(self, key: str) -> str:
        return f"{self._woven(key, 'md')}\n\n[{self.say['ipynb']}]({key}.ipynb)\n"

    def _woven(self, key: str, kind: str) -> str:
        """The page or the download of a notebook, kept by all that decides it."""
        path, address = self.root / f"docs/notebooks/{key}.py", f"{self.address}notebooks/{key}/"
        own = sha256(f"{address} {notebooks.identity(path, self.root)}".encode()).hexdigest()[:24]
        file = self.root / f".cache/notebooks/{key}.{self.language}.{own}.{kind}"

        def weave() -> str:
            if kind == "md":
                return notebooks.markdown(path, self.language, self.root)
            return notebooks.ipynb(path, self.language, self.root, address).decode()

        return tree.cached(file, weave, f"{key}.{self.language}.*.{kind}")

    def api(self, key: str) -> str:
        """The API page of a key: every public object once, with its source."""
        front = "---\nsearch: {boost: 0.4}\n---"
        lines = [front, f"# {key} · {self.say['api']} {{#api-{key}}}"]
        for floor in ("equations", "layers"):
            path = self.root / f"posenc/{floor}/{key}.py"
            if path.exists():
                module = f"posenc.{floor}.{key}"
                lines += [f"## {self.say[floor]} {{#{floor}}}", f"::: {module}\n{_MODULE_OPTIONS}"]
                for name in snippets.objects(path):
                    lines += [f"::: {module}.{name}", self.api_code(f"{module}.{name}")]
        return "\n\n".join(lines) + "\n"

    def api_code(self, name: str) -> str:
        return f"/// details | {self.say['code']}\n    type: proof\n\n{self.code(name, '')}\n///"

    # Directives

    def makers(self, markdown: str, url: str) -> dict:
        """How each directive is expanded on the page at `url`."""
        up = "../" * url.count("/")

        def claim(name: str, _: str) -> str:
            result = claims.lookup(name, self.claims)
            if name not in self.statements:
                raise ValueError(f"docs/claims.yml: no sentence for claim {name}")
            href = up + self.test_address(result["test"])
            return claims.badge(name, result, self.statements[name][self.language], href)

        def cited(_: str, __: str) -> str:
            names = [d.argument for d in directives.find(markdown) if d.name == "cite"]
            return references.listing(names, self.references)

        return {
            "benchmarks": lambda _, __: benchmarks.table(
                self.root / "docs/benchmarks.json", self.language
            ),
            "cite": lambda name, at: references.cite(name, at, self.language, self.references),
            "claim": claim,
            "code": lambda name, _: self.code(name, up),
            "coverage": lambda _, __: coverage.table(self.language, self.root),
            "coverage-count": lambda _, __: self.say["of"].format(*coverage.count(self.root)),
            "doors": lambda _, __: doors.table(self.language, self.root),
            "figure": self.figure,
            "formula": self.formula,
            "ledger": lambda _, __: claims.ledger(
                self.root, self.language, self.claims, lambda test: up + self.test_address(test)
            ),
            "references": cited,
            "results": lambda task, _: results.table(
                task, self.language, self.root / "docs/extrapolation.json"
            ),
            "schemes": lambda which, names: schemes.table(self.language, which, names, self.root),
            "terms": lambda _, __: terms.table(self.language, self.root),
            "value": lambda name, spec: claims.value(name, spec, self.claims),
        }

    def test_address(self, test: str) -> str:
        return sources.address(*self.places[test])

    def figure(self, name: str, caption: str) -> str:
        inner = f"{_slot('figure', name)}\n\n<figcaption markdown>\n\n{caption}\n\n</figcaption>"
        slug = name.replace(".", "-")
        return f'<figure class="pe-figure" id="figure-{slug}" markdown>\n\n{inner}\n\n</figure>'

    def formula(self, name: str, tag: str) -> str:
        tex = snippets.formula(name)
        return f"$$\n{tex} \\tag{{{tag}}}\n$$" if tag else f"$$\n{tex}\n$$"

    def code(self, name: str, up: str) -> str:
        path, first, _ = snippets.location(name)
        fence = f'```python title="{path}"\n{snippets.shown(name)}\n```'
        if not up:
            return f"{fence}\n\n{_slot('runnable', name)}"
        source = f'<a href="{up}{sources.address(path, first)}">{self.say["source"]}</a>'
        links = f'<p class="pe-links">{source} · [{self.say["reference"]}][{name}]</p>'
        return f"{fence}\n\n{_slot('runnable', name)}\n\n{links.replace('<p ', '<p markdown ')}"

    def expand(self, markdown: str, url: str, where: str) -> str:
        """The page's Markdown with its directives carried out, and its place in the notes."""
        expanded = directives.expand(markdown, self.makers(markdown, url), where)
        number = coverage.notes_section(where.removesuffix(".md"), self.root)
        line = f"\n[{self.say['notes'].format(number)}](coverage.md)\n{{ .pe-notes }}\n"
        return TITLE.sub(lambda m: m[0] + line, expanded, count=1) if number else expanded

    # HTML

    def shown(self, markdown: str) -> list[str]:
        """All that `content` will put into a page, beside its Markdown."""
        slots = dict.fromkeys(match.groups() for match in SLOT.finditer(markdown))
        return [formulas.identity(self.root), *(self._filling(*slot) for slot in slots)]

    def content(self, html: str, where: str) -> tuple[str, list[str]]:
        """A page's HTML, its slots filled and formulas typeset, and what was folded away of it.

        What is folded comes back in `unfolded`, after the search index was made, which skips
        formulas and figures, but would read them first; code would only bury its prose.
        """
        label = self.say["formula"]
        html = SLOT.sub(lambda match: self._filling(*match.groups()), html)
        html = formulas.formulas_to_html(html, self.root, where, label)
        parts: list[str] = []

        def fold(match: re.Match) -> str:
            parts.append(match["inner"] or match[0])
            token = FOLD.format(len(parts) - 1)
            return f"{match['open']}{token}</pe-math>" if match["inner"] else token

        return HEAVY.sub(fold, html), parts

    def unfolded(self, html: str, parts: list[str]) -> str:
        """The page's HTML with everything back in its place."""
        return FOLDED.sub(lambda match: parts[int(match[1])], html)

    def _filling(self, kind: str, name: str) -> str:
        if kind == "figure":
            return self.svgs[name, self.language]
        text = escape(_runnable(name, self.code_now), quote=False)
        attributes = f'class="pe-runnable" data-name="{name}" data-search-exclude="true" hidden'
        return f"<pre {attributes}>{text}</pre>"


_MODULE_OPTIONS = """    options:
      members: false
      show_root_heading: false
      show_root_toc_entry: false"""
