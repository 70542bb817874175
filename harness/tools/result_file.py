"""What a tool wrote into its result file, as VNN-COMP reads it: a word on line 1, after `sat` the witness."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from harness.domain import Verdict
from harness.formats.competition import verdict_of_word

MAX_BYTES = 64 * 2**20
"""Of a result file; a greater one is broken. A witness of a million inputs has half of it."""
_EXCERPT = 60


class Said(NamedTuple):
    """What a tool says of an instance."""

    verdict: Verdict
    witness: str | None
    """The text after `sat`, possibly empty; None with any other verdict."""
    message: str = ""
    """One line: why the verdict is `error`."""


def read_result_file(path: Path) -> Said:
    """Returns what a result file says; one that is missing, empty or garbage is an error with the reason."""
    try:
        state = path.stat()
        # A pipe would be waited for, and a device read, for ever.
        if not S_ISREG(state.st_mode):
            return Said(Verdict.ERROR, None, "the result file is no plain file")
        if state.st_size > MAX_BYTES:
            return Said(Verdict.ERROR, None, f"the result file has {state.st_size} bytes")
        return interpret(path.read_bytes())
    except FileNotFoundError:
        return Said(Verdict.ERROR, None, "no result file was written")
    except OSError as error:
        return Said(Verdict.ERROR, None, f"the result file cannot be read ({error.strerror})")


def interpret(content: bytes) -> Said:
    """Returns what the content of a result file says.

    White space around the word does not matter, nor does its case; a witness may begin on line 1, as in `sat ((X_0 1)`.
    """
    text = content.decode("utf-8", "replace")
    first, _, rest = text.partition("\n")
    word, bracket, begun = first.partition("(")
    word = "".join(word.split())
    if not text.strip():
        return Said(Verdict.ERROR, None, "the result file is empty")
    if not word:
        return Said(Verdict.ERROR, None, f"the result file begins with {_excerpt(first)}, not with a result word")
    verdict = verdict_of_word(word)
    if verdict is None:
        return Said(Verdict.ERROR, None, f"{_excerpt(first)} is no result word")
    if verdict is Verdict.SAT:
        return Said(verdict, f"{bracket}{begun}\n{rest}".strip())
    reason = "the tool says so itself" if verdict is Verdict.ERROR else ""
    return Said(verdict, None, reason)


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _EXCERPT else text[:_EXCERPT] + "...")
