"""A stored result as its readers see it: everything that analysis needs, without blobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.domain import Job, Limits, ResultSet, Stage, Verdict, WitnessCheck, WitnessVerdict
from harness.judging.conflicts import Claim

Place = tuple[str, str, int]
"""Key, variant and index: what identifies a row. A list may hold one key several times, as several rows."""


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One row of the store; arrays are fetched by key with `Store.counterexample` and `Store.record`."""

    key: str
    """The job's key."""
    variant: str
    index: int
    network_name: str
    """Column 1 of instances.csv, or the file's name."""
    network_sha256: str
    property_name: str
    """Column 2 of instances.csv, or the file's name."""
    property_sha256: str
    tool: str
    """Name of the run's tool."""
    timeout_s: float
    """Seconds."""
    timeout_on: str
    """`work` or `wall`."""
    max_domains: int | None
    verdict: Verdict
    """The judged verdict."""
    tool_verdict: Verdict | None
    """The tool's own word; None where no tool was asked."""
    stage: Stage | None
    result_set: ResultSet
    wall_s: float
    """Seconds from handing the instance over to the answer."""
    work_s: float
    """Seconds: the instance's share of the batches it sat in."""
    message: str
    witness: WitnessCheck | None
    """The replay; None where no counterexample was claimed."""
    domains: int
    """Branch-and-bound domains; 0 where the tool does not say."""
    entered_bab: bool
    """Whether root bounds left the instance open; False where the tool does not say."""
    neurons: int
    """Activation neurons, grafted ones included; 0 where the tool does not say."""
    unstable: int | None
    """Neurons unstable at the root, grafted ones included; None where no mask was recorded."""
    unstable_nonlinear: int | None
    """The same without grafted neurons; None where no mask was recorded."""
    finished_at: str
    """ISO 8601, UTC."""
    prepare_s: float = 0.0
    """Seconds of preparation, which no limit counts; 0 for a tool that has none."""

    @property
    def place(self) -> Place:
        """What tells the result from every other: its key, variant and index."""
        return self.key, self.variant, self.index

    @property
    def final(self) -> bool:
        """Whether a resumed run leaves the result as it is: every verdict but `error`."""
        return self.verdict is not Verdict.ERROR

    @property
    def claim(self) -> Claim:
        """What the result asserts of its network and property, for `harness.judging.conflicts`."""
        return Claim(self.network_sha256, self.property_sha256, self.tool, self.tool_verdict, self.witness)


def job_place(job: Job) -> Place:
    """Returns the place of a job's row."""
    return job.key, job.variant, job.index


ROW_COLUMNS = (
    "key",
    "variant",
    "idx",
    "network",
    "network_sha256",
    "property",
    "property_sha256",
    "tool",
    "timeout_s",
    "timeout_on",
    "max_domains",
    "verdict",
    "tool_verdict",
    "stage",
    "result_set",
    "wall_s",
    "work_s",
    "prepare_s",
    "message",
    "witness_verdict",
    "witness_message",
    "domains",
    "entered_bab",
    "neurons",
    "unstable",
    "unstable_nonlinear",
    "finished_at",
)
"""The columns that `row_to_result` takes, in its order."""

_TEXTS = ("key", "variant", "network", "network_sha256", "property", "property_sha256", "tool", "timeout_on")
_KINDS: dict[str, Any] = {
    **dict.fromkeys((*_TEXTS, "verdict", "result_set", "message", "finished_at"), str),
    **dict.fromkeys(("timeout_s", "wall_s", "work_s", "prepare_s"), int | float),
    **dict.fromkeys(("max_domains", "domains", "entered_bab", "neurons", "unstable", "unstable_nonlinear"), int | None),
    "idx": int,
}
"""What may stand in a column; text or nothing in those that are not named."""


def row_to_result(row: Sequence[Any]) -> StoredResult:
    """Returns the stored result of a database row with the columns `ROW_COLUMNS`.

    Raises:
        ValueError: a word in the row is not one that this version knows, or a value is not of its column's kind, as
            somebody else may have written it.
    """
    raw = dict(zip(ROW_COLUMNS, row, strict=True))
    for name, value in raw.items():
        if not isinstance(value, _KINDS.get(name, str | None)):
            raise ValueError(f"{name} is {value!r}")
    Limits(raw["timeout_s"], raw["timeout_on"], raw["max_domains"])
    witness = raw.pop("witness_verdict")
    message = raw.pop("witness_message")
    renamed = {"index": raw.pop("idx"), "network_name": raw.pop("network"), "property_name": raw.pop("property")}
    return StoredResult(
        **raw
        | renamed
        | {
            "verdict": Verdict(raw["verdict"]),
            "tool_verdict": None if raw["tool_verdict"] is None else Verdict(raw["tool_verdict"]),
            "stage": None if raw["stage"] is None else Stage(raw["stage"]),
            "result_set": ResultSet(raw["result_set"]),
            "witness": None if witness is None else WitnessCheck(WitnessVerdict(witness), message or ""),
            "domains": raw["domains"] or 0,
            "entered_bab": bool(raw["entered_bab"]),
            "neurons": raw["neurons"] or 0,
        }
    )
