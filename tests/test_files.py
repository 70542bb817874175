"""Whole files: what is said where one cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.files import write_atomically


def test_a_file_that_cannot_be_made_is_named_not_its_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        write_atomically(tmp_path / "mask.npz", b"")
    assert caught.value.filename == str(tmp_path / "mask.npz")
