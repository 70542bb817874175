"""The run in three sentences, made from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.sets import SET_ORDER
from harness.domain import ResultSet
from harness.report.tables import conditions, paired_table, title_of

_VS, _VF = (SET_ORDER.index(name) for name in (ResultSet.VS, ResultSet.VF))


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """Returns at most three sentences: what was decided, what grafting did to VA, and where that came from."""
    return [text for text in (_decided(summary), _verified(summary), _origin(summary)) if text]


def percent(value: float | None, digits: int = 1) -> str:
    """Returns a percentage for readers; a hyphen where there is none."""
    return "-" if value is None else f"{value:.{digits}f} %"


def _decided(summary: Mapping[str, Any]) -> str:
    blocks = summary["variants"].values()
    planned = summary["inputs"] * len(blocks)
    present = planned - sum(block["missing"] for block in blocks)
    undecided = sum(block["sets"][ResultSet.VF] for block in blocks)
    errors = sum(block["errors"] for block in blocks)
    text = f"{present - undecided} of {planned} instances were decided ({_plural(len(blocks), 'network')} on "
    text += f"{_plural(summary['inputs'], 'input')}), {undecided} were not"
    if errors:
        text += f", {errors} of them by an error"
    if present < planned:
        text += f", and {planned - present} have no result yet"
    return text + "."


def _verified(summary: Mapping[str, Any]) -> str:
    blocks, baseline = summary["variants"], summary.get("baseline")
    others = [name for name in blocks if name != baseline]
    if baseline not in blocks or not others:
        return "".join(
            f"{title_of(summary, name)} is proved robust on {percent(block['VA'])} of its inputs."
            for name, block in list(blocks.items())[:1]
        )
    best = max(others, key=lambda name: float(blocks[name]["VA"] or 0))
    paired = paired_table(summary)[[moved["to"] for moved in summary["transitions"]].index(best)]
    text = (
        f"{title_of(summary, best)} has the highest verified accuracy of the grafted networks: "
        f"{percent(blocks[best]['VA'])} against {percent(blocks[baseline]['VA'])} of the baseline; "
        f"{_plural(paired.gained, 'input')} gained, {paired.lost} lost"
    )
    judged = "which is within noise" if paired.noise else "which is more than noise"
    return f"{text}, {judged} (McNemar's exact test, p = {paired.p:.2g})."


def _origin(summary: Mapping[str, Any]) -> str:
    moves = [moved for moved in summary["transitions"] if moved["inputs"]]
    if not moves:
        return ""
    blocks, baseline = summary["variants"], summary["baseline"]
    best = max(moves, key=lambda moved: float(blocks[moved["to"]]["VA"] or 0))
    matrix = best["matrix"]
    failed, verified = sum(matrix[_VF]), sum(matrix[_VS])
    before, after = blocks[baseline], blocks[best["to"]]
    text = (
        f"With it {matrix[_VF][_VS]} of the baseline's {_plural(failed, 'failure')} are verified and "
        f"{matrix[_VS][_VS]} of its {verified} verified inputs stay so"
    )
    clauses = [clause for clause in (_accuracy_change(before, after), _unstable_change(before, after)) if clause]
    return f"{text}{', while ' if clauses else ''}{' and '.join(clauses)}."


def _accuracy_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Returns how SA changed, where both figures were measured on the same inputs."""
    if before["SA"] is None or after["SA"] is None:
        return ""
    if before["measured"]["SA"] != after["measured"]["SA"]:
        return ""
    where = conditions(before["measured"]["SA"], "SA")
    return f"standard accuracy ({where}) goes from {percent(before['SA'])} to {percent(after['SA'])}"


def _unstable_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if before["UNR_nonlinear"] is None or after["UNR_nonlinear"] is None:
        return ""
    return (
        "the share of neurons that are unstable and not linear from "
        f"{percent(before['UNR_nonlinear'])} to {percent(after['UNR_nonlinear'])}"
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
