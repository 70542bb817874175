"""What `graft`, `adopt` and `evaluate` are given: a network of the zoo or of the user's own, and its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from torch import nn

from harness.cli.options import apply_options
from harness.cli.training_common import (
    NetworkName,
    data_remarks,
    dataset_of,
    test_data,
    training_data,
    with_options,
)
from harness.data.datasets import DATASETS
from harness.data.images import ImageSet
from harness.data.user_set import UserSet, read_user_set
from harness.domain import UsageError
from harness.files import sha256_bytes
from harness.formats.onnx_file import load_model_bytes
from harness.networks import zoo
from harness.networks.from_onnx import input_shape_of, network_from_onnx
from harness.networks.grafted import relu_names
from harness.networks.user_model import build_user_network, graftable, is_factory, unnamed_relus
from harness.training.evaluate import PgdConfig, evaluate
from harness.training.loop import EpochRecord, TrainingConfig
from harness.training.publish import images_sha256

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, dir_okay=False)
_FLOAT = click.FloatRange(min=0)
_TRAINING = TrainingConfig()


def model_options(command: _Command) -> _Command:
    """Adds what a network of the user's own needs: `--weights`, `--input-shape`, `--data-set`."""
    decorators = (
        click.option("--weights", type=FILE, help="Weights of MODULE:FACTORY: a state dict, or .safetensors."),
        click.option("--input-shape", metavar="C,H,W", help="Of one input of MODULE:FACTORY.  [default: the images']"),
        click.option(
            "--data-set",
            metavar="NAME|FILE.npz",
            help="cifar10, mnist, or your images and labels.  [default: the network's]",
        ),
    )
    return apply_options(command, decorators)


def _else(default: object) -> str:
    return f"  [default: MODEL's, else {default}]"


def config_options(command: _Command) -> _Command:
    """Adds what decides how a network is attacked and trained, by default as MODEL was, else as the study's were."""
    decorators = (
        click.option("--eps", type=click.FloatRange(0, 1, min_open=True), help="Radius.  [default: MODEL's]"),
        click.option("--alpha", type=_FLOAT, help="Step of the training example.  [default: 1.25 eps]"),
        click.option("--batch-size", type=click.IntRange(min=1), help=f"Images a batch.{_else(_TRAINING.batch_size)}"),
        click.option("--gradalign", type=_FLOAT, help=f"Weight of GradAlign.{_else(_TRAINING.gradalign)}"),
        click.option("--augment/--no-augment", default=None, help=f"Crop and flip.{_else('for cifar10')}"),
        click.option("--seed", type=int, help=f"Seeds every draw.{_else(_TRAINING.seed)}"),
    )
    return apply_options(command, decorators)


@dataclass(frozen=True, slots=True, eq=False)
class GivenNetwork:
    """A network that can be grafted, wherever it came from; on the CPU, in eval mode."""

    name: str
    """What a manifest calls it as a parent."""
    sha256: str
    """Of its uncompressed ONNX bytes."""
    network: nn.Module
    input_shape: tuple[int, ...]
    architecture: str
    manifest: zoo.NetworkManifest | None = None
    """Of a published network."""

    @property
    def rounding(self) -> str:
        """How weights are stored: as the parent's are; a user's own weights are left alone."""
        return "none" if self.manifest is None else self.manifest.rounding

    @property
    def classes(self) -> int:
        """Number of logits."""
        with torch.no_grad():
            return int(self.network(torch.zeros(1, *self.input_shape)).shape[1])

    def radius(self, eps: float | None) -> float:
        """Returns the radius that is asked for, or that of the network's training.

        Raises:
            UsageError: nothing says it.
        """
        if eps is not None:
            return eps
        if self.manifest is None:
            raise UsageError(f"{self.name}: nothing says how far an attack may go; name a radius with --eps, e.g. 0.1")
        return float(self.manifest.training.config["eps"])

    def config(self, dataset: str, **options: Any) -> TrainingConfig:
        """Returns the network's training, or the published code's for its data set, with the options that are not None.

        Raises:
            UsageError: nothing says the radius, or an option is impossible.
        """
        options["alpha"] = options.get("alpha") or (1.25 * options["eps"] if options["eps"] else None)
        if self.manifest is not None:
            return with_options(TrainingConfig.from_record(self.manifest.training.config), **options)
        options["eps"] = self.radius(options["eps"])
        return with_options(TrainingConfig(augment=dataset == "cifar10"), **options)


@dataclass(frozen=True, slots=True, eq=False)
class GivenData:
    """The images of a network, in its layout."""

    dataset: str
    """A name in `DATASETS`, or that of the user's file."""
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    remarks: dict[str, Any]
    """What a manifest says of them."""


