"""The pages' templates, and the files that stand inside each page."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

_FOLDER = Path(__file__).parent / "templates"


def environment() -> jinja2.Environment:
    """Returns what finds and fills templates: values are escaped, and a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> Markup:
    """Returns a style or script as it stands in a page."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))  # noqa: S704 - a file of this package
