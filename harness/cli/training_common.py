"""What the training and grafting commands share: settings from a spec, data, progress, clean interruption."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Self, TypeVar

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.cli.options import apply_options, data_option
from harness.config import BenchmarkSpec, TrainingSpec, find_spec
from harness.data.datasets import load_images, train_validation
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.networks import zoo
from harness.networks.architectures import ARCHITECTURES
from harness.training.loop import EpochRecord, Trainer, TrainingConfig
from harness.training.loop import Progress as Batch
from harness.training.publish import Origin, publish
from harness.training.schedule import Schedule
from harness.workflow.device import DEVICES

Length = Literal["full", "short"]

EXIT_UNFINISHED = 1

DATA_OPTION = data_option()
DEVICE_OPTION = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute."
)
LENGTH_OPTION = click.option(
    "--length",
    type=click.Choice(["full", "short"]),
    help="Which schedule of the benchmark's spec.  [default: full on a GPU, else short]",
)
_CHECKPOINT_OPTION = click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to save the training to and to continue it from.  [default: checkpoints/BENCHMARK/NAME.ckpt]",
)
_MAX_SECONDS_OPTION = click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after that time; the same command goes on.",
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def slice_options(command: _Command) -> _Command:
    """Adds what every command takes that trains in slices of time: `--data`, `--device`, `--max-seconds`."""
    return apply_options(command, (DATA_OPTION, DEVICE_OPTION, _MAX_SECONDS_OPTION))


def training_options(command: _Command) -> _Command:
    """Adds what a command takes that trains one network: `slice_options` and `--checkpoint`."""
    return apply_options(command, (slice_options, _CHECKPOINT_OPTION))


@dataclass(frozen=True, slots=True)
class NetworkName:
    """A network of the zoo, by its folder and its name in it."""

    folder: Path
    variant: str

    @classmethod
    def parse(cls, text: str) -> NetworkName:
        """Returns the network that a path such as `models/cifar10_cnnb/baseline` names; file endings may be written."""
        path = Path(text)
        name = path.name
        for suffix in (zoo.NETWORK_SUFFIX, ".onnx", zoo.MANIFEST_SUFFIX):
            name = name.removesuffix(suffix)
        if not name:
            raise UsageError(f"'{text}' names no network; write for example models/cifar10_cnnb/baseline")
        return cls(path.parent, name)

    @property
    def file(self) -> Path:
        """The ONNX file."""
        return zoo.network_path(self.folder, self.variant)

    @property
    def default_checkpoint(self) -> Path:
        """Where the training of the network is saved unless told otherwise: a folder that git ignores."""
        return Path("checkpoints", self.folder.resolve().name, f"{self.variant}.ckpt")

    @property
    def manifest(self) -> zoo.NetworkManifest:
        """The manifest.

        Raises:
            UsageError: it is missing or unreadable.
        """
        return zoo.read_manifest(zoo.manifest_path(self.folder, self.variant))

    def load(self, device: str) -> torch.nn.Module:
        """Returns the network on a device (`auto`, `cpu` or `cuda`).

        Raises:
            UsageError: the network is missing or damaged, or there is no such device.
        """
        return zoo.load_network(self.folder, self.variant).to(torch_device(device))


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The training file of a data set, and its split."""

    everything: ImageSet
    train: ImageSet
    validation: ImageSet


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What `lgbench train` is asked for."""

    architecture: str
    dataset: str
    benchmark: str
    """Name for the manifest."""
    config: TrainingConfig
    note: str = ""


def torch_device(name: str) -> torch.device:
    """Returns the device of that name; `auto` is CUDA where there is one.

    Raises:
        UsageError: CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("--device cuda: torch finds no CUDA device; use --device cpu, or see `lgbench doctor`")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def training_plan(target: str, length: Length | None, device: torch.device) -> TrainingPlan:
    """Returns how to train an architecture (the published code's defaults) or a benchmark's baseline (its spec's).

    Args:
        target: key of `ARCHITECTURES`, or what `find_spec` takes.
        length: which of the spec's schedules; None is the full one on a GPU and the short one elsewhere.
        device: where the training will run.

    Raises:
        UsageError: there is neither an architecture nor a benchmark of that name, or the benchmark has no training.
    """
    if target in ARCHITECTURES:
        dataset = target.partition("_")[0]
        return TrainingPlan(target, dataset, target, default_training(dataset))
    spec = find_spec(target)
    config = training_config(spec, length or default_length(device))
    return TrainingPlan(
        spec.architecture, spec.dataset, spec.name, config, schedule_note(spec, config.epochs, "training")
    )


def default_training(dataset: str) -> TrainingConfig:
    """Returns the published code's baseline training on a data set: MNIST at the radius that is attacked, 0.1.

    Only CIFAR-10's images are cropped and flipped.
    """
    config = TrainingConfig(augment=dataset == "cifar10")
    return replace(config, eps=0.1, alpha=0.125) if dataset == "mnist" else config


def default_length(device: torch.device) -> Length:
    """Returns `full` on a GPU, `short` elsewhere."""
    return "full" if device.type == "cuda" else "short"


def training_config(spec: BenchmarkSpec, length: Length) -> TrainingConfig:
    """Returns the training of a benchmark's baseline.

    Raises:
        UsageError: the spec has no `training`.
    """
    if spec.training is None:
        raise UsageError(f"{spec.source}: has no 'training' section, so nothing says how to train {spec.name}")
    chosen = spec.training.full if length == "full" else spec.training.short
    shared = {field.name for field in fields(TrainingConfig)} & set(TrainingSpec.model_fields)
    values: dict[str, Any] = {name: getattr(spec.training, name) for name in shared}
    return TrainingConfig(**values, epochs=chosen.epochs, schedule=Schedule(chosen.schedule), knots=chosen.knots)


