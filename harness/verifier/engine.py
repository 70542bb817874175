"""The engine: decides all instances of one network together, in the order attack, bounds, attack, branch and bound.

An instance is `unsat` only when every violation region of every case of its property is excluded by bounds that hold;
it is `sat` only when ONNX Runtime confirms a counterexample; everything else is `unknown` or `timeout`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.domain import Counterexample, EngineRecord, Limits, Property, Stage, ToolAnswer, Verdict
from harness.verifier.attack import Target, attack
from harness.verifier.bab import REASONS, Outcome, SearchResult
from harness.verifier.config import AttackConfig, EngineConfig
from harness.verifier.graph import Smooth, neuron_count, size
from harness.verifier.input_split import input_search, prepare_input_search
from harness.verifier.instance_state import CaseState, Effort, InstanceState, work_of
from harness.verifier.kernels.choice import has_numba
from harness.verifier.onnx_reader import read_graph
from harness.verifier.patience import OutOfTimeError, until
from harness.verifier.problem import Problem, boxes_of, problems_of
from harness.verifier.root import Root, bound_root
from harness.verifier.search import neuron_search
from harness.verifier.sparse import SparseNetwork, sparse_network, sparse_size
from harness.verifier.warm_up import prepare_bounds, prepare_neuron_search
from harness.verifier.witness import WitnessChecker

logger = logging.getLogger(__name__)

PROGRESS_EVERY_S = 2.0

_T = TypeVar("_T")
Emit = Callable[[str, ToolAnswer], None]
Progress = Callable[[str, str, int], None]
"""Told now and then, from any thread: key, stage, domains so far."""


Then: TypeAlias = Callable[["InstanceState", _T], None]


class Engine:
    """An engine for one network.

    Args:
        model_bytes: ONNX model, not compressed.
        source: its name, for messages.
        config: what determines the answers.

    Raises:
        UnsupportedNetworkError: the network has something that the engine does not know; nothing was computed.
    """

    def __init__(self, model_bytes: bytes, source: str, config: EngineConfig) -> None:
        self.config, self.source = config, source
        self.device = torch.device(config.device)
        self.graph = read_graph(model_bytes, source).to(torch.float64, self.device)
        self.fast = self.graph.to(torch.float32)
        self.neurons = neuron_count(self.graph)
        self.checker = WitnessChecker(model_bytes)
        self.splits_inputs = size(self.graph.input_shape) <= config.split_inputs_up_to
        """Whether branch and bound splits the input box instead of neurons."""
        self.splits_neurons = not any(isinstance(node.op, Smooth) for node in self.graph.nodes)

    @cached_property
    def sparse(self) -> SparseNetwork | None:
        """The network's sparse form, where the compiled passes over it are the faster way."""
        return sparse_network(self.graph) if self.uses_sparse else None

    @cached_property
    def uses_sparse(self) -> bool:
        """Whether the compiled passes over the network's sparse form are the faster way."""
        return self.device.type == "cpu" and has_numba() and sparse_size(self.graph) <= self.config.sparse_entries

    def check(self, prop: Property, source: str) -> None:
        """Raises UsageError if a property is not over this network's inputs and outputs."""
        self.problems(prop, source)

    def problems(self, prop: Property, source: str) -> tuple[Problem, ...]:
        """Returns the cases of a property, their boxes in the network's own floating type."""
        return problems_of(prop, self.graph, source, self.checker.dtype)

    def decide(
        self, properties: Mapping[str, Property], limits: Limits, emit: Emit, progress: Progress | None = None
    ) -> None:
        """Decides every property and calls `emit` once for each, as soon as its answer is known.

        `emit` is called from the calling thread only. An answer does not depend on the other properties beyond the
        rounding of batched float32 evaluations in the attacks, whose finds are confirmed one by one.

        Args:
            properties: key to property; all must fit the network (UsageError otherwise, before any answer).
            limits: time, and optionally domains, of each property.
            emit: receives key and answer.
            progress: told what is being worked on.
        """
        started = time.monotonic()
        instances = [
            InstanceState(key, [CaseState(p, list(p.regions)) for p in self.problems(prop, key)], started)
            for key, prop in properties.items()
        ]
        run = _Run(self, limits, emit, progress or (lambda *_: None))
        large: list[InstanceState] = []
        with self._loading(limits):
            for first in range(0, len(instances), self.config.group):
                large += run.group(instances[first : first + self.config.group])
        run.open = large
        if limits.max_domains is None:
            run.branch(Effort.SMALL)
        run.branch(Effort.FULL)

    @contextmanager
    def _loading(self, limits: Limits) -> Iterator[None]:
        """Loads the compiled bounds beside the first attack, where many inputs share what that costs."""
        with ThreadPoolExecutor(1) as loader:
            if limits.timeout_on == "work" and self.uses_sparse:
                loader.submit(prepare_bounds, self.device)
            yield


