"""What counterexamples of one network do to another (thesis, section 4.4): classes, rates, and what to expect of them.

An example is a correctly classified input of one network with a replayed counterexample. Shown to another network, it
falls into one of four classes. The rates say something only beside others: an input that one network can be fooled on
is a hard one, so a random sample of inputs is right more often; and some inputs change their class under any noise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from harness.analysis.statistics import Share, wilson
from harness.analysis.table import ResultRow
from harness.domain import ResultSet, plural


class TransferClass(StrEnum):
    """What an example of network A does to network B; the classes are disjoint."""

    CLEAN_MISCLASSIFIED = "clean_misclassified"
    """B is wrong on the unperturbed input, so there is nothing left to attack."""
    ATTACK_FAILS = "attack_fails"
    """B is right on the input and on the example."""
    SAME_CLASS = "attack_works_same_class"
    """B is right on the input, and takes the example for the same class as A does."""
    OTHER_CLASS = "attack_works_other_class"
    """B is right on the input, and takes the example for another wrong class than A does."""


@dataclass(frozen=True, slots=True)
class TransferExample:
    """One counterexample of network A, seen by network B."""

    index: int
    """The input, as network A's results count it."""
    label: int
    """The true class."""
    target: int
    """The class that A takes the example for."""
    clean: int
    """The class that B takes the unperturbed input for."""
    adversarial: int
    """The class that B takes the example for."""
    noise: int | None = None
    """The class that B takes the input for under random noise of full radius; None where it was not measured."""

    @property
    def outcome(self) -> TransferClass:
        """The class of the example."""
        return _outcome(self.label, self.target, self.clean, self.adversarial)

    @property
    def noise_outcome(self) -> TransferClass | None:
        """The class of random noise in place of the example; None where it was not measured."""
        return None if self.noise is None else _outcome(self.label, self.target, self.clean, self.noise)

    def to_json(self) -> dict[str, Any]:
        """Returns the example as JSON values, with its class."""
        return {
            "index": self.index,
            "label": self.label,
            "target": self.target,
            "clean": self.clean,
            "adversarial": self.adversarial,
            "noise": self.noise,
            "class": self.outcome.value,
        }


def _outcome(label: int, target: int, clean: int, shown: int) -> TransferClass:
    if clean != label:
        return TransferClass.CLEAN_MISCLASSIFIED
    if shown == label:
        return TransferClass.ATTACK_FAILS
    return TransferClass.SAME_CLASS if shown == target else TransferClass.OTHER_CLASS


@dataclass(frozen=True, slots=True)
class Expected:
    """What B does on a random sample of test inputs: its results over all inputs of the run."""

    n: int
    """Inputs with a result under B."""
    correct: int
    """Of these, classified correctly: all but SK."""
    robust: int
    """Of these, with no counterexample found: VS and VF."""

    @property
    def sa(self) -> float | None:
        """Percent classified correctly."""
        return Share(self.correct, self.n).percent

    @property
    def ra(self) -> float | None:
        """Percent that B's own attack left right."""
        return Share(self.robust, self.n).percent


def expected_of(rows: Iterable[ResultRow]) -> Expected:
    """Returns what to expect of a random sample from the results of network B.

    Args:
        rows: the results of one network.
    """
    sets = Counter(row.result_set for row in rows)
    robust = sets[ResultSet.VS] + sets[ResultSet.VF]
    return Expected(sets.total(), sets[ResultSet.AT] + robust, robust)


def as_a_sample(right: int, n: int, expected: Expected) -> bool:
    """Returns whether B's share of correctly classified inputs is within noise of what a random sample would give.

    It is where Wilson's 95 % interval holds B's share of all inputs, and where there is nothing to compare.

    Args:
        right: inputs of examples that B classifies correctly.
        n: all of them.
        expected: B's results over all inputs.
    """
    if not n or expected.sa is None:
        return True
    low, high = wilson(right, n)
    return low <= expected.sa <= high


