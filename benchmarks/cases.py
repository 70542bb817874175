"""What is measured: sets of labelled instances, each with the settings that its targets are stated for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config import REPOSITORY, find_spec
from harness.data.datasets import load_images
from harness.domain import Instance, Job, Limits, UsageError, Verdict
from harness.files import write_atomically
from harness.formats.compressed import read_text
from harness.formats.instances import read_instances
from harness.formats.vnnlib import robustness_box, write_robustness_property
from harness.judging.clean import clean_labels
from harness.workflow.folder import float_images


@dataclass(frozen=True, slots=True)
class Setting:
    """How a set is run when its targets are to be compared."""

    title: str
    folder: str
    """Below the folder of cases; for a benchmark of this repository its name."""
    timeout_s: float
    """Seconds of work an input (batch mode, as `lgbench run` does it)."""
    inputs: int
    benchmark: bool = False
    """Whether the instances are made from the repository's own networks and data instead of read."""


SETTINGS: Mapping[str, Setting] = {
    "cnn_a": Setting("SDP CIFAR CNN-A", "sdp_cifar_cnn_a", 60, 100),
    "acasxu": Setting("ACAS Xu", "acasxu", 116, 186),
    "mnistfc": Setting("MNIST fully connected", "mnistfc", 120, 90),
    "oval21": Setting("OVAL 21", "oval21", 120, 30),
    "cnnb": Setting("CIFAR-10 CNN-B, baseline", "cifar10_cnnb", 20, 50, benchmark=True),
}
"""Sets of instances by name, with the settings of the targets."""


@dataclass(frozen=True, slots=True)
class Case:
    """One instance and what is known of it."""

    job: Job
    label: Verdict | None
    """`sat` or `unsat`; None where nobody knows."""
    solved_before: bool
    """Whether the tool that the label's file was made with decided it."""


@dataclass(frozen=True, slots=True)
class CaseSet:
    """The cases that are run together, in order."""

    name: str
    setting: Setting
    cases: tuple[Case, ...]
    timeout_s: float
    skipped: int = 0
    """Inputs that are no cases because the network misclassifies them."""

    @property
    def full(self) -> bool:
        """Whether this is the set as its targets mean it, not a shorter version."""
        return len(self.cases) + self.skipped == self.setting.inputs and self.timeout_s == self.setting.timeout_s

    def by_network(self) -> Iterator[tuple[Path, list[Job]]]:
        """Yields each network with its jobs, in the order of first appearance."""
        groups: dict[Path, list[Job]] = {}
        for case in self.cases:
            groups.setdefault(case.job.instance.network, []).append(case.job)
        yield from groups.items()


def load_set(
    name: str, folder: Path, scratch: Path, *, limit: int | None = None, timeout_s: float | None = None
) -> CaseSet:
    """Returns a set of cases.

    Args:
        name: one of `SETTINGS`.
        folder: holds the public cases, one folder a set.
        scratch: where properties that have to be made are written.
        limit: only the first so many inputs.
        timeout_s: lowers the limit of each input.

    Raises:
        UsageError: files are missing or cannot be read.
    """
    setting = SETTINGS[name]
    seconds = setting.timeout_s if timeout_s is None else min(timeout_s, setting.timeout_s)
    count = setting.inputs if limit is None else min(limit, setting.inputs)
    if setting.benchmark:
        return _own(name, setting, scratch, count, seconds)
    place = folder / setting.folder
    rows = read_labels(read_text(place / "labels.csv"))
    cases = tuple(
        _case(instance, index, seconds, rows.get((instance.network_name, instance.property_name), {}))
        for index, instance in enumerate(read_instances(place / "instances.csv")[:count])
    )
    return CaseSet(name, setting, cases, seconds)


def read_labels(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """Returns the rows of a labels.csv by network and property, as written there."""
    return {(row["onnx"], row["vnnlib"]): row for row in csv.DictReader(io.StringIO(text))}


def _case(instance: Instance, index: int, timeout_s: float, row: Mapping[str, str]) -> Case:
    label = Verdict(row["label"]) if row.get("label") in ("sat", "unsat") else None
    answer = row.get("abcrown_2021", row.get("abcrown_status", ""))
    solved = answer in ("sat", "unsat") or answer.startswith(("safe", "unsafe"))
    return Case(_job(instance, instance.network.stem, index, timeout_s), label, solved)


def _job(instance: Instance, variant: str, index: int, timeout_s: float) -> Job:
    return Job(str(index), instance, variant, index, Limits(timeout_s, "work"))


def _own(name: str, setting: Setting, scratch: Path, count: int, timeout_s: float) -> CaseSet:
    """Makes the properties of the first test images that the repository's baseline classifies correctly."""
    spec = find_spec(setting.folder, (REPOSITORY,))
    network = spec.network_path(spec.baseline)
    images = load_images(spec.dataset, "test", None, count)
    pixels = float_images(images)
    labels = images.labels.tolist()
    found: Sequence[int] = clean_labels(network, pixels).tolist()
    cases = []
    for index, (image, label, clean) in enumerate(zip(pixels, labels, found, strict=True)):
        if clean == label:
            path = scratch / f"{name}_{index}.vnnlib"
            lower, upper = robustness_box(image.ravel(), spec.eps)
            write_atomically(path, write_robustness_property(lower, upper, label, spec.classes))
            job = _job(Instance(network, path, timeout_s), spec.baseline, index, timeout_s)
            cases.append(Case(job, None, False))
    return CaseSet(name, setting, tuple(cases), timeout_s, skipped=count - len(cases))


def check_names(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Returns the names, each once.

    Raises:
        UsageError: a name is not known.
    """
    for name in names:
        if name not in known:
            raise UsageError(f"there is no set '{name}'; choose from {', '.join(known)}")
    return tuple(dict.fromkeys(names))
