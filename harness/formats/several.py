"""Instances of several networks on one input, as instances of one network: VNN-LIB 2.0's comparisons for any verifier.

The networks become one that has the shared input and all outputs, one after another; the property becomes one over
these. Every input of every network has to be tied to the first network's by `==`, which is how a baseline is compared
with what was made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import compose, helper

from harness.domain import FloatArray, InputBox, OutputPolytope, Property, UnsupportedPropertyError, UsageError
from harness.formats.compressed import read_text
from harness.formats.onnx_file import OnnxSession, load_model_bytes, open_session
from harness.formats.vnnlib2_query import NetworkDeclaration, Query, parse_query
from harness.formats.vnnlib2_reader import FLOATING, tied_inputs
from harness.formats.vnnlib2_writer import VERSION
from harness.formats.vnnlib_formula import Atom, Formula, InputBounds, Statements
from harness.formats.vnnlib_normalise import normalise
from harness.formats.vnnlib_writer import exact_decimal

INPUT, OUTPUT = "X", "Y"
"""Names of the joined network's only input and output."""


class Joined(NamedTuple):
    """An instance of several networks as one of a single network."""

    model: bytes
    """ONNX: the shared input, and the outputs of all networks in the order of their declaration, `(1, outputs)`."""
    text: str
    """The property over these, as VNN-LIB 2.0."""


class Joiner:
    """Joins instances; networks that are compared in several of them are joined once."""

    def __init__(self) -> None:
        self._models: dict[tuple[Path, ...], tuple[bytes, tuple[OnnxSession, ...]]] = {}

    def join(self, networks: Sequence[tuple[str, Path]], prop: Path) -> Joined:
        """Returns one network and one property that the same inputs violate as an instance of several networks.

        Args:
            networks: declared name and file of each; one that is declared `equal-to` another may be left out.
            prop: a VNN-LIB 2.0 property.

        Raises:
            UsageError: a file cannot be read, or networks and declarations do not fit each other.
            UnsupportedPropertyError: the networks do not share their whole input, or have more than one floating-point
                input and output each.
        """
        query = parse_query(read_text(prop), str(prop))
        files = _files(query, dict(networks), str(prop))
        joined = joined_property(query)
        model, sessions = self._model(files)
        for declared, file, session in zip(query.networks, files, sessions, strict=True):
            _check_sizes(declared, file, session)
        first = sessions[0].input
        return Joined(model, query_text(joined, first.shape, str(first.dtype)))

    def _model(self, files: Sequence[Path]) -> tuple[bytes, tuple[OnnxSession, ...]]:
        key = tuple(files)
        if key not in self._models:
            models = [load_model_bytes(file) for file in files]
            sessions = tuple(open_session(model) for model in models)
            self._models[key] = joined_network(models, sessions), sessions
        return self._models[key]


def joined_property(query: Query) -> Property:
    """Returns the property over the shared input and all outputs, in the order of the networks' declaration.

    Raises:
        UnsupportedPropertyError: see `join`.
        UsageError: a constraint is none that a property of ours can have.
    """
    for network in query.networks:
        _check_declaration(query, network)
    first = query.networks[0].inputs[0]
    groups = tied_inputs(query)
    for network in query.networks[1:]:
        given = network.inputs[0]
        own, others = (groups[t.first : t.first + t.size] for t in (first, given))
        if given.size != first.size or (own != others).any() or len(set(own.tolist())) < first.size:
            message = f"the input {given.name} is not tied to {first.name} element by element"
            raise _unsupported(query, given.place, message)
    offsets = np.concatenate([np.arange(network.inputs[0].size) for network in query.networks])
    bounds = tuple(InputBounds(offsets[block.variable], block.value, block.upper) for block in query.bounds)
    formulas = tuple(_shared(formula, offsets.tolist()) for formula in query.formulas)
    outputs = sum(network.outputs[0].size for network in query.networks)
    return normalise(Statements(query.text, (first.place,) * first.size, outputs, formulas, bounds))


