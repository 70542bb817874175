"""The run in three sentences, made from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.sets import SET_ORDER
from harness.analysis.study import Analysis
from harness.domain import ResultSet, plural
from harness.report.tables import conditions, planned_inputs, title_of

_VS, _VF = (SET_ORDER.index(name) for name in (ResultSet.VS, ResultSet.VF))


def sentences(summary: Mapping[str, Any], study: Analysis) -> list[str]:
    """Returns at most three sentences: what was decided, what grafting did to VA, and where that came from.

    Of several runs: what was decided, and whether networks of one name differ in VA.

    Args:
        summary: the content of `summary.json`.
        study: the analysis of the same results; whether a difference may be chance is taken from there.
    """
    if "runs" in summary:
        return [_decided(summary), *_differences(summary, study)]
    return [text for text in (_decided(summary), _verified(summary, study), _origin(summary)) if text]


def percent(value: float | None, digits: int = 1) -> str:
    """Returns a percentage for readers; a hyphen where there is none."""
    return "-" if value is None else f"{value:.{digits}f} %"


def inputs_in_words(summary: Mapping[str, Any]) -> str:
    """Returns how many inputs the run planned for how many networks."""
    networks = plural(len(summary["variants"]), "network")
    if summary["inputs_of"]:
        return f"{sum(planned_inputs(summary, name) for name in summary['variants'])} in all for {networks}"
    return f"{plural(summary['inputs'], 'input')} for {'each of ' if len(summary['variants']) > 1 else ''}{networks}"


def _decided(summary: Mapping[str, Any]) -> str:
    blocks = summary["variants"].values()
    planned = sum(planned_inputs(summary, name) for name in summary["variants"])
    present = planned - sum(block["missing"] for block in blocks)
    undecided = sum(block["sets"][ResultSet.VF] for block in blocks)
    errors = sum(block["errors"] for block in blocks)
    text = f"{present - undecided} of {plural(planned, 'instance')} were decided ({inputs_in_words(summary)}), "
    text += f"{undecided} {'was' if undecided == 1 else 'were'} not"
    if errors:
        text += f", {errors} of them by an error"
    if present < planned:
        text += f", and {lacking(summary, planned - present)}"
    return text + "."


def lacking(summary: Mapping[str, Any], count: int) -> str:
    """Returns in words that so many inputs lack a result: a run may still find it, published results have none."""
    what = "no record" if summary.get("golden") else "no result yet"
    return f"{count} {'has' if count == 1 else 'have'} {what}"


def _best(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the transition to the network with the highest VA; the first of equals, None without a comparison.

    VA is taken over the inputs that both networks have a result of: of a run that goes on, one network has fewer.
    """
    shared = [moved for moved in summary["transitions"] if moved["inputs"]] or summary["transitions"]
    return max(shared, key=lambda moved: _now_verified(moved) / max(moved["inputs"], 1), default=None)


def _now_verified(moved: Mapping[str, Any]) -> int:
    return sum(row[_VS] for row in moved["matrix"])


def _verified(summary: Mapping[str, Any], study: Analysis) -> str:
    blocks, moved = summary["variants"], _best(summary)
    if moved is None:
        proved, refuted = (sum(block["sets"][name] for block in blocks.values()) for name in ("VS", "AT"))
        return f"{proved} were proved, and {refuted} have a replayed counterexample."
    best, baseline = moved["to"], moved["from"]
    several = len(blocks) > 2
    if not summary.get("golden") and (blocks[best]["missing"] or blocks[baseline]["missing"]):
        return _so_far(title_of(summary, best), moved, _judged(study, baseline, best), several=several)
    same = [
        title_of(summary, other["to"])
        for other in summary["transitions"]
        if other is not moved and blocks[other["to"]]["VA"] == blocks[best]["VA"]
    ]
    equals = f" (the same as {'; '.join(same)})" if same else ""
    claim = (
        f"has the highest verified accuracy of the grafted networks{equals}:"
        if several
        else "has a verified accuracy of"
    )
    return (
        f"{title_of(summary, best)} {claim} {percent(blocks[best]['VA'])} against {percent(blocks[baseline]['VA'])} "
        f"of the baseline; {_judged(study, baseline, best)}."
    )


def _so_far(title: str, moved: Mapping[str, Any], judged: str, *, several: bool) -> str:
    """Returns the sentence of a run that goes on: VA over all its inputs would count the open ones as not proved."""
    if not moved["inputs"]:
        return "No input has a result under the baseline and under a grafted network yet."
    best = f"{title}, so far the best of the grafted networks," if several else title
    return (
        f"{best} is verified on {_now_verified(moved)} of the {plural(moved['inputs'], 'input')} that it and the "
        f"baseline have results of, the baseline on {sum(moved['matrix'][_VS])}; {judged}."
    )


def _judged(study: Analysis, source: str, target: str) -> str:
    """Returns what was gained and lost in verified inputs, and whether that may be chance."""
    pair = study.pair(source, target)
    paired = pair.difference("VA")
    if paired is None:
        lost, gained = pair.transition.discordant(ResultSet.VS)
        return f"{plural(gained, 'input')} gained, {lost} lost"
    text = f"{plural(paired.gained, 'input')} gained, {paired.lost} lost: {paired.words}"
    if paired.lost + paired.gained:
        text += " by McNemar's exact test"
        text += f", adjusted for {len(study.pairs)} comparisons" if len(study.pairs) > 1 else ""
    return text


def _differences(summary: Mapping[str, Any], study: Analysis) -> list[str]:
    """Returns the largest difference in verified inputs between a run and the first one, and how many are noise."""
    found = [one for pair in study.pairs if (one := pair.difference("VA")) is not None]
    if not found:
        return []
    clearest = min(found, key=lambda one: one.p)
    noise = sum(one.noise for one in found)
    text = f"from {title_of(summary, clearest.source)} to {title_of(summary, clearest.target)}"
    text = f"The clearest difference in verified inputs is {text}: {_judged(study, clearest.source, clearest.target)}."
    differ = f"{plural(len(found), 'compared pair')} of networks differ{'s' if noise == 1 else ''}"
    return [text, f"{noise} of {differ} within noise at the 5 % level."]


def _origin(summary: Mapping[str, Any]) -> str:
    moved = _best(summary)
    if moved is None or not moved["inputs"]:
        return ""
    matrix = moved["matrix"]
    failed, verified = sum(matrix[_VF]), sum(matrix[_VS])
    before, after = (summary["variants"][moved[end]] for end in ("from", "to"))
    text = (
        f"With it {matrix[_VF][_VS]} of the baseline's {plural(failed, 'failure')} are verified and "
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
