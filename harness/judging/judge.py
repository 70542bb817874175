"""The judge: a tool's answer in, the result that counts out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from harness.domain import (
    Counterexample,
    InstanceResult,
    Job,
    LgBenchError,
    Limits,
    Property,
    Stage,
    ToolAnswer,
    Verdict,
    WitnessCheck,
    WitnessVerdict,
    printable_line,
)
from harness.files import sha256_bytes
from harness.formats.assignment import parse_assignment
from harness.formats.compressed import locate, read_bytes, read_text
from harness.formats.counterexample import (
    CounterexampleError,
    MissingCounterexampleError,
    WrongShapeError,
    parse_counterexample,
    without_verdict,
)
from harness.formats.onnx_file import OnnxSession, load_model_bytes, open_session
from harness.formats.vnnlib import read_property
from harness.formats.vnnlib2_query import parse_query
from harness.formats.vnnlib2_text import is_version_2
from harness.judging.replay import Replay, Rules, replay_with_outputs

_MESSAGE_LENGTH = 500
_TEXT_VERDICTS: dict[type[CounterexampleError], WitnessVerdict] = {
    MissingCounterexampleError: WitnessVerdict.NO_CE,
    WrongShapeError: WitnessVerdict.WRONG_SHAPE,
    CounterexampleError: WitnessVerdict.MALFORMED_CE,
}
"""What is wrong with a text, the special before the general."""


class Judgement(NamedTuple):
    """The verdict that counts, and why it is not the tool's."""

    verdict: Verdict
    message: str


def judgement(said: Verdict, late: bool, witness: WitnessCheck | None) -> Judgement:
    """Returns the verdict that counts; the message is empty where it is the tool's own.

    =========  =====  =======================  ==========
    said       late   replay                   counts as
    =========  =====  =======================  ==========
    error      any    any                      error
    timeout    any    any                      timeout
    others     yes    any                      timeout
    unknown    no     any                      unknown
    unsat      no     any                      unsat
    sat        no     correct                  sat
    sat        no     correct up to tolerance  unknown
    sat        no     anything else, none      error
    =========  =====  =======================  ==========

    Args:
        said: the tool's own word.
        late: whether the answer came after its limit (VNN-COMP 2026: a late answer is a timeout, not a wrong answer).
        witness: the replay of the counterexample, where sat was said.
    """
    if said in (Verdict.ERROR, Verdict.TIMEOUT):
        return Judgement(said, "")
    if late:
        return Judgement(Verdict.TIMEOUT, f"{said.value}, but after the time limit")
    if said is not Verdict.SAT:
        return Judgement(said, "")
    check = witness or WitnessCheck(WitnessVerdict.NO_CE, "the counterexample was not replayed")
    if check.verdict is WitnessVerdict.CORRECT:
        return Judgement(Verdict.SAT, "")
    reason = f"{check.verdict.value}: {check.message}" if check.message else check.verdict.value
    if check.verdict is WitnessVerdict.CORRECT_UP_TO_TOLERANCE:
        return Judgement(Verdict.UNKNOWN, f"sat is not proved by a counterexample on tolerance ({reason})")
    return Judgement(Verdict.ERROR, f"sat with a wrong counterexample ({reason})")


def is_late(limits: Limits, wall_s: float, work_s: float) -> bool:
    """Returns whether an answer came after its limit, on the clock that the limits name."""
    return (wall_s if limits.timeout_on == "wall" else work_s) > limits.timeout_s


