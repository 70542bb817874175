from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tiny import identity_job, linear_model

from harness.domain import (
    Counterexample,
    EngineRecord,
    Job,
    Limits,
    ResultSet,
    Stage,
    ToolAnswer,
    Verdict,
    WitnessCheck,
    WitnessVerdict,
    result_set,
)
from harness.formats.onnx_file import OnnxSession, open_session
from harness.judging import judge as module
from harness.judging.judge import Judge, is_late, judgement
from harness.judging.replay import Rules

VIOLATION = Counterexample(np.array([0.2, 0.8], np.float32))
NO_VIOLATION = Counterexample(np.array([0.8, 0.2], np.float32))
ON_TOLERANCE = Counterexample(np.array([0.2, 1.00005], np.float32))

SAID = tuple(Verdict)
REPLAYED = (None, *WitnessVerdict)


def expected(said: Verdict, late: bool, replayed: WitnessVerdict | None) -> Verdict:
    """The rules once more, as cases: every combination is listed by exactly one of them."""
    table = {
        (Verdict.UNSAT, False): Verdict.UNSAT,
        (Verdict.UNKNOWN, False): Verdict.UNKNOWN,
        (Verdict.UNSAT, True): Verdict.TIMEOUT,
        (Verdict.UNKNOWN, True): Verdict.TIMEOUT,
        (Verdict.SAT, True): Verdict.TIMEOUT,
        (Verdict.TIMEOUT, False): Verdict.TIMEOUT,
        (Verdict.TIMEOUT, True): Verdict.TIMEOUT,
        (Verdict.ERROR, False): Verdict.ERROR,
        (Verdict.ERROR, True): Verdict.ERROR,
    }
    in_time_sat = {
        WitnessVerdict.CORRECT: Verdict.SAT,
        WitnessVerdict.CORRECT_UP_TO_TOLERANCE: Verdict.UNKNOWN,
        WitnessVerdict.SPEC_NOT_VIOLATED: Verdict.ERROR,
        WitnessVerdict.EXEC_DOESNT_MATCH: Verdict.ERROR,
        WitnessVerdict.NO_CE: Verdict.ERROR,
        WitnessVerdict.WRONG_SHAPE: Verdict.ERROR,
        WitnessVerdict.MALFORMED_CE: Verdict.ERROR,
        WitnessVerdict.UNSUPPORTED: Verdict.ERROR,
        None: Verdict.ERROR,
    }
    return in_time_sat[replayed] if (said, late) == (Verdict.SAT, False) else table[said, late]


@pytest.mark.parametrize(("said", "late", "replayed"), list(itertools.product(SAID, (False, True), REPLAYED)))
def test_the_whole_truth_table(said: Verdict, late: bool, replayed: WitnessVerdict | None) -> None:
    witness = None if replayed is None else WitnessCheck(replayed, "because")
    verdict, message = judgement(said, late, witness)
    assert verdict is expected(said, late, replayed)
    assert bool(message) == (verdict is not said)


@pytest.mark.parametrize("replayed", [w for w in WitnessVerdict if w is not WitnessVerdict.CORRECT])
def test_a_refused_counterexample_is_named_with_its_reason(replayed: WitnessVerdict) -> None:
    message = judgement(Verdict.SAT, False, WitnessCheck(replayed, "the reason")).message
    assert f"{replayed.value}: the reason" in message


@pytest.mark.parametrize(
    ("limits", "wall_s", "work_s", "late"),
    [
        (Limits(10, "wall"), 10.0, 99.0, False),
        (Limits(10, "wall"), 10.1, 0.1, True),
        (Limits(10, "work"), 99.0, 10.0, False),
        (Limits(10, "work"), 99.0, 10.1, True),
    ],
)
def test_an_answer_is_late_on_the_clock_of_its_limits(limits: Limits, wall_s: float, work_s: float, late: bool) -> None:
    assert is_late(limits, wall_s, work_s) is late


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return identity_job(tmp_path)


