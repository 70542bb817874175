"""Damaged files of every kind: refused in one line or read, soon, in little memory, without touching anything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzz_corpus import SEEDS

HERE = Path(__file__).parent
SAMPLE, NIGHTLY = 20, 500
"""Files of each kind in every run, and on request."""


def fed(folder: Path, kinds: str, first: int, count: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "fuzz_child.py"), str(folder), kinds, str(first), str(count)]
    root = str(HERE.parents[1])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    where = (folder / "now").read_text() if (folder / "now").exists() else "nothing yet"
    assert done.returncode == 0, f"ended with {done.returncode} while reading {where}: {done.stderr[-2000:]}"
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "Traceback" not in done.stderr
    return result


def check(result: dict[str, Any], count: int) -> None:
    assert result["findings"] == []
    for kind in SEEDS:
        outcomes = {word: result["counts"].get(f"{kind} {word}", 0) for word in ("read", "refused")}
        assert sum(outcomes.values()) >= count, (kind, outcomes)


def test_a_sample_of_damaged_files(tmp_path: Path) -> None:
    result = fed(tmp_path, ",".join(SEEDS), 0, SAMPLE)
    check(result, SAMPLE)
    assert sum(count for word, count in result["counts"].items() if word.endswith("refused")) > 5 * SAMPLE


@pytest.mark.nightly
def test_thousands_of_damaged_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(SEEDS) * NIGHTLY >= 5000
    result = fed(tmp_path, ",".join(SEEDS), 0, NIGHTLY)
    with capsys.disabled():
        print(f"\n{len(SEEDS) * NIGHTLY} files: slowest {result['slowest_s']:.2f} s, {result['peak_mib']} MiB more")
        print(json.dumps(result["counts"], indent=1, sort_keys=True))
    check(result, NIGHTLY)


def test_the_watch_sees_what_is_forbidden(tmp_path: Path) -> None:
    """Else nothing of this says anything."""
    code = """
import os, pathlib, pickle, subprocess, sys
sys.path.insert(0, sys.argv[2])
from fuzz_child import Watch
folder = pathlib.Path(sys.argv[1])
watch = Watch(folder)
sys.addaudithook(watch)
watch.armed = True
open(folder / "inside", "w").close()
open("/dev/null").close()
assert watch.seen == [], watch.seen
for forbidden in (
    lambda: open(folder.parent / "outside", "w"), lambda: open("/etc/passwd"), lambda: os.system("true"),
    lambda: subprocess.run(["true"]), lambda: (folder / "../x").mkdir(), lambda: os.rename("/x", "/y"),
    lambda: pickle.loads(pickle.dumps(os.getcwd)), lambda: os.remove(folder.parent / "outside"),
):
    watch.seen.clear()
    try:
        forbidden()
    except OSError:
        pass
    assert watch.seen, forbidden
"""
    folder = tmp_path / "folder"
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder), str(HERE)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
