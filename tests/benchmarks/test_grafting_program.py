"""The speed program of scores, masks and training: what counts as met, and that the bare loop trains."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import grafting
from benchmarks.grafting import BareLoop, Figure
from harness.data.images import ImageSet
from harness.training.loop import TrainingConfig


def test_a_target_is_an_upper_or_a_lower_bound() -> None:
    quick = Figure("selection", 0.5, "s", 1.0, True, (0.5,))
    slow = Figure("training", 0.5, "of 1", 0.7, False, (0.5,))
    assert (quick.met, slow.met) == (True, False)
    assert "met" in quick.line()
    assert "MISSED" in slow.line()


def test_the_bare_loop_takes_steps() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.ReLU(), nn.Linear(4, 10))
    before = network[1].weight.detach().clone()
    random = np.random.default_rng(0)
    images = ImageSet(random.integers(0, 256, (256, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, 256))
    loop = BareLoop(network, TrainingConfig(), images)
    loop.run(2)
    assert loop.step == 2
    assert torch.isfinite(network[1].weight).all()
    assert not torch.equal(before, network[1].weight)


def test_figures_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("scores", 2.0, "s", 60.0, True, (2.0,))
    monkeypatch.setattr(grafting, "measure_selection", lambda _runs: [figure])
    monkeypatch.setattr(grafting, "measure_scores", lambda _runs: figure)
    speeds = {"ours_images_per_s": 9.0, "bare_images_per_s": 10.0}
    monkeypatch.setattr(grafting, "measure_training", lambda *_: (figure, speeds))
    assert grafting.main(["--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["met"] for row in said["figures"]] == [True] * 3
    assert said["bare_images_per_s"] == 10.0
    assert grafting.main([]) == 0
    assert "bare loop 10 images/s" in capsys.readouterr().out
