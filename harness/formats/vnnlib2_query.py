"""VNN-LIB 2.0 queries of any number of networks, extracted from the official parser's syntax tree.

The parser's own flattening (`vnnlib.compat`) is not used: it joins several disjunctions into one and drops one side of
equations (version 1.0.2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from harness.domain import UsageError
from harness.formats.vnnlib2_text import QueryText
from harness.formats.vnnlib_formula import (
    MAX_FACTORS,
    AllOf,
    AnyOf,
    Atom,
    Formula,
    InputBounds,
    Linear,
    RunningSum,
    compared,
    scaled,
)

if TYPE_CHECKING:
    from types import ModuleType

_Node: TypeAlias = Any
"""A node of the official parser's tree, which has no types that a checker can see."""

TYPES: Mapping[str, str] = {
    "Real": "real",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "BF16": "bfloat16",
    "Bool": "bool",
    **{f"{kind}{bits}": f"{word}{bits}" for kind, word in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
}
"""The parser's name of an element type to the standard's; of those that a network may have."""
MAX_ELEMENTS = 2**22
"""Of one declared tensor: a few characters declare any number of them."""
_OPERATORS = {
    "LessThan": "<",
    "LessEqual": "<=",
    "GreaterThan": ">",
    "GreaterEqual": ">=",
    "Equal": "==",
    "NotEqual": "!=",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A declared input, hidden node or output."""

    name: str
    dtype: str
    """As the standard writes it: `float32`, `real`, ..."""
    shape: tuple[int, ...]
    first: int
    """Key of its first element: inputs count 0, 1, ... over all networks, everything else -1, -2, ..."""
    place: int
    """Where it is declared."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class NetworkDeclaration:
    """A declared network."""

    name: str
    equal_to: str
    """The network that this one is; empty for none."""
    isomorphic_to: str
    """The network that this one has the graph of; empty for none."""
    inputs: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class Tie(NamedTuple):
    """The assert that two inputs are equal."""

    first: int
    second: int
    """Keys of the two."""
    place: int


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A VNN-LIB 2.0 text: its networks, and what must hold of all their inputs and outputs together."""

    text: QueryText
    networks: tuple[NetworkDeclaration, ...]
    formulas: tuple[Formula, ...]
    """One for each assert that is not among `bounds` and `ties`."""
    bounds: tuple[InputBounds, ...]
    ties: tuple[Tie, ...]
    """The asserts that two inputs are equal."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs of all networks, in order."""
        return tuple(tensor for network in self.networks for tensor in network.inputs)


def parse_query(text: str, source: str) -> Query:
    """Returns the query that a VNN-LIB 2.0 text describes, checked by the official parser.

    A strict bound on a float32 or float64 input becomes the next value of that type. `!=` becomes `<` or `>`.

    Args:
        text: the property.
        source: what errors call it.

    Raises:
        UsageError: the text is not valid, has an element type that does not exist, or a term that is not linear, with
            line and column; or the package `vnnlib` is not installed.
    """
    try:
        import vnnlib
    except ImportError as error:
        raise UsageError(f"{source}: VNN-LIB 2.0 needs the package vnnlib; install it, or give a 1.0 file") from error
    places = QueryText(text, source)
    try:
        query = vnnlib.parse_query_string(places.checked())
    except vnnlib.VNNLibException as error:
        raise places.refused(str(error)) from error
    except IndexError as error:
        # What std::stod throws, with nothing about where.
        raise places.beyond_double() from error
    return _Extraction(vnnlib, places).query(query)


class _Extraction:
    def __init__(self, package: ModuleType, places: QueryText) -> None:
        self.package, self.places = package, places
        self.tensors: dict[str, Tensor] = {}
        self.comparisons = 0

    def query(self, root: _Node) -> Query:
        networks = self._networks(root.networks)
        inputs = [tensor for network in networks for tensor in network.inputs]
        self.places.inputs = [(tensor.name, tensor.shape, tensor.first) for tensor in inputs]
        bounds = _BoundsList(self.tensors)
        formulas: list[Formula] = []
        ties: list[Tie] = []
        var, constant, equal = self.package.Var, self.package.Float, self.package.Equal
        upper, lower = self.package.LessEqual, self.package.GreaterEqual
        for assertion in root.assertions:
            node = assertion.expr
            kind = type(node)
            if kind is upper or kind is lower:
                # Nearly all of a property; everything else may take its time.
                left, right = node.lhs, node.rhs
                if type(left) is var and type(right) is constant and bounds.take(left, right.value, kind is upper):
                    self.comparisons += 1
                    continue
            elif kind is equal and type(node.lhs) is var and type(node.rhs) is var:
                first, second = self._key(node.lhs), self._key(node.rhs)
                if first >= 0 and second >= 0:
                    ties.append(Tie(first, second, self.comparisons))
                    self.comparisons += 1
                    continue
            formulas.append(self._formula(node))
        return Query(self.places, networks, tuple(formulas), bounds.blocks(), tuple(ties))

    def _networks(self, nodes: Sequence[_Node]) -> tuple[NetworkDeclaration, ...]:
        networks, place = [], -1
        keys = [0, -1]
        for node in nodes:
            groups: list[tuple[Tensor, ...]] = []
            for kind, definitions in enumerate((node.inputs, node.hidden, node.outputs)):
                group = []
                for definition in definitions:
                    tensor = self._tensor(definition, keys[kind > 0], place)
                    keys[kind > 0] += -tensor.size if kind else tensor.size
                    place -= 1
                    group.append(tensor)
                groups.append(tuple(group))
            networks.append(NetworkDeclaration(node.name, node.equal_to, node.isometric_to, *groups))
        return tuple(networks)

    def _tensor(self, node: _Node, first: int, place: int) -> Tensor:
        dtype = TYPES.get(node.dtype.name)
        if dtype is None:
            # The parser takes any word, and then checks no constants.
            raise self.places.error(place, f"the type of {node.name} is none that is known here; write float32 or real")
        tensor = Tensor(node.name, dtype, tuple(node.shape), first, place)
        if not 0 < tensor.size <= MAX_ELEMENTS:
            raise self.places.error(place, f"{node.name} has {tensor.size} elements; 1 to {MAX_ELEMENTS} are supported")
        self.tensors[tensor.name] = tensor
        return tensor

    def _formula(self, node: _Node) -> Formula:
        if isinstance(node, self.package.And | self.package.Or):
            parts = tuple(self._formula(part) for part in node.args)
            return AllOf(parts) if isinstance(node, self.package.And) else AnyOf(parts)
        place = self.comparisons
        self.comparisons += 1
        left, right = self._linear(node.lhs, place), self._linear(node.rhs, place)
        return self._closed(compared(_OPERATORS[type(node).__name__], left, right, self.places, place))

    def _closed(self, formula: Formula) -> Formula:
        """Returns the formula with the strict bounds on floating-point inputs made bounds that may be taken on."""
        if not isinstance(formula, Atom):
            return type(formula)(tuple(self._closed(part) for part in formula.parts))
        if not formula.strict or len(formula.terms) != 1:
            return formula
        ((key, factor),) = formula.terms.items()
        dtype = next((t.dtype for t in self.tensors.values() if 0 <= t.first <= key < t.first + t.size), "real")
        if key < 0 or dtype not in ("float32", "float64"):
            return formula
        kind = np.dtype(dtype).type
        with np.errstate(over="ignore"):
            bound = kind(formula.rhs / factor)
            end = float(np.nextafter(bound, kind(-np.inf if factor > 0 else np.inf)))
        return Atom({key: math.copysign(1.0, factor)}, math.copysign(1.0, factor) * end, False, formula.place)

    def _key(self, variable: _Node) -> int:
        tensor = self.tensors[variable.name]
        offset = _offset(variable.indices, tensor.shape)
        return tensor.first + (offset if tensor.first >= 0 else -offset)

    def _linear(self, node: _Node, place: int) -> Linear:
        package = self.package
        if isinstance(node, package.Var):
            return Linear({self._key(node): 1.0}, 0.0)
        if isinstance(node, package.Negate):
            return scaled(self._linear(node.expr, place), -1.0)
        if isinstance(node, package.Plus):
            return self._sum(node.args, 1.0, place)
        if isinstance(node, package.Minus):
            return self._sum((node.head, *node.rest), -1.0, place)
        if isinstance(node, package.Multiply):
            return self._product(node.args, place)
        value = float(node.value)
        if not math.isfinite(value):
            raise self.places.error(place, f"{node.lexeme} is beyond the range of a double; write a smaller number")
        return Linear({}, value)

    def _sum(self, nodes: Sequence[_Node], sign: float, place: int) -> Linear:
        total = RunningSum(self._linear(nodes[0], place))
        for node in nodes[1:]:
            total.add(self._linear(node, place), sign)
        return total.linear()

    def _product(self, nodes: Sequence[_Node], place: int) -> Linear:
        result = Linear({}, 1.0)
        if len(nodes) > MAX_FACTORS:
            raise self.places.error(place, f"a product of more than {MAX_FACTORS} factors; multiply the numbers")
        for node in nodes:
            factor = self._linear(node, place)
            if result.terms and factor.terms:
                raise self.places.error(place, "a product of variables; only linear constraints are supported")
            result = scaled(factor, result.constant) if factor.terms else scaled(result, factor.constant)
        return result


class _BoundsList:
    """Plain bounds on inputs, gathered by tensor and made arrays at the end."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.found: dict[str, tuple[list[list[int]], list[float], list[bool]]] = {
            name: ([], [], []) for name, tensor in tensors.items() if tensor.first >= 0
        }

    def take(self, variable: _Node, value: float, upper: bool) -> bool:
        """Keeps a bound; returns False, and keeps nothing, where it is none on an input."""
        found = self.found.get(variable.name)
        if found is None or not math.isfinite(value):
            return False
        indices, values, uppers = found
        indices.append(variable.indices)
        values.append(value)
        uppers.append(upper)
        return True

    def blocks(self) -> tuple[InputBounds, ...]:
        blocks = []
        for name, (indices, values, uppers) in self.found.items():
            if values:
                tensor = self.tensors[name]
                strides = np.array([math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape))], np.int64)
                offsets = np.array(indices, np.int64).reshape(len(values), -1) @ strides
                blocks.append(InputBounds(tensor.first + offsets, np.array(values), np.array(uppers)))
        return tuple(blocks)


def _offset(indices: Sequence[int], shape: Sequence[int]) -> int:
    offset = 0
    for index, size in zip(indices, shape, strict=True):
        offset = offset * size + index
    return offset
