"""VNN-LIB 2.0 text before and beside the official parser: what it must not be given, and where things stand in it.

The parser's nodes know a line at best. Comparisons and declarations come in the order of the text, so their number
finds them again; nothing is looked for until there is an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from harness.domain import UsageError
from harness.formats.vnnlib_formula import MAX_DEPTH

_COMMENT = re.compile(r";[^\n]*")
_VERSION = re.compile(r"(?:\s|;[^\n]*(?:\n|$))*\(\s*vnnlib-version")
_MARK = re.compile(
    r";[^\n]*|\"[^\"]*\"|<[0-9.]+>|(?P<declared>declare-(?:input|hidden|output)\b)|(?P<compared>[<>]=?|[=!]=)"
)
_SYNTAX = re.compile(r"syntax error at line (\d+), column (\d+): '(.*)'", re.DOTALL)
_NUMBER = re.compile(r";[^\n]*|\"[^\"]*\"|(?<![\w.<])(-?[0-9]+(?:\.[0-9]+)?)")
TINY = 2.2250738585072014e-308
"""The smallest normal double."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"()"))


def is_version_2(text: str) -> bool:
    """Returns whether a property's first statement is VNN-LIB 2's `(vnnlib-version ...)`."""
    return _VERSION.match(text) is not None


class QueryText:
    """A VNN-LIB 2.0 text, with the places of its comparisons and declarations.

    A place from 0 on is the comparison of that number, -1 the first declaration of an input, hidden node or output, -2
    the second, and so on.

    Args:
        text: the property.
        source: what errors call it, usually the file's path.
    """

    __slots__ = ("inputs", "source", "text")

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.inputs: Sequence[tuple[str, tuple[int, ...], int]] = ()
        """Name, shape and first number of each input tensor, in order; set once they are known."""

    def error(self, place: int, message: str) -> UsageError:
        """Returns the error `source:line:column: message` for a place; the caller raises it."""
        kind, number = ("compared", place) if place >= 0 else ("declared", -1 - place)
        found = [match.start() for match in _MARK.finditer(self.text) if match.lastgroup == kind]
        return self.error_at(found[number] if number < len(found) else 0, message)

    def error_at(self, offset: int, message: str) -> UsageError:
        """Returns the error for a position in the text."""
        before = self.text[:offset]
        line, column = before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
        return UsageError(f"{self.source}:{line}:{column}: {message}")

    def input_name(self, index: int) -> str:
        """Returns the input of that number as the text writes it, e.g. `X[0,2,1]`."""
        name, shape, first = next(entry for entry in reversed(self.inputs) if entry[2] <= index)
        return element_name(name, shape, index - first)

    def checked(self) -> str:
        """Returns the text as the official parser may have it: only ASCII, and not nested too deep for its stack.

        Raises:
            UsageError: a character outside comments is not ASCII or is NUL, or brackets are nested too deep.
        """
        text = self.text
        if not text.isascii():
            # As many characters as before: columns stay right.
            text = _COMMENT.sub(lambda match: match[0].encode("ascii", "replace").decode("ascii"), text)
        strange = next((i for i, c in enumerate(text) if c > "\x7f"), -1) if not text.isascii() else text.find("\0")
        if strange >= 0:
            raise self.error_at(strange, f"the character {text[strange]!r} is not allowed here; remove it")
        brackets = _COMMENT.sub("", text).encode().translate(None, _NO_BRACKETS)
        for _ in range(MAX_DEPTH):
            brackets = brackets.replace(b"()", b"")
        if brackets.count(b"(") > MAX_DEPTH:
            raise self.error_at(
                0, f"brackets are nested more than {MAX_DEPTH} deep, or never closed; flatten the formula"
            )
        return text

    def refused(self, complaint: str) -> UsageError:
        """Returns what the official parser says of the text as one line with its place."""
        syntax = _SYNTAX.search(complaint)
        if syntax is not None:
            line, column, token = int(syntax[1]), int(syntax[2]) + 1, syntax[3]
            hint = "; numbers have no exponent in 2.0" if token[:1] in ("e", "E") else ""
            what = f"'{token}' is not VNN-LIB 2.0 here" if token else "VNN-LIB 2.0 needs something else, or more, here"
            return UsageError(f"{self.source}:{line}:{column}: {what}{hint}; correct the text")
        try:
            errors = json.loads(complaint)["errors"]
            first = errors[0]
            line, symbol = int(first["line"]), str(first["offendingSymbol"])
            words = f"{first['message']} '{symbol}'. {first['hint']}".strip().rstrip(".")
        except (ValueError, KeyError, IndexError, TypeError):
            return UsageError(f"{self.source}:1:1: not VNN-LIB 2.0 ({' '.join(complaint.split())}); correct the text")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return UsageError(f"{self.source}:{line}:{self._column(line, symbol)}: {' '.join(words.split())}{more}")

    def beyond_double(self) -> UsageError:
        """Returns the error for the first number that no normal double can hold."""
        numbers = (match for match in _NUMBER.finditer(self.text) if match[1])
        bad = next((m for m in numbers if not TINY <= abs(float(m[1])) < math.inf and m[1].strip("-0.")), None)
        message = "a number is beyond the range of a double; write a smaller one"
        return self.error_at(0 if bad is None else bad.start(), message)

    def _column(self, line: int, symbol: str) -> int:
        """Returns where a symbol, written with or without blanks, stands in a line; 1 where it is not found."""
        lines = self.text.split("\n")
        content = lines[line - 1] if 0 < line <= len(lines) else ""
        name = symbol.removesuffix("[]")
        pattern = r"(?<![\w.])" + r"\s*".join(re.escape(c) for c in name) + r"(?![\w.])"
        found = re.search(pattern, content) if name else None
        return 1 if found is None else found.start() + 1


def element_name(name: str, shape: Sequence[int], index: int) -> str:
    """Returns what VNN-LIB 2.0 calls element `index` (in C order) of a tensor: `X[0,2]`, or `X` for a scalar."""
    indices: list[int] = []
    for size in reversed(shape):
        index, rest = divmod(index, size)
        indices.insert(0, rest)
    return f"{name}[{','.join(map(str, indices))}]" if indices else name
