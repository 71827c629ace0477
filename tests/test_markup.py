"""The HTML of built pages: language links, no other host, a policy against inline script."""

import base64
import hashlib

import pytest

from scripts.sitegen import markup

PAGE = (
    '<head>\n<meta charset="utf-8">\n<script src="a.js"></script><script>let a = 1</script></head>'
)


@pytest.mark.parametrize(
    ("url", "language", "target", "way"),
    [
        ("", "zh", "", "./"),
        ("", "zh", "en/", "en/"),
        ("attention/", "zh", "en/attention/", "../en/attention/"),
        ("attention/", "zh", "attention/", "./"),
        ("attention/", "en", "attention/", "../../attention/"),
        ("", "en", "", "../"),
        ("source/tests/claims/", "en", "source/tests/claims/", "../../../../source/tests/claims/"),
        ("404.html", "zh", "en/404.html", "en/404.html"),
    ],
)
def test_the_other_language_is_reached_from_every_depth(url, language, target, way):
    assert markup.with_switches(f'<a href="switch:{target}">', url, language) == f'<a href="{way}">'


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<img alt='' src=//cdn.example/x.png>",
        '<link href="https://cdn.example/x.css" rel="stylesheet">',
        '<link rel="preconnect" href="https://cdn.example">',
        '<iframe title="x" src="http://cdn.example/"></iframe>',
        '<source srcset="https://cdn.example/x.webp">',
    ],
)
def test_a_request_to_another_host_is_found(html):
    (url,) = markup.foreign_requests(html)
    assert "cdn.example" in url


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://arxiv.org/abs/1706.03762">',
        '<link rel="canonical" href="https://posenc.example/">',
        '<img src="../x.png" alt="https://cdn.example">',
        '<svg xmlns="http://www.w3.org/2000/svg">',
    ],
)
def test_links_and_names_are_no_requests(html):
    assert markup.foreign_requests(html) == []


def test_style_sheets_ask_no_other_host():
    assert markup.foreign_css_requests("a{background:url( 'https://cdn.example/x')}") == [
        "https://cdn.example/x"
    ]
    assert markup.foreign_css_requests('@import "//cdn.example/x";') == ["//cdn.example/x"]
    assert markup.foreign_css_requests("a{background:url(data:image/svg+xml,x)}") == []


def test_the_policy_names_the_digest_of_each_inline_script():
    digest = base64.b64encode(hashlib.sha256(b"let a = 1").digest()).decode()
    page = markup.with_policy(PAGE)
    assert f"script-src 'self' 'sha256-{digest}';" in page
    assert page.index("Content-Security-Policy") < page.index("<script")
    assert "unsafe-inline' 'sha" not in page


def test_data_blocks_are_no_scripts():
    assert "sha256" not in markup.policy('<script type="application/json">{}</script>')


def test_finish_reports_and_protects(tmp_path):
    (tmp_path / "en").mkdir()
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "en/index.html").write_text(PAGE + "<img src=https://cdn.example/x>")
    (tmp_path / "x.css").write_text("a{background:url(https://cdn.example/y)}")
    assert markup.finish(tmp_path, skip="en/") == [
        "x.css: request to another host: https://cdn.example/y"
    ]
    assert "Content-Security-Policy" in (tmp_path / "index.html").read_text()
    assert "Content-Security-Policy" not in (tmp_path / "en/index.html").read_text()
    assert len(markup.finish(tmp_path)) == 2


def test_ids_are_read():
    assert markup.ids('<h2 id="a">x</h2><pe-math class="display" id=\'eq-1.3\'>') == {"a", "eq-1.3"}


@pytest.mark.parametrize(
    ("theme", "ours"),
    [
        (
            '<link rel="alternate" href="./" hreflang="zh"><link rel="alternate " hreflang="en">',
            '<link rel="alternate " hreflang="en">',
        ),
        (
            '<a href="x" class="md-source" data-md-component="source">',
            '<a href="x" class="md-source">',
        ),
        (
            '<input class="md-toggle" data-md-toggle="drawer" autocomplete="off">',
            '<input class="md-toggle" data-md-toggle="drawer">',
        ),
        (
            '<label class="md-nav__link" for="a" tabindex="">',
            '<label class="md-nav__link" for="a">',
        ),
        (
            '<nav class="md-nav" data-md-level="1" aria-expanded="true">',
            '<nav class="md-nav" data-md-level="1">',
        ),
        (
            '<div class="md-search" data-md-component="search" role="dialog">',
            '<div class="md-search" data-md-component="search">',
        ),
        (
            '<script>__md_scope=new URL("../..",location),a=1</script>',
            '<script>__md_scope=new URL("/",location),a=1</script>',
        ),
        (
            "<msub><mi>min</mi><mo>\u2061</mo><mi>i</mi></msub>",
            "<msub><mi>min</mi><mi>i</mi></msub>",
        ),
        (
            "<msub><mi>λ</mi><mi>max</mi><mo>\u2061</mo></msub>",
            "<msub><mi>λ</mi><mi>max</mi></msub>",
        ),
        ("<mi>ln</mi><mo>\u2061</mo><mi>b</mi>", "<mi>ln</mi><mo>\u2061</mo><mi>b</mi>"),
        ('<mtable rowspacing="0.1em" columnspacing="">', '<mtable rowspacing="0.1em">'),
        ('<span class="vlist" style="height:-0.2em;">', '<span class="vlist">'),
        (
            '<span class="vlist" style="height:0.2em;">',
            '<span class="vlist" style="height:0.2em;">',
        ),
        (
            '<span id="__span-0-1"><a id="__codelineno-0-1" name="__codelineno-0-1"></a>x</span>',
            "<span>x</span>",
        ),
    ],
)
def test_the_html_of_the_theme_is_mended(theme, ours):
    assert markup.mended(theme, "attention/", "zh") == ours


def test_lines_of_source_pages_keep_their_ids_and_numbers_lead_to_them():
    line = '<a href="#__codelineno-0-12">12</a><span id="__span-0-12">'
    mended = '<a tabindex="-1" href="#__span-0-12">12</a><span id="__span-0-12">'
    assert markup.mended(line, "source/posenc/_checks/", "en") == mended


def test_text_that_looks_like_the_themes_is_left_alone():
    code = """<pre>&lt;label class="md-nav__link" tabindex=""&gt; role="dialog"</pre>"""
    assert markup.mended(code, "source/tests/test_markup/", "zh") == code
