"""The nouns of the product: frozen values and enums that every other room speaks in.

Only the standard library and numpy are imported here. Arrays inside these values are made read-only, so a value
can be passed to any number of readers. Words follow VNN-COMP and the linearity-grafting study; there are no synonyms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]


LONGEST_MESSAGE = 1000
"""Characters of an error's text: names and numbers of broken files may be of any length."""


class LgBenchError(Exception):
    """Root of all errors that this package raises on purpose; its text is one printable line, whatever it quotes."""

    def __str__(self) -> str:
        return printable_line(super().__str__())


class UsageError(LgBenchError):
    """The user's input cannot be used; the message is one line: what is wrong, where, and what to do. Exit code 2."""


class UnsupportedNetworkError(LgBenchError):
    """A network has an operator or form that the reader does not know; the message names the node. Never a crash."""


class UnsupportedPropertyError(LgBenchError):
    """A valid property asks what is not supported, such as a comparison of two networks; the message says where."""


class Verdict(StrEnum):
    """What is known of an instance; VNN-COMP's words. The property file asks for a violation."""

    SAT = "sat"
    """A violation exists: a counterexample was found."""
    UNSAT = "unsat"
    """No violation exists: the property is proved."""
    UNKNOWN = "unknown"
    """The tool gave up before its limit."""
    TIMEOUT = "timeout"
    """The limit passed without an answer."""
    ERROR = "error"
    """The tool, or its answer, is broken; the result's message says how."""


DECIDED = (Verdict.SAT, Verdict.UNSAT)
"""The verdicts that settle an instance."""


class Stage(StrEnum):
    """Which stage decided an instance."""

    CLEAN = "clean"
    """The network misclassifies the unperturbed test input; no verifier was asked."""
    ATTACK = "attack"
    """A counterexample was found by a search that proves nothing."""
    INCOMPLETE = "incomplete"
    """Bounds at the root sufficed, without branching."""
    BAB = "bab"
    """Branch and bound decided."""


class ResultSet(StrEnum):
    """The four disjoint sets that a benchmark's inputs fall into (thesis, section 4.3)."""

    SK = "SK"
    """Skipped: misclassified."""
    AT = "AT"
    """Attacked: correctly classified, and a replayed counterexample exists."""
    VS = "VS"
    """Verified: proved robust."""
    VF = "VF"
    """Failure: unknown, timeout or error."""


class WitnessVerdict(StrEnum):
    """What the replay of a counterexample showed (VNN-COMP 2026's classes, and 2025's `exec_doesnt_match`)."""

    CORRECT = "correct"
    CORRECT_UP_TO_TOLERANCE = "correct_up_to_tolerance"
    SPEC_NOT_VIOLATED = "spec_not_violated"
    EXEC_DOESNT_MATCH = "exec_doesnt_match"
    NO_CE = "no_ce"
    WRONG_SHAPE = "wrong_shape"
    MALFORMED_CE = "malformed_ce"
    UNSUPPORTED = "unsupported"


CREDITED = (WitnessVerdict.CORRECT, WitnessVerdict.CORRECT_UP_TO_TOLERANCE)
"""What a counterexample has to be for the competition's points; 2026: with the 1e-4 tolerance on inputs as well."""


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array)
    if view.flags.writeable:
        view = view.copy() if view is array else view
        view.setflags(write=False)
    return view


@dataclass(frozen=True, slots=True, eq=False)
class InputBox:
    """All inputs x with `lower <= x <= upper`, elementwise; both ends belong to it.

    Bounds are the property file's numbers as float64, flat in the C order of the network's input. A network that
    takes float32 is judged with bounds cast to float32 (VNN-COMP 2026). `lower > upper` anywhere is an empty box,
    which is legal: no input violates anything on it.
    """

    lower: FloatArray
    """`(inputs,)` float64."""
    upper: FloatArray
    """`(inputs,)` float64."""
    open_lower: BoolArray | None = None
    """`(inputs,)`: where the property asks for more than a number; `lower` is the next double. None: nowhere."""
    open_upper: BoolArray | None = None
    """`(inputs,)`: where it asks for less than a number; `upper` is the next double below. None: nowhere."""

    def __post_init__(self) -> None:
        lower, upper = np.asarray(self.lower, np.float64), np.asarray(self.upper, np.float64)
        if lower.ndim != 1 or lower.shape != upper.shape:
            raise ValueError(f"an input box needs two flat arrays of one length, not {lower.shape} and {upper.shape}")
        if np.isnan(lower).any() or np.isnan(upper).any():
            raise ValueError("an input box has a bound that is not a number")
        object.__setattr__(self, "lower", _frozen(lower))
        object.__setattr__(self, "upper", _frozen(upper))
        for name in ("open_lower", "open_upper"):
            flags = getattr(self, name)
            if flags is None:
                continue
            if np.shape(flags) != lower.shape:
                raise ValueError(f"{name} of an input box needs one flag an input, not {np.shape(flags)}")
            object.__setattr__(self, name, _frozen(np.asarray(flags, np.bool_)))

    def ends(self, dtype: np.dtype[np.floating[Any]]) -> tuple[FloatArray, FloatArray]:
        """Returns the least and the greatest value of a floating type that count as inside, each `(inputs,)`.

        The property's numbers are cast to that type and then compared, strictly where it is strict (VNN-COMP 2026).
        Where no value of the type is inside, the least is above the greatest.
        """
        with np.errstate(over="ignore"):
            lower, upper = self.lower.astype(dtype), self.upper.astype(dtype)
            if self.open_lower is not None:
                above = np.nextafter(np.nextafter(self.lower, -np.inf).astype(dtype), dtype.type(np.inf))
                lower = np.where(self.open_lower, above, lower)
            if self.open_upper is not None:
                below = np.nextafter(np.nextafter(self.upper, np.inf).astype(dtype), dtype.type(-np.inf))
                upper = np.where(self.open_upper, below, upper)
        return lower, upper

    @property
    def size(self) -> int:
        """Number of inputs."""
        return int(self.lower.size)

    @property
    def is_empty(self) -> bool:
        """Whether no point lies in the box."""
        return bool((self.lower > self.upper).any())


