"""Benchmark specifications: `specs/<name>/benchmark.yaml` as checked, frozen values.

Every mistake in a file is a `UsageError` with the file, the line, the key and what is allowed there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from harness.domain import UsageError

SPEC_FILE = "benchmark.yaml"
REPOSITORY = Path(__file__).resolve().parent.parent
"""The checkout that this package stands in; its `specs/` and `models/` are found from any folder."""


def _number(value: object) -> object:
    if isinstance(value, str):
        numerator, _, denominator = value.partition("/")
        try:
            value = float(numerator) / float(denominator or 1)
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"'{value}' is neither a number nor a fraction such as 2/255") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number is needed")
    return value


def _relative(value: object) -> object:
    if not isinstance(value, str):
        return value  # pydantic says what it has to be
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not value.isprintable():
        raise ValueError("the path must be relative to the repository and stay inside it")
    return value


Number = Annotated[float, BeforeValidator(_number)]
"""A finite number; in the file also a fraction such as `2/255`."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
"""Letters, digits, `_` and `-`: it becomes part of file names."""
RelativePath = Annotated[str, Field(min_length=1), BeforeValidator(_relative)]
Percent = Annotated[float, Field(ge=0, le=100)]
Heuristic = Literal["GAP", "SAP", "VAP", "gradient", "magnitude", "variance", "product", "hydra", "random"]
"""The thesis' short names, and the names of score files."""
Ranking = Literal["min", "norank", "dense", "ordinal"]
ScheduleName = Literal["multistep", "cosine", "onecycle", "piecewise"]


Model = TypeVar("Model", bound=BaseModel)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProtocolSpec(_Frozen):
    """How much of a benchmark runs: the first `inputs` test images, each under one time limit."""

    inputs: int = Field(gt=0)
    timeout_s: Number = Field(gt=0)
    """Seconds an input."""


class ProtocolsSpec(_Frozen):
    """The two sizes of a benchmark."""

    full: ProtocolSpec
    """The published protocol; needs a GPU or days."""
    cpu: ProtocolSpec
    """What finishes in about ten minutes on two cores."""


class GraftSpec(_Frozen):
    """How one variant's mask was chosen and whether its weights were retrained."""

    heuristic: Heuristic
    ranking: Ranking
    retrain: bool


class VariantSpec(_Frozen):
    """One network of a benchmark."""

    name: Name
    title: str
    network: RelativePath
    """ONNX file, relative to the benchmark's root."""
    parent: Name | None = None
    """The variant that it was made from."""
    graft: GraftSpec | None = None


class PublishedSpec(_Frozen):
    """Figures that others printed for what corresponds to one of our variants; percent, None where not printed."""

    variant: Name
    source: str
    SA: Percent | None = None
    RA: Percent | None = None
    VA: Percent | None = None
    UNR: Percent | None = None
    note: str = ""


class EpochsSpec(_Frozen):
    """Length and learning-rate schedule of one training run."""

    epochs: int = Field(gt=0)
    schedule: ScheduleName
    knots: tuple[tuple[Number, Number], ...] = ()
    """Of a piecewise schedule: epoch, and what the learning rate is multiplied by there."""


class TrainingSpec(_Frozen):
    """Fast adversarial training of the baseline, and what fine-tuning shares with it."""

    eps: Number = Field(gt=0)
    alpha: Number = Field(gt=0)
    """Step of the training example."""
    batch_size: int = Field(128, gt=0)
    lr: Number = Field(0.1, gt=0)
    momentum: Number = Field(0.9, ge=0, lt=1)
    weight_decay: Number = Field(5e-4, ge=0)
    gradalign: Number = Field(0.2, ge=0)
    augment: bool = True
    seed: int = 1
    full: EpochsSpec
    short: EpochsSpec
    """For a machine without a GPU."""


class GraftingSpec(_Frozen):
    """Selection of the grafted neurons, and fine-tuning afterwards."""

    ratio: Number = Field(0.5, gt=0, le=1)
    """Share of all neurons that become linear."""
    gammas: tuple[Annotated[Number, Field(ge=0)], ...] = Field((2.0, 1.5, 1.0, 0.0), min_length=1)
    """Weight of instability against significance, one a stage."""
    slope: Number = 0.4
    intercept: Number = 0.0
    lr: Number = Field(1e-3, ge=0)
    """Peak learning rate of retrained weights."""
    graft_lr: Number = Field(0.1, gt=0)
    """Peak learning rate of slopes and intercepts."""
    score_images: int = Field(1000, gt=0)
    instability_inputs: int = Field(200, gt=0)
    full: EpochsSpec
    short: EpochsSpec


