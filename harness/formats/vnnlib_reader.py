"""VNN-LIB 1.0 statements to linear formulas: syntax, variables and numbers are checked here, meaning is not.

A recursive-descent reader over the tokens; each `_name(index)` reads what starts at the token `index` and returns it
with the index after it.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from harness.formats.vnnlib_formula import (
    MAX_DEPTH,
    MAX_FACTORS,
    AllOf,
    AnyOf,
    Atom,
    Formula,
    InputBounds,
    Linear,
    RunningSum,
    Statements,
    compared,
    scaled,
)
from harness.formats.vnnlib_plain import LONGEST_INDEX, NUMBER, PlainPart, plain_part
from harness.formats.vnnlib_tokens import END, TokenStream

_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]*)")
_NUMBER = re.compile(NUMBER)
# Statements of SMT-LIB that some generators add and that say nothing about the property.
_IGNORED = frozenset({"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"})


def read_statements(text: str, source: str) -> Statements:
    """Returns what a VNN-LIB 1.0 text declares and asserts.

    Understood: `declare-const`, `declare-fun` without arguments, `assert`; `and`, `or`; `<=`, `>=`, `<`, `>`, `=`, `==`
    with two sides; sums, differences and multiples of variables; numbers with and without exponent; comments.

    Args:
        text: the property.
        source: what errors call it.

    Raises:
        UsageError: the text is not understood, with line and column.
    """
    plain = plain_part(text)
    reader = _Reader(TokenStream(text, source, 0 if plain is None else plain.end))
    if plain is not None:
        reader.begin(plain)
    return reader.read()


@lru_cache(maxsize=4)
def _keys(inputs: int, outputs: int) -> dict[str, int]:
    """Returns the variables' keys by name; a benchmark's properties share them, so nobody may change it."""
    return {f"X_{i}": i for i in range(inputs)} | {f"Y_{i}": -1 - i for i in range(outputs)}


class _Reader:
    def __init__(self, stream: TokenStream) -> None:
        self.stream, self.tokens = stream, stream.tokens
        self.keys: dict[str, int] = {}
        self.declared: dict[str, dict[int, int]] = {"X": {}, "Y": {}}
        self.formulas: list[Formula] = []
        self.bounds: list[InputBounds] = []

    def begin(self, plain: PlainPart) -> None:
        """Takes over what the text in front of the tokens says."""
        for name, count in (("X", plain.inputs), ("Y", plain.outputs)):
            # No error will ask where they stand: they are complete.
            self.declared[name] = dict.fromkeys(range(count), 0)
        self.keys = dict(_keys(plain.inputs, plain.outputs))
        self.bounds.append(plain.bounds)

    def read(self) -> Statements:
        index = 0
        while self.tokens[index] != END:
            index = self._bound(index) or self._statement(index)
        for name, where in self.declared.items():
            highest = max(where, default=-1)
            if highest >= len(where):
                missing = next(i for i in range(len(where)) if i not in where)
                message = f"{name}_{highest} is declared, but {name}_{missing} is not; declare all from {name}_0 on"
                raise self.stream.error(where[highest], message)
        inputs = self.declared["X"]
        return Statements(
            self.stream,
            tuple(map(inputs.__getitem__, range(len(inputs)))),
            len(self.declared["Y"]),
            tuple(self.formulas),
            tuple(self.bounds),
        )

    def _bound(self, index: int) -> int:
        """Takes an assert of the form `variable <= number` or `>=`; returns 0 for anything else.

        For long properties that are not plain throughout; this path makes them four times as fast.
        """
        _, head, _, operator, name, number, first, second = self.tokens[index : index + 8]
        key = self.keys.get(name)
        if key is None or head != "assert" or first != ")" or second != ")" or not _NUMBER.fullmatch(number):
            return 0
        value = float(number)
        if operator == "<=":
            atom = Atom({key: 1.0}, value, False, index + 2)
        elif operator == ">=":
            atom = Atom({key: -1.0}, -value, False, index + 2)
        else:
            return 0
        if not math.isfinite(value) or self.tokens[index] != "(" or self.tokens[index + 2] != "(":
            return 0
        self.formulas.append(atom)
        return index + 8

    def _statement(self, index: int) -> int:
        tokens, head = self.tokens, self.tokens[index + 1]
        if tokens[index] != "(":
            raise self.stream.error(index, f"'{tokens[index]}' where a statement should start; write '(assert ...)'")
        if head == "assert":
            formula, after = self._formula(index + 2, 1)
            self.formulas.append(formula)
            return self._close(after, index)
        if head == "declare-const":
            self._declare(index + 2, tokens[index + 3])
            return self._close(index + 4, index)
        if head == "declare-fun":
            if tokens[index + 3] != "(" or tokens[index + 4] != ")":
                raise self.stream.error(index + 2, "a function with arguments; declare constants only")
            self._declare(index + 2, tokens[index + 5])
            return self._close(index + 6, index)
        if head in _IGNORED:
            return self._skip(index)
        if head in ("vnnlib-version", "declare-network"):
            raise self.stream.error(index, "VNN-LIB 2.0, but this reader takes 1.0; give the property's 1.0 file")
        raise self.stream.error(index, f"'{head}' is not a VNN-LIB 1.0 statement; use declare-const and assert")

    def _declare(self, index: int, sort: str) -> None:
        word = self.tokens[index]
        variable = _VARIABLE.fullmatch(word)
        if variable is None:
            raise self.stream.error(index, f"'{word}' cannot be declared; inputs are X_0, X_1, ..., outputs Y_0, ...")
        if sort != "Real":
            raise self.stream.error(index, f"{word} is declared '{sort}'; only Real variables are supported")
        if word in self.keys:
            raise self.stream.error(index, f"{word} is declared twice; remove one declaration")
        if len(variable.group(2)) > LONGEST_INDEX:
            raise self.stream.error(
                index, f"{word[:12]}... has no variables before it; declare all from {word[0]}_0 on"
            )
        name, number = variable.group(1), int(variable.group(2))
        self.declared[name][number] = index
        self.keys[word] = number if name == "X" else -1 - number

    def _formula(self, index: int, depth: int) -> tuple[Formula, int]:
        tokens = self.tokens
        head = tokens[index + 1]
        if tokens[index] != "(":
            raise self.stream.error(index, f"'{tokens[index]}' where a constraint should start; write '(<= ...)'")
        if head in ("<=", ">=", "<", ">", "=", "=="):
            left, after = self._term(index + 2, depth)
            right, after = self._term(after, depth)
            return compared(head, left, right, self.stream, index), self._close(after, index)
        if head not in ("and", "or"):
            raise self.stream.error(index + 1, f"'{head}' is not supported; use and, or, <=, >=, <, > or =")
        self._check_depth(index, depth)
        parts: list[Formula] = []
        after = index + 2
        while tokens[after] not in (")", END):
            part, after = self._formula(after, depth + 1)
            parts.append(part)
        if not parts:
            raise self.stream.error(index, f"an empty '{head}'; put constraints into it or remove it")
        return (AllOf if head == "and" else AnyOf)(tuple(parts)), self._close(after, index)

    def _term(self, index: int, depth: int) -> tuple[Linear, int]:
        word = self.tokens[index]
        key = self.keys.get(word)
        if key is not None:
            return Linear({key: 1.0}, 0.0), index + 1
        if word == "(":
            return self._operation(index, depth)
        if _NUMBER.fullmatch(word):
            value = float(word)
            if math.isfinite(value):
                return Linear({}, value), index + 1
            raise self.stream.error(index, f"{word} is beyond the range of a double; write a smaller number")
        if word in (")", END):
            raise self.stream.error(index, "a side of the constraint is missing; write '(<= left right)'")
        if _VARIABLE.fullmatch(word):
            raise self.stream.error(index, f"{word} is used but not declared before; declare it or correct its index")
        raise self.stream.error(index, f"'{word}' is neither a variable (X_i, Y_j) nor a finite number; correct it")

    def _operation(self, index: int, depth: int) -> tuple[Linear, int]:
        operator = self.tokens[index + 1]
        if operator not in ("+", "-", "*"):
            raise self.stream.error(index + 1, f"'{operator}' is not supported in a term; use +, - and * by a constant")
        self._check_depth(index, depth)
        result, after = self._term(index + 2, depth + 1)
        if operator == "-" and self.tokens[after] == ")":
            return scaled(result, -1.0), after + 1
        if operator == "*":
            result, after = self._product(result, after, depth)
        else:
            total = RunningSum(result)
            while self.tokens[after] not in (")", END):
                other, after = self._term(after, depth + 1)
                total.add(other, 1.0 if operator == "+" else -1.0)
            result = total.linear()
        return result, self._close(after, index)

    def _product(self, result: Linear, after: int, depth: int) -> tuple[Linear, int]:
        factors = 1
        while self.tokens[after] not in (")", END):
            start = after
            other, after = self._term(after, depth + 1)
            factors += 1
            if result.terms and other.terms:
                raise self.stream.error(start, "a product of variables; only linear constraints are supported")
            if factors > MAX_FACTORS:
                raise self.stream.error(start, f"a product of more than {MAX_FACTORS} factors; multiply the numbers")
            result = scaled(other, result.constant) if other.terms else scaled(result, other.constant)
        return result, after

    def _close(self, index: int, start: int) -> int:
        word = self.tokens[index]
        if word == ")":
            return index + 1
        if word == END:
            raise self.stream.error(start, "the text ends inside what starts here; a ')' is missing")
        raise self.stream.error(index, f"'{word}' where ')' should stand; there is one part too many")

    def _skip(self, start: int) -> int:
        index, depth = start, 0
        while True:
            word = self.tokens[index]
            depth += (word == "(") - (word == ")")
            index += 1
            if depth == 0:
                return index
            if word == END:
                raise self.stream.error(start, "the text ends inside what starts here; a ')' is missing")

    def _check_depth(self, index: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.stream.error(index, f"brackets are nested more than {MAX_DEPTH} deep; flatten the formula")
