"""Sweep specifications: `specs/sweeps/<name>.yaml` as checked, frozen values, and the benchmark that a sweep becomes.

Every mistake in a file is a `UsageError` with the file, the line, the key and what is allowed there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from harness.config import (
    REPOSITORY,
    BenchmarkSpec,
    Heuristic,
    Name,
    Number,
    Ranking,
    RelativePath,
    VariantSpec,
    load_document,
)
from harness.domain import UsageError

SWEEP_FOLDER = "specs/sweeps"
"""Where known sweeps stand below a root."""


def _gamma(value: object) -> object:
    return math.inf if value in ("inf", ".inf") else value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"'{value}' stands twice; name each value once")
    return values


Gamma = Annotated[float, Field(ge=0), BeforeValidator(_gamma)]
"""Weight of instability in one stage; `inf` is instability alone."""
_Axis = AfterValidator(_distinct)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GridSpec(_Frozen):
    """The axes; the points are all combinations, the last axis running fastest."""

    heuristic: Annotated[tuple[Heuristic, ...], _Axis] = Field(min_length=1)
    ranking: Annotated[tuple[Ranking, ...], _Axis] = Field(min_length=1)
    instability_ranking: Annotated[tuple[Ranking | Literal["same"], ...], _Axis] = Field(("same",), min_length=1)
    gammas: Annotated[tuple[Annotated[tuple[Gamma, ...], Field(min_length=1)], ...], _Axis] = ()
    """Lists of gammas, one a stage; empty: the benchmark's list."""
    ratio: Annotated[tuple[Annotated[Number, Field(gt=0, le=1)], ...], _Axis] = ()
    """Shares of neurons; empty: the benchmark's."""
    scope: Annotated[tuple[Literal["network", "layer"], ...], _Axis] = Field(("network",), min_length=1)
    """Whether the share is of the whole network or of each layer."""
    method: Annotated[tuple[Literal["graft", "prune"], ...], _Axis] = Field(("graft",), min_length=1)
    """`prune`: slope and intercept are 0 and stay so."""
    retrain: Annotated[tuple[bool, ...], _Axis] = Field((True,), min_length=1)
    """Whether the weights are retrained."""
    seed: Annotated[tuple[int, ...], _Axis] = ()
    """Of fine-tuning (and of the heuristic `random`); empty: the benchmark's training seed."""


class SweepTrainingSpec(_Frozen):
    """Fine-tuning of each point; what is left out is the benchmark's."""

    epochs: int | None = Field(default=None, gt=0)
    lr: Annotated[Number, Field(ge=0)] | None = None
    """Peak learning rate of retrained weights."""
    graft_lr: Annotated[Number, Field(gt=0)] | None = None
    """Peak learning rate of slopes and intercepts."""
    train_images: int | None = Field(default=None, ge=2)
    """The first N training images and the first N held-out ones; for trials."""
    test_images: int | None = Field(default=None, ge=1)
    """SA and RA are measured on the first N test images; else on all."""


class SweepScoresSpec(_Frozen):
    """Where scores come from: a file, or the benchmark's own, computed where they are missing."""

    file: RelativePath | None = None
    """Score file of the baseline, relative to the sweep's root."""
    images: int | None = Field(default=None, ge=2)
    instability_inputs: int | None = Field(default=None, gt=0)


class SweepVerificationSpec(_Frozen):
    """How much of each network is verified."""

    inputs: int = Field(gt=0)
    timeout_s: Number = Field(gt=0)
    """Seconds an input."""
    max_domains: int | None = Field(default=None, ge=0)
    """Bound on domains; with a generous `timeout_s` the results do not depend on the machine's speed."""


class SweepSpec(_Frozen):
    """A grid of grafted networks; read from `specs/sweeps/<name>.yaml` by `load_sweep`."""

    name: Name
    title: str
    benchmark: str
    """The base benchmark: a known name, or a file relative to the sweep's root."""
    grid: GridSpec
    training: SweepTrainingSpec = SweepTrainingSpec()
    scores: SweepScoresSpec = SweepScoresSpec()
    verification: SweepVerificationSpec
    baseline: bool = True
    """Whether the network before grafting is verified too."""

    _root: Path = Path()
    _source: Path = Path()

    @model_validator(mode="after")
    def _located(self, info: ValidationInfo) -> Self:
        if isinstance(info.context, dict):
            self._root, self._source = info.context["root"], info.context["source"]
        return self

    @property
    def root(self) -> Path:
        """The folder that paths in the file are relative to."""
        return self._root

    @property
    def source(self) -> Path:
        """The file that the sweep was read from."""
        return self._source


def find_sweep(name_or_path: str, roots: Sequence[Path] | None = None) -> SweepSpec:
    """Returns the checked specification of a known sweep, or of a file that is named.

    Args:
        name_or_path: a sweep's name, or a YAML file.
        roots: folders whose `specs/sweeps/` are searched; None: the current folder, then this repository.

    Raises:
        UsageError: no such sweep (the message lists the known ones), or its file has a mistake.
    """
    searched = (Path.cwd(), REPOSITORY) if roots is None else tuple(roots)
    for root in searched:
        candidate = root / SWEEP_FOLDER / f"{name_or_path}.yaml"
        if "/" not in name_or_path and candidate.is_file():
            return load_sweep(candidate)
    if Path(name_or_path).is_file():
        return load_sweep(Path(name_or_path))
    known = sorted({path.stem for root in searched for path in (root / SWEEP_FOLDER).glob("*.yaml")})
    raise UsageError(
        f"there is no sweep '{name_or_path}'; known: {', '.join(known) or 'none'}; or name a YAML file with a sweep"
    )


def load_sweep(path: Path) -> SweepSpec:
    """Returns the checked specification of one file.

    Paths in a file at `<root>/specs/sweeps/<name>.yaml` are relative to `<root>`, in any other to its own folder.

    Raises:
        UsageError: the file cannot be read, is no YAML, or has a wrong, missing or unknown key; with its line.
    """
    folder = path.resolve().parent
    root = folder.parent.parent if folder.as_posix().endswith(f"/{SWEEP_FOLDER}") else folder
    return load_document(path, SweepSpec, {"source": path, "root": root})


def sweep_benchmark(
    sweep: SweepSpec, base: BenchmarkSpec, titles: Mapping[str, str], networks: Mapping[str, str], root: Path
) -> BenchmarkSpec:
    """Returns the sweep as a benchmark: a variant for each network, the base benchmark's data set and radius.

    Args:
        sweep: gives name, title and limits.
        base: gives everything else.
        titles: variant to its name in tables; the first variant is the one that transitions start from.
        networks: variant to its ONNX file, relative to `root`; several may share a file.
        root: folder of the networks.
    """
    size = {"inputs": sweep.verification.inputs, "timeout_s": sweep.verification.timeout_s}
    variants = [VariantSpec(name=name, title=titles[name], network=networks[name]) for name in titles]
    fields = {
        "name": sweep.name,
        "title": sweep.title,
        "dataset": base.dataset,
        "architecture": base.architecture,
        "input_shape": base.input_shape,
        "classes": base.classes,
        "eps": base.eps,
        "seed": base.seed,
        "baseline": variants[0].name,
        "protocols": {"full": size, "cpu": size},
        "variants": [variant.model_dump() for variant in variants],
    }
    return BenchmarkSpec.model_validate(fields, context={"root": root, "source": sweep.source})
