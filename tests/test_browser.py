"""What a reader does on the site: reads, searches, copies, switches, prints."""

import re

import pytest
from browser import ROOT, reads, scheme, screen, swap, watched

from scripts.sitegen import snippets

PAGES = ["attention/", "en/attention/"]


@pytest.fixture(scope="module")
def desk(browser):
    """A window for one reader after the other."""
    with screen(browser, permissions=["clipboard-read", "clipboard-write"]) as window:
        yield window


@pytest.fixture
def reader(desk, base):
    """A fresh reader at a desk, who saw no error at the end, and forgets all."""
    watch = reads(desk, base)
    yield watch
    watch.page.evaluate("localStorage.clear()")
    watch.page.close()
    assert watch.said == []
    assert watch.failed == []
    assert watch.foreign == []


@pytest.fixture
def page(reader):
    return reader.page


# Languages


@pytest.mark.parametrize(
    ("path", "name", "target"),
    [
        ("attention/", "English", "en/attention/"),
        ("en/attention/", "中文", "attention/"),
        ("", "English", "en/"),
        ("en/", "中文", ""),
    ],
)
def test_the_language_switch_keeps_the_page_and_the_place(reader, path, name, target):
    page = reader.open(path)
    anchor = "#taylor" if "attention" in path else "#five-doors"
    page.goto(f"{reader.base}{path}{anchor}")
    page.locator(".md-select").hover()
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(f"{reader.base}{target}{anchor}")
    assert page.locator("html").get_attribute("lang") == ("en" if name == "English" else "zh")
    assert 0 <= page.locator(anchor).bounding_box()["y"] < 900


@pytest.mark.parametrize("path", ["lost/", "attention/lost/deep/", "en/lost/"])
def test_a_lost_reader_is_told_in_both_languages(browser, base, path):
    with watched(browser, base) as watch:
        page = watch.open(path)
        assert watch.failed == [f"404 {base}{path}"]
        assert "找不到这一页" in page.inner_text("h1")
        assert "No such page" in page.inner_text("h1")
        homes = [a.evaluate("a => a.href") for a in page.locator("article a").all()]
        assert homes == [base, f"{base}en/"]
        page.locator(".md-select").hover()
        page.get_by_role("link", name="English", exact=True).click()
        page.wait_for_url(f"{base}en/")


# Without JavaScript, and with the keyboard alone


@pytest.mark.parametrize("path", PAGES)
def test_everything_is_there_without_javascript(browser, base, path):
    with watched(browser, base, width=375, java_script_enabled=False) as watch:
        page = watch.open(path)
        assert page.locator("h2").count() >= 10
        for formula in page.locator("article > pe-math.display").all():
            assert formula.locator("math").count() == 1
            box = formula.locator(".katex-html").bounding_box()
            assert box
            assert box["height"] > 10
        for figure in page.locator(".pe-figure svg").all():
            box = figure.bounding_box()
            assert box
            assert box["height"] > 50
            assert box["width"] <= 375
        assert page.locator("pe-math.display").count() >= 10
        assert page.locator(".pe-figure svg").count() >= 5
        page.locator("#e-01 summary").click()
        assert page.locator("#e-01 p").first.is_visible()
        page.locator(".md-select button").focus()
        page.locator(".md-select a:not([aria-current])").click()
        page.wait_for_url(base + ("attention/" if path.startswith("en/") else "en/attention/"))


def stops(page, number):
    """What the Tab key reaches first."""
    for _ in range(number):
        page.keyboard.press("Tab")
        yield page.evaluate("document.activeElement.className")


@pytest.mark.parametrize("path", PAGES)
def test_the_tab_key_reaches_the_tools(reader, path):
    page = reader.open(path)
    reached = list(stops(page, 12))
    assert "md-skip" in reached[0]
    assert any("md-option" in name for name in reached), "light and dark"
    assert any("md-header__button" in name for name in reached), "languages"
    assert sum("md-select__link" in name for name in reached) == 2
    assert any("md-search__input" in name for name in reached)


def test_the_skip_link_leads_to_the_text(reader):
    page = reader.open("attention/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#attention")


@pytest.mark.parametrize("box", ["#e-01", "#answer-1"])
def test_a_folded_box_opens_with_enter(reader, box):
    page = reader.open("attention/")
    assert not page.locator(f"{box} p").first.is_visible()
    page.locator(f"{box} summary").focus()
    page.keyboard.press("Enter")
    assert page.locator(f"{box} p").first.is_visible()