def joined_network(models: Sequence[bytes], sessions: Sequence[OnnxSession]) -> bytes:
    """Returns an ONNX model with the input that all models share, and their flat outputs one after another.

    Args:
        models: at least one.
        sessions: of the same.

    Raises:
        UnsupportedPropertyError: the models are of different operator sets, types or input shapes, or have functions of
            their own.
    """
    kinds = {(one.input.shape, one.input.dtype, one.output.dtype) for one in sessions}
    if len(kinds) > 1 or sessions[0].input.dtype != sessions[0].output.dtype:
        raise UnsupportedPropertyError("the networks' inputs and outputs are not of one shape and type")
    parts = [compose.add_prefix(onnx.load_model_from_string(data), f"net{k}_") for k, data in enumerate(models)]
    opsets = [sorted((one.domain, one.version) for one in part.opset_import) for part in parts]
    if any(one != opsets[0] for one in opsets) or any(part.functions for part in parts):
        raise UnsupportedPropertyError(
            "the networks are of different ONNX operator sets, or have functions of their own"
        )
    nodes, initializers, ends = [], [], []
    for k, part in enumerate(parts):
        graph = part.graph
        stored = {tensor.name for tensor in graph.initializer}
        (given,) = (value.name for value in graph.input if value.name not in stored)
        for node in graph.node:
            node.input[:] = [INPUT if name == given else name for name in node.input]
        nodes += list(graph.node)
        initializers += list(graph.initializer)
        ends.append(f"net{k}_flat")
        nodes.append(helper.make_node("Flatten", [graph.output[0].name], [ends[-1]], axis=_batch_axis(graph)))
    nodes.append(helper.make_node("Concat", ends, [OUTPUT], axis=1))
    kind = helper.np_dtype_to_tensor_dtype(sessions[0].input.dtype)
    graph = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info(INPUT, kind, sessions[0].input.shape)],
        [helper.make_tensor_value_info(OUTPUT, kind, [1, sum(one.output.size for one in sessions)])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=parts[0].opset_import)
    model.ir_version = max(part.ir_version for part in parts)
    return bytes(model.SerializeToString())


def query_text(prop: Property, input_shape: Sequence[int], dtype: str) -> str:
    """Returns a property as VNN-LIB 2.0 over an input `X` of that shape and an output `Y` of `(1, outputs)`.

    It reads back as the same cases.
    """
    names = [f"X[{','.join(map(str, index))}]" for index in np.ndindex(*input_shape)]
    cases = [case for case in prop.cases if case.polytopes]
    lines = [
        VERSION,
        "(declare-network net",
        f"  (declare-input {INPUT} {dtype} [{','.join(map(str, input_shape))}])",
        f"  (declare-output {OUTPUT} {dtype} [1,{prop.output_size}])",
        ")",
    ]
    if len(cases) == 1:
        lines += [f"(assert {bound})" for bound in _bounds(cases[0].box, names)]
    shared = [[] if len(cases) == 1 else _bounds(case.box, names) for case in cases]
    parts = [[*box, *_rows(one)] for box, case in zip(shared, cases, strict=True) for one in case.polytopes]
    if not cases:
        lines += [f"(assert (== {name} 0.0))" for name in names]
    if not parts:
        # Nothing violates; a text needs an assert.
        parts = [["(< Y[0,0] 0.0)", "(> Y[0,0] 0.0)"]]
    if all(parts):
        lines += ["(assert (or", *(f"  (and {' '.join(part)})" for part in parts), "))"]
    return "\n".join(lines) + "\n"


def _bounds(box: InputBox, names: Sequence[str]) -> list[str]:
    found = []
    sides = ((">", box.lower, box.open_lower, -np.inf), ("<", box.upper, box.open_upper, np.inf))
    for sign, values, flags, away in sides:
        for k, name in enumerate(names):
            strict = flags is not None and bool(flags[k])
            value = float(np.nextafter(values[k], away)) if strict else float(values[k])
            found.append(f"({sign}{'' if strict else '='} {name} {exact_decimal(value)})")
    return found


