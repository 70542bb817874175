"""What the runner and its cluster driver say to each other: one JSON object a line.

The runner sends `tool` (what decides), then `jobs` with their number and that many lines of jobs. The driver tells
`cluster` (what the cluster offers) at its start, `ready` or `refused` after `tool`, and after `jobs` any number of
`answer`, `progress` and `note` events until `done` or `lost`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.domain import Instance, Job, Limits, ToolAnswer
from harness.formats.engine_protocol import decode_answer, encode_answer
from harness.run.dispatch import ChunkSizes
from harness.run.machine import Machine
from harness.tools.registry import ToolOptions
from harness.tools.supervise import ToolBounds


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """How a run uses a Ray cluster."""

    address: str | None = None
    """`host:port` of the cluster's head; None: RAY_ADDRESS, else the one that runs on this machine, else a new one."""
    job_cores: int | None = None
    """Processor cores of one worker; None: two, or all of a node that has fewer."""
    chunk: int | None = None
    """The most jobs that a worker gets at once; None: what suits the device."""

    def __post_init__(self) -> None:
        for name, value in (("cores of a job", self.job_cores), ("jobs of a chunk", self.chunk)):
            if value is not None and value < 1:
                raise ValueError(f"the number of {name} has to be positive, not {value}")

    def to_json(self) -> str:
        """Returns the settings as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ClusterSettings:
        """Returns the settings that `to_json` wrote."""
        return cls(**json.loads(text))

    def chunk_sizes(self, *, batched: bool, device: str) -> ChunkSizes:
        """Returns the sizes of chunks for a tool on a device."""
        # A GPU's batches are wider than a processor's, and starting on another network costs it more.
        least, most = (8, 256) if device == "cuda" else (2, 32)
        if not batched:
            least, most = 1, 8
        if self.chunk is not None:
            most = self.chunk
        return ChunkSizes(min(least, most), most)


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A verifier as every node makes it for itself; it has to be installed there."""

    name: str
    """As `--tool` takes it."""
    options: ToolOptions
    """Logs and the receiver of progress are the node's own."""
    identity: str
    """What `Tool.identity()` has to return on each node."""
    batched: bool
    jobs: int = 1
    """How many jobs it will be given, at most."""

    def to_json(self) -> dict[str, Any]:
        """Returns the tool as JSON values."""
        options = self.options
        return {
            "name": self.name,
            "identity": self.identity,
            "batched": self.batched,
            "jobs": self.jobs,
            "device": options.device,
            "seed": options.seed,
            "arithmetic": options.arithmetic,
            "category": options.category,
            "folder": None if options.folder is None else str(options.folder),
            "bounds": options.bounds.words(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RemoteTool:
        """Returns the tool that `to_json` wrote; where its logs go is for the node to say."""
        bounds = raw["bounds"]
        options = ToolOptions(
            log_dir=Path(),
            device=raw["device"],
            seed=raw["seed"],
            arithmetic=raw["arithmetic"],
            category=raw["category"],
            folder=None if raw["folder"] is None else Path(raw["folder"]),
            bounds=ToolBounds(bounds["memory_gib"], bounds["cores"], bounds["cpu_s"]),
        )
        return cls(raw["name"], options, raw["identity"], raw["batched"], raw["jobs"])


@dataclass(frozen=True, slots=True)
class ClusterOffer:
    """What a cluster offers a run."""

    machine: Machine
    """Of a node that jobs will run on, with the GPUs that one job sees."""
    nodes: int
    """Nodes that are alive."""
    workers: int
    """Workers that fit on them."""

    def to_json(self) -> dict[str, Any]:
        """Returns the offer as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> ClusterOffer:
        """Returns the offer that `to_json` wrote."""
        machine = raw["machine"]
        own = Machine(tuple(machine["gpus"]), machine["torch_cuda"], machine["cores"])
        return cls(own, raw["nodes"], raw["workers"])


def encode_job(job: Job) -> str:
    """Returns a job as one line, with its line end; its files are named by absolute paths."""
    instance = job.instance
    return (
        json.dumps(
            {
                "key": job.key,
                "network": str(instance.network.absolute()),
                "property": str(instance.property.absolute()),
                "timeout_s": instance.timeout_s,
                "network_name": instance.network_name,
                "property_name": instance.property_name,
                "variant": job.variant,
                "index": job.index,
                "limits": asdict(job.limits),
                "network_sha256": job.network_sha256,
                "property_sha256": job.property_sha256,
            }
        )
        + "\n"
    )


def decode_job(line: str) -> Job:
    """Returns the job of one line."""
    raw = json.loads(line)
    files = Path(raw["network"]), Path(raw["property"])
    instance = Instance(*files, raw["timeout_s"], raw["network_name"], raw["property_name"])
    limits, hashes = Limits(**raw["limits"]), (raw["network_sha256"], raw["property_sha256"])
    return Job(raw["key"], instance, raw["variant"], raw["index"], limits, *hashes)


def encode_said(key: str, answer: ToolAnswer) -> dict[str, Any]:
    """Returns the `answer` event of a job, with the counterexample as the tool wrote it."""
    return encode_answer(key, answer) | {"witness_text": answer.witness_text}


def decode_said(event: Mapping[str, Any]) -> tuple[str, ToolAnswer]:
    """Returns job key and answer of an `answer` event.

    Raises:
        KeyError, ValueError: the event is not well-formed.
    """
    key, answer = decode_answer(event)
    return key, replace(answer, witness_text=event["witness_text"])
