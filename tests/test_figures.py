"""Figures: the machinery that draws, cleans and caches them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.figures import home
from scripts.sitegen import figures
from scripts.sitegen.figures import FigureError, figure_names, figure_svgs

ROOT = Path(__file__).parents[1]

PROBE = """
import posenc
from scripts.figures.shared import TEXT
from scripts.sitegen import style


def good(say):
    fig = style.figure(1, width=2)
    ax = style.canvas(fig)
    style.heat(ax, [[1, -0.5], [0, 0.25]], cell=(0.2, 0.2), numbers=".2f")
    style.write(ax, 1, 0.5, say("猫", "a much wider label"))
    style.write(ax, 1, 0.8, f"{TEXT} {posenc.VALUE}", ha="right")
    style.arrow(ax, (0, 0), (1, 1), style.C0)
    print("noise on the standard output")
    fig.set_label(say("说明", 'a "description"'))
    return fig
"""

BAD = """
from scripts.sitegen import style


def _figure(draw):
    fig = style.figure(1)
    draw(style.canvas(fig))
    fig.set_label("description")
    return fig


def unlabelled(say):
    return style.figure(1)


def formula(say):
    return _figure(lambda ax: style.write(ax, 1, 1, "$x$"))


def two_lines(say):
    return _figure(lambda ax: style.write(ax, 1, 1, "a\\nb"))


def turned(say):
    return _figure(lambda ax: ax.text(1, 1, "up", rotation=90))


def stranger(say):
    return _figure(lambda ax: ax.plot([0, 1], [0, 1], color="#123456"))


def pixels(say):
    return _figure(lambda ax: ax.imshow([[0, 1]]))


def missing_glyph(say):
    return _figure(lambda ax: style.write(ax, 1, 1, chr(0x1F999)))


def crash(say):
    raise ZeroDivisionError("three words here")
"""


def add_figures(root, module, content):
    (root / "scripts/figures" / f"{module}.py").write_text(content, "utf-8")


def small_project(root):
    """Write a small project with the site's machinery and one good figure."""
    for folder in ("posenc", "scripts", "scripts/figures", "scripts/sitegen"):
        (root / folder).mkdir()
        (root / folder / "__init__.py").touch()
    for file in figures.MACHINERY:
        shutil.copy(ROOT / "scripts/sitegen" / file, root / "scripts/sitegen")
    (root / "posenc/__init__.py").write_text("VALUE = 41\n")
    add_figures(root, "shared", "TEXT = 'shared'\n")
    add_figures(root, "probe", PROBE)
    return root


@pytest.fixture
def project(tmp_path):
    return small_project(tmp_path)


@pytest.fixture(scope="module")
def site():
    return figure_svgs(figure_names(ROOT), ROOT)


# The machinery


def test_every_key_has_its_figures():
    names = figure_names(ROOT)
    first = [name for name in names if name.startswith("attention.")][:3]
    assert first == ["attention.two_orders", "attention.square", "attention.adder"]
    assert "home.first" in names


def test_two_drawings_are_the_same_bytes(project):
    first = figure_svgs(["probe.good"], project)
    shutil.rmtree(project / ".cache")
    assert figure_svgs(["probe.good"], project) == first


def test_a_known_figure_is_not_drawn_again(project, monkeypatch):
    first = figure_svgs(["probe.good"], project)
    monkeypatch.setattr(figures.subprocess, "run", None)
    assert figure_svgs(["probe.good"], project) == first


