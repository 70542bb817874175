"""The engine: decides all instances of one network together, in the order attack, bounds, attack, branch and bound.

An instance is `unsat` only when every violation region of every case of its property is excluded by bounds that hold;
it is `sat` only when ONNX Runtime confirms a counterexample; everything else is `unknown` or `timeout`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice, repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.domain import Counterexample, Limits, Property, Stage, ToolAnswer, Verdict
from harness.verifier.attack import Target, attack
from harness.verifier.bab import Outcome, SearchResult
from harness.verifier.config import AttackConfig, EngineConfig
from harness.verifier.decision import Decision, decided
from harness.verifier.graph import neuron_count, size
from harness.verifier.input_split import BoxQuestion, input_search
from harness.verifier.instance_state import CaseState, Effort, InstanceState, work_of
from harness.verifier.kernels.choice import has_numba
from harness.verifier.onnx_reader import read_graph
from harness.verifier.patience import OutOfTimeError, until
from harness.verifier.paused import PausedSearches, resume
from harness.verifier.problem import Problem, boxes_of, problems_of
from harness.verifier.root import Root, bound_root
from harness.verifier.rounding import UNITS
from harness.verifier.search import neuron_search
from harness.verifier.sparse import SparseNetwork, sparse_network, sparse_size
from harness.verifier.warm_up import idle, preparations
from harness.verifier.witness import WitnessChecker
from harness.verifier.workers import Workers, quick_turns

logger = logging.getLogger(__name__)
PROGRESS_EVERY_S = 2.0

Emit = Callable[[str, ToolAnswer], None]
Progress = Callable[[str, str, int], None]
"""Told now and then, from any thread: key, stage, domains so far."""


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
        self.splits_neurons = not self.graph.has_smooth
        self.unit = UNITS[config.arithmetic]

    @cached_property
    def sparse(self) -> SparseNetwork | None:
        """The network's sparse form, where the compiled passes over it are the faster way."""
        return sparse_network(self.graph) if self.uses_sparse else None

    @cached_property
    def uses_sparse(self) -> bool:
        """Whether the compiled passes over the network's sparse form are the faster way."""
        return self.device.type == "cpu" and has_numba() and sparse_size(self.graph) <= self.config.sparse_entries

    def root(self, problem: Problem, light: bool = False) -> Root:
        """Returns bounds over a problem's box, in the form that is fastest, or that is ready soonest."""
        return bound_root(self.graph, None if light else self.sparse, boxes_of([problem], self.graph), self.unit)

    def problems(self, prop: Property, source: str) -> tuple[Problem, ...]:
        """Returns the cases of a property that have a point, their boxes in the network's own floating type.

        Raises:
            UsageError: it is not over this network's inputs and outputs.
        """
        return problems_of(prop, self.graph, source, self.checker.dtype)

    def decide(
        self,
        properties: Mapping[str, Property] | Iterable[tuple[str, Property]],
        limits: Limits,
        emit: Emit,
        progress: Progress | None = None,
    ) -> None:
        """Decides every property and calls `emit` once for each, as soon as its answer is known.

        `emit` is called from the calling thread only. An answer does not depend on the other properties beyond the
        rounding of batched float32 evaluations in the attacks, whose finds are confirmed one by one.

        Args:
            properties: key to property; all must fit the network (UsageError otherwise, before any answer). Pairs are
                taken when their turn comes: reading them costs no time that others could use.
            limits: time, and optionally domains, of each property.
            emit: receives key and answer.
            progress: told what is being worked on.
        """
        started = time.monotonic()
        pairs = properties.items() if isinstance(properties, Mapping) else properties
        states = (
            InstanceState(key, [CaseState(p, list(p.regions)) for p in self.problems(prop, key)], started)
            for key, prop in pairs
        )
        _Run(self, limits, emit, progress or (lambda *_: None)).decide(
            list(states) if isinstance(properties, Mapping) else states
        )