class BenchmarkSpec(_Frozen):
    """What a benchmark is; read from `specs/<name>/benchmark.yaml` by `load_spec`."""

    name: Name
    title: str
    dataset: Literal["cifar10", "mnist"]
    architecture: str
    input_shape: tuple[Annotated[int, Field(gt=0)], ...] = Field(min_length=1)
    """Shape of one input without the batch, e.g. (3, 32, 32)."""
    classes: int = Field(ge=2)
    eps: Number = Field(gt=0, le=1)
    """Radius of the l-infinity ball, on images in [0, 1]."""
    seed: int = Field(0, ge=0)
    baseline: Name
    protocols: ProtocolsSpec
    variants: tuple[VariantSpec, ...] = Field(min_length=1)
    """In the order of tables."""
    published: tuple[PublishedSpec, ...] = ()
    training: TrainingSpec | None = None
    grafting: GraftingSpec | None = None

    _root: Path = Path()
    _source: Path = Path(SPEC_FILE)

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        names = self.variant_names
        known = f"the variants are {', '.join(names)}"
        if len(set(names)) < len(names):
            raise ValueError("two variants have the same name")
        if self.baseline not in names:
            raise ValueError(f"baseline '{self.baseline}' is no variant; {known}")
        for variant in self.variants:
            if variant.parent is not None and variant.parent not in names:
                raise ValueError(f"the parent '{variant.parent}' of '{variant.name}' is no variant; {known}")
        for row in self.published:
            if row.variant not in names:
                raise ValueError(f"published figures for '{row.variant}', which is no variant; {known}")
        if isinstance(info.context, dict):
            self._root, self._source = info.context["root"], info.context["source"]
        return self

    @property
    def root(self) -> Path:
        """The folder that the networks' paths are relative to."""
        return self._root

    @property
    def source(self) -> Path:
        """The file that the specification was read from."""
        return self._source

    @property
    def variant_names(self) -> tuple[str, ...]:
        """The variants' names in order."""
        return tuple(variant.name for variant in self.variants)

    @property
    def inputs_size(self) -> int:
        """Number of network inputs: the product of `input_shape`."""
        return math.prod(self.input_shape)

    def variant(self, name: str) -> VariantSpec:
        """Returns the variant of that name.

        Raises:
            UsageError: there is none; the message lists those that exist.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise UsageError(f"{self.name} has no variant '{name}'; choose from {', '.join(self.variant_names)}")

    def network_path(self, name: str) -> Path:
        """Returns the file of a variant's network; whether it exists is not checked."""
        return self.root / self.variant(name).network


def find_spec(name_or_path: str | Path, roots: Sequence[Path] | None = None) -> BenchmarkSpec:
    """Returns the checked specification of a known benchmark, or of a file or folder that is named.

    Args:
        name_or_path: a benchmark's name, a `benchmark.yaml`, or the folder that holds one.
        roots: folders whose `specs/` are searched, first match wins; None: the current folder, then this repository.

    Raises:
        UsageError: no such benchmark (the message lists the known ones), or its file has a mistake.
    """
    searched = (Path.cwd(), REPOSITORY) if roots is None else tuple(roots)
    text = str(name_or_path)
    for root in searched:
        candidate = root / "specs" / text / SPEC_FILE
        if "/" not in text and candidate.is_file():
            return load_spec(candidate)
    path = Path(name_or_path)
    if path.is_dir() and (path / SPEC_FILE).is_file():
        return load_spec(path / SPEC_FILE)
    if path.is_file():
        return load_spec(path)
    known = ", ".join(known_benchmarks(searched)) or "none"
    raise UsageError(f"there is no benchmark '{text}'; known: {known}; or name a {SPEC_FILE} file")


def known_benchmarks(roots: Sequence[Path] | None = None) -> list[str]:
    """Returns the names of the benchmarks below the roots' `specs/`, sorted."""
    searched = (Path.cwd(), REPOSITORY) if roots is None else tuple(roots)
    return sorted({path.parent.name for root in searched for path in (root / "specs").glob(f"*/{SPEC_FILE}")})


