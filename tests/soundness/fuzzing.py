"""Asks the engine random questions about random networks and looks for answers that are wrong.

An answer `unsat` is wrong where a float32 point of the box is known, or found now, at which ONNX Runtime violates. An
answer `sat` is wrong where its point is outside the box or does not violate there. Nothing else can be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from random_networks import Drawn, draw_network
from random_questions import Array, Asker, Question, violates

from harness.domain import Instance, Job, LgBenchError, Limits, Property, ToolAnswer, Verdict
from harness.formats.engine_protocol import EngineRequest
from harness.formats.vnnlib import read_property
from harness.judging.judge import Judge
from harness.verifier.api import serve_request, verify_instance
from harness.verifier.config import AttackConfig, EngineConfig
from harness.verifier.engine import Engine

NO_ATTACK = AttackConfig(restarts=0, steps=0)
DOMAINS = 120
QUESTIONS = 8
SECONDS = 30.0
DOUBLE = 2.0**-50
"""What the sum of a constraint's terms in doubles may be off: the judge's, and the engine's."""
TRIES = 60
"""Points tried beside what is known, once the engine has said unsat."""

Answers = dict[str, ToolAnswer]


@dataclass
class Tally:
    """What was asked and answered."""

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Family and verdict to how many."""
    known_sat: int = 0
    wrong: list[str] = field(default_factory=list)
    """A line for each wrong answer."""
    odd: list[str] = field(default_factory=list)
    """A line for each answer `error` and each network that was refused."""
    unusable: int = 0

    def add(self, other: Tally) -> None:
        self.verdicts += other.verdicts
        self.known_sat += other.known_sat
        self.wrong += other.wrong
        self.odd += other.odd
        self.unusable += other.unusable


def configs(seed: int) -> EngineConfig:
    """Returns settings that send the same question through another part of the engine."""
    random = np.random.default_rng(seed)
    inputs, entries = int(random.choice([0, 16])), int(random.choice([0, 30_000_000], p=[0.2, 0.8]))
    if random.random() < 0.6:
        return EngineConfig(split_inputs_up_to=inputs, sparse_entries=entries)
    return EngineConfig(
        split_inputs_up_to=inputs,
        sparse_entries=entries,
        first_attack=NO_ATTACK,
        second_attack=NO_ATTACK,
        last_attack=NO_ATTACK,
        tiny_slices=1,
        short_search=int(random.choice([0, 2000])),
    )


def examine(seed: int, folder: Path) -> Tally:
    """Returns what came of the questions of one seed.

    Args:
        seed: decides everything.
        folder: an empty one, for files.
    """
    tally, drawn = Tally(), draw_network(seed)
    try:
        asker = Asker(drawn, seed + 2)
        asked = {f"p{k}": q for k, q in enumerate(asker.questions(QUESTIONS))}
    except Exception as error:  # noqa: BLE001  (ONNX Runtime refuses the network, or an input of it)
        tally.odd.append(f"seed {seed}: ONNX Runtime: {str(error).splitlines()[0][:200]}")
        return tally
    if not asked:
        tally.unusable += 1
        return tally
    for key, question in asked.items():
        (folder / f"{key}.vnnlib").write_text(question.text)
    (folder / "net.onnx").write_bytes(drawn.model)
    for mode, answers in _answers(seed, drawn, asked, folder):
        for key, question in asked.items():
            _judge(f"seed {seed}, {mode}, {key}", drawn, question, answers[key], asker, tally)
    return tally


def _answers(seed: int, drawn: Drawn, asked: Mapping[str, Question], folder: Path) -> Iterator[tuple[str, Answers]]:
    """Yields the answers of one batch run, and of one in competition mode or through files."""
    limits = Limits(SECONDS, "work", DOMAINS), Limits(SECONDS, "wall", DOMAINS)
    kind = seed % 4
    if kind == 3:
        yield "files", _through_files(asked, folder)
        return
    try:
        engine = Engine(drawn.model, "net.onnx", configs(seed))
        properties = {key: read_property(folder / f"{key}.vnnlib") for key in asked}
    except LgBenchError as error:
        yield "refused", dict.fromkeys(asked, ToolAnswer(Verdict.ERROR, 0, 0, message=str(error)))
        return
    yield (
        ("batch", _decided(engine, properties, limits[0]))
        if kind
        else ("wall", _decided(engine, properties, limits[1]))
    )


def _decided(engine: Engine, properties: Mapping[str, Property], limits: Limits) -> Answers:
    answers: Answers = {}

    def emit(key: str, answer: ToolAnswer) -> None:
        assert key not in answers, f"{key} was answered twice"
        answers[key] = answer

    engine.decide(properties, limits, emit)
    assert set(answers) == set(properties), "some were not answered"
    return answers


def _through_files(asked: Mapping[str, Question], folder: Path) -> Answers:
    """As `lgbench run` and `lgbench verify` do it, the judge included: what it rejects is an error."""
    paths = {key: folder / f"{key}.vnnlib" for key in asked}
    answers: Answers = {}
    limits = Limits(SECONDS, "work", DOMAINS)
    serve_request(EngineRequest(folder / "net.onnx", paths, limits), answers.__setitem__)
    first = next(iter(paths))
    try:
        answers[first] = verify_instance(folder / "net.onnx", paths[first], SECONDS, max_domains=DOMAINS)
    except LgBenchError as error:
        answers[first] = ToolAnswer(Verdict.ERROR, 0, 0, message=str(error))
    judge = Judge()
    for key, answer in answers.items():
        job = Job(key, Instance(folder / "net.onnx", paths[key], SECONDS), "net", 0, limits)
        result = judge.judge(job, answer)
        if answer.verdict is Verdict.SAT and result.verdict is not Verdict.SAT:
            answers[key] = ToolAnswer(Verdict.ERROR, 0, 0, message=f"WRONG SAT: {result.message}")
    return answers


def _judge(place: str, drawn: Drawn, question: Question, answer: ToolAnswer, asker: Asker, tally: Tally) -> None:
    tally.verdicts[drawn.family, answer.verdict.value] += 1
    tally.known_sat += question.witness is not None
    if answer.verdict is Verdict.SAT:
        x = None if answer.counterexample is None else answer.counterexample.x
        if x is None or not violates(question.cases, x, asker.run(x[None])[0], DOUBLE):
            tally.wrong.append(f"{place} ({drawn.family}): sat, but its point does not violate")
    elif answer.verdict is Verdict.UNSAT:
        found = (
            question.witness if question.witness is not None else None if question.complete else _more(question, asker)
        )
        if found is not None:
            tally.wrong.append(f"{place} ({drawn.family}): unsat, but {found.tolist()} violates")
    elif answer.verdict is Verdict.ERROR:
        (tally.wrong if "WRONG SAT" in answer.message else tally.odd).append(
            f"{place} ({drawn.family}): {answer.message}"
        )


def _more(question: Question, asker: Asker) -> Array | None:
    """Returns a violating point if some fresh samples hold one."""
    for case in question.cases:
        points = asker.points(case.box)[0][:TRIES]
        for x, y in zip(points, asker.run(points), strict=True):
            if violates(question.cases, x, y):
                return np.asarray(x)
    return None
