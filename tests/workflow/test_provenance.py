"""What a run was made with: the engine's settings are those that it runs with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from harness.config import REPOSITORY
from harness.verifier.config import AttackConfig, EngineConfig
from harness.workflow.provenance import engine_settings


def test_settings_are_those_of_the_engine() -> None:
    found = engine_settings(REPOSITORY)
    own = EngineConfig()
    assert found.keys() == {field.name for field in fields(EngineConfig)} - {"seed", "device", "arithmetic"}
    for name, text in found.items():
        assert eval(text, {"AttackConfig": AttackConfig}) == getattr(own, name)


def test_without_the_source_there_are_none(tmp_path: Path) -> None:
    assert engine_settings(tmp_path) == {}
