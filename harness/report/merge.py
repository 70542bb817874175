"""Several runs of one benchmark as a single run that the page can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.analysis.summary import transition_json
from harness.analysis.transitions import transition
from harness.domain import UsageError
from harness.report.details import Details
from harness.report.source import Run
from harness.report.wording import judging_facts


def merge_runs(runs: Mapping[str, Run]) -> Run:
    """Returns the runs as one whose networks are `run: network`, in the order given.

    Transitions are from a network of the first run to the network of the same name in each other run, and where a run
    has none of that name, from the first run's baseline.

    Args:
        runs: name to run, at least two.

    Raises:
        UsageError: the runs are of different benchmarks or radii, so that their inputs are not the same.
    """
    (first_name, first), *others = runs.items()
    for name, run in others:
        for key in ("benchmark", "eps"):
            if run.summary[key] != first.summary[key]:
                raise UsageError(
                    f"{name}: is of {key} {run.summary[key]}, {first_name} of {first.summary[key]}; "
                    "only runs over the same inputs can be compared"
                )
    rows = tuple(replace(row, variant=f"{name}: {row.variant}") for name, run in runs.items() for row in run.rows)
    blocks = {f"{name}: {v}": block for name, run in runs.items() for v, block in run.summary["variants"].items()}
    moves = []
    for name, run in others:
        for variant in run.summary["variants"]:
            source = variant if variant in first.summary["variants"] else first.summary["baseline"]
            if source is not None:
                moves.append(transition_json(transition(rows, f"{first_name}: {source}", f"{name}: {variant}")))
    summary = {**first.summary, **_header(runs), "variants": blocks, "transitions": moves}
    return Run(summary, rows, _details(runs))


def _header(runs: Mapping[str, Run]) -> dict[str, Any]:
    summaries = {name: run.summary for name, run in runs.items()}

    def joined(key: str) -> str:
        return "; ".join(dict.fromkeys(str(one[key]) for one in summaries.values() if one[key]))

    first = next(iter(summaries.values()))
    return {
        "title": f"{first['title'] or first['benchmark']}: {', '.join(runs)} compared",
        "titles": {f"{n}: {v}": f"{n}: {s['titles'].get(v) or v}" for n, s in summaries.items() for v in s["variants"]},
        "inputs": max(one["inputs"] for one in summaries.values()),
        "inputs_of": {
            f"{n}: {v}": s["inputs_of"].get(v, s["inputs"]) for n, s in summaries.items() for v in s["variants"]
        },
        "timeout_s": max(one["timeout_s"] for one in summaries.values()),
        "max_domains": first["max_domains"],
        "device": joined("device"),
        "tool": joined("tool"),
        "protocol": joined("protocol"),
        "seed": first["seed"] if len({one["seed"] for one in summaries.values()}) == 1 else None,
        "command": "\n".join(str(one["command"]) for one in summaries.values() if one["command"]),
        "started_at": min((str(one["started_at"]) for one in summaries.values()), default=""),
        "finished_at": max((str(one["finished_at"]) for one in summaries.values()), default=""),
        "complete": all(one["complete"] for one in summaries.values()),
        "conflicts": [conflict for one in summaries.values() for conflict in one["conflicts"]],
        "baseline": None if first["baseline"] is None else f"{next(iter(summaries))}: {first['baseline']}",
        "published": [
            {**row, "variant": f"{n}: {row['variant']}"} for n, s in summaries.items() for row in s["published"]
        ],
        "provenance": {name: one["provenance"] for name, one in summaries.items()},
        "runs": [{"name": name, **_of_run(one)} for name, one in summaries.items()],
    }


def _of_run(summary: Mapping[str, Any]) -> dict[str, Any]:
    names = ("device", "tool", "inputs", "timeout_s", "timeout_on", "max_domains", "seed", "started_at", "complete")
    return {name: summary[name] for name in names} | {"judging": judging_facts(summary)}


def _details(runs: Mapping[str, Run]) -> Details:
    return Details(
        {(f"{n}: {v}", k): m for n, run in runs.items() for (v, k), m in run.details.margins.items()},
        tuple(replace(s, variant=f"{n}: {s.variant}") for n, run in runs.items() for s in run.details.layers),
        {(f"{n}: {v}", k): x for n, run in runs.items() for (v, k), x in run.details.attacks.items()},
    )


def merge_transfers(transfers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Returns the transfers of all runs, their networks named as `merge_runs` names them.

    Args:
        transfers: name of the run to what was measured in it.
    """
    return [
        {**one, "from": f"{name}: {one['from']}", "to": f"{name}: {one['to']}"}
        for name, found in transfers.items()
        for one in found
    ]


def run_names(folders: Sequence[Path]) -> list[str]:
    """Returns a short name for each folder: its own, with those above it where two would be the same."""
    parts = [folder.resolve().parts for folder in folders]
    names = [part[-1] for part in parts]
    for depth in range(2, max(map(len, parts)) + 1):
        if len(set(names)) == len(names):
            break
        names = ["/".join(part[-depth:]) for part in parts]
    if len(set(names)) < len(names):
        raise UsageError("the same run is named twice; name each once")
    return names
