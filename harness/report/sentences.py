"""The run in three sentences, made from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.sets import SET_ORDER
from harness.domain import ResultSet
from harness.report.tables import conditions, paired_table, planned_inputs, title_of

_VS, _VF = (SET_ORDER.index(name) for name in (ResultSet.VS, ResultSet.VF))


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """Returns at most three sentences: what was decided, what grafting did to VA, and where that came from.

    Of several runs: what was decided, and whether networks of one name differ in VA.
    """
    if "runs" in summary:
        return [_decided(summary), *_differences(summary)]
    return [text for text in (_decided(summary), _verified(summary), _origin(summary)) if text]


def percent(value: float | None, digits: int = 1) -> str:
    """Returns a percentage for readers; a hyphen where there is none."""
    return "-" if value is None else f"{value:.{digits}f} %"


def inputs_in_words(summary: Mapping[str, Any]) -> str:
    """Returns how many inputs the run planned for how many networks."""
    networks = _plural(len(summary["variants"]), "network")
    if summary["inputs_of"]:
        return f"{sum(planned_inputs(summary, name) for name in summary['variants'])} in all for {networks}"
    return f"{_plural(summary['inputs'], 'input')} for {'each of ' if len(summary['variants']) > 1 else ''}{networks}"


def _decided(summary: Mapping[str, Any]) -> str:
    blocks = summary["variants"].values()
    planned = sum(planned_inputs(summary, name) for name in summary["variants"])
    present = planned - sum(block["missing"] for block in blocks)
    undecided = sum(block["sets"][ResultSet.VF] for block in blocks)
    errors = sum(block["errors"] for block in blocks)
    text = f"{present - undecided} of {_plural(planned, 'instance')} were decided ({inputs_in_words(summary)}), "
    text += f"{undecided} were not"
    if errors:
        text += f", {errors} of them by an error"
    if present < planned:
        text += f", and {planned - present} have no result yet"
    return text + "."


def _best(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the transition to the network with the highest VA; the first of equals, None without a comparison."""
    blocks = summary["variants"]
    return max(summary["transitions"], key=lambda moved: float(blocks[moved["to"]]["VA"]), default=None)


def _verified(summary: Mapping[str, Any]) -> str:
    blocks, moved = summary["variants"], _best(summary)
    if moved is None:
        proved, refuted = (sum(block["sets"][name] for block in blocks.values()) for name in ("VS", "AT"))
        return f"{proved} were proved, and {refuted} have a replayed counterexample."
    best, baseline = moved["to"], moved["from"]
    paired = paired_table(summary)[summary["transitions"].index(moved)]
    text = (
        f"{title_of(summary, best)} has the highest verified accuracy of the grafted networks: "
        f"{percent(blocks[best]['VA'])} against {percent(blocks[baseline]['VA'])} of the baseline; "
        f"{_plural(paired.gained, 'input')} gained, {paired.lost} lost"
    )
    judged = "which is within noise" if paired.noise else "which is more than noise"
    return f"{text}, {judged} (McNemar's exact test, p = {paired.p:.2g})."


def _differences(summary: Mapping[str, Any]) -> list[str]:
    """Returns the largest difference in verified inputs between a run and the first one, and how many are noise."""
    pairs = list(zip(summary["transitions"], paired_table(summary), strict=True))
    if not pairs:
        return []
    moved, largest = min(pairs, key=lambda pair: pair[1].p)
    noise = sum(paired.noise for _, paired in pairs)
    text = (
        f"The clearest difference in verified inputs is from {title_of(summary, moved['from'])} to "
        f"{title_of(summary, moved['to'])}: {largest.gained} gained, {largest.lost} lost "
        f"(McNemar's exact test, p = {largest.p:.2g})."
    )
    return [
        text,
        f"{noise} of {_plural(len(pairs), 'compared pair')} of networks differ within noise at the 5 % level.",
    ]


def _origin(summary: Mapping[str, Any]) -> str:
    moved = _best(summary)
    if moved is None or not moved["inputs"]:
        return ""
    matrix = moved["matrix"]
    failed, verified = sum(matrix[_VF]), sum(matrix[_VS])
    before, after = (summary["variants"][moved[end]] for end in ("from", "to"))
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
