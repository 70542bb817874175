"""VNN-LIB 2.0 queries as properties: those of one network with one input and one output, and the boxes of all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.domain import InputBox, Property, UnsupportedPropertyError
from harness.formats.vnnlib2_query import NetworkDeclaration, Query, Tensor, parse_query
from harness.formats.vnnlib_formula import AllOf, Atom, Formula, Statements
from harness.formats.vnnlib_normalise import normalise

FLOATING = ("float32", "float64", "real")
"""Element types that a property of ours can have."""


def parse_property_2(text: str, source: str) -> Property:
    """Returns the property that a VNN-LIB 2.0 text describes; inputs and outputs in the C order of their tensors.

    Args:
        text: the property.
        source: what errors call it.

    Raises:
        UsageError: the text is not valid, with line and column.
        UnsupportedPropertyError: it is about several networks, inputs or outputs, hidden nodes, or other element types
            than float32, float64 and real.
    """
    return query_property(parse_query(text, source))


def query_property(query: Query) -> Property:
    """Returns the property of a query that is about one network; raises as `parse_property_2` does."""
    network = _single(query)
    if query.ties:
        message = "a constraint on an input together with other variables; bound each input by numbers"
        raise query.text.error(query.ties[0].place, message)
    (given,), (wanted,) = network.inputs, network.outputs
    places = (given.place,) * given.size
    return normalise(Statements(query.text, places, wanted.size, query.formulas, query.bounds))


def declared_box(query: Query) -> InputBox:
    """Returns the tightest box over the inputs of all networks that follows from plain bounds and equations `x == y`.

    Unbounded sides are infinite. Bounds inside disjunctions are left out, as they hold in a part of the cases only.

    Returns:
        The box, over all inputs in order of declaration.
    """
    size = sum(tensor.size for tensor in query.inputs)
    lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
    for block in query.bounds:
        np.minimum.at(upper, block.variable[block.upper], block.value[block.upper])
        np.maximum.at(lower, block.variable[~block.upper], block.value[~block.upper])
    for atom in _atoms(query.formulas):
        keys = tuple(atom.terms)
        if len(keys) == 1 and keys[0] >= 0:
            bound = atom.rhs / atom.terms[keys[0]]
            if atom.terms[keys[0]] > 0:
                upper[keys[0]] = min(upper[keys[0]], bound)
            else:
                lower[keys[0]] = max(lower[keys[0]], bound)
    roots = tied_inputs(query)
    low, high = np.full(size, -np.inf), np.full(size, np.inf)
    np.maximum.at(low, roots, lower)
    np.minimum.at(high, roots, upper)
    return InputBox(low[roots], high[roots])


def tied_inputs(query: Query) -> NDArray[np.int64]:
    """Returns for each input of all networks the first that it has to equal, itself among them, `(inputs,)`."""
    group = np.arange(sum(tensor.size for tensor in query.inputs))
    for first, second in (*((tie.first, tie.second) for tie in query.ties), *_ties(query.formulas)):
        a, b = _root(group, first), _root(group, second)
        group[max(a, b)] = min(a, b)
    return np.array([_root(group, key) for key in range(group.size)], np.int64)


def _single(query: Query) -> NetworkDeclaration:
    if len(query.networks) != 1:
        names = ", ".join(network.name for network in query.networks)
        raise _unsupported(query, -1, f"a property of {len(query.networks)} networks ({names})")
    network = query.networks[0]
    for kind, tensors in (("inputs", network.inputs), ("outputs", network.outputs)):
        if len(tensors) != 1:
            raise _unsupported(query, tensors[1].place, f"a network with {len(tensors)} {kind}")
    if network.hidden:
        raise _unsupported(query, network.hidden[0].place, f"the hidden node {network.hidden[0].name}")
    for tensor in (*network.inputs, *network.outputs):
        if tensor.dtype not in FLOATING:
            raise _unsupported(query, tensor.place, f"the element type {tensor.dtype} of {_described(tensor)}")
    return network


def _unsupported(query: Query, place: int, what: str) -> UnsupportedPropertyError:
    reason = query.text.error(place, f"{what} is not supported")
    return UnsupportedPropertyError(
        f"{reason}; a property is about one network with one floating-point input and output"
    )


def _described(tensor: Tensor) -> str:
    return f"{tensor.name}[{','.join(map(str, tensor.shape))}]"


def _atoms(formulas: tuple[Formula, ...]) -> Iterator[Atom]:
    """Yields the atoms that hold in every case."""
    for formula in formulas:
        if isinstance(formula, Atom):
            yield formula
        elif isinstance(formula, AllOf) or len(formula.parts) == 1:
            yield from _atoms(formula.parts)


def _ties(formulas: tuple[Formula, ...]) -> Iterator[tuple[int, int]]:
    """Yields the pairs of inputs that two inequalities make equal."""
    seen: set[tuple[int, int]] = set()
    for atom in _atoms(formulas):
        if len(atom.terms) == 2 and atom.rhs == 0 and min(atom.terms) >= 0 and sum(atom.terms.values()) == 0:
            low, high = sorted(atom.terms, key=lambda key: atom.terms[key])
            if (high, low) in seen:
                yield low, high
            seen.add((low, high))


def _root(group: NDArray[np.int64], key: int) -> int:
    while group[key] != key:
        key = int(group[key])
    return key