def test_the_builder_never_imports_matplotlib(project):
    code = (
        "import pathlib, sys; from scripts.sitegen.figures import figure_svgs;"
        "figure_svgs(['probe.good'], pathlib.Path()); print('matplotlib' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    assert run.stdout == "False\n"


def test_a_figure_shows_posenc_and_shared_modules_as_they_are_now(project):
    assert "shared 41" in figure_svgs(["probe.good"], project)["probe.good", "en"]
    (project / "posenc/__init__.py").write_text("VALUE = 42\n")
    assert "shared 42" in figure_svgs(["probe.good"], project)["probe.good", "en"]
    add_figures(project, "shared", "TEXT = 'other'\n")
    assert "other 42" in figure_svgs(["probe.good"], project)["probe.good", "zh"]
    assert len(list((project / ".cache/figures").iterdir())) == 2


def test_a_change_elsewhere_keeps_the_figure(project, monkeypatch):
    figure_svgs(["probe.good"], project)
    add_figures(project, "unrelated", "def other(say):\n    return None\n")
    monkeypatch.setattr(figures.subprocess, "run", None)
    assert figure_svgs(["probe.good"], project)


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad")
    shutil.copytree(ROOT / "scripts/sitegen", root / "scripts/sitegen")
    (root / "scripts/figures").mkdir()
    (root / "scripts/__init__.py").touch()
    add_figures(root, "bad", BAD)
    add_figures(root, "broken", "def never(say):\n    return (\n")
    with pytest.raises(FigureError) as caught:
        figure_svgs(figure_names(root), root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("figure", "complaint"),
    [
        ("bad.unlabelled", "ValueError: the figure needs a description"),
        ("bad.formula", "ValueError: a label must be plain Unicode without '$', got '$x$'"),
        ("bad.two_lines", r"ValueError: a label must be one line (its anchor is lost), got 'a\nb'"),
        ("bad.turned", "ValueError: a turned label needs rotation_mode='anchor', got 'up'"),
        ("bad.stranger", "ValueError: stroke must be a colour of scripts.sitegen.style"),
        ("bad.pixels", "ValueError: a figure must not hold a picture of pixels"),
        ("bad.missing_glyph", "UserWarning: Glyph 129433"),
        ("bad.crash", "ZeroDivisionError: three words here (bad.py:"),
        ("broken.never", "SyntaxError: '(' was never closed (broken.py:2)"),
    ],
)
def test_a_bad_figure_is_named_with_its_fault(complaints, figure, complaint):
    for language in ("zh", "en"):
        assert f"figure {figure} ({language}): {complaint}" in complaints


def test_an_unknown_figure_is_named(project):
    with pytest.raises(FigureError, match=r"unknown figure 'probe.nope'; there are probe.good"):
        figure_svgs(["probe.nope"], project)


def test_a_subprocess_that_dies_is_reported(project):
    (project / "scripts/sitegen/style.py").write_text("raise SystemExit('no style')\n")
    with pytest.raises(FigureError, match=r"figures probe\.good: no style"):
        figure_svgs(["probe.good"], project)


@pytest.fixture(scope="module")
def svg(tmp_path_factory):
    project = small_project(tmp_path_factory.mktemp("good"))
    return figure_svgs(["probe.good"], project)["probe.good", "en"]


def test_labels_stay_text_and_keep_their_anchor(svg):
    for text, anchor in (("a much wider label", "middle"), ("shared 41", "end")):
        attributes = re.search(f"<text ([^>]*)>{text}<", svg)[1]
        assert re.search(f'^x="72" .*text-anchor="{anchor}"', attributes)
    assert "font-family" not in svg


def test_cells_follow_the_value_and_its_sign(svg):
    cells = re.findall(r'fill="var\(--pe-(h\d)\)"(?: opacity="([\d.]+)")?', svg)
    assert cells == [("h0", ""), ("h1", "0.5"), ("h0", "0.25")]  # full, half, nothing, a quarter
    assert re.findall(r">(\S?\d\.\d\d)<", svg) == ["1.00", "−0.50", "0.00", "0.25"]


def test_the_description_is_escaped_for_html(svg):
    assert 'role="img" aria-label="a &quot;description&quot;"' in svg


def test_languages_differ_only_in_words(site):
    def silent(name, language):
        svg = site[name, language].replace(f"-{language}-", "-")
        return re.sub(r'(<text [^>]*>).*?</text>|aria-label="[^"]*"', r"\1", svg)

    for name in figure_names(ROOT):
        assert silent(name, "zh") == silent(name, "en")
        assert site[name, "zh"] != site[name, "en"]


def test_every_colour_follows_the_palette(site):
    for svg in site.values():
        colours = set(re.findall(r' (?:fill|stroke|color)="([^"]*)"', svg))
        assert all(re.fullmatch(r"currentColor|none|var\(--pe-\w+\)", c) for c in colours)
        assert "currentColor" in colours
        assert "#" not in re.sub(r'(href="|url\()#', "", svg)


def test_ids_are_unique_on_any_page_and_every_reference_is_met(site):
    everything = re.findall(r' id="([^"]*)"', "".join(site.values()))
    assert len(everything) == len(set(everything)) > 0
    for (name, language), svg in site.items():
        slug = f"fig-{name}-{language}".replace(".", "-").replace("_", "-")
        ids = set(re.findall(r' id="([^"]*)"', svg))
        assert all(identifier.startswith(f"{slug}-") for identifier in ids)
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', svg)) == ids


def test_no_baggage(site):
    for svg in site.values():
        assert svg.startswith('<svg class="pe-drawing" viewBox="0 0 ')
        assert not re.search(r"<(\?xml|!|style|metadata|image|script)|xlink|xmlns|\n|\$", svg)
        assert svg.count("style=") == 1


def smallest(svg):
    """Size of the smallest letters in CSS pixels on a phone."""
    width = float(re.search(r'viewBox="0 0 (\S+)', svg)[1])
    return min(map(float, re.findall(r'font-size="([\d.]+)"', svg))) * 343 / width


def test_text_is_readable_on_a_phone(site):
    assert {name: size for name, svg in site.items() if (size := smallest(svg)) < 9} == {}


# The home page


def test_first_picture_separates_the_sentences_only_with_positions():
    plain_points, points = home.first_data()
    np.testing.assert_allclose(plain_points[0], plain_points[1], atol=1e-12)
    assert np.linalg.norm(points[0] - points[1], axis=-1).min() > 0.3
