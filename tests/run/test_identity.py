from __future__ import annotations

import gzip
from dataclasses import fields
from pathlib import Path

import pytest

from harness.domain import Instance, Limits, UsageError
from harness.run.identity import JobPlanner, content_sha256, job_key

LIMITS = Limits(20.0, "work", None)
BASE = job_key("net", "prop", "tool", LIMITS)


@pytest.mark.parametrize(
    "other",
    [
        job_key("net2", "prop", "tool", LIMITS),
        job_key("net", "prop2", "tool", LIMITS),
        job_key("net", "prop", "tool2", LIMITS),
        job_key("net", "prop", "tool", Limits(21.0, "work", None)),
        job_key("net", "prop", "tool", Limits(20.0, "wall", None)),
        job_key("net", "prop", "tool", Limits(20.0, "work", 0)),
        job_key("net", "prop", "tool", Limits(20.0, "work", 64)),
        job_key("prop", "net", "tool", LIMITS),
        job_key("netp", "rop", "tool", LIMITS),
    ],
)
def test_what_can_change_the_answer_is_in_the_key(other: str) -> None:
    assert other != BASE


def test_no_bound_on_domains_and_none_at_all_are_different() -> None:
    assert job_key("n", "p", "t", Limits(20, "work", 0)) != job_key("n", "p", "t", Limits(20, "work", None))


def test_the_key_is_a_hash_that_does_not_change_between_versions() -> None:
    # A change here orphans every stored result: raise KEY_RECIPE and say so in the changelog.
    assert BASE == "df8395fc1a77c3f6a5163f301e40beda468c50dcb3c9f46fe542d2c23bcf1623"


def test_whole_seconds_are_the_same_limit_however_written() -> None:
    assert job_key("net", "prop", "tool", Limits(20, "work", None)) == BASE


def test_every_field_of_the_limits_is_classified() -> None:
    assert {field.name for field in fields(Limits)} == {"timeout_s", "timeout_on", "max_domains"}


@pytest.fixture
def files(tmp_path: Path) -> Instance:
    (tmp_path / "net.onnx").write_bytes(b"weights")
    (tmp_path / "spec.vnnlib").write_bytes(b"(assert true)")
    return Instance(tmp_path / "net.onnx", tmp_path / "spec.vnnlib", 20.0)


def test_a_planned_job_has_the_hashes_of_its_files(files: Instance) -> None:
    job = JobPlanner("tool").plan(files, "baseline", 3, LIMITS)
    assert job.network_sha256 == content_sha256(files.network)
    assert job.property_sha256 == content_sha256(files.property)
    assert job.key == job_key(job.network_sha256, job.property_sha256, "tool", LIMITS)
    assert (job.variant, job.index, job.instance, job.limits) == ("baseline", 3, files, LIMITS)


def test_names_positions_and_the_listed_time_limit_are_not_in_the_key(files: Instance, tmp_path: Path) -> None:
    key = JobPlanner("tool").plan(files, "baseline", 3, LIMITS).key
    renamed = Instance(files.network.rename(tmp_path / "other.onnx"), files.property, 99.0, "onnx/x.onnx", "y.vnnlib")
    assert JobPlanner("tool").plan(renamed, "grafted", 7, LIMITS).key == key


def test_a_gzipped_file_is_the_same_content(files: Instance, tmp_path: Path) -> None:
    plain = content_sha256(files.network)
    for level in (1, 9):
        (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(b"weights", level))
        assert content_sha256(tmp_path / "net.onnx.gz") == plain
    files.network.unlink()
    assert content_sha256(files.network) == plain, "instances.csv names the file without .gz"


def test_other_content_is_another_job(files: Instance) -> None:
    before = JobPlanner("tool").plan(files, "baseline", 3, LIMITS).key
    files.property.write_bytes(b"(assert false)")
    assert JobPlanner("tool").plan(files, "baseline", 3, LIMITS).key != before


@pytest.mark.parametrize("damage", [b"\x1f\x8b", gzip.compress(b"weights" * 100)[:-9]], ids=["header alone", "cut off"])
def test_a_file_that_cannot_be_read_is_a_usage_error_with_its_name(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "net.onnx.gz"
    path.write_bytes(damage)
    with pytest.raises(UsageError, match=r"net\.onnx\.gz"):
        content_sha256(path)
    with pytest.raises(UsageError, match=r"none\.onnx"):
        content_sha256(tmp_path / "none.onnx")