def test_only_boxes_that_scroll_are_stops(browser, base):
    with watched(browser, base, width=320) as watch:
        page = watch.open("attention/")
        boxes = "e => [e.scrollWidth > e.clientWidth, e.tabIndex === 0]"
        found = [
            box.evaluate(boxes)
            for box in page.locator("pe-math.display, .md-typeset__scrollwrap").all()
        ]
        assert [True, True] in found
        assert all(scrolls == stop for scrolls, stop in found)


# Search


QUERIES = {
    "": {
        "置换等变": "attention/",
        "因果掩码": "attention/",
        "词袋": "attention/",
        "泰勒": "attention/",
        "猫抓老鼠": "attention/",
        "softmax": "api/attention/",
        "bos_weight": "api/attention/",
        "位置编码": "",
        "波长": "sinusoidal/",
        "平移矩阵": "sinusoidal/",
        "余弦积分": "kernel/",
        "黎曼和": "kernel/",
        "碰撞": "collision/",
        "图像块": "sinusoidal_2d/",
        "M-RoPE": "rope_axes/",
        "四项": "relative/",
        "相对位置向量": "shaw/",
        "相对平移": "xlnet/",
        "桶": "t5/",
        "解耦注意力": "deberta/",
        "通用逼近": "urpe/",
        "术语": "terms/",
        "账本": "ledger/",
    },
    "en/": {
        "equivariance": "attention/",
        "causal mask": "attention/",
        "bag of words": "attention/",
        "Taylor": "attention/",
        "rotary": "rope/",
        "softmax": "api/attention/",
        "PositionEncoding": "api/attention/",
        "set function": "attention/",
        "wavelength": "sinusoidal/",
        "shift matrix": "sinusoidal/",
        "cosine integral": "kernel/",
        "Riemann": "kernel/",
        "collision": "collision/",
        "class token": "sinusoidal_2d/",
        "M-RoPE": "rope_axes/",
        "four terms": "relative/",
        "relative position vectors": "shaw/",
        "relative shift": "xlnet/",
        "bucket": "t5/",
        "disentangled attention": "deberta/",
        "URPE": "urpe/",
        "log_determinant": "api/sinusoidal/",
        "ledger": "ledger/",
    },
}


@pytest.mark.parametrize("language", QUERIES)
def test_the_right_page_is_found_first(reader, language):
    page = reader.open(language)
    page.locator(".md-search__input").click()
    first = {query: best(page, reader.base + language, query) for query in QUERIES[language]}
    assert first == QUERIES[language]


def best(page, base, query):
    """What is found first; the words of the query before are gone, and what they found."""
    page.locator(".md-search__input").fill("")
    page.keyboard.press("End")  # the theme listens to keys
    hits = page.locator(".md-search-result__link")
    hits.first.wait_for(state="detached")
    page.keyboard.insert_text(query)
    page.keyboard.press("End")
    found = re.split(r"[?#]", hits.first.evaluate("a => a.href"))[0]
    assert found.startswith(base), "found in its own language"
    return found.removeprefix(base)


def test_a_word_that_is_nowhere_is_not_found(reader):
    page = reader.open("en/")
    page.locator(".md-search__input").click()
    page.keyboard.insert_text("zeugma")
    page.keyboard.press("End")
    page.get_by_text("No matching documents").wait_for()


# Code


def copied(page, block):
    block.hover()
    block.locator(".md-code__button[data-md-type=copy]").click()
    page.get_by_text("已复制").wait_for()
    return page.evaluate("navigator.clipboard.readText()")


@pytest.mark.parametrize(
    "name", ["posenc.equations.attention.attention_weights", "posenc.layers.attention.Attention"]
)
def test_the_copy_button_yields_code_that_runs_on_its_own(reader, name):
    page = reader.open("attention/")
    block = page.locator(f".highlight:has(+ .pe-runnable[data-name='{name}'])")
    assert copied(page, block).strip() == snippets.runnable(name).strip()


def test_the_copy_button_of_an_example_yields_its_input(reader):
    page = reader.open("attention/")
    block = page.locator(".highlight", has_text=">>> import numpy as np").first
    text = copied(page, block)
    assert text.startswith("import numpy as np\n")
    assert ">>>" not in text
    assert "array([[1" not in text
    compile(text, "copied", "exec")


# Colours