@dataclass(frozen=True, slots=True, eq=False)
class OutputPolytope:
    """One violation region: all outputs y with `coefficients @ y <= rhs` in every row, `<` in the strict rows."""

    coefficients: FloatArray
    """`(rows, outputs)` float64."""
    rhs: FloatArray
    """`(rows,)` float64."""
    strict: BoolArray
    """`(rows,)`: True where the constraint is a strict inequality."""

    def __post_init__(self) -> None:
        coefficients, rhs = np.asarray(self.coefficients, np.float64), np.asarray(self.rhs, np.float64)
        strict = np.asarray(self.strict, np.bool_)
        if coefficients.ndim != 2 or rhs.shape != coefficients.shape[:1] or strict.shape != rhs.shape:
            raise ValueError("a polytope needs coefficients (rows, outputs), right-hand sides and strictness (rows,)")
        for name, value in (("coefficients", coefficients), ("rhs", rhs), ("strict", strict)):
            object.__setattr__(self, name, _frozen(value))


@dataclass(frozen=True, slots=True, eq=False)
class PropertyCase:
    """One box with its violation regions: x violates when its output lies in at least one polytope.

    A polytope without rows contains every output; no polytopes at all means that nothing on the box violates.
    """

    box: InputBox
    polytopes: tuple[OutputPolytope, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Property:
    """A verification property: satisfiable iff some case has an input in its box whose output violates.

    The disjunction of cases covers unions of boxes; a plain robustness property has one case.
    """

    cases: tuple[PropertyCase, ...]
    input_size: int
    output_size: int

    def __post_init__(self) -> None:
        for case in self.cases:
            if case.box.size != self.input_size:
                raise ValueError(f"a box of {case.box.size} inputs in a property over {self.input_size}")
            if any(p.coefficients.shape[1] != self.output_size for p in case.polytopes):
                raise ValueError(f"a constraint over other than the property's {self.output_size} outputs")


@dataclass(frozen=True, slots=True)
class Instance:
    """One verification problem as VNN-COMP lists it: a network, a property, a time limit."""

    network: Path
    """ONNX file (`.onnx` or `.onnx.gz`)."""
    property: Path
    """VNN-LIB file (`.vnnlib` or `.vnnlib.gz`)."""
    timeout_s: float
    """Seconds, finite and positive."""
    network_name: str = ""
    """Column 1 of instances.csv, as written there."""
    property_name: str = ""
    """Column 2 of instances.csv, as written there."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise ValueError(f"a time limit must be finite and positive, not {self.timeout_s}")


ARITHMETICS = ("float32", "real")
"""What an `unsat` of our engine speaks of: every float32 evaluation of the network and its exact values, or these
alone, which verifiers commonly mean."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tool may spend on one instance."""

    timeout_s: float
    """Seconds; on wall time in competition mode, on `work_s` in batch mode."""
    timeout_on: str = "work"
    """`work` (batch mode) or `wall` (competition mode)."""
    max_domains: int | None = None
    """Bound on branch-and-bound domains; None: only the clock. 0: root bounds only."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise ValueError(f"a time limit must be finite and positive, not {self.timeout_s}")
        if self.timeout_on not in ("work", "wall"):
            raise ValueError(f"a time limit is on 'work' or 'wall', not '{self.timeout_on}'")
        if self.max_domains is not None and self.max_domains < 0:
            raise ValueError("the number of domains cannot be negative")


@dataclass(frozen=True, slots=True)
class Job:
    """An instance that a tool has to decide under limits; identified by content only."""

    key: str
    """SHA-256 (hex) over network bytes, property bytes, tool identity and limits."""
    instance: Instance
    variant: str
    """Which network of the benchmark; for a plain instances.csv the network file's stem."""
    index: int
    """Position of the test input in its data set, or of the row in instances.csv."""
    limits: Limits
    network_sha256: str = ""
    """SHA-256 (hex) of the network's uncompressed bytes, as they went into the key; empty where no file was hashed."""
    property_sha256: str = ""
    """The same of the property."""


@dataclass(frozen=True, slots=True, eq=False)
class Counterexample:
    """An input that is claimed to violate a property."""

    x: FloatArray
    """`(inputs,)`, flat in C order, in the network's own floating type."""
    y: FloatArray | None = None
    """`(outputs,)` as the tool computed it, if it said."""


@dataclass(frozen=True, slots=True, eq=False)
class EngineRecord:
    """What our engine keeps of an instance beside the answer; other tools leave it out."""

    root_margins: FloatArray | None = None
    """Lower bound of each violation region's best row at the root, `(polytopes,)`; > 0 where the root proves it."""
    domains: int = 0
    """Branch-and-bound domains visited."""
    unstable: Mapping[str, BoolArray] | None = None
    """Activation name to the flat mask of neurons unstable at the root; only where branch and bound was entered."""
    entered_bab: bool = False
    """Whether root bounds left the instance open (also when `max_domains` is 0 and nothing was branched)."""
    neurons: int = 0
    """Activation neurons of the network, grafted ones included; the denominator of UNR."""
    unstable_nonlinear: int = 0
    """Unstable neurons that are not grafted; the masks above count grafted neurons too, as the published ones do."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """The instance's share of work by stage: `attack`, `bounds`, `bab`."""
    multiply_adds: int = 0
    """Multiply-adds of branch and bound's passes over the folded network, idle lanes included."""


@dataclass(frozen=True, slots=True, eq=False)
class ToolAnswer:
    """What a tool said of one instance, before anyone checked it."""

    verdict: Verdict
    wall_s: float
    """Seconds from handing the instance over to the answer."""
    work_s: float
    """The instance's share of the batches it sat in; equals `wall_s` for a tool that takes one at a time."""
    stage: Stage | None = None
    counterexample: Counterexample | None = None
    message: str = ""
    """One line: why the verdict is unknown or error; else empty."""
    record: EngineRecord | None = None
    witness_text: str | None = None
    """The counterexample as the tool wrote it, not yet parsed; stands for `counterexample` where it is given."""
    prepare_s: float = 0.0
    """Seconds of preparation before the clock of the limit began; 0 for a tool that has none."""


@dataclass(frozen=True, slots=True)
class WitnessCheck:
    """The replay of one counterexample on ONNX Runtime."""

    verdict: WitnessVerdict
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether the competition credits the answer."""
        return self.verdict in CREDITED


@dataclass(frozen=True, slots=True, eq=False)
class InstanceResult:
    """The judged result of one job: the tool's word and what we hold to be true."""

    job: Job
    verdict: Verdict
    """The judged verdict; only this one enters statistics."""
    tool_verdict: Verdict | None
    """The tool's own word; None where no tool was asked."""
    stage: Stage | None
    wall_s: float
    work_s: float
    witness: WitnessCheck | None = None
    """The replay, where the tool answered sat."""
    counterexample: Counterexample | None = None
    message: str = ""
    record: EngineRecord | None = None
    prepare_s: float = 0.0
    """As the tool's answer has it."""


def printable_line(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Returns `text` on one line: white space as single blanks, other characters that move a cursor as escapes.

    Args:
        text: any text, such as one that quotes a broken file.
        longest: characters; a longer text loses its middle.
    """
    if len(text) > longest:
        # The reason stands at the end, what it is about at the beginning.
        text = f"{text[: longest // 2]} ... {text[-(longest // 2 - 5) :]}"
    if text.isprintable():
        return text
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)


def plural(count: int, noun: str) -> str:
    """Returns the count with its noun: `1 input`, `2 inputs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def result_set(verdict: Verdict, stage: Stage | None) -> ResultSet:
    """Returns the set that a judged result belongs to; the one place where this is decided.

    Args:
        verdict: the judged verdict.
        stage: the deciding stage; `Stage.CLEAN` only where the unperturbed input is misclassified.
    """
    if verdict is Verdict.SAT:
        return ResultSet.SK if stage is Stage.CLEAN else ResultSet.AT
    if verdict is Verdict.UNSAT:
        return ResultSet.VS
    return ResultSet.VF


@dataclass(frozen=True, slots=True, eq=False)
class GraftMask:
    """Which neurons become linear: qualified activation name to a bool array of the neurons' shape."""

    layers: Mapping[str, BoolArray]
    provenance: Mapping[str, str] = field(default_factory=dict)
    """What the mask was made from: heuristic, ranking, gammas, ratio, hash of the scores."""

    def __post_init__(self) -> None:
        for name, layer in self.layers.items():
            if layer.dtype != np.bool_:
                raise ValueError(f"the mask of '{name}' is of {layer.dtype}, not bool")

    @property
    def count(self) -> int:
        """Number of grafted neurons."""
        return int(sum(int(layer.sum()) for layer in self.layers.values()))