def schedule_note(spec: BenchmarkSpec, epochs: int, section: Literal["training", "grafting"]) -> str:
    """Returns one sentence on a training that is shorter than the spec's full one; empty where it is not."""
    full = getattr(spec, section).full
    if epochs >= full.epochs:
        return ""
    return f"short schedule: {epochs} epochs instead of the published {full.epochs} ({full.schedule})"


def with_options(config: TrainingConfig, **options: Any) -> TrainingConfig:
    """Returns `config` with every option that is not None in its place."""
    return replace(config, **{name: value for name, value in options.items() if value is not None})


def training_data(dataset: str, root: Path | None) -> TrainingData:
    """Returns the training images of a data set with the published code's split.

    Raises:
        UsageError: no folder is named, or it lacks the data set.
    """
    if root is None:
        raise UsageError(
            f"{dataset}: training images are needed, and not embedded; name the data set's folder with --data "
            "(`lgbench data fetch` gets it)"
        )
    everything = load_images(dataset, "train", root)
    train, validation = train_validation(dataset, everything)
    return TrainingData(everything, train, validation)


def test_data(dataset: str, root: Path | None) -> ImageSet:
    """Returns the whole test set.

    Raises:
        UsageError: no folder is named, or it lacks the data set.
    """
    if root is None:
        raise UsageError("the whole test set is needed: name its folder with --data (`lgbench data fetch` gets it)")
    return load_images(dataset, "test", root)


def data_remarks(dataset: str, root: Path | None) -> dict[str, Any]:
    """Returns what a manifest has to say of the test images: how many are known not to be pixel-exact, if any."""
    file = None if root is None else root / dataset / "test.npz"
    if file is None or not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as arrays:
        inexact = int((~arrays["exact"]).sum()) if "exact" in arrays.files else 0
    return {"inexact_test_images": inexact} if inexact else {}


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether Ctrl-C or SIGTERM came; a second signal interrupts at once."""
    asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class TrainingDisplay:
    """A progress bar of a training, and one line an epoch; on standard error.

    Args:
        title: what is trained.
        epochs: length of the training.
    """

    def __init__(self, title: str, epochs: int) -> None:
        self._title, self._epochs = title, epochs
        self._console = Console(stderr=True)
        self._progress = progress_bar(self._console)
        self._task: TaskID | None = None
        self._seen = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def batch(self, progress: Batch) -> None:
        """Shows the state after a batch."""
        done = progress.epoch * progress.steps + progress.step
        if self._task is None:
            self._task = self._progress.add_task(self._title, total=self._epochs * progress.steps, completed=done)
        text = f"{self._title}: epoch {progress.epoch + 1}/{self._epochs}, loss {progress.loss:.3f}"
        self._progress.update(self._task, completed=done, description=text)
        self.epochs(progress.history)

    def epochs(self, history: tuple[EpochRecord, ...]) -> None:
        """Prints the epochs that were not printed yet."""
        for record in history[self._seen :]:
            self._console.print(
                f"epoch {record.epoch + 1:3}: loss {record.loss:.4f}, validation SA {record.val_sa:.2f} %, "
                f"RA {record.val_ra:.2f} % (one step), {record.seconds:.0f} s",
                highlight=False,
            )
        self._seen = len(history)


def run_training(trainer: Trainer, title: str, max_seconds: float | None) -> bool:
    """Trains with a progress display until the end, the time is over, or Ctrl-C; says how to go on.

    Returns:
        Whether the training is finished.
    """
    epochs = trainer.config.epochs
    with TrainingDisplay(title, epochs) as display, stop_on_signal() as stop:
        finished = trainer.run(display.batch, max_seconds=max_seconds, should_stop=stop)
        display.epochs(tuple(trainer.state.history))
    if not finished:
        click.echo(
            f"{title}: stopped in epoch {trainer.state.epoch + 1} of {epochs}; the same command goes on from there"
        )
    return finished


def publish_trained(trainer: Trainer, name: NetworkName, origin: Origin, test: ImageSet) -> zoo.NetworkManifest:
    """Rounds, measures and writes the network of a finished training, with a progress bar; see `publish`."""
    return publish_network(trainer.network, trainer.config, tuple(trainer.state.history), name, origin, test)


def publish_network(
    network: torch.nn.Module,
    config: TrainingConfig,
    history: tuple[EpochRecord, ...],
    name: NetworkName,
    origin: Origin,
    test: ImageSet,
) -> zoo.NetworkManifest:
    """Measures and writes a network, with a progress bar; see `publish`."""
    with counting(f"{name.variant}: measuring SA and RA", len(test)) as progress:
        return publish(network, name.folder, origin, config, history, test, progress=progress)


def dataset_of(manifest: zoo.NetworkManifest) -> str:
    """Returns the data set of a network: what its manifest says, or the first word of its architecture."""
    return str(manifest.data.get("dataset", manifest.architecture.partition("_")[0]))


def report_published(manifest: zoo.NetworkManifest, name: NetworkName) -> None:
    """Prints what was written and measured."""
    sa, ra = manifest.metrics["SA"], manifest.metrics["RA"]
    grafted = f"{manifest.grafted_neurons} neurons grafted, " if manifest.grafted_neurons else ""
    click.echo(
        f"{name.file}: {grafted}SA {sa['value']:.2f} %, RA {ra['value']:.2f} % "
        f"({str(ra['attack']).upper()}, {ra['n']} test images)"
    )


def progress_bar(console: Console) -> Progress:
    """Returns the bar that all long commands show."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows how many of `total` inputs are done."""
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
