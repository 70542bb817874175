"""Formulas over inputs and outputs to boxes with violation regions, the form that verifiers work on.

The asserted formulas are brought into disjunctive normal form; conjunctions over the same box are gathered in one case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain, product

import numpy as np
from numpy.typing import NDArray

from harness.domain import BoolArray, InputBox, OutputPolytope, Property, PropertyCase
from harness.formats.vnnlib_formula import AllOf, AnyOf, Atom, Formula, InputBounds, Statements

MAX_CONJUNCTIONS = 100_000
"""More are refused: the formula is a product of disjunctions that no verifier could work off."""

_MANY = 10**9
"""A product of thousands of disjunctions has thousands of digits, which nobody needs to know."""
MAX_NUMBERS = 2**25
"""Bounds, coefficients and constraints of all conjunctions together; more are refused for their memory and time."""

Conjunction = tuple[Atom, ...]


def normalise(statements: Statements) -> Property:
    """Returns the property that `statements` describe.

    Input bounds are the tightest that are asserted. A strict input bound `x < c` becomes `x <= c'` with c' the next
    double below c, and the box says that it is open there. Without any output constraint every output violates.
    Constraints without variables are decided; a conjunction that holds one that is false is dropped.

    Raises:
        UsageError: an input has no bound, a constraint is not a bound on one input or linear in the outputs, or
            there are more than `MAX_CONJUNCTIONS` conjunctions.
    """
    # Plain asserts come first: they hold in every conjunction, and are nearly all of a property.
    common, formulas = _split(statements.formulas)
    box = _Bounds(statements, None)
    box.take_blocks(statements.bounds)
    shared = box.take(common)
    cases: dict[bytes, tuple[_Bounds, list[OutputPolytope]]] = {}
    if shared is not None:
        numbers = 0
        for conjunction in _disjunctive(statements, formulas):
            case = _Bounds(statements, box)
            rows = case.take(conjunction)
            numbers += len(conjunction) + case.own * 6 * len(case.lower)
            numbers += 0 if rows is None else (len(shared) + len(rows)) * statements.outputs
            if numbers > MAX_NUMBERS:
                message = f"the disjunctions multiply to more than {MAX_NUMBERS} numbers; split the property"
                raise statements.places.error(_first_place(formulas[0]) if formulas else 0, message)
            if rows is not None:
                _, polytopes = cases.setdefault(case.key(), (case, []))
                polytopes.append(_polytope(statements, (*shared, *rows)))
    return Property(
        tuple(PropertyCase(bounds.checked_box(), tuple(polytopes)) for bounds, polytopes in cases.values()),
        len(statements.inputs),
        statements.outputs,
    )


class _Bounds:
    """Input bounds under construction; starts unbounded, or from the bounds of `base`."""

    def __init__(self, statements: Statements, base: _Bounds | None) -> None:
        self.statements = statements
        size = len(statements.inputs)
        self.lower: list[float] = [-math.inf] * size if base is None else base.lower
        self.upper: list[float] = [math.inf] * size if base is None else base.upper
        self.open: frozenset[tuple[int, bool]] = frozenset() if base is None else base.open
        """Strict bounds among them: the input, and whether it is the upper one."""
        self.own = base is None

    def take(self, atoms: Iterable[Atom]) -> list[Atom] | None:
        """Narrows the bounds by the atoms on inputs and returns those on outputs; None if an atom is false."""
        rows = []
        for atom in atoms:
            if not atom.terms:
                if atom.rhs < 0 or (atom.strict and atom.rhs == 0):
                    return None
            elif max(atom.terms) < 0:
                rows.append(atom)
            else:
                self._narrow(atom)
        return rows

    def take_blocks(self, blocks: Iterable[InputBounds]) -> None:
        """Narrows the bounds by blocks of plain ones; for the bounds that all cases share."""
        lower, upper = np.array(self.lower), np.array(self.upper)
        for block in blocks:
            # Adding 0 turns -0 into 0.
            np.minimum.at(upper, block.variable[block.upper], block.value[block.upper] + 0.0)
            np.maximum.at(lower, block.variable[~block.upper], block.value[~block.upper] + 0.0)
        self.lower, self.upper = lower.tolist(), upper.tolist()

    def _narrow(self, atom: Atom) -> None:
        if len(atom.terms) != 1:
            message = "a constraint on an input together with other variables; bound each input by numbers"
            raise self.statements.places.error(atom.place, message)
        if not self.own:
            self.lower, self.upper, self.own = self.lower.copy(), self.upper.copy(), True
        ((key, factor),) = atom.terms.items()
        # Adding 0 turns the -0 of a quotient into 0.
        bound = atom.rhs / factor + 0.0
        upper = factor > 0
        if atom.strict:
            bound = math.nextafter(bound, -math.inf if upper else math.inf)
        ends = self.upper if upper else self.lower
        known = ends[key]
        ends[key] = min(known, bound) if upper else max(known, bound)
        if ends[key] != known:
            self.open -= {(key, upper)}
        if atom.strict and ends[key] == bound:
            self.open |= {(key, upper)}

    def key(self) -> bytes:
        """Returns equal bytes for equal bounds; no bytes for the bounds that all cases share."""
        return np.array((self.lower, self.upper)).tobytes() + repr(sorted(self.open)).encode() if self.own else b""

    def checked_box(self) -> InputBox:
        """Returns the box.

        Raises:
            UsageError: an input is not bounded on both sides.
        """
        lower, upper = np.array(self.lower), np.array(self.upper)
        for side, bounds in (("lower", lower), ("upper", upper)):
            unbounded = np.flatnonzero(~np.isfinite(bounds))
            if unbounded.size:
                first = int(unbounded[0])
                places = self.statements.places
                raise places.error(
                    self.statements.inputs[first],
                    f"{places.input_name(first)} has no finite {side} bound ({unbounded.size} such inputs); "
                    "assert one for each",
                )
        return InputBox(lower, upper, self._flags(upper=False), self._flags(upper=True))

    def _flags(self, *, upper: bool) -> BoolArray | None:
        keys = [key for key, side in self.open if side is upper]
        if not keys:
            return None
        flags = np.zeros(len(self.upper), np.bool_)
        flags[keys] = True
        return flags


def _split(formulas: Iterable[Formula]) -> tuple[list[Atom], list[Formula]]:
    """Returns the atoms that hold in every conjunction, and the disjunctions."""
    atoms: list[Atom] = []
    others: list[Formula] = []
    for formula in formulas:
        if isinstance(formula, Atom):
            atoms.append(formula)
        elif isinstance(formula, AnyOf) and len(formula.parts) > 1:
            others.append(formula)
        else:
            inner_atoms, inner_others = _split(formula.parts)
            atoms += inner_atoms
            others += inner_others
    return atoms, others


def _disjunctive(statements: Statements, formulas: list[Formula]) -> Iterator[Conjunction]:
    """Yields the conjunctions of the formulas' disjunctive normal form, in the order of the text."""
    count = _product(map(_count, formulas))
    if count > MAX_CONJUNCTIONS:
        message = f"the disjunctions multiply to {count} cases, more than {MAX_CONJUNCTIONS}; split the property"
        raise statements.places.error(_first_place(formulas[0]), message)
    return _conjunctions(AllOf(tuple(formulas)))