def _rows(polytope: OutputPolytope) -> list[str]:
    rows = zip(polytope.coefficients, polytope.rhs.tolist(), polytope.strict.tolist(), strict=True)
    return [_row(row, rhs, "<" if strict else "<=") for row, rhs, strict in rows]


def _row(row: FloatArray, rhs: float, sign: str) -> str:
    terms = [(float(row[i]), f"{OUTPUT}[0,{i}]") for i in np.flatnonzero(row).tolist()]
    factors = sorted(factor for factor, _ in terms)
    if factors == [-1.0, 1.0]:
        (small,), (large,) = ([name for factor, name in terms if factor == side] for side in (1.0, -1.0))
        return f"({sign} {small} {large})" if rhs == 0 else f"({sign} (- {small} {large}) {exact_decimal(rhs)})"
    if factors == [1.0]:
        return f"({sign} {terms[0][1]} {exact_decimal(rhs)})"
    if factors == [-1.0]:
        return f"({sign.replace('<', '>')} {terms[0][1]} {exact_decimal(-rhs)})"
    summed = [f"(* {exact_decimal(factor)} {name})" for factor, name in terms]
    return f"({sign} {summed[0] if len(summed) == 1 else f'(+ {chr(32).join(summed)})'} {exact_decimal(rhs)})"


def _batch_axis(graph: onnx.GraphProto) -> int:
    """Returns the axis that flattens the output to one row, also where it has no axis for a batch."""
    dims = graph.output[0].type.tensor_type.shape.dim
    return 1 if dims and (not dims[0].HasField("dim_value") or dims[0].dim_value == 1) else 0


def _shared(formula: Formula, offsets: Sequence[int]) -> Formula:
    """Returns the formula over the shared input: equations between its copies say nothing any more."""
    if not isinstance(formula, Atom):
        return type(formula)(tuple(_shared(part, offsets) for part in formula.parts))
    terms: dict[int, float] = {}
    for key, factor in formula.terms.items():
        name = offsets[key] if key >= 0 else key
        terms[name] = terms.get(name, 0.0) + factor
    return formula._replace(terms={key: factor for key, factor in terms.items() if factor})


def _files(query: Query, named: Mapping[str, Path], source: str) -> list[Path]:
    """Returns the file of each declared network."""
    unknown = sorted(named.keys() - {network.name for network in query.networks})
    if unknown:
        declared = ", ".join(network.name for network in query.networks)
        raise UsageError(f"{source}: declares no network '{unknown[0]}', but {declared}; name these in the list")
    files = []
    for network in query.networks:
        file = named.get(network.name) or named.get(network.equal_to)
        if file is None:
            raise UsageError(f"{source}: declares the network '{network.name}', which the list does not name; add it")
        files.append(file)
    return files


def _check_sizes(declared: NetworkDeclaration, file: Path, session: OnnxSession) -> None:
    sizes = tuple(sum(tensor.size for tensor in group) for group in (declared.inputs, declared.outputs))
    if sizes != (session.input.size, session.output.size):
        raise UsageError(
            f"{file}: has {session.input.size} inputs and {session.output.size} outputs, but {declared.name} is "
            f"declared with {sizes[0]} and {sizes[1]}; name the network that belongs to the property"
        )


def _check_declaration(query: Query, network: NetworkDeclaration) -> None:
    for tensors, what in ((network.inputs, "inputs"), (network.outputs, "outputs")):
        if len(tensors) != 1:
            raise _unsupported(query, tensors[0].place, f"{network.name} has {len(tensors)} {what}")
    odd = next((t for t in (*network.inputs, *network.outputs) if t.dtype not in FLOATING), None)
    if network.hidden or odd is not None:
        where, what = (network.hidden[0], "a hidden node") if odd is None else (odd, f"the element type {odd.dtype}")
        raise _unsupported(query, where.place, f"{where.name} is {what}" if odd is None else f"{where.name} has {what}")


def _unsupported(query: Query, place: int, what: str) -> UnsupportedPropertyError:
    reason = query.text.error(place, what)
    return UnsupportedPropertyError(f"{reason}; several networks are supported where they share one whole input")
