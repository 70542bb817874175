"""The training loop: learns, resumes exactly, refuses what is not its own, moves only what it should."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import small_images, small_network
from torch import nn

from harness.domain import UsageError
from harness.networks.grafted import graft_
from harness.training import loop
from harness.training.evaluate import Accuracy
from harness.training.loop import Progress, Trainer, TrainingConfig
from harness.training.schedule import Schedule

CONFIG = TrainingConfig(eps=0.02, alpha=0.025, epochs=3, batch_size=16, lr=0.2, augment=False)
TRAIN, VALIDATION = small_images(70), small_images(30, seed=1)


def trainer(network: nn.Module, checkpoint: Path | None = None, config: TrainingConfig = CONFIG) -> Trainer:
    return Trainer(network, config, TRAIN, VALIDATION, checkpoint)


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def stop_after(batches: int) -> Any:
    seen = iter(range(batches - 1))
    return lambda: next(seen, None) is None


def test_it_learns() -> None:
    run = trainer(small_network(), config=replace(CONFIG, epochs=8))
    assert run.run()
    assert run.state.history[-1].loss < run.state.history[0].loss
    assert run.state.best_ra > 80


@pytest.mark.parametrize("batches", [1, 4, 5, 6, 12])
def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path, batches: int) -> None:
    """Five batches make an epoch: stops in the middle, on the last batch of an epoch and after it."""
    whole, parts = small_network(), small_network()
    reference = trainer(whole)
    assert reference.run()
    checkpoint = tmp_path / "a.ckpt"
    assert not trainer(parts, checkpoint).run(should_stop=stop_after(batches))
    resumed_network = small_network()
    resumed = trainer(resumed_network, checkpoint)
    assert resumed.state.epoch * 5 + resumed.state.step == batches
    assert resumed.run()
    assert same_weights(whole, resumed_network)
    for found, expected in zip(resumed.state.history, reference.state.history, strict=True):
        assert replace(found, seconds=0) == replace(expected, seconds=0)


def test_a_finished_training_gives_its_weights_again(tmp_path: Path) -> None:
    first, second = small_network(), small_network()
    assert trainer(first, tmp_path / "a.ckpt").run()
    assert trainer(second, tmp_path / "a.ckpt").run()
    assert same_weights(first, second)


def test_a_time_slice_ends_it(tmp_path: Path) -> None:
    run = trainer(small_network(), tmp_path / "a.ckpt")
    assert not run.run(max_seconds=0)
    assert (run.state.epoch, run.state.step) == (0, 1)


def test_an_exception_inside_a_batch_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that moved without their step being counted must never be saved."""
    checkpoint = tmp_path / "a.ckpt"
    assert not trainer(small_network(), checkpoint).run(should_stop=stop_after(3))
    before = checkpoint.read_bytes()
    run = trainer(small_network(), checkpoint)
    step = run.optimizer.step

    def interrupted() -> None:
        step()
        raise KeyboardInterrupt

    monkeypatch.setattr(run.optimizer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert checkpoint.read_bytes() == before


def test_an_exception_between_batches_saves(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "a.ckpt"
    with pytest.raises(KeyboardInterrupt):
        trainer(small_network(), checkpoint).run(interrupt)
    assert trainer(small_network(), checkpoint).state.step == 2


def test_the_best_epoch_is_kept_the_first_of_equals(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([(20, 10), (20, 15), (20, 15)])

    def evaluate(*_args: object, **_options: object) -> Accuracy:
        correct, robust = next(figures)
        return Accuracy(20, correct, robust)

    run = trainer(small_network())
    snapshots = []

    def remember(progress: Progress) -> None:
        if progress.step == progress.steps:
            snapshots.append({k: v.clone() for k, v in run.network.state_dict().items()})

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", evaluate)
        run.run(remember)
    assert all(torch.equal(v, snapshots[1][k]) for k, v in run.network.state_dict().items())


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"epochs": 4}, {"seed": 2}])
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    trainer(small_network(), tmp_path / "a.ckpt").run(max_seconds=0)
    with pytest.raises(UsageError, match="another configuration"):
        trainer(small_network(), tmp_path / "a.ckpt", replace(CONFIG, **change))


def test_a_checkpoint_from_another_start_is_refused(tmp_path: Path) -> None:
    """A mask is part of the weights' file: going on with a foreign one would replace it silently."""
    first, second = (torch.tensor(mask) for mask in ([True, False] * 3, [False, True] * 3))
    trainer(graft_(small_network(), {"relu2": first}), tmp_path / "a.ckpt").run(max_seconds=0)
    with pytest.raises(UsageError, match="another network or other images"):
        trainer(graft_(small_network(), {"relu2": second}), tmp_path / "a.ckpt")


def test_a_checkpoint_without_its_origin_is_accepted(tmp_path: Path) -> None:
    """Checkpoints written before the origin was recorded stay usable."""
    checkpoint = tmp_path / "a.ckpt"
    trainer(small_network(), checkpoint).run(max_seconds=0)
    payload = torch.load(checkpoint, weights_only=True)
    del payload["origin"]
    torch.save(payload, checkpoint)
    assert trainer(small_network(), checkpoint).state.step == 1


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(UsageError, match="not a readable checkpoint"):
        trainer(small_network(), tmp_path / "a.ckpt")


def test_frozen_weights_do_not_move() -> None:
    grafted = graft_(small_network(), {"relu2": torch.tensor([True, False] * 3)})
    before = {name: value.clone() for name, value in grafted.state_dict().items()}
    config = replace(CONFIG, lr=0.0, graft_lr=0.1, schedule=Schedule.COSINE)
    trainer(grafted, config=config).run()
    moved = {name for name, value in grafted.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"relu2.slope", "relu2.intercept"}
    linear = grafted.relu2.mask
    assert torch.equal(grafted.relu2.slope[~linear], before["relu2.slope"][~linear])


def test_a_training_without_epochs_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one epoch"):
        trainer(small_network(), config=replace(CONFIG, epochs=0))


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(UsageError, match="no parameter would move"):
        trainer(small_network(), config=replace(CONFIG, lr=0.0))


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": -1},
        {"eps": 0.0},
        {"eps": float("nan")},
        {"lr": -1.0},
        {"schedule": Schedule.PIECEWISE},
        {"knots": ((0.0, 1.0),)},
        {"schedule": Schedule.PIECEWISE, "knots": ((2.0, 1.0), (1.0, 0.0))},
    ],
)
def test_impossible_configurations(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainingConfig(**values)


def test_a_configuration_survives_json() -> None:
    config = TrainingConfig(schedule=Schedule.PIECEWISE, knots=((0.0, 0.0), (2.5, 1.0)), seed=9)
    found = TrainingConfig.from_record(json.loads(json.dumps(asdict(config))))
    assert found == config
    assert found.digest() == config.digest()
    with pytest.raises(UsageError, match="not the record"):
        TrainingConfig.from_record({"schedule": "cosine", "momentun": 1})


def test_every_field_enters_the_digest() -> None:
    other: dict[str, Any] = {
        "schedule": Schedule.COSINE,
        "augment": False,
        "epochs": 7,
        "batch_size": 7,
        "seed": 7,
    }
    for field in fields(TrainingConfig):
        if field.name != "knots":
            changed = replace(TrainingConfig(), **{field.name: other.get(field.name, 0.5)})
            assert changed.digest() != TrainingConfig().digest(), field.name
    piecewise = [TrainingConfig(schedule=Schedule.PIECEWISE, knots=((0.0, f),)) for f in (1.0, 0.5)]
    assert piecewise[0].digest() != piecewise[1].digest()
