"""Properties as the engine works on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import Net, graph_of, property_of, region

from harness.domain import InputBox, Property, PropertyCase, UsageError
from harness.verifier.graph import Graph
from harness.verifier.problem import Region, boxes_of, problems_of


def linear_graph() -> Graph:
    net = Net((2,), seed=1)
    return graph_of(net.model(net.linear("x", 3, 2)))


def test_a_strict_row_does_not_hold_at_equality() -> None:
    y = torch.tensor([[1.0, 0.0], [0.5, 0.0], [1.0, 9.0]])
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double()
    rhs = torch.tensor([1.0, 0.0]).double()
    assert Region(rows, rhs, torch.tensor([False, False])).contains(y).tolist() == [True, True, False]
    assert Region(rows, rhs, torch.tensor([True, False])).contains(y).tolist() == [False, True, False]


def test_outputs_are_compared_in_float64() -> None:
    """A third in float32 is above a third: cast back to float32 the two would be equal."""
    y = torch.tensor([[1.0 / 3.0]])
    bound = torch.tensor([1.0 / 3.0], dtype=torch.float64)
    assert not bool(Region(torch.ones(1, 1).double(), bound, torch.tensor([False])).contains(y)[0])


def test_a_region_without_rows_contains_every_output() -> None:
    empty = Region(torch.zeros(0, 2).double(), torch.zeros(0).double(), torch.zeros(0, dtype=torch.bool))
    assert empty.contains(torch.randn(3, 2)).tolist() == [True] * 3


def test_other_sizes_are_refused_in_one_line() -> None:
    prop = property_of([0, 0, 0], [1, 1, 1], region([1, 0, 0], 0))
    with pytest.raises(UsageError, match=r"^p\.vnnlib: a property over 3 inputs and 3 outputs.*2 and 3"):
        problems_of(prop, linear_graph(), "p.vnnlib")


def test_empty_boxes_are_no_cases() -> None:
    whole, none = (property_of([0, low], [1, 1], region([1, 0, 0], 0)).cases[0] for low in (0, 1.5))
    problems = problems_of(Property((none, whole, none), 2, 3), linear_graph(), "p")
    assert [p.box.lower.tolist() for p in problems] == [[0, 0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_box_covers_its_values_in_the_network_s_type(dtype: type) -> None:
    random = np.random.default_rng(0)
    lower = random.normal(size=2)
    box = InputBox(lower, lower + 0.1)
    prop = Property((PropertyCase(box, (region([1, 0, 0], 0),)),), 2, 3)
    found = problems_of(prop, linear_graph(), "p", np.dtype(dtype))[0].box
    for end in (box.lower, box.upper):
        for value in (end, end.astype(dtype)):
            assert (found.lower <= value).all()
            assert (found.upper >= value).all()
    if dtype is np.float64:
        np.testing.assert_array_equal(found.lower, box.lower)
        np.testing.assert_array_equal(found.upper, box.upper)


def test_the_seed_depends_on_box_and_base_alone() -> None:
    graph = linear_graph()

    def seed(low: float, rhs: float, base: int) -> int:
        prop = property_of([low, 0], [1, 1], region([1, 0, 0], rhs))
        return problems_of(prop, graph, "p")[0].seed(base)

    assert seed(0, 1, 5) == seed(0, 2, 5)
    assert len({seed(0, 1, 5), seed(0.5, 1, 5), seed(0, 1, 6)}) == 3
    assert 0 <= seed(0, 1, 5) < 2**63


def test_boxes_become_one_batch_in_the_input_s_shape() -> None:
    net = Net((1, 2, 3), seed=1)
    graph = graph_of(net.model(net.linear(net.op("Flatten", "x"), 3, 6)))
    problems = [problems_of(property_of([k] * 6, [k + 1] * 6, region([1, 0, 0], 0)), graph, "p")[0] for k in range(3)]
    box = boxes_of(problems, graph)
    assert box.lower.shape == (3, 1, 2, 3)
    assert (box.lower.dtype, float(box.upper[2].max())) == (torch.float64, 3.0)
