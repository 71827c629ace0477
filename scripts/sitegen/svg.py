"""From a matplotlib figure to an SVG element that lives inside an HTML page."""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree

from matplotlib.text import Text

from . import style

DROPPED = {"metadata", "style", "title"}
LENGTHS = {"d", "x", "y", "width", "height", "transform", "viewBox", "points"}
PAINTS = ("fill", "stroke", "color")


def inline(figure, slug):
    """Return the SVG element of a figure; its label becomes the accessible description."""
    label = figure.get_label()
    if not label:
        raise ValueError("the figure needs a description: fig.set_label(say(zh, en))")
    figure.set_label("")
    root = ElementTree.fromstring(_render(figure))
    _check_texts(figure)
    _clean(root)
    _paint(root)
    _prefix_ids(root, slug)
    root.attrib = _root_attributes(root.attrib["viewBox"], figure.get_size_inches()[0], label)
    return ElementTree.tostring(root, encoding="unicode")


def _render(figure):
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _check_texts(figure):
    """Refuse text that would not survive another font, or would become mathtext."""
    for text in figure.findobj(Text):
        content = text.get_text()
        if "$" in content:
            raise ValueError(f"a label must be plain Unicode without '$', got {content!r}")
        if "\n" in content:
            raise ValueError(f"a label must be one line (its anchor is lost), got {content!r}")
        if content and text.get_rotation() % 360 and text.get_rotation_mode() != "anchor":
            raise ValueError(f"a turned label needs rotation_mode='anchor', got {content!r}")


def _clean(element):
    """Strip namespaces, style attributes and everything that draws nothing."""
    element.tag = _local(element.tag)
    if element.tag == "image":
        raise ValueError("a figure must not hold a picture of pixels; draw cells as rectangles")
    element.text = (element.text or "").strip() if element.tag == "text" else None
    element.tail = None
    _attributes(element)
    children = []
    for child in element:
        if _local(child.tag) not in DROPPED:
            _clean(child)
            children += list(child) if child.tag == "g" and not _means(child) else [child]
    element[:] = [child for child in children if _visible(child)]


def _local(name):
    return name.rpartition("}")[2]


def _attributes(element):
    """Turn style attributes into presentation attributes, and shorten numbers."""
    pairs = {_local(name): value for name, value in element.attrib.items()}
    for declaration in filter(None, pairs.pop("style", "").split(";")):
        name, value = (part.strip() for part in declaration.split(":", 1))
        pairs[name] = value.removesuffix("px")
    pairs.pop("font-family", None)
    if pairs.get("transform", "").startswith("rotate(-0 "):
        del pairs["transform"]
    for name in LENGTHS & pairs.keys():
        pairs[name] = re.sub(r"-?\d+\.\d+", _short, " ".join(pairs[name].split()))
    element.attrib = pairs


def _short(number):
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _means(group):
    return group.attrib.keys() - {"id"}


def _visible(element):
    invisible = element.get("fill") == "none" and "stroke" not in element.attrib
    hollow = element.tag in ("g", "defs") and not len(element)
    return not (hollow or (invisible and element.tag == "path" and "id" not in element.attrib))


def _paint(root):
    """Replace the stand-in colours; refuse any other, since it would not follow the palette."""
    for element in root.iter():
        for name in PAINTS:
            colour = element.get(name, "none")
            if colour in style.VARIABLES:
                element.set(name, style.VARIABLES[colour])
            elif colour != "none":
                raise ValueError(f"{name} must be a colour of scripts.sitegen.style, got {colour}")


def _prefix_ids(root, slug):
    """Keep the ids that something refers to, renamed so that no two figures share one."""
    text = " ".join(value for element in root.iter() for value in element.attrib.values())
    used = dict.fromkeys(re.findall(r"#([\w.-]+)", text))
    renamed = {old: f"{slug}-{i}" for i, old in enumerate(used)}
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in renamed:
            element.set("id", renamed[identifier])
        for name, value in element.attrib.items():
            element.set(name, re.sub(r"#([\w.-]+)", lambda m: f"#{renamed[m[1]]}", value))


def _root_attributes(view_box, inches, label):
    return {
        "class": "pe-drawing",
        "viewBox": view_box,
        "width": "100%",
        "style": f"max-width: {round(inches * 96)}px",
        "fill": "currentColor",
        "stroke-linejoin": "round",
        "role": "img",
        "aria-label": label,
        "data-search-exclude": "",
    }