def load_spec(path: Path) -> BenchmarkSpec:
    """Returns the checked specification of one file.

    Paths in a file at `<root>/specs/<name>/benchmark.yaml` are relative to `<root>`, in any other to its own folder.

    Raises:
        UsageError: the file cannot be read, is no YAML, or has a wrong, missing or unknown key; with its line.
    """
    return load_document(path, BenchmarkSpec, {"source": path, "root": _root_of(path.resolve())})


def load_document(path: Path, model: type[Model], context: Mapping[str, Any]) -> Model:
    """Returns the checked content of a YAML file.

    Args:
        path: the file.
        model: what it has to be.
        context: for the model's validators.

    Raises:
        UsageError: the file cannot be read, is no YAML, or has a wrong, missing or unknown key; with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); name a readable file") from error
    document = _compose(path, text, model)
    try:
        return model.model_validate(_loaded(path, text), context=context)
    except ValidationError as error:
        raise UsageError(_describe(path, document, error, model)) from error


def _loaded(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(path, error) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # A date that is none, a number of thousands of digits: what the constructors of scalars raise.
        raise UsageError(f"{path}: not valid YAML: {error}; correct it") from error


def _not_yaml(path: Path, error: yaml.MarkedYAMLError) -> UsageError:
    line = error.problem_mark.line + 1 if error.problem_mark else 1
    return UsageError(f"{path}:{line}: not valid YAML: {error.problem}; correct the line or the one before")


def _root_of(path: Path) -> Path:
    folder = path.parent
    return folder.parent.parent if folder.parent.name == "specs" else folder


def _compose(path: Path, text: str, model: type[BaseModel]) -> yaml.MappingNode:
    try:
        # A few lines of references to references stand for more text than any memory holds.
        alias = next((event for event in yaml.parse(text, yaml.SafeLoader) if isinstance(event, yaml.AliasEvent)), None)
        if alias is not None:
            line = alias.start_mark.line + 1 if alias.start_mark else 1
            raise UsageError(f"{path}:{line}: '*{alias.anchor}' refers to another place; write the value out")
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(path, error) from error
    except RecursionError as error:
        raise UsageError(f"{path}: not a specification: its values are nested too deep; flatten it") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, yaml.MappingNode):
        raise UsageError(f"{path}:1: a specification is a list of 'key: value' lines; needed are {_fields(model)}")
    _refuse_duplicates(path, document)
    return document


def _refuse_duplicates(path: Path, node: yaml.Node) -> None:
    # PyYAML keeps the last of two equal keys without a word.
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_duplicates(path, child)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UsageError(f"{path}:{line}: a key that is a list or a mapping; write a word in front of the colon")
        if key.value in seen:
            raise UsageError(f"{path}:{line}: key '{key.value}' stands on line {seen[key.value]} already; remove one")
        seen[key.value] = line
        _refuse_duplicates(path, value)


def _describe(path: Path, document: yaml.MappingNode, error: ValidationError, model: type[BaseModel]) -> str:
    details = error.errors(include_url=False)
    # A misspelt key also makes the right one missing; the former is what to correct.
    first = next((detail for detail in details if detail["type"] == "extra_forbidden"), details[0])
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{path}:{_line(document, first['loc'])}: {_complaint(first, model)}{more}"


def _complaint(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location = detail["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    if detail["type"] == "extra_forbidden":
        return f"unknown key '{key}'; allowed here: {_fields(_model_at(location[:-1], model))}"
    if detail["type"] == "missing":
        return f"key '{key}' is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return message
    message = message[:1].lower() + message[1:]
    return f"key '{key}': {message}" + ("" if "'" in message else f", not {detail['input']!r}")


def _fields(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _model_at(location: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel]:
    """Returns the model that the keys at a location belong to; `model` is the whole document's."""
    for part in location:
        if isinstance(part, str):
            found = _models_in(model.model_fields[part].annotation)
            model = found[0] if found else model
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _line(document: yaml.Node, location: Sequence[int | str]) -> int:
    """Returns the line (from 1) of the deepest key of `location` that the document has."""
    node, line = document, document.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line
