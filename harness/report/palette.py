"""Colours of sets and stages: Okabe and Ito's colour-blind safe palette, one colour a meaning on the whole page."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.sets import UNSTATED
from harness.analysis.stages import UNDECIDED
from harness.analysis.transfer import TransferClass
from harness.domain import ResultSet, Stage

_LIGHT, _DARK = "#ffffff", "#111111"
_GREY, _BLUE, _SKY, _VERMILLION, _ORANGE, _PURPLE = "#bbbbbb", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#cc79a7"

MISSING = "missing"
"""Key of inputs without a result, in an unfinished run."""


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of result and how it is drawn."""

    key: str
    title: str
    colour: str
    ink: str
    """Colour of text on `colour`; at least 4.5 to 1 in contrast."""


_NO_RESULT = Category(MISSING, "no result", "#e4e4e4", _DARK)

SETS: tuple[Category, ...] = (
    Category(ResultSet.SK, "skipped: misclassified", _GREY, _DARK),
    Category(ResultSet.AT, "attacked: a counterexample was replayed", _VERMILLION, _DARK),
    Category(ResultSet.VS, "verified: proved robust", _BLUE, _LIGHT),
    Category(ResultSet.VF, "failure: neither proved nor refuted", _ORANGE, _DARK),
    _NO_RESULT,
)
"""The result sets in their order, then what has no result."""

STAGES: tuple[Category, ...] = (
    Category(Stage.CLEAN, "clean check", _GREY, _DARK),
    Category(Stage.ATTACK, "attack", _VERMILLION, _DARK),
    Category(Stage.INCOMPLETE, "bounds at the root", _SKY, _DARK),
    Category(Stage.BAB, "branch and bound", _BLUE, _LIGHT),
    Category(UNSTATED, "decided, stage not stated", _PURPLE, _DARK),
    Category(UNDECIDED, "undecided", _ORANGE, _DARK),
    _NO_RESULT,
)
"""The stages in their order, then what none of them decided."""

TRANSFER: tuple[Category, ...] = (
    Category(TransferClass.CLEAN_MISCLASSIFIED, "wrong on the clean input", _GREY, _DARK),
    Category(TransferClass.ATTACK_FAILS, "attack fails", _BLUE, _LIGHT),
    Category(TransferClass.SAME_CLASS, "same class", _VERMILLION, _DARK),
    Category(TransferClass.OTHER_CLASS, "other class", _PURPLE, _DARK),
)
"""What a counterexample of one network does to another."""


def set_category(name: str) -> Category:
    """Returns the category of a result set by its two letters."""
    return next(category for category in SETS if category.key == name)
