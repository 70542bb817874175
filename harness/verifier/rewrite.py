"""Rewrites that make a graph smaller without changing its function (up to rounding in float64).

A rewrite maps nodes to nodes one by one; what nothing uses any more is dropped at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from harness.verifier.graph import Add, Conv, Gain, Graph, Linear, Node, Op, Pads, Relu, Scale, bias_magnitude

HARMLESS = Gain(2.0**-20, 2.0**20)
"""Gain up to which operations are taken together. What one of them loses where it underflows (7e-46) stays below what
every operation is granted (`rounding.TINY`), and one that overflows still shows in the size of the last result
(`rounding.LARGEST_SLACK`). Of `x * 1e-30 * 1e-30 * 1e30 * 1e30`, which is 0 in float32, nothing else would be left."""


def simplify(graph: Graph) -> Graph:
    """Returns an equal graph: scales merged, pads and scales taken into layers, grafted activations recognised."""
    nodes: list[Node] = []
    shared = _shared(graph)
    for node in graph.nodes:
        nodes.append(_rewritten(node, nodes, shared))
    return _without_unused([_with_fused_terms(node, nodes) for node in nodes])


def _with_fused_terms(node: Node, nodes: Sequence[Node]) -> Node:
    """An addition may be fused into the layers before it, which then sum their terms onto the other operand."""
    if not isinstance(node.op, Add):
        return node
    before = (nodes[i].op for i in node.inputs)
    terms = max((op.weight[0].numel() + op.roundings for op in before if isinstance(op, Conv | Linear)), default=0)
    return replace(node, op=replace(node.op, roundings=terms))


def _shared(graph: Graph) -> frozenset[int]:
    """Returns the nodes whose value has several consumers.

    Taking such a node into one of its consumers would compute it twice, and would hide that a grafted activation's two
    halves have the same input.
    """
    uses = Counter(i for node in graph.nodes for i in node.inputs)
    return frozenset(i for i, count in uses.items() if count > 1)


def _rewritten(node: Node, nodes: Sequence[Node], shared: frozenset[int]) -> Node:
    for fuse in (_merge_scales, _scale_into_layer, _pad_into_conv):
        if node.inputs and node.inputs[0] not in shared:
            node = fuse(node, nodes)
    return _grafted_activation(node, nodes)


def _merge_scales(node: Node, nodes: Sequence[Node]) -> Node:
    if not isinstance(node.op, Scale):
        return node
    inner = nodes[node.inputs[0]]
    gain = _joint_gain(inner.op, node.op)
    if not isinstance(inner.op, Scale) or gain is None:
        return node
    factor, offset = node.op.factor * inner.op.factor, node.op.factor * inner.op.offset + node.op.offset
    magnitude = node.op.factor.abs() * bias_magnitude(inner.op) + bias_magnitude(node.op)
    op = Scale(factor, offset, _unless_plain(magnitude, offset), inner.op.roundings + node.op.roundings, gain)
    return replace(node, op=op, inputs=inner.inputs)


def _joint_gain(inner: Op, outer: Scale) -> Gain | None:
    """Returns the gain of a scale taken into what comes before it; None where that would hide too much."""
    if not isinstance(inner, Conv | Linear | Scale):
        return None
    factor = outer.factor.abs()
    least, most = inner.gain.least * float(factor.min()), inner.gain.most * float(factor.max())
    found = Gain(min(least, outer.gain.least), max(most, outer.gain.most))
    return found if HARMLESS.least <= found.least and found.most <= HARMLESS.most else None


def _unless_plain(magnitude: Tensor, bias: Tensor) -> Tensor | None:
    return None if bool((magnitude == bias.abs()).all()) else magnitude


def _scale_into_layer(node: Node, nodes: Sequence[Node]) -> Node:
    """A scale whose factor and offset are constant per output channel becomes part of the layer before it."""
    if not isinstance(node.op, Scale):
        return node
    inner = nodes[node.inputs[0]]
    gain = _joint_gain(inner.op, node.op)
    if not isinstance(inner.op, Conv | Linear) or gain is None:
        return node
    factor, offset = _per_channel(node.op.factor), _per_channel(node.op.offset)
    own = _per_channel(bias_magnitude(node.op))
    if factor is None or offset is None or own is None:
        return node
    bias, magnitude = inner.op.bias * factor + offset, factor.abs() * bias_magnitude(inner.op) + own
    op = replace(
        inner.op,
        weight=inner.op.weight * factor.view(-1, *([1] * (inner.op.weight.dim() - 1))),
        bias=bias,
        bias_size=_unless_plain(magnitude, bias),
        roundings=inner.op.roundings + node.op.roundings,
        gain=gain,
    )
    return replace(node, op=op, inputs=inner.inputs)


def _per_channel(values: Tensor) -> Tensor | None:
    first = values.flatten(1)[:, :1] if values.dim() > 1 else values.view(-1, 1)
    flat = values.flatten(1) if values.dim() > 1 else values.view(-1, 1)
    return first[:, 0] if bool((flat == first).all()) else None


def _pad_into_conv(node: Node, nodes: Sequence[Node]) -> Node:
    if not isinstance(node.op, Conv):
        return node
    inner = nodes[node.inputs[0]]
    if not isinstance(inner.op, Conv) or not _is_pad(inner.op):
        return node
    pads = Pads(*(a + b for a, b in zip(node.op.pads, inner.op.pads, strict=True)))
    return replace(node, op=replace(node.op, pads=pads), inputs=inner.inputs)


def _is_pad(op: Conv) -> bool:
    channels = op.weight.shape[0]
    plain = op.groups == channels and op.stride == (1, 1) and op.weight.shape[1:] == (1, 1, 1)
    exact = op.roundings == 0 and op.bias_size is None
    return plain and exact and bool((op.weight == 1).all()) and bool((op.bias == 0).all()) and min(op.pads) >= 0


def _grafted_activation(node: Node, nodes: Sequence[Node]) -> Node:
    """`(A x + B) + C relu(x)` with C in {0, 1}, and A = B = 0 wherever C = 1, is one grafted activation.

    The affine half may take two floating-point operations, of which B is not a sum: what rounds more stays apart.
    """
    if not isinstance(node.op, Add) or node.op.signs != (1, 1):
        return node
    for first, second in (node.inputs, node.inputs[::-1]):
        linear, kept = nodes[first], nodes[second]
        if not (isinstance(linear.op, Scale) and isinstance(kept.op, Scale)):
            continue
        relu = nodes[kept.inputs[0]]
        if not isinstance(relu.op, Relu) or relu.op.linear is not None or relu.inputs != linear.inputs:
            continue
        keep = kept.op.factor
        if linear.op.roundings > 2 or linear.op.bias_size is not None:
            continue
        zero_where_kept = bool(((linear.op.factor == 0) & (linear.op.offset == 0))[keep == 1].all())
        if bool(((keep == 0) | (keep == 1)).all()) and bool((kept.op.offset == 0).all()) and zero_where_kept:
            op = Relu(relu.op.name, keep == 0, linear.op.factor.clone(), linear.op.offset.clone())
            return Node(op, linear.inputs, node.shape)
    return node


def _without_unused(nodes: Sequence[Node]) -> Graph:
    used, stack = {0, len(nodes) - 1}, [len(nodes) - 1]
    while stack:
        for i in nodes[stack.pop()].inputs:
            if i not in used:
                used.add(i)
                stack.append(i)
    order = sorted(used)
    place = {old: new for new, old in enumerate(order)}
    return Graph(tuple(replace(nodes[k], inputs=tuple(place[i] for i in nodes[k].inputs)) for k in order))