def test_a_figure_is_as_wide_whatever_its_caption(browser, base):
    with watched(browser, base, width=1280) as watch:
        page = watch.open("en/attention/")
        figure = page.locator(".pe-figure").first
        caption, svg = figure.locator("figcaption"), figure.locator("svg")
        widths = []
        for words in ("Short.", "A caption that goes on. " * 20):
            caption.evaluate("(node, words) => { node.textContent = words }", words)
            widths.append(svg.bounding_box()["width"])
        assert widths[0] == widths[1] == float(svg.evaluate("e => parseFloat(e.style.maxWidth)"))


def test_figures_and_formulas_follow_the_switch_between_light_and_dark(reader):
    page = reader.open("attention/")
    parts = {"figure": ".pe-figure svg text", "formula": "pe-math .mord", "text": "article p"}
    shown = {}
    for _ in range(2):
        colours = {name: colour(page, part) for name, part in parts.items()}
        assert len({*colours.values(), colour(page, "body")}) == 1, colours
        shown[scheme(page)] = colours["figure"]
        swap(page)
    assert shown.keys() == {"light", "dark"}
    assert shown["light"] != shown["dark"]


def colour(page, selector):
    return page.locator(selector).first.evaluate("e => getComputedStyle(e).color")


def test_the_chosen_colours_stay(reader):
    page = reader.open("attention/")
    assert swap(page) == "dark"
    reader.open("en/terms/")
    assert scheme(page) == "dark"


def test_the_next_reader_knows_of_no_choice(reader):
    assert scheme(reader.open("attention/")) == "light"


def test_the_system_chooses_first(browser, base):
    for wanted in ("light", "dark"):
        with watched(browser, base, color_scheme=wanted) as watch:
            assert scheme(watch.open("")) == wanted


# Places


@pytest.mark.parametrize("anchor", ["e-01", "answer-2"])
def test_a_link_to_a_folded_box_opens_it(reader, anchor):
    page = reader.open(f"attention/#{anchor}")
    page.locator(f"#{anchor}[open]").wait_for()
    assert page.locator(f"#{anchor} summary").is_visible()


def test_a_link_on_the_page_to_a_folded_box_opens_it(reader):
    page = reader.open("coverage/")
    page.locator("a[href$='attention/#e-01']").first.click()
    page.locator("#e-01[open]").wait_for()


def test_a_badge_leads_to_its_test(reader):
    page = reader.open("attention/")
    page.locator(".pe-claim[data-claim='attention.equivariant']").first.click()
    line = page.locator("[id^='__span-']:target")
    assert 'claim("attention.equivariant")' in line.inner_text()
    top = line.bounding_box()["y"]
    assert 48 <= top < 900, "in view, below the header"


@pytest.mark.parametrize("path", ["posenc/layers/attention", "tests/claims"])
def test_a_source_page_shows_the_file_as_it_is(reader, path):
    page = reader.open(f"source/{path}/")
    file = (ROOT / f"{path}.py").read_text("utf-8")
    assert written(page.locator("td.code").inner_text()) == written(file)


def written(text):
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_a_formula_is_reached_by_its_number(reader):
    page = reader.open("attention/#eq-1.3")
    top = page.locator("pe-math:target").bounding_box()["y"]
    assert 48 <= top < 900


# Security


PLANTED = """
<p id="planted" onclick="this.dataset.handler = 'ran'">planted</p>
<script>document.getElementById("planted").dataset.script = "ran"</script>
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_planted_scripts_are_blocked_by_the_policy_alone(browser, base, guarded):
    with watched(browser, base, planted=PLANTED, bypass_csp=not guarded) as watch:
        page = watch.open("terms/")
        page.locator("#planted").click()
        ran = page.locator("#planted").evaluate("e => ({...e.dataset})")
        assert ran == ({} if guarded else {"handler": "ran", "script": "ran"})
        blocked = [text for text in watch.said if "Content Security Policy" in text]
        assert len(blocked) == (2 if guarded else 0)


# Print


@pytest.mark.parametrize("scripts", [True, False])
def test_paper_shows_the_text_and_no_tools(browser, base, scripts):
    with watched(browser, base, width=800, java_script_enabled=scripts) as watch:
        page = watch.open("attention/")
        page.emulate_media(media="print")
        for tool in (".md-header", ".md-footer", ".md-sidebar--primary", ".md-sidebar--secondary"):
            assert not page.locator(tool).is_visible(), tool
        assert not page.locator(".headerlink").first.is_visible()
        for box in ("#e-01", "#answer-1"):
            assert page.locator(f"{box} p").first.is_visible(), box
            assert page.locator(box).evaluate("e => e.offsetHeight") > 100
        assert page.locator("h1").is_visible()