class Judge:
    """Judges answers; keeps the last networks and properties loaded, so that a replay costs one evaluation."""

    def __init__(self, rules: Rules = Rules.Y2026, networks: int = 4, properties: int = 64) -> None:
        """Makes a judge.

        Args:
            rules: the rules of the replay.
            networks: sessions kept loaded.
            properties: properties kept loaded.
        """
        self._rules = rules
        self._sessions: _Recent[OnnxSession] = _Recent(networks)
        self._properties: _Recent[Property] = _Recent(properties)
        self._hashes: _Recent[str] = _Recent(networks + properties)

    def judge(self, job: Job, answer: ToolAnswer) -> InstanceResult:
        """Returns the judged result of an answer; see `judgement`.

        The tool's word is kept beside it. An answer on files that are no longer those that were planned is an error.
        Where a counterexample could be run, the result has it with the outputs that ONNX Runtime gave. Times that are
        no times (negative, infinite, not a number) are stored as 0.
        """
        said, wall_s, work_s = Verdict(answer.verdict), _seconds(answer.wall_s), _seconds(answer.work_s)
        replayed = self._replayed(job, answer) if said is Verdict.SAT else None
        witness = None if replayed is None else replayed.check
        verdict, why = judgement(said, is_late(job.limits, wall_s, work_s), witness)
        # A counterexample was replayed on the planned files, wherever it is from; of an error nothing is believed.
        changed = "" if verdict in (Verdict.SAT, Verdict.ERROR) else self._changed(job)
        if changed:
            verdict, why = Judgement(Verdict.ERROR, f"{said.value}, but {changed}")
        return InstanceResult(
            job,
            verdict,
            # What a tool said of other files is no claim about this instance.
            None if changed else said,
            # The clean check is ours: a tool that claims it would take an input out of the statistics.
            None if answer.stage is Stage.CLEAN else answer.stage,
            wall_s,
            work_s,
            witness,
            answer.counterexample if replayed is None else replayed.counterexample or answer.counterexample,
            one_line("; ".join(part for part in (why, answer.message) if part)),
            answer.record,
            _seconds(answer.prepare_s),
        )

    def _replayed(self, job: Job, answer: ToolAnswer) -> Replay:
        if answer.witness_text is not None:
            return self.replay_text(job, answer.witness_text)
        return self.replay(job, answer.counterexample)

    def replay(self, job: Job, counterexample: Counterexample | None) -> Replay:
        """Returns the replay of a counterexample on a job's network and property; never raises for bad input.

        A network or property that cannot be read, or is no longer the file that was planned, is `unsupported`.
        """
        try:
            return replay_with_outputs(self._session(job), self._property(job), counterexample, self._rules)
        except LgBenchError as error:
            return Replay(WitnessCheck(WitnessVerdict.UNSUPPORTED, one_line(str(error))), None)

    def replay_text(self, job: Job, text: str | None) -> Replay:
        """Returns the replay of a witness as VNN-COMP writes it; never raises for bad input.

        A witness of a VNN-LIB 2.0 property is an assignment of its variables. A first line that only says `sat` or
        `violated` is passed over: VNN-COMP's platform stores whole result files.

        Args:
            job: whose network and property it is for.
            text: the witness; None where the tool wrote no file.
        """
        try:
            counterexample = self._parsed(job, without_verdict(text or ""))
        except CounterexampleError as error:
            return Replay(text_verdict(error), None)
        except LgBenchError as error:
            return Replay(WitnessCheck(WitnessVerdict.UNSUPPORTED, one_line(str(error))), None)
        return self.replay(job, counterexample)

    def _parsed(self, job: Job, text: str) -> Counterexample:
        # Decimal text is rounded once, by the replay: years differ in what they compare, the text or its float32.
        written = read_text(job.instance.property)
        if is_version_2(written):
            self._property(job)  # Raises where it is about more than one network with one input and one output.
            (network,) = parse_query(written, str(job.instance.property)).networks
            tensors = (*network.inputs, *network.outputs)
            x, y = parse_assignment(text, [(tensor.name, tensor.shape) for tensor in tensors])
            return Counterexample(x, y)
        session = self._session(job)
        return parse_counterexample(text, session.input.size, session.output.size, np.float64)

    def _changed(self, job: Job) -> str:
        """Returns which file of a job is no longer the planned one; empty where both are, or none was hashed.

        One that is gone was there when the tool read it, so nothing is held against the answer.
        """
        planned = ((job.instance.network, job.network_sha256), (job.instance.property, job.property_sha256))
        for path, sha256 in planned:
            try:
                file = locate(path) if sha256 else None
                if file is not None and self._hash_of(file) != sha256:
                    return f"{path}: changed since the run was planned"
            except (LgBenchError, OSError) as error:
                return str(error)
        return ""

    def _hash_of(self, file: Path) -> str:
        """Returns the hash of a file's content, read again only where the file was written since."""
        state = file.stat()
        key = (file, state.st_ino, state.st_size, state.st_mtime_ns)
        return self._hashes.get(key, lambda: sha256_bytes(read_bytes(file)))

    def _session(self, job: Job) -> OnnxSession:
        path = job.instance.network

        def load() -> OnnxSession:
            data = load_model_bytes(path)
            if job.network_sha256 and sha256_bytes(data) != job.network_sha256:
                raise LgBenchError(f"{path}: changed since the run was planned")
            return open_session(data)

        return self._sessions.get((path, job.network_sha256), load)

    def _property(self, job: Job) -> Property:
        path = job.instance.property

        def load() -> Property:
            if job.property_sha256 and sha256_bytes(read_bytes(path)) != job.property_sha256:
                raise LgBenchError(f"{path}: changed since the run was planned")
            return read_property(path)

        return self._properties.get((path, job.property_sha256), load)


def text_verdict(error: CounterexampleError) -> WitnessCheck:
    """Returns the class of a text that is no usable counterexample, and why."""
    verdict = next(word for kind, word in _TEXT_VERDICTS.items() if isinstance(error, kind))
    return WitnessCheck(verdict, one_line(str(error)))


def one_line(text: str) -> str:
    """Returns `text` as one line of bounded length, of characters that can be stored and move no cursor."""
    line = printable_line(" ".join(text.split()), _MESSAGE_LENGTH)
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 3] + "..."


def _seconds(value: float) -> float:
    return float(value) if math.isfinite(value) and value >= 0 else 0.0


_T = TypeVar("_T")


class _Recent(Generic[_T]):
    """The most recently used values, at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, _T] = OrderedDict()

    def get(self, key: Hashable, load: Callable[[], _T]) -> _T:
        if key in self._values:
            self._values.move_to_end(key)
        else:
            self._values[key] = load()
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return self._values[key]
