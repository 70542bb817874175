"""VNN-LIB properties: 1.0 read in the dialects that occur, 2.0 through the official parser; written by `vnnlib_writer`.

A property file describes the violation: satisfiable means that the network is not safe on the box.
"""

from __future__ import annotations

from pathlib import Path

from harness.domain import Property, UsageError
from harness.formats.compressed import read_text
from harness.formats.vnnlib2_reader import parse_property_2
from harness.formats.vnnlib2_text import is_version_2
from harness.formats.vnnlib_normalise import normalise
from harness.formats.vnnlib_reader import read_statements
from harness.formats.vnnlib_writer import exact_decimal, robustness_box, write_robustness_property

__all__ = ["exact_decimal", "parse_property", "read_property", "robustness_box", "write_robustness_property"]


def read_property(path: Path, input_size: int | None = None, output_size: int | None = None) -> Property:
    """Returns the property of a VNN-LIB file of either version.

    Args:
        path: `.vnnlib` or `.vnnlib.gz`; a missing file is looked for with `.gz` added.
        input_size: number of the network's inputs, if it is to be compared with the file's.
        output_size: number of the network's outputs, likewise.

    Raises:
        UsageError: there is no such file, it is not understood (with line and column), or it does not fit the network.
        UnsupportedPropertyError: it is valid, but about more than one network with one input and one output.
    """
    found = parse_property(read_text(path), str(path))
    for kind, name, size, wanted in (
        ("inputs", "X", found.input_size, input_size),
        ("outputs", "Y", found.output_size, output_size),
    ):
        if wanted is not None and size != wanted:
            message = f"{path}: declares {size} {kind} {name}_i, but the network has {wanted}"
            raise UsageError(f"{message}; give the property that belongs to it")
    return found


def parse_property(text: str, source: str) -> Property:
    """Returns the property that a VNN-LIB text describes.

    A text that begins with `(vnnlib-version ...)` is read as 2.0. Of 1.0 is accepted beside the usual form: constants
    on either side, `or` without `and`, boxes inside `or` (also mixed with output constraints), several `or`s (their
    product), a top-level `and`, strict comparisons, equations, linear terms with `+`, `-`, `*`. Conjunctions keep the
    order of the text.

    Args:
        text: the property.
        source: what errors call it.

    Raises:
        UsageError: the text is not understood, with line and column; or it declares no input.
        UnsupportedPropertyError: see `read_property`.
    """
    if is_version_2(text):
        return parse_property_2(text, source)
    statements = read_statements(text, source)
    if not statements.inputs:
        raise UsageError(f"{source}: declares no input X_0; check that it is a VNN-LIB 1.0 property")
    return normalise(statements)