class _Run:
    """One pass of a group of instances through the stages."""

    def __init__(self, engine: Engine, limits: Limits, emit: Emit, progress: Progress) -> None:
        self.engine, self.limits, self._emit, self._progress = engine, limits, emit, progress
        self._said, self._halted = 0.0, False
        self._threads = 1
        self._paused = PausedSearches(engine.config.held_bytes)

    def decide(self, instances: Iterable[InstanceState]) -> None:
        """Attacks group by group in this thread, while the workers decide what the attacks leave open."""
        cores, waiting = torch.get_num_threads(), iter(instances)
        batch = self.limits.timeout_on == "work"
        self._threads = 1 if batch else cores
        torch.set_num_threads(self._threads)  # alone in batch mode: no answer depends on how many are computed beside
        try:
            engine, config = self.engine, self.engine.config
            sizes = chain([config.first_group], repeat(config.group))
            # On the wall clock one instance's time would pay for much that it does not need.
            team = Workers(self._advance, config.workers, *(preparations(engine) if batch else (idle, idle)))
            with quick_turns(), team as workers, self._halting():
                while group := list(islice(waiting, next(sizes))):
                    for instance in self.attack(group):
                        workers.put(Effort.TINY, 0.0, instance)
                    self._deliver(workers.done())
                self._deliver(workers.rest())
        finally:
            torch.set_num_threads(cores)

    @contextmanager
    def _halting(self) -> Iterator[None]:
        """Lets no instance have any time left once the block has ended, whether by an error or by itself."""
        try:
            yield
        finally:
            self._halted = True

    def _deliver(self, decided: Iterable[tuple[InstanceState, Decision]]) -> None:
        for instance, decision in decided:
            self.answer(instance, *decision)

    def _advance(self, effort: Effort, instance: InstanceState) -> Decision | tuple[Effort, float]:
        """Works on an instance with some effort; returns its answer, or with which effort to go on, the easy first."""
        try:
            decision = self._in_time(effort, instance)
        except OutOfTimeError:
            decision = Decision(Verdict.TIMEOUT)
        except Exception as error:  # one instance must not take the others with it
            logger.exception("deciding %s failed", instance.key)
            decision = Decision(Verdict.ERROR, message=f"{type(error).__name__}: {error}")
        if decision is not None:
            return decision
        again = effort is Effort.TINY and self.limits.max_domains is None
        return Effort.SMALL if again else Effort.FULL, instance.hardness

    def _in_time(self, effort: Effort, instance: InstanceState) -> Decision | None:
        """Works as long as the instance has time; branch and bound looks at the clock itself."""
        before, spent = time.monotonic(), instance.work_s

        def is_over() -> bool:
            elapsed = time.monotonic() - (before - spent if self.limits.timeout_on == "work" else instance.started)
            return self._halted or elapsed >= self.limits.timeout_s

        with until(is_over):
            try:
                return self._decision(effort, instance)
            except OutOfTimeError:
                instance.work_s = max(instance.work_s, time.monotonic() - before + spent)
                raise

    def _decision(self, effort: Effort, instance: InstanceState) -> Decision | None:
        if effort is Effort.TINY:
            self._bound(instance)
            if not instance.cases:
                return Decision(Verdict.UNSAT, Stage.INCOMPLETE)
            witness = self._attack_alone(instance)
            if witness is not None:
                return Decision(Verdict.SAT, Stage.ATTACK, witness)
        if self.remaining(instance) <= 0:
            return Decision(Verdict.TIMEOUT)
        return decided(self._search(instance, effort))

    def remaining(self, instance: InstanceState) -> float:
        """Returns the seconds that an instance has left, by the clock that its limit is on."""
        wall = time.monotonic() - instance.started
        left = self.limits.timeout_s - (wall if self.limits.timeout_on == "wall" else instance.work_s)
        return 0.0 if self._halted else left

    def say(self, instance: InstanceState, stage: Stage, domains: int) -> None:
        """Reports progress, but not more often than anyone wants to know."""
        now = time.monotonic()
        if now - self._said >= PROGRESS_EVERY_S:
            self._said = now
            self._progress(instance.key, stage.value, domains)

    def attack(self, instances: Sequence[InstanceState]) -> list[InstanceState]:
        """Searches counterexamples of a group in common batches, each case against all its regions; returns the rest.

        Confirmed counterexamples are answers.
        """
        waiting = list(instances)
        owners = [i for i in instances for _ in i.cases]
        cases = [case for i in instances for case in i.cases]
        targets = [Target(k, tuple(case.regions)) for k, case in enumerate(cases)]
        if not targets:
            return waiting
        engine, config, problems = self.engine, self.engine.config, [case.problem for case in cases]
        try:
            with work_of(instances, "attack"):
                found = attack(engine.fast, problems, targets, config.first_attack, config.attack_batch, config.seed)
        except Exception:
            logger.exception("a common attack failed")  # each of the instances may be decided alone
            return waiting
        for candidate in found:
            witness, owner = engine.checker.confirm(problems[candidate.problem], candidate.x), owners[candidate.problem]
            if witness is not None and owner in waiting:
                waiting.remove(owner)
                self.answer(owner, Verdict.SAT, Stage.ATTACK, witness)
        return waiting

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

    def _bound(self, instance: InstanceState) -> None:
        """Bounds the instance's cases at the root and drops the regions that are excluded."""
        self.say(instance, Stage.INCOMPLETE, 0)
        with work_of([instance], "bounds"):
            for case in instance.cases:
                if self.remaining(instance) <= 0:
                    return
                self._bound_case(instance, case)
            instance.cases = [case for case in instance.cases if case.regions]

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
        found = self.engine.root(case.problem, light)
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

    def _search(self, instance: InstanceState, effort: Effort) -> SearchResult:
        """Runs branch and bound on an instance's open cases, one after the other."""
        before, spent, searched = time.monotonic(), instance.work_s, instance.seconds.get("bab", 0.0)

        def clock(domains: int) -> bool:
            elapsed = time.monotonic() - before
            instance.seconds["bab"], instance.work_s = searched + elapsed, spent + elapsed
            self.say(instance, Stage.BAB, instance.domains + domains)
            return self.remaining(instance) <= 0

        branched, result, left, shares = effort is Effort.FULL, SearchResult(Outcome.PROVED, 0, False), [], []
        for case in instance.cases:
            result = self._search_case(instance, case, clock, effort)
            branched = branched or result.branched
            if result.outcome is Outcome.LARGE:
                left.append(case)
                shares.append(result.rest.open_share if result.rest else 1.0)
                case.found = None  # of many open inputs that is much memory
                self._paused.keep(case, result)
            elif result.outcome is not Outcome.PROVED:
                break
        else:
            instance.cases, instance.open_share = left, sum(shares)
            result = replace(result, outcome=Outcome.LARGE if left else Outcome.PROVED)
        instance.entered_bab = branched or result.outcome not in (Outcome.PROVED, Outcome.FALSIFIED)
        return SearchResult(result.outcome, instance.domains, branched, result.counterexample)

    def _search_case(
        self, instance: InstanceState, case: CaseState, clock: Callable[[int], bool], effort: Effort
    ) -> SearchResult:
        engine, paused = self.engine, self._paused.take(case)
        if paused is not None and effort is not Effort.FULL:
            return resume(paused, instance, engine.config.small_slices, clock)
        found = case.found or engine.root(case.problem)
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
        question = BoxQuestion(box, case.regions, left, most, clock, confirm, engine.unit)
        result = input_search(engine.graph, engine.sparse, question).run()
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
            parts = network, engine.config, engine.device, left, clock, confirm, slices, self._threads
            result = neuron_search(*parts).run()
            instance.domains += result.domains
            instance.multiply_adds += result.multiply_adds
            return result

        everything, config, limit = np.ones(len(C), np.bool_), engine.config, self.limits.max_domains
        if limit is not None and limit <= config.short_search:
            return search(found, None, everything)
        if effort is not Effort.FULL:
            # What is searched twice counts twice: with a limit on domains there is one such search, the longer one.
            tiny = effort is Effort.TINY and limit is None
            return search(found, config.tiny_slices if tiny else config.small_slices, everything)
        witness = self._attack_hard(instance, case)
        if witness is not None:
            return SearchResult(Outcome.FALSIFIED, 0, True, witness)
        refined = found.refined(C, self._share(instance, config.refining_share)) or found
        return replace(search(refined, None, ~(refined.margins(C, rhs) > 0)), branched=True)

    def _share(self, instance: InstanceState, share: float) -> float:
        """Returns the seconds that are a share of what an instance has left; no clock where domains are counted."""
        return np.inf if self.limits.max_domains is not None else share * self.remaining(instance)

    def _attack_hard(self, instance: InstanceState, case: CaseState) -> Counterexample | None:
        engine, config = self.engine, self.engine.config
        one = 3.0 * sparse_size(engine.graph) * config.last_attack.steps * len(case.regions)
        restarts = int(min(max(config.last_attack_work / one, 2), config.last_attack.restarts))
        end = time.monotonic() + self._share(instance, config.last_attack_share)
        try:
            with until(lambda: time.monotonic() >= end):
                return self._attack_case(case, replace(config.last_attack, restarts=restarts), config.seed + 1)
        except OutOfTimeError:
            return None

    def answer(
        self,
        instance: InstanceState,
        verdict: Verdict,
        stage: Stage | None = None,
        witness: Counterexample | None = None,
        message: str = "",
    ) -> None:
        """Emits an instance's answer."""
        for case in instance.cases:
            self._paused.take(case)
        instance.cases = []
        wall = time.monotonic() - instance.started
        self._emit(
            instance.key,
            ToolAnswer(verdict, wall, instance.work_s, stage, witness, message, instance.record(self.engine.neurons)),
        )