def answer(verdict: Verdict, counterexample: Counterexample | None = None, wall_s: float = 1.0) -> ToolAnswer:
    return ToolAnswer(verdict, wall_s, 0.5, Stage.ATTACK, counterexample, "the tool's note", EngineRecord(domains=3))


def test_a_violation_is_sat_with_the_replayed_outputs(job: Job) -> None:
    result = Judge().judge(job, answer(Verdict.SAT, VIOLATION))
    assert (result.verdict, result.tool_verdict, result.stage) == (Verdict.SAT, Verdict.SAT, Stage.ATTACK)
    assert result.witness == WitnessCheck(WitnessVerdict.CORRECT)
    assert result.counterexample is not None
    np.testing.assert_array_equal(result.counterexample.y, VIOLATION.x)
    assert (result.wall_s, result.work_s, result.message) == (1.0, 0.5, "the tool's note")
    assert result.record is not None
    assert result.record.domains == 3


@pytest.mark.parametrize(
    ("counterexample", "verdict", "witness"),
    [
        (NO_VIOLATION, Verdict.ERROR, WitnessVerdict.SPEC_NOT_VIOLATED),
        (ON_TOLERANCE, Verdict.UNKNOWN, WitnessVerdict.CORRECT_UP_TO_TOLERANCE),
        (None, Verdict.ERROR, WitnessVerdict.NO_CE),
        (Counterexample(np.zeros(3, np.float32)), Verdict.ERROR, WitnessVerdict.WRONG_SHAPE),
    ],
)
def test_a_sat_that_is_not_proved_keeps_the_tools_word_and_the_claim(
    job: Job, counterexample: Counterexample | None, verdict: Verdict, witness: WitnessVerdict
) -> None:
    result = Judge().judge(job, answer(Verdict.SAT, counterexample))
    assert (result.verdict, result.tool_verdict) == (verdict, Verdict.SAT)
    assert result.witness is not None
    assert result.witness.verdict is witness
    assert (result.counterexample is None) == (counterexample is None)
    assert result.message.endswith("; the tool's note")


def test_a_late_counterexample_is_a_timeout_and_still_replayed(job: Job) -> None:
    result = Judge().judge(job, answer(Verdict.SAT, VIOLATION, wall_s=10.5))
    assert (result.verdict, result.tool_verdict) == (Verdict.TIMEOUT, Verdict.SAT)
    assert result.witness is not None
    assert result.witness.verdict is WitnessVerdict.CORRECT


def test_only_sat_is_replayed(tmp_path: Path) -> None:
    job = identity_job(tmp_path)
    job.instance.network.unlink()
    result = Judge().judge(job, answer(Verdict.UNSAT))
    assert (result.verdict, result.witness) == (Verdict.UNSAT, None)


@pytest.mark.parametrize("file", ["network", "property"])
@pytest.mark.parametrize("said", [Verdict.UNSAT, Verdict.UNKNOWN, Verdict.TIMEOUT])
def test_an_answer_about_files_that_were_not_planned_is_none(job: Job, said: Verdict, file: str) -> None:
    judge = Judge()
    assert judge.judge(job, answer(said)).verdict is said
    path: Path = getattr(job.instance, file)
    path.write_bytes(linear_model(np.eye(2) * 2) if file == "network" else path.read_bytes() + b"; edited\n")
    result = judge.judge(job, answer(said))
    assert (result.verdict, result.tool_verdict) == (Verdict.ERROR, None)
    assert result.message.startswith(f"{said.value}, but {path}: changed since the run was planned")


def test_a_late_proof_about_other_files_is_no_claim(job: Job) -> None:
    job.instance.network.write_bytes(linear_model(np.eye(2) * 2))
    late = replace(answer(Verdict.UNSAT), work_s=2 * job.limits.timeout_s, wall_s=2 * job.limits.timeout_s)
    result = Judge().judge(job, late)
    assert (result.verdict, result.tool_verdict) == (Verdict.ERROR, None)