def open_network(
    model: str, weights: Path | None = None, input_shape: str | None = None, data_set: str | None = None
) -> GivenNetwork:
    """Returns the network that a command's MODEL names.

    Args:
        model: a published network (`models/cifar10_cnnb/baseline`), an ONNX file without a manifest, `module:factory`.
        weights: of a factory's network.
        input_shape: of a factory's network, as `C,H,W`; where it is missing, the shape of `data_set`'s images is taken.
        data_set: as `--data-set`.

    Raises:
        UsageError: there is no such network, it cannot be grafted, or options are given that it does not take.
    """
    if is_factory(model) and not Path(model).exists():
        return _from_factory(model, weights, _shape(input_shape, data_set))
    if weights is not None:
        raise UsageError(f"--weights belongs to MODULE:FACTORY; the weights of {model} are in the file itself")
    name = NetworkName.parse(model)
    file = Path(model) if Path(model).is_file() else name.file
    if zoo.manifest_path(name.folder, name.variant).exists() or not file.is_file():
        manifest = name.manifest
        given = GivenNetwork(
            name.variant, manifest.onnx.sha256, name.load("cpu"), manifest.input_shape, manifest.architecture, manifest
        )
    else:
        data = load_model_bytes(file)
        network = network_from_onnx(data, str(file))
        given = GivenNetwork(name.variant, sha256_bytes(data), network, input_shape_of(data), zoo.FOREIGN)
    if input_shape is not None and _shape(input_shape, None) != given.input_shape:
        raise UsageError(f"--input-shape {input_shape}: the input of {model} is {given.input_shape}; leave it out")
    return given


def given_data(given: GivenNetwork, data_set: str | None, data: Path | None) -> GivenData:
    """Returns the images that a network is trained and measured on.

    Raises:
        UsageError: nothing says which, they cannot be read, or they do not fit the network.
    """
    known = None if given.manifest is None else dataset_of(given.manifest)
    dataset = data_set or known
    if dataset is None:
        raise UsageError(
            f"{given.name}: name its images with --data-set: {', '.join(DATASETS)}, or a .npz file of yours"
        )
    if is_user_set(dataset):
        found = _user_set(given, dataset, data_set is not None)
        parts = found.everything, found.train, found.validation, found.test
        remarks: dict[str, Any] = {"dataset": Path(dataset).name}
    else:
        images, test = training_data(dataset, data), test_data(dataset, data)
        parts = images.everything, images.train, images.validation, test
        remarks = data_remarks(dataset, data)
        if given.manifest is None or dataset != given.architecture.partition("_")[0]:
            remarks["dataset"] = dataset
    remarks["train_sha256"] = images_sha256(parts[0])
    _, train, validation, test = (_fitted(part, given, dataset) for part in parts)
    return GivenData(dataset, train, validation, test, remarks)


def is_user_set(dataset: str) -> bool:
    """Returns whether the text names a file of the user's, not a known data set."""
    return dataset not in DATASETS and dataset.endswith(".npz")


def fitted_test(given: GivenNetwork, images: ImageSet, dataset: str) -> ImageSet:
    """Returns test images in the network's layout.

    Raises:
        UsageError: they do not fit, or have more classes than the network has logits.
    """
    return _fitted(images, given, dataset)


def user_test_set(given: GivenNetwork, dataset: str) -> ImageSet:
    """Returns the test images of a user's file; all of its images, where it has no test images of its own.

    Raises:
        UsageError: the file cannot be used.
    """
    found = _user_set(given, dataset, True)
    return found.test if found.own_test else found.everything


def untrained_history(network: nn.Module, config: TrainingConfig, validation: ImageSet) -> tuple[EpochRecord, ...]:
    """Returns what stands in place of epochs where a network is published as it is: its accuracies on validation."""
    found = evaluate(network, validation, PgdConfig.fgsm(config.eps, config.alpha), config.seed)
    return (EpochRecord(-1, 0.0, found.sa, found.ra, 0.0),)


def _from_factory(model: str, weights: Path | None, shape: tuple[int, ...] | None) -> GivenNetwork:
    if shape is None:
        raise UsageError(f"{model}: name the shape of one input with --input-shape, e.g. 3,32,32, or its --data-set")
    own = build_user_network(model, weights)
    data, network = graftable(own, shape, model)
    given = GivenNetwork(model, sha256_bytes(data), network, shape, model)
    moved = unnamed_relus(own, relu_names(network))
    if moved:
        click.echo(f"note: ReLUs that are no child modules of {model} got names: {', '.join(moved)}", err=True)
    return given


def _shape(text: str | None, data_set: str | None) -> tuple[int, ...] | None:
    if text is None:
        if data_set is None:
            return None
        if data_set in DATASETS:
            return DATASETS[data_set].shape
        return read_user_set(Path(data_set)).everything.images.shape[1:]
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input-shape '{text}' is not a list of sizes such as 3,32,32")
    return shape


def _user_set(given: GivenNetwork, dataset: str, named: bool) -> UserSet:
    if not named:
        raise UsageError(f"{given.name}: belongs to the images of {dataset}; name that file with --data-set")
    return read_user_set(Path(dataset), given.input_shape)


def _fitted(images: ImageSet, given: GivenNetwork, dataset: str) -> ImageSet:
    pixels = images.images
    if pixels[0].size != torch.Size(given.input_shape).numel():
        raise UsageError(
            f"{dataset}: images {pixels.shape[1:]} do not fit {given.name}, whose input is {given.input_shape}"
        )
    if images.labels.size and int(images.labels.max()) >= given.classes:
        raise UsageError(f"{dataset}: has class {images.labels.max()}, but {given.name} has {given.classes} outputs")
    return ImageSet(pixels.reshape(len(images), *given.input_shape), images.labels)