class _Run:
    """One pass of a group of instances through the stages."""

    def __init__(self, engine: Engine, limits: Limits, emit: Emit, progress: Progress) -> None:
        self.engine, self.limits, self._emit, self._progress = engine, limits, emit, progress
        self._said = 0.0
        self.open: list[InstanceState] = []

    def group(self, instances: Sequence[InstanceState]) -> list[InstanceState]:
        """Decides what is quickly decided; returns the others, whose trees are large."""
        self.open = list(instances)
        self.attack(self.engine.config.first_attack)
        if self.open and self.engine.uses_sparse and self.limits.timeout_on == "work":
            prepare_bounds(self.engine.device)
        self.each(self.open, self._bound, self._after_bounds)
        self.each(self.open, self._attack_alone, self._after_attack)
        self._prepare_search()
        self.branch(Effort.TINY)
        return self.open

    def remaining(self, instance: InstanceState) -> float:
        """Returns the seconds that an instance has left, by the clock that its limit is on."""
        wall = time.monotonic() - instance.started
        return self.limits.timeout_s - (wall if self.limits.timeout_on == "wall" else instance.work_s)

    def say(self, instance: InstanceState, stage: Stage, domains: int) -> None:
        """Reports progress, but not more often than anyone wants to know."""
        now = time.monotonic()
        if now - self._said >= PROGRESS_EVERY_S:
            self._said = now
            self._progress(instance.key, stage.value, domains)

    def attack(self, config: AttackConfig) -> None:
        """Searches counterexamples of all open cases in common batches, each against all its regions at once."""
        instances = [i for i in self.open if self.remaining(i) > 0]
        owners = [i for i in instances for _ in i.cases]
        cases = [case for i in instances for case in i.cases]
        targets = [Target(k, tuple(case.regions)) for k, case in enumerate(cases)]
        if not targets:
            return
        engine, problems = self.engine, [case.problem for case in cases]
        with work_of(instances, "attack"):
            batch, seed = engine.config.attack_batch, engine.config.seed
            candidates = attack(engine.fast, problems, targets, config, batch, seed)
        for candidate in candidates:
            witness = engine.checker.confirm(problems[candidate.problem], candidate.x)
            if witness is not None and owners[candidate.problem] in self.open:
                self.answer(owners[candidate.problem], Verdict.SAT, Stage.ATTACK, witness)

    def _attack_alone(self, instance: InstanceState) -> Counterexample | None:
        """Returns a confirmed counterexample of one instance, each of its open regions being aimed at by itself."""
        if self.remaining(instance) <= 0:
            return None
        with work_of([instance], "attack"):
            seed = self.engine.config.seed
            found = (self._attack_case(case, self.engine.config.second_attack, seed) for case in instance.cases)
            return next((witness for witness in found if witness is not None), None)

    def _attack_case(self, case: CaseState, config: AttackConfig, seed: int) -> Counterexample | None:
        engine, targets = self.engine, [Target(0, (region,)) for region in case.regions]
        found = attack(engine.fast, [case.problem], targets, config, engine.config.attack_batch, seed)
        return next((w for c in found if (w := engine.checker.confirm(case.problem, c.x)) is not None), None)

    def _after_attack(self, instance: InstanceState, witness: Counterexample | None) -> None:
        if witness is not None:
            self.answer(instance, Verdict.SAT, Stage.ATTACK, witness)

    def each(self, instances: Sequence[InstanceState], work: Callable[[InstanceState], _T], then: Then[_T]) -> None:
        """Does `work` on each instance in a thread of its own, and `then` in this one as each is done.

        In batch mode a thread computes alone, so that an answer does not depend on how many others are computed beside
        it; in competition mode the one instance gets all cores. An exception costs its instance, not the others.
        """
        cores = torch.get_num_threads()
        torch.set_num_threads(1 if self.limits.timeout_on == "work" else cores)
        try:
            with ThreadPoolExecutor(self.engine.config.workers) as pool:
                futures = {pool.submit(self._in_time, work, instance): instance for instance in instances}
                try:
                    for future in as_completed(futures):
                        self._conclude(futures[future], future, then)
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        finally:
            torch.set_num_threads(cores)

    def _in_time(self, work: Callable[[InstanceState], _T], instance: InstanceState) -> _T:
        """Does `work` as long as the instance has time; branch and bound looks at the clock itself."""
        before, spent = time.monotonic(), instance.work_s

        def is_over() -> bool:
            elapsed = time.monotonic() - (before - spent if self.limits.timeout_on == "work" else instance.started)
            return elapsed >= self.limits.timeout_s

        with until(is_over):
            try:
                return work(instance)
            except OutOfTimeError:
                instance.work_s = max(instance.work_s, time.monotonic() - before + spent)
                raise

    def _conclude(self, instance: InstanceState, future: Future[_T], then: Then[_T]) -> None:
        try:
            result = future.result()
        except OutOfTimeError:
            self.answer(instance, Verdict.TIMEOUT)
        except Exception as error:  # one instance must not take the others with it
            logger.exception("deciding %s failed", instance.key)
            self.answer(instance, Verdict.ERROR, message=f"{type(error).__name__}: {error}")
        else:
            then(instance, result)

    def _bound(self, instance: InstanceState) -> None:
        """Bounds the instance's cases at the root and drops the regions that are excluded."""
        self.say(instance, Stage.INCOMPLETE, 0)
        with work_of([instance], "bounds"):
            for case in instance.cases:
                if self.remaining(instance) <= 0:
                    return
                self._bound_case(instance, case)
            instance.cases = [case for case in instance.cases if case.regions]

    def _after_bounds(self, instance: InstanceState, _nothing: None) -> None:
        """Answers an instance that its root bounds prove, or that has no time left."""
        if not instance.cases:
            self.answer(instance, Verdict.UNSAT, Stage.INCOMPLETE)
        elif self.remaining(instance) <= 0:
            self.answer(instance, Verdict.TIMEOUT)

    def _bound_case(self, instance: InstanceState, case: CaseState) -> None:
        for light in (True, False) if self._starts_light else (False,):
            if case.regions:
                self._bound_by(instance, case, light)

    @property
    def _starts_light(self) -> bool:
        """Whether torch bounds a case first: on the wall clock, where loading the compiled bounds takes longer."""
        engine = self.engine
        small = sparse_size(engine.graph) <= engine.config.light_entries
        return self.limits.timeout_on == "wall" and engine.uses_sparse and small

    def _bound_by(self, instance: InstanceState, case: CaseState, light: bool) -> None:
        engine = self.engine
        box = boxes_of([case.problem], engine.graph)
        found = bound_root(engine.graph, None if light else engine.sparse, box)
        sizes = [len(region.rhs) for region in case.regions]
        if min(sizes) == 0:
            case.found, case.rows = found, [0] * len(sizes)
            return
        C, rhs = torch.cat([region.C for region in case.regions]), torch.cat([region.rhs for region in case.regions])
        values = torch.from_numpy(found.margins(C, rhs))
        if not found.covers_float32():
            values = torch.full_like(values, -torch.inf)
        best = [part.max(0) for part in torch.split(values, sizes)]
        kept = [k for k, b in enumerate(best) if not float(b.values) > 0]
        # What torch leaves open is bounded once more; its margins count then.
        counted = [b for k, b in enumerate(best) if not light or k not in kept]
        if counted:
            instance.root_margins.append(np.array([float(b.values) for b in counted]))
        case.rows = [int(best[k].indices) for k in kept]
        case.regions = [case.regions[k] for k in kept]
        case.found = found if kept else None

    def branch(self, effort: Effort) -> None:
        """Searches the trees of the open instances with some effort, those whose root bounds are best first."""
        for instance in [i for i in self.open if self.remaining(i) <= 0]:
            self.answer(instance, Verdict.TIMEOUT)
        order = sorted(self.open, key=lambda i: -min((float(m.min()) for m in i.root_margins), default=0.0))
        self.each(order, lambda instance: self._search(instance, effort), self._after_search)

    def _prepare_search(self) -> None:
        """Compiles or loads the search at no instance's expense; on the wall clock that would only load too much."""
        if not self.open or self.limits.timeout_on == "wall":
            return
        if self.engine.splits_inputs:
            prepare_input_search(self.engine.sparse)
        elif self.engine.splits_neurons:
            prepare_neuron_search(self.engine.device)

    def _search(self, instance: InstanceState, effort: Effort) -> SearchResult:
        """Runs branch and bound on an instance's open cases, one after the other."""
        before, spent, searched = time.monotonic(), instance.work_s, instance.seconds.get("bab", 0.0)

        def clock(domains: int) -> bool:
            elapsed = time.monotonic() - before
            instance.seconds["bab"], instance.work_s = searched + elapsed, spent + elapsed
            self.say(instance, Stage.BAB, instance.domains + domains)
            return self.remaining(instance) <= 0

        branched, result, left = effort is Effort.FULL, SearchResult(Outcome.PROVED, 0, False), []
        for case in instance.cases:
            result = self._search_case(instance, case, clock, effort)
            branched = branched or result.branched
            if result.outcome is Outcome.LARGE:
                left.append(case)
            elif result.outcome is not Outcome.PROVED:
                break
        else:
            instance.cases = left
            result = replace(result, outcome=Outcome.LARGE if left else Outcome.PROVED)
        instance.entered_bab = branched or result.outcome not in (Outcome.PROVED, Outcome.FALSIFIED)
        return SearchResult(result.outcome, instance.domains, branched, result.counterexample)

    def _search_case(
        self, instance: InstanceState, case: CaseState, clock: Callable[[int], bool], effort: Effort
    ) -> SearchResult:
        engine = self.engine
        found = case.found or bound_root(engine.graph, engine.sparse, boxes_of([case.problem], engine.graph))
        if any(len(region.rhs) == 0 for region in case.regions):
            return SearchResult(Outcome.EXHAUSTED, 0, False)
        if not found.covers_float32():
            result = SearchResult(Outcome.OVERFLOW, 0, False)
        elif engine.splits_inputs:
            result = self._split_inputs(instance, case, clock)
        elif not engine.splits_neurons:
            result = SearchResult(Outcome.SMOOTH, 0, False)
        else:
            result = self._split_neurons(instance, case, found, clock, effort)
        clock(0)  # what follows are statistics, not work on the instance
        if result.branched or result.outcome not in (Outcome.PROVED, Outcome.FALSIFIED):
            with until(lambda: False):
                neurons = found.unstable()  # of CROWN's bounds, whether or not they were refined later
            instance.unstable, instance.unstable_nonlinear = neurons.masks, neurons.nonlinear
        return result

    def _domains_left(self, instance: InstanceState) -> int | None:
        limit = self.limits.max_domains
        return None if limit is None else max(0, limit - instance.domains)

    def _split_inputs(self, instance: InstanceState, case: CaseState, clock: Callable[[int], bool]) -> SearchResult:
        engine, fast = self.engine, self.engine.fast

        def confirm(points: Tensor) -> Counterexample | None:
            hits = case.problem.violated_by(fast(points.to(fast.dtype))).nonzero().flatten()
            witnesses = (engine.checker.confirm(case.problem, points[k]) for k in hits.tolist())
            return next((w for w in witnesses if w is not None), None)

        left, most = self._domains_left(instance), engine.config.max_open_domains
        box = boxes_of([case.problem], engine.graph)
        result = input_search(engine.graph, engine.sparse, box, case.regions, left, most, clock, confirm).run()
        instance.domains += result.domains
        return result

    def _split_neurons(
        self, instance: InstanceState, case: CaseState, found: Root, clock: Callable[[int], bool], effort: Effort
    ) -> SearchResult:
        engine = self.engine
        C = torch.stack([region.C[row] for region, row in zip(case.regions, case.rows, strict=True)])
        rhs = torch.stack([region.rhs[row] for region, row in zip(case.regions, case.rows, strict=True)])
        lower, upper = (torch.from_numpy(np.array(end)) for end in (case.problem.box.lower, case.problem.box.upper))

        def confirm(corner: NDArray[np.float32]) -> Counterexample | None:
            return engine.checker.confirm(case.problem, torch.where(torch.from_numpy(corner) > 0, upper, lower))

        def search(root: Root, slices: int | None, open_: NDArray[np.bool_]) -> SearchResult:
            left = self._domains_left(instance)
            chosen = torch.from_numpy(open_)
            network = root.fold(C[chosen], rhs[chosen])
            result = neuron_search(network, engine.config, engine.device, left, clock, confirm, slices).run()
            instance.domains += result.domains
            instance.multiply_adds += result.multiply_adds
            return result

        if effort is not Effort.FULL:
            # What is searched twice counts twice: with a limit on domains the first search is as long as the second.
            tiny = effort is Effort.TINY and self.limits.max_domains is None
            slices = engine.config.tiny_slices if tiny else engine.config.small_slices
            return search(found, slices, np.ones(len(C), np.bool_))
        witness = self._attack_hard(case)
        if witness is not None:
            return SearchResult(Outcome.FALSIFIED, 0, True, witness)
        refined = found.refined(C) or found
        return replace(search(refined, None, ~(refined.margins(C, rhs) > 0)), branched=True)

    def _attack_hard(self, case: CaseState) -> Counterexample | None:
        engine, config = self.engine, self.engine.config
        one = 3.0 * sparse_size(engine.graph) * config.last_attack.steps * len(case.regions)
        restarts = int(min(max(config.last_attack_work / one, 2), config.last_attack.restarts))
        return self._attack_case(case, replace(config.last_attack, restarts=restarts), config.seed + 1)

    def _after_search(self, instance: InstanceState, result: SearchResult) -> None:
        """Turns the outcome of a search into the instance's answer."""
        stage = Stage.BAB if result.branched else Stage.INCOMPLETE
        if result.outcome is Outcome.PROVED:
            self.answer(instance, Verdict.UNSAT, stage)
        elif result.outcome is Outcome.FALSIFIED:
            self.answer(instance, Verdict.SAT, Stage.BAB if result.branched else Stage.ATTACK, result.counterexample)
        elif result.outcome is Outcome.STOPPED:
            self.answer(instance, Verdict.TIMEOUT)
        elif result.outcome is Outcome.LARGE:
            for case in instance.cases:
                case.found = None  # bounded again when its turn comes: many open inputs' bounds are much memory
        else:
            self.answer(instance, Verdict.UNKNOWN, None, None, REASONS[result.outcome])

    def answer(
        self,
        instance: InstanceState,
        verdict: Verdict,
        stage: Stage | None = None,
        witness: Counterexample | None = None,
        message: str = "",
    ) -> None:
        """Emits an instance's answer and takes it out of the group."""
        self.open.remove(instance)
        instance.cases = []
        record = EngineRecord(
            np.concatenate(instance.root_margins) if instance.root_margins else None,
            instance.domains,
            instance.unstable,
            instance.entered_bab,
            self.engine.neurons,
            instance.unstable_nonlinear,
            instance.seconds,
            instance.multiply_adds,
        )
        wall = time.monotonic() - instance.started
        self._emit(instance.key, ToolAnswer(verdict, wall, instance.work_s, stage, witness, message, record))
