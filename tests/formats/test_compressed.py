from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.domain import UsageError
from harness.formats.compressed import gzip_bytes, locate, read_bytes, read_text, write_gz


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f\x8b", bytes(100_000)])
def test_what_is_zipped_unzips_and_holds_no_time(data: bytes) -> None:
    zipped = gzip_bytes(data)
    assert gzip.decompress(zipped) == data
    assert zipped[4:8] == bytes(4)
    assert zipped == gzip_bytes(data)


def test_a_file_is_found_under_both_names_and_unzipped_by_its_content(tmp_path: Path) -> None:
    write_gz(tmp_path / "a.txt.gz", "zipped")
    assert locate(tmp_path / "a.txt") == tmp_path / "a.txt.gz"
    assert read_text(tmp_path / "a.txt") == "zipped"
    (tmp_path / "b.txt").write_bytes(gzip_bytes(b"misnamed"))
    assert read_text(tmp_path / "b.txt") == "misnamed"
    (tmp_path / "a.txt").write_text("plain")
    assert read_bytes(tmp_path / "a.txt") == b"plain"
    assert locate(tmp_path / "c") is None


def test_damage_is_a_usage_error(tmp_path: Path) -> None:
    whole = gzip_bytes(b"some text" * 100)
    damaged = {"cut": whole[:-9], "sum": whole[:-8] + bytes(8), "body": whole[:12] + b"\xff" * 20}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=f"{name}: damaged gzip"):
            read_bytes(tmp_path / name)
    (tmp_path / "latin").write_bytes(b"one\ntw\xf6")
    with pytest.raises(UsageError, match="latin:2: not a UTF-8"):
        read_text(tmp_path / "latin")
    with pytest.raises(UsageError, match="no such file"):
        read_bytes(tmp_path / "none")
    with pytest.raises(UsageError, match="is a folder; name a file"):
        read_bytes(tmp_path)
