"""SVG as text: elements whose attributes and content are escaped, numbers that are the same on every machine."""

from __future__ import annotations

from markupsafe import Markup, escape


def number(value: float) -> str:
    """Returns a coordinate with at most two decimals, without trailing zeros and without a negative zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(tag: str, *children: str, **attributes: str | float) -> Markup:
    """Returns one element as markup.

    Args:
        tag: the element's name.
        children: markup is taken as it is, plain text is escaped.
        attributes: a trailing underscore is dropped (`class_`), other underscores become hyphens (`text_anchor`).
    """
    pairs = (
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"), value if isinstance(value, str) else number(value)
        )
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, Markup("").join(pairs), Markup("").join(map(escape, children)))


def figure(width: float, height: float, title: str, *children: str) -> Markup:
    """Returns a complete drawing; `title` is what a screen reader says of it."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_label=title,
        xmlns="http://www.w3.org/2000/svg",
    )
