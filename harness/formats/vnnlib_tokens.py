"""VNN-LIB text as tokens: brackets and words, with the position of each at hand when an error needs it."""

from __future__ import annotations

import re

from harness.domain import UsageError

_COMMENT = re.compile(r";[^\n]*")
# The same tokens with their positions: a comment matches without the group.
_TOKEN = re.compile(r";[^\n]*|([()]|[^\s();]+)")

END = ""
"""The token after the last one."""


class TokenStream:
    """The tokens of one property text, without comments; `tokens` ends with a few `END`s.

    Args:
        text: the property.
        source: what errors call it, usually the file's path.
        start: offset of the first token; what stands before it has been read already.
    """

    __slots__ = ("source", "start", "text", "tokens")

    def __init__(self, text: str, source: str, start: int = 0) -> None:
        self.text, self.source, self.start = text, source, start
        # Splitting at blanks is several times as fast as a pattern for each token.
        words = _COMMENT.sub("", text[start:]).replace("(", " ( ").replace(")", " ) ").split()
        # Several ends, so that a reader may look ahead without asking whether it is at the end.
        self.tokens: list[str] = [*words, *(END,) * 8]

    def error(self, place: int, message: str) -> UsageError:
        """Returns the error `source:line:column: message` for the token at `place`; the caller raises it."""
        line, column = self.position(place)
        return UsageError(f"{self.source}:{line}:{column}: {message}")

    def input_name(self, index: int) -> str:
        """Returns `X_<index>`."""
        return f"X_{index}"

    def position(self, index: int) -> tuple[int, int]:
        """Returns line and column (from 1) of the token at `index`; of the text's end for an index past the last."""
        offset, seen = len(self.text), 0
        # Positions are not kept: they are needed once, for an error, and would double the time of every good file.
        for match in _TOKEN.finditer(self.text, self.start):
            if match.group(1) is None:
                continue
            if seen == index:
                offset = match.start()
                break
            seen += 1
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