def _conjunctions(formula: Formula) -> Iterator[Conjunction]:
    if isinstance(formula, Atom):
        yield (formula,)
    elif isinstance(formula, AnyOf):
        yield from chain.from_iterable(map(_conjunctions, formula.parts))
    else:
        atoms, others = _split(formula.parts)
        for choice in product(*(list(_conjunctions(other)) for other in others)):
            yield (*atoms, *chain.from_iterable(choice))


def _count(formula: Formula) -> int:
    if isinstance(formula, Atom):
        return 1
    counts = map(_count, formula.parts)
    return _product(counts) if isinstance(formula, AllOf) else sum(counts)


def _product(counts: Iterable[int]) -> int:
    """Returns the product, or some number of at least `_MANY` that it is not below."""
    result = 1
    for count in counts:
        result *= count
        if result >= _MANY:
            break
    return result


def _first_place(formula: Formula) -> int:
    while not isinstance(formula, Atom):
        formula = formula.parts[0]
    return formula.place


def _polytope(statements: Statements, rows: tuple[Atom, ...]) -> OutputPolytope:
    coefficients: NDArray[np.float64] = np.zeros((len(rows), statements.outputs))
    for row, atom in enumerate(rows):
        for key, factor in atom.terms.items():
            coefficients[row, -1 - key] = factor
    return OutputPolytope(coefficients, np.array([a.rhs for a in rows]), np.array([a.strict for a in rows], np.bool_))
