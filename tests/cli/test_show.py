"""`lgbench show` and `lgbench report` on folders that the user may only read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.analysis.summary import RunHeader
from harness.cli.main import main
from harness.domain import Instance, InstanceResult, Job, Limits, Stage, Verdict
from harness.report.source import HEADER_META
from harness.run.store import Store

NOBODY = 65534


@pytest.fixture
def somebody_elses(capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """A finished run in a folder that cannot be written, seen by a user without the superuser's rights."""
    folder = Path(tempfile.mkdtemp(prefix="lgbench-test-"))
    job = Job("k", Instance(Path("n"), Path("p"), 5.0, "onnx/a.onnx", "vnnlib/p.vnnlib"), "a", 0, Limits(5.0))
    with Store.open(folder / "results.db", create=True) as store:
        store.meta[HEADER_META] = RunHeader("tiny", ("a",), 1, 5.0, "CPU").to_json()
        store.add(InstanceResult(job, Verdict.UNSAT, Verdict.UNSAT, Stage.BAB, 1.0, 1.0), tool="dummy")
    # The interpreter's own files may be the superuser's alone: everything is imported before.
    assert main(["show", str(folder)]) == 0
    assert main(["report", str(folder)]) == 0
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    capsys.readouterr()
    own = os.geteuid()
    if own == 0:
        os.seteuid(NOBODY)
    yield folder
    os.seteuid(own)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_run_of_somebody_else_is_shown(somebody_elses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(somebody_elses), "--csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("a,")


def test_its_report_goes_where_the_user_may_write(somebody_elses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(somebody_elses)]) == 2
    said = capsys.readouterr().err
    assert "--out" in said
    assert len(said.splitlines()) == 1
    with tempfile.TemporaryDirectory() as own:
        page = Path(own, "page.html")
        assert main(["report", str(somebody_elses), "--out", str(page)]) == 0
        assert capsys.readouterr().out.strip() == str(page)
        assert page.read_text().startswith("<!")