def test_a_tool_cannot_claim_the_clean_check(job: Job) -> None:
    claim = replace(answer(Verdict.SAT, VIOLATION), stage=Stage.CLEAN)
    result = Judge().judge(job, claim)
    assert (result.verdict, result.stage) == (Verdict.SAT, None)
    assert result_set(result.verdict, result.stage) is ResultSet.AT


def test_a_verdict_that_is_only_a_word_is_judged_like_one(job: Job) -> None:
    word = cast(Verdict, "sat")
    assert Judge().judge(job, answer(word, VIOLATION)).verdict is Verdict.SAT
    assert Judge().judge(job, answer(word, None)).verdict is Verdict.ERROR
    with pytest.raises(ValueError, match="holds"):
        Judge().judge(job, answer(cast(Verdict, "holds")))


@pytest.mark.parametrize("file", ["network", "property"])
def test_a_file_that_changed_since_planning_replays_nothing(job: Job, file: str) -> None:
    path: Path = getattr(job.instance, file)
    path.write_bytes(linear_model(np.eye(2) * 2) if file == "network" else path.read_bytes() + b"; edited\n")
    result = Judge().judge(job, answer(Verdict.SAT, VIOLATION))
    assert result.verdict is Verdict.ERROR
    assert f"{path}: changed since the run was planned" in result.message


@pytest.mark.parametrize("file", ["network", "property"])
def test_a_file_that_cannot_be_read_is_an_error_of_the_row(job: Job, file: str) -> None:
    path: Path = getattr(job.instance, file)
    path.write_text("(((")
    result = Judge().judge(replace(job, network_sha256="", property_sha256=""), answer(Verdict.SAT, VIOLATION))
    assert result.verdict is Verdict.ERROR
    assert result.witness is not None
    assert result.witness.verdict is WitnessVerdict.UNSUPPORTED
    assert "\n" not in result.message


@pytest.mark.parametrize("said", ["\x1b[2Jgone", "half \ud800 a pair", "\x00", "\x1b" * 400])
def test_messages_can_be_stored_and_shown(job: Job, said: str) -> None:
    message = Judge().judge(job, replace(answer(Verdict.UNKNOWN), message=said)).message
    assert message.isprintable()
    assert message.encode().isascii()
    assert 0 < len(message) <= 500


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0])
def test_times_that_are_no_times_are_stored_as_zero(job: Job, nonsense: float) -> None:
    result = Judge().judge(job, ToolAnswer(Verdict.UNSAT, nonsense, nonsense))
    assert (result.verdict, result.wall_s, result.work_s) == (Verdict.UNSAT, 0.0, 0.0)


def test_messages_are_one_line_of_bounded_length(job: Job) -> None:
    result = Judge().judge(job, ToolAnswer(Verdict.ERROR, 1, 1, message="Traceback:\n  " + "x" * 10_000))
    assert result.message.startswith("Traceback: xxx")
    assert "\n" not in result.message
    assert len(result.message) == 500


def test_networks_and_properties_are_loaded_once_and_forgotten_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    for name in "abc":
        (tmp_path / name).mkdir()
        jobs.append(identity_job(tmp_path / name))
    opened: list[bytes] = []

    def counting(data: bytes) -> OnnxSession:
        opened.append(data)
        return open_session(data)

    monkeypatch.setattr(module, "open_session", counting)
    judge = Judge(networks=2)
    for index in (0, 0, 1, 0, 1, 2, 1, 2, 0):  # the last 0 was pushed out by 2
        assert judge.replay(jobs[index], VIOLATION).check.verdict is WitnessVerdict.CORRECT
    assert len(opened) == 4


