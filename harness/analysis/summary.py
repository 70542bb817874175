"""The summary of a run: the one document that other programs read (design, section Results)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from harness.analysis.metrics import robust_accuracy, standard_accuracy, unstable_ratio, verified_accuracy
from harness.analysis.sets import SET_ORDER, set_sizes, stage_counts
from harness.analysis.table import ResultRow, by_variant
from harness.analysis.transitions import Transition, transition
from harness.domain import UsageError, Verdict

SUMMARY_SCHEMA = 1
"""Raised when a key changes its meaning or goes away; keys may be added."""


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What was run, as planned; everything of a summary that is no result."""

    benchmark: str
    variants: tuple[str, ...]
    """All planned networks in the order of the tables, the baseline among them."""
    inputs: int
    """Planned inputs of each network; of the one with most where they differ."""
    timeout_s: float
    """Seconds an instance may take; where limits differ, the longest."""
    device: str
    """The device in words, with its model where known."""
    eps: float | None = None
    """Radius in the maximum norm, in [0, 1] image units; None for a plain list of instances."""
    timeout_on: str = "work"
    """`work` (batch mode) or `wall` (competition mode)."""
    max_domains: int | None = None
    """Bound on branch-and-bound domains; None: only the clock."""
    baseline: str | None = None
    """The network that transitions start from; None: the run compares nothing."""
    inputs_of: Mapping[str, int] = field(default_factory=dict)
    """Variant to its planned inputs where they are not `inputs`: a plain list may name one network more often."""
    asked: Mapping[str, Any] = field(default_factory=dict)
    """Of a plain list: the options that chose from it, for a resume; None where all was taken as listed."""
    labelled: bool = True
    """Whether test labels are known, so that misclassified inputs were sorted out; else there is no SA and no RA."""
    title: str = ""
    protocol: str = ""
    """Name of the protocol: `full` (the thesis'), `cpu`, or what the user made of them."""
    command: str = ""
    """The command that makes this run again."""
    started_at: str = ""
    """ISO 8601, UTC."""
    finished_at: str = ""
    """ISO 8601, UTC; empty while it runs."""
    seed: int | None = None
    tool: str = ""
    rules: str = "2026"
    """The year of VNN-COMP, with its variant, whose rules counterexamples were judged by."""
    arithmetic: str = "float32"
    """What `unsat` of our engine speaks of, of `ARITHMETICS`."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Variant to its name in tables."""
    published: Sequence[Mapping[str, Any]] = ()
    """Published figures to show beside ours, as the specification has them: variant, source, SA, RA, VA, UNR, note."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Name to value, one level deep or two: versions, git revision, hashes of networks and data, engine settings."""

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> RunHeader:
        """Returns the header that `to_json` wrote; unknown keys are ignored, a newer program may have written them.

        Raises:
            UsageError: a required key is missing.
        """
        known = {f.name for f in fields(RunHeader)}
        values = {key: value for key, value in raw.items() if key in known}
        try:
            return RunHeader(**{**values, "variants": tuple(values["variants"])})
        except (KeyError, TypeError) as error:
            raise UsageError(f"the run's header is incomplete ({error}); start the run again") from error

    def to_json(self) -> dict[str, Any]:
        """Returns the header as JSON values, key by key."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return values | {
            "variants": list(self.variants),
            "inputs_of": dict(self.inputs_of),
            "asked": dict(self.asked),
            "titles": dict(self.titles),
            "published": [dict(figures) for figures in self.published],
            "provenance": dict(self.provenance),
        }


def build_summary(
    rows: Sequence[ResultRow],
    header: RunHeader,
    manifests: Mapping[str, Mapping[str, Any]],
    conflicts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Returns the content of `summary.json`: schema, header, a block for each variant, transitions, conflicts.

    Percentages are in percent, times in seconds, both unrounded. Each planned variant has a block, also before its
    first result; inputs without a result are counted in `missing` and are in none of the sets.

    Args:
        rows: at most one row for each variant and input.
        header: what was planned.
        manifests: variant to its network's manifest; SA and RA of the whole test set come from there.
        conflicts: soundness conflicts as JSON values.

    Raises:
        ValueError: two rows for one input of a variant, or a row of a variant that was not planned.
    """
    table = by_variant(rows)
    strangers = table.keys() - set(header.variants)
    if strangers:
        raise ValueError(f"results of networks that the run does not have: {', '.join(sorted(strangers))}")
    blocks = {
        name: _variant_block(name, list(table.get(name, {}).values()), header, manifests.get(name))
        for name in header.variants
    }
    targets = [name for name in header.variants if header.baseline is not None and name != header.baseline]
    return {
        "schema": SUMMARY_SCHEMA,
        **header.to_json(),
        "complete": not any(block["missing"] for block in blocks.values()),
        "variants": blocks,
        "transitions": [transition_json(transition(rows, str(header.baseline), name)) for name in targets],
        "conflicts": [dict(conflict) for conflict in conflicts],
    }


def _elapsed_s(rows: Sequence[ResultRow], timeout_on: str) -> float:
    """Returns the seconds that a network's results took: in batch mode every job's clock starts with the batch."""
    seconds = [row.wall_s for row in rows]
    return sum(seconds) if timeout_on == "wall" else max(seconds, default=0.0)


def transition_json(value: Transition) -> dict[str, Any]:
    """Returns a transition as `summary.json` has it; inputs outside the matrix are counted, not dropped."""
    return {
        "from": value.source,
        "to": value.target,
        "order": [name.value for name in SET_ORDER],
        "matrix": [list(line) for line in value.matrix],
        "inputs": value.inputs,
        "only_in_from": len(value.only_in_source),
        "only_in_to": len(value.only_in_target),
    }


def _variant_block(
    name: str, rows: Sequence[ResultRow], header: RunHeader, manifest: Mapping[str, Any] | None
) -> dict[str, Any]:
    planned = header.inputs_of.get(name, header.inputs)
    if len(rows) > planned:
        raise ValueError(f"{len(rows)} results of '{name}' in a run over {planned} inputs")
    measured: dict[str, Any] = {}
    accuracies: dict[str, float | None] = {"SA": None, "RA": None}
    if header.labelled:
        for figure, measure in (("SA", standard_accuracy), ("RA", robust_accuracy)):
            metric = measure(rows, planned, manifest)
            accuracies[figure], measured[figure] = metric.value, dict(metric.measured)
    verified, unstable = verified_accuracy(rows, planned), unstable_ratio(rows)
    measured["VA"] = dict(verified.measured)
    measured["UNR"] = {"n": unstable.inputs, "unrecorded": unstable.unrecorded}
    return {
        "sets": set_sizes(rows),
        **accuracies,
        "VA": verified.value,
        "UNR": unstable.all,
        "UNR_nonlinear": unstable.nonlinear,
        "measured": measured,
        "stages": stage_counts(rows),
        "errors": sum(row.verdict is Verdict.ERROR for row in rows),
        "missing": planned - len(rows),
        "domains": sum(row.domains for row in rows),
        "wall_s": _elapsed_s(rows, header.timeout_on),
        "work_s": sum(row.work_s for row in rows),
    }
