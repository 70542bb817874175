"""Statements that are read in blocks mean what they mean when they are read one by one."""

from __future__ import annotations

import numpy as np
import pytest

from harness.domain import Property, UsageError
from harness.formats import vnnlib_reader
from harness.formats.vnnlib import parse_property
from harness.formats.vnnlib_plain import plain_part
from harness.formats.vnnlib_reader import read_statements

INPUTS = 389


def image_property(seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=INPUTS).tolist()
    lines = [f"(declare-const X_{i} Real)" for i in range(INPUTS)]
    lines += ["(declare-const Y_0 Real)", "(declare-const Y_1 Real)"]
    for i, low in enumerate(lower):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {low + 0.1!r}))"]
    return [*lines, "(assert (or (and (>= Y_0 Y_1))))"]


def one_by_one(text: str, monkeypatch: pytest.MonkeyPatch) -> Property:
    with monkeypatch.context() as patch:
        patch.setattr(vnnlib_reader, "plain_part", lambda _text: None)
        assert not read_statements(text, "p").bounds
        return parse_property(text, "p")


def assert_same(a: Property, b: Property) -> None:
    assert (a.input_size, a.output_size, len(a.cases)) == (b.input_size, b.output_size, len(b.cases))
    for one, other in zip(a.cases, b.cases, strict=True):
        assert one.box.lower.tobytes() == other.box.lower.tobytes()
        assert one.box.upper.tobytes() == other.box.upper.tobytes()
        for p, q in zip(one.polytopes, other.polytopes, strict=True):
            assert p.coefficients.tobytes() == q.coefficients.tobytes()
            assert p.rhs.tobytes() == q.rhs.tobytes()
            assert p.strict.tobytes() == q.strict.tobytes()


def test_the_plain_part_is_taken() -> None:
    lines = image_property()
    plain = plain_part("\n".join(lines))
    assert plain is not None
    assert (plain.inputs, plain.outputs, len(plain.bounds.value)) == (INPUTS, 2, 2 * INPUTS)
    assert "\n".join(lines)[plain.end :] == lines[-1]
    statements = read_statements("\n".join(lines), "p")
    assert len(statements.bounds) == len(statements.formulas) == 1


def test_comments_and_blank_lines_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{line} ; (assert (<= X_0 0)) Real)\n\n; X_1" for line in image_property()]
    text = "; 5\n\t" + "\r\n".join(lines)
    assert plain_part(text) is not None
    assert_same(parse_property(text, "p"), one_by_one(text, monkeypatch))


def test_what_the_rest_declares_belongs_to_the_property(monkeypatch: pytest.MonkeyPatch) -> None:
    more = [f"(declare-const X_{INPUTS} Real)", f"(assert (<= X_{INPUTS} 1))", "(declare-const Y_2 Real)"]
    lines = [*image_property(), *more, f"(assert (>= X_{INPUTS} 0))", "(assert (<= Y_2 0))"]
    found = parse_property("\n".join(lines), "p")
    assert (found.input_size, found.output_size) == (INPUTS + 1, 3)
    assert_same(found, one_by_one("\n".join(lines), monkeypatch))


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["(assert (<= X_7 0.0))", "(assert (>= X_7 -0.0))"],  # tighter than the block's, and both zeros
        ["(assert (or (and (<= X_3 9.0) (>= Y_0 0)) (and (>= X_3 -9) (<= Y_1 0))))"],  # boxes of their own
    ],
)
def test_blocks_give_what_single_statements_give(extra: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(image_property() + extra)
    assert_same(parse_property(text, "p"), one_by_one(text, monkeypatch))


def test_repeated_bounds_in_a_block_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = image_property()
    lines += [f"(assert (<= X_0 {value}))" for value in np.linspace(3, -3, 256)] + ["(assert (>= X_0 -5.0))"]
    found = parse_property("\n".join(lines), "p")
    assert found.cases[0].box.upper[0] == -3
    assert_same(found, one_by_one("\n".join(lines), monkeypatch))


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (40, "(declare-const X_39 Real)"),  # twice
        (40, "(declare-const X_40 Int)"),
        (40, "(declare-const Z_40 Real)"),
        (INPUTS + 40, "(assert (<= X_99999 1.0))"),
        (INPUTS + 40, "(assert (<= X_1 nan))"),
        (INPUTS + 40, "(assert (<= X_1 1_0))"),
        (INPUTS + 40, "(assert (<= X_1 1e999))"),
        (INPUTS + 40, "(assert (=> X_1 1.0))"),
        (INPUTS + 40, "(assert (<= X_1 1.0)"),
        (INPUTS + 40, "(assert (<= X_1 1.0)))"),
        (INPUTS + 40, "(assert (<= X_01 1.0))"),
        (3 * INPUTS + 2, "(assert (or (and (>= Y_0 Y_7))))"),  # behind the plain part
        (3 * INPUTS + 2, ")"),
        (3 * INPUTS + 2, "(declare-const X_3 Real)"),
    ],
)
def test_mistakes_inside_a_block_have_the_same_message(place: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = image_property()
    lines[place] = line
    text = "\n".join(lines)
    with pytest.raises(UsageError) as block:
        parse_property(text, "p")
    with pytest.raises(UsageError) as single:
        one_by_one(text, monkeypatch)
    assert str(block.value) == str(single.value)


def test_bounds_on_outputs_are_no_bounds_on_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = image_property() + [f"(assert (<= Y_0 {k}.5))" for k in range(256)]
    text = "\n".join(lines)
    assert_same(parse_property(text, "p"), one_by_one(text, monkeypatch))


def test_an_input_without_bound_is_noticed() -> None:
    lines = [line for line in image_property() if line.startswith("(assert (<= X_9 ") is False]
    with pytest.raises(UsageError, match="X_9 has no finite upper bound"):
        parse_property("\n".join(lines), "p")


@pytest.mark.parametrize("index", ["18446744073709551617", "9" * 5000])
def test_an_index_beyond_every_integer_is_not_declared(index: str) -> None:
    text = "\n".join([*image_property()[:-1], f"(assert (<= X_{index} 0))"])
    with pytest.raises(UsageError, match="is used but not declared before"):
        parse_property(text, "p")


def test_no_variable_of_so_long_an_index_can_be_declared() -> None:
    with pytest.raises(UsageError, match=r"p:1:16: .*declare all from X_0 on"):
        parse_property(f"(declare-const X_{'9' * 5000} Real)", "p")