@dataclass(frozen=True, slots=True)
class Transfer:
    """The counterexamples of `source`, shown to `target`."""

    source: str
    target: str
    examples: tuple[TransferExample, ...]
    expected: Expected
    without_record: tuple[int, ...] = ()
    """Inputs of the examples that have no result under `target`; their unperturbed input was classified anew."""
    left_out: Mapping[int, str] | None = None
    """Input to the reason why its counterexample could not be shown to `target`; these are in no count."""

    def count(self, which: TransferClass) -> int:
        """Returns how many examples are of a class."""
        return sum(example.outcome is which for example in self.examples)

    @property
    def healed(self) -> int:
        """Examples whose input `target` gets wrong, and the example right."""
        wrong = TransferClass.CLEAN_MISCLASSIFIED
        return sum(one.outcome is wrong and one.adversarial == one.label for one in self.examples)

    @property
    def sa(self) -> float | None:
        """Percent of the examples whose unperturbed input `target` gets right."""
        n = len(self.examples)
        return Share(n - self.count(TransferClass.CLEAN_MISCLASSIFIED), n).percent

    @property
    def ra(self) -> float | None:
        """Percent of the examples on which the attack fails."""
        return Share(self.count(TransferClass.ATTACK_FAILS), len(self.examples)).percent

    def to_json(self) -> dict[str, Any]:
        """Returns counts as the published ones are named, rates in percent with Wilson's intervals, and examples."""
        n = len(self.examples)
        counts = {which.value: self.count(which) for which in TransferClass}
        clean = counts.pop(TransferClass.CLEAN_MISCLASSIFIED.value)
        return {
            "from": self.source,
            "to": self.target,
            "count": n,
            "clean_misclassified": clean,
            "of_those_attack_gives_true_label": self.healed,
            **counts,
            "percent": {which.value: _rate(self.count(which), n) for which in TransferClass},
            "SA": self.sa,
            "RA": self.ra,
            "intervals": {
                "SA": _interval(n - clean, n),
                "RA": _interval(self.count(TransferClass.ATTACK_FAILS), n),
            },
            "expected": self._expected_json(),
            "noise": self._noise_json(),
            "words": self.words,
            "without_record": list(self.without_record),
            "left_out": {str(index): reason for index, reason in (self.left_out or {}).items()},
            "examples": [example.to_json() for example in self.examples],
        }

    def _expected_json(self) -> dict[str, Any]:
        of = self.expected
        return {
            "n": of.n,
            "SA": of.sa,
            "RA": of.ra,
            "clean_misclassified": _rate(of.n - of.correct, of.n),
            "attack_fails": of.ra,
            "attack_works": _rate(of.correct - of.robust, of.n),
            "same_class_by_chance": self._by_chance(),
        }

    def _by_chance(self) -> float | None:
        """Returns the percent of working examples whose wrong class would be A's if B's classes were dealt anew.

        Dealt anew among the working examples: classes that both networks tend to are met by chance more often than one
        in nine.
        """
        works = [one for one in self.examples if one.outcome in (TransferClass.SAME_CLASS, TransferClass.OTHER_CLASS)]
        if not works:
            return None
        targets, shown = Counter(one.target for one in works), Counter(one.adversarial for one in works)
        return 100.0 * sum(targets[k] * shown[k] for k in targets) / len(works) ** 2

    def _noise_json(self) -> dict[str, Any] | None:
        shown = [one.noise_outcome for one in self.examples if one.noise_outcome is not None]
        if not shown:
            return None
        counts = Counter(shown)
        return {"count": len(shown)} | {which.value: counts[which] for which in TransferClass}

    @property
    def words(self) -> str:
        """The finding in one sentence, with what a random sample would give beside it."""
        n = len(self.examples)
        if not n:
            return f"{self.source} has no counterexamples to show to {self.target}."
        works = self.count(TransferClass.SAME_CLASS) + self.count(TransferClass.OTHER_CLASS)
        text = (
            f"Of {plural(n, 'counterexample')} of {self.source}, {works} also fool {self.target} "
            f"({self.count(TransferClass.SAME_CLASS)} into the same class), "
            f"{self.count(TransferClass.ATTACK_FAILS)} do not, and on {self.count(TransferClass.CLEAN_MISCLASSIFIED)} "
            f"it is wrong without them"
        )
        if self.expected.sa is None or self.sa is None:
            return f"{text}."
        right = n - self.count(TransferClass.CLEAN_MISCLASSIFIED)
        beside = "within noise of" if as_a_sample(right, n, self.expected) else "more than noise from"
        return (
            f"{text}; it gets {self.sa:.1f} % of their inputs right, {beside} {self.expected.sa:.1f} % of all inputs."
        )


def _rate(count: int, n: int) -> float | None:
    return Share(count, n).percent


def _interval(count: int, n: int) -> list[float] | None:
    return list(wilson(count, n)) if n else None