WITNESS = "((X_0 0.2)\n(X_1 0.8)\n(Y_0 0.2)\n(Y_1 0.8))\n"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (WITNESS, WitnessVerdict.CORRECT),
        (f"sat\n{WITNESS}", WitnessVerdict.CORRECT),
        (f" violated \n{WITNESS}", WitnessVerdict.CORRECT),
        ("((X_0 0.2)\n(X_1 1.00005))", WitnessVerdict.CORRECT_UP_TO_TOLERANCE),
        ("((X_0 0.8)\n(X_1 0.2))", WitnessVerdict.SPEC_NOT_VIOLATED),
        (None, WitnessVerdict.NO_CE),
        ("", WitnessVerdict.NO_CE),
        ("sat\n", WitnessVerdict.NO_CE),
        ("((X_0 0.2))", WitnessVerdict.WRONG_SHAPE),
        ("((X_1 0.2)\n(X_0 0.8))", WitnessVerdict.MALFORMED_CE),
        ("unsat\n", WitnessVerdict.MALFORMED_CE),
        ("((X_0 0.2)\n(X_1 nan))", WitnessVerdict.MALFORMED_CE),
    ],
)
def test_a_witness_file_gets_the_class_of_the_competition(job: Job, text: str | None, verdict: WitnessVerdict) -> None:
    check = Judge().replay_text(job, text).check
    assert check.verdict is verdict
    assert "\n" not in check.message


def test_a_witness_file_of_a_network_that_is_missing_is_unsupported(job: Job) -> None:
    job.instance.network.unlink()
    assert Judge().replay_text(job, WITNESS).check.verdict is WitnessVerdict.UNSUPPORTED


def test_the_rules_of_the_replay_can_be_chosen(job: Job) -> None:
    stated = WITNESS.replace("Y_1 0.8", "Y_1 0.9")
    assert Judge().replay_text(job, stated).check.verdict is WitnessVerdict.CORRECT
    assert Judge(Rules.Y2025_SMALL).replay_text(job, stated).check.verdict is WitnessVerdict.EXEC_DOESNT_MATCH


TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input A float32 [1,2]) (declare-output P float32 [1,2]))
(assert (>= A[0,0] 0.0)) (assert (<= A[0,0] 1.0))
(assert (>= A[0,1] 0.0)) (assert (<= A[0,1] 1.0))
(assert (or (>= P[0,1] P[0,0])))
"""
ASSIGNED = "A float32 [1,2]\n0.2\n0.8\nP float32 [1,2]\n0.2\n0.8\n"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (ASSIGNED, WitnessVerdict.CORRECT),
        (f"sat\n{ASSIGNED}", WitnessVerdict.CORRECT),
        (ASSIGNED.replace("float32 [1,2]", "real [1, 2]"), WitnessVerdict.CORRECT),
        (ASSIGNED.replace("0.8", "1.00005"), WitnessVerdict.CORRECT_UP_TO_TOLERANCE),
        (ASSIGNED.replace("0.8", "1.0002"), WitnessVerdict.SPEC_NOT_VIOLATED),
        ("", WitnessVerdict.NO_CE),
        (ASSIGNED.partition("P")[0], WitnessVerdict.MALFORMED_CE),
        (ASSIGNED.replace("A ", "B "), WitnessVerdict.MALFORMED_CE),
        (ASSIGNED.replace("0.8", "nan"), WitnessVerdict.MALFORMED_CE),
        (WITNESS, WitnessVerdict.MALFORMED_CE),
        (ASSIGNED.replace("[1,2]", "[2,1]"), WitnessVerdict.WRONG_SHAPE),
        (ASSIGNED.replace("0.8\nP", "P"), WitnessVerdict.WRONG_SHAPE),
    ],
)
def test_a_witness_of_a_version_2_property_is_an_assignment(job: Job, text: str, verdict: WitnessVerdict) -> None:
    job.instance.property.write_text(TWO)
    assert Judge().replay_text(replace(job, property_sha256=""), text).check.verdict is verdict


def test_properties_of_several_networks_are_not_replayed(job: Job) -> None:
    second = "(declare-network g (declare-input B float32 [1,2]) (declare-output Q float32 [1,2]))"
    job.instance.property.write_text(TWO.replace("(assert", f"{second}\n(assert", 1))
    check = Judge().replay_text(replace(job, property_sha256=""), ASSIGNED).check
    assert check.verdict is WitnessVerdict.UNSUPPORTED
    assert "2 networks" in check.message
