"""Accuracies: what counts as robust, and that figures repeat."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small import small_images, small_network
from torch import Tensor, nn

from harness.data.images import ImageSet
from harness.training.adversarial import input_gradient, project, uniform_noise
from harness.training.evaluate import PgdConfig, evaluate, to_float, withstands

ATTACK = PgdConfig(eps=0.1, steps=7, alpha=0.03)


def plain_pgd(network: nn.Module, x: Tensor, y: Tensor, attack: PgdConfig, generator: torch.Generator) -> Tensor:
    """The attack on all inputs, whether or not they are lost already."""
    robust = network(x).argmax(1) == y
    for _ in range(attack.restarts):
        delta = project(x, uniform_noise(x, attack.eps, generator), attack.eps)
        for _ in range(attack.steps):
            delta = project(x, delta + attack.alpha * input_gradient(network, x + delta, y).sign(), attack.eps)
        robust &= network(x + delta).argmax(1) == y
    return robust


def batch(n: int) -> tuple[Tensor, Tensor]:
    data = small_images(n)
    return to_float(data.images, torch.device("cpu")), torch.from_numpy(data.labels)


def attacked(network: nn.Module, x: Tensor, y: Tensor, attack: PgdConfig = ATTACK, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return withstands(network, x, y, attack, lambda: uniform_noise(x, attack.eps, generator))


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_leaving_out_lost_inputs_changes_nothing(restarts: int, seed: int) -> None:
    network, (x, y) = small_network(seed).eval(), batch(60)
    attack = replace(ATTACK, restarts=restarts)
    found = attacked(network, x, y, attack, seed=1)
    assert torch.equal(found, plain_pgd(network, x, y, attack, torch.Generator().manual_seed(1)))


class Recorder(nn.Module):
    """Remembers how many images it saw a pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        logits: Tensor = self.inner(x)
        return logits


def test_lost_inputs_are_not_attacked() -> None:
    network, (x, y) = Recorder(small_network().eval()), batch(60)
    correct = int((network(x).argmax(1) == y).sum())
    network.sizes.clear()
    assert 0 < correct < 60
    attacked(network, x, y)
    assert network.sizes == [60] + [correct] * (ATTACK.steps + 1)


def test_a_batch_without_correct_inputs() -> None:
    network, (x, _) = small_network().eval(), batch(60)
    wrong = (network(x).argmax(1) + 1) % 3
    assert not attacked(network, x, wrong).any()


def test_the_attack_stays_in_the_ball_and_in_the_image() -> None:
    seen: list[Tensor] = []

    class Spy(Recorder):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return super().forward(x)

    x, y = batch(40)
    attacked(Spy(small_network().eval()), x, y)
    correct = small_network().eval()(x).argmax(1) == y
    for point in seen[1:]:
        assert (point - x[correct]).abs().max() <= ATTACK.eps + 1e-6
        assert point.min() >= 0
        assert point.max() <= 1


def test_figures_repeat_and_each_modules_mode_is_restored() -> None:
    network, data = small_network().train(), small_images(50)
    network.conv1.eval()
    first = evaluate(network, data, ATTACK, seed=3, batch_size=20)
    assert (network.training, network.fc1.training, network.conv1.training) == (True, True, False)
    assert first == evaluate(network, data, ATTACK, seed=3, batch_size=20)
    assert first.n == 50
    assert first.robust <= first.correct


@pytest.mark.parametrize("batch_size", [7, 500])
def test_figures_do_not_depend_on_the_batch_size(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.training.evaluate.BLOCK", 40)
    data, attack = small_images(90), replace(ATTACK, restarts=2)
    seen: list[Tensor] = []

    def start(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        noise = uniform_noise(x, eps, generator)
        seen.append(noise)
        return noise

    monkeypatch.setattr("harness.training.evaluate.uniform_noise", start)
    network = small_network(2)
    expected = evaluate(network, data, attack, seed=3, batch_size=40)
    draws = {tuple(noise.flatten().tolist()) for noise in seen}
    assert expected == evaluate(network, data, attack, seed=3, batch_size=batch_size)
    assert {tuple(noise.flatten().tolist()) for noise in seen} == draws, "the starts are those of the block"
    assert len(draws) == 6, "three blocks, two restarts"
    assert 0 < expected.robust < expected.correct


def test_float_images_are_taken_as_they_are() -> None:
    data, network = small_images(50), small_network()
    floats = ImageSet(data.images.astype("float32") / 255, data.labels)
    assert evaluate(network, floats, ATTACK) == evaluate(network, data, ATTACK)


def test_the_mode_is_restored_after_an_error() -> None:
    network = small_network().train()
    bad = small_images(5)
    with pytest.raises(RuntimeError):
        evaluate(network, ImageSet(bad.images[:, :, :3], bad.labels), ATTACK)
    assert network.training


def test_progress_counts_inputs() -> None:
    done: list[int] = []
    evaluate(small_network(), small_images(50), ATTACK, batch_size=20, progress=done.append)
    assert done == [20, 40, 50]


def test_more_restarts_never_help_the_network() -> None:
    data = small_images(200)
    one, five = (evaluate(small_network(2), data, replace(ATTACK, restarts=r)).robust for r in (1, 5))
    assert five <= one


def test_pgd100_is_the_published_attack() -> None:
    attack = PgdConfig.pgd100(2 / 255)
    assert (attack.steps, attack.restarts) == (100, 1)
    assert attack.alpha == pytest.approx(2.5 * (2 / 255) / 100)
