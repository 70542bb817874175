"""The system's clock is set back while a run works: no time that is measured is wrong, and nothing waits for it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_benchmark import make_benchmark

from harness.run.store import Store

ROOT = Path(__file__).resolve().parents[2]
HOUR_S = 3600
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long back(void) {
    /* By the monotonic clock: an hour back every two tenths of a second. */
    struct timespec now;
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &now);
    return 3600L * (now.tv_sec * 5 + now.tv_nsec / 200000000L);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec = 1900000000L - back() % 900000000L;
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *stored) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (stored) *stored = now.tv_sec;
    return now.tv_sec;
}
"""
RUN = """
import sys, time
from harness.cli.main import main
from harness.domain import Stage, ToolAnswer, Verdict
from harness.tools import builtin, registry
from pathlib import Path

first = time.time()
time.sleep(0.5)
assert time.time() < first - 3000, "the clock does not go back"
fake = (sys.executable, sys.argv[1], sys.argv[2])
registry.make_tool = lambda name, options: builtin.BuiltinTool(options.log_dir, command=fake)
sys.exit(main(["bench", "tiny", "--inputs", "4", "--device", "cpu", "--out", "out", *sys.argv[3:]]))
"""


@pytest.mark.slow
def test_a_clock_that_goes_back_all_the_time_changes_nothing(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here to make a clock of our own")
    (tmp_path / "clock.c").write_text(CLOCK)
    library = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    make_benchmark(tmp_path)
    (tmp_path / "behaviour.json").write_text("{}")
    command = [sys.executable, "-c", RUN, str(ROOT / "tests/tools/fake_engine.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LD_PRELOAD": str(library)}
    for more in ([], ["--resume"]):
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stderr
    with Store.read(tmp_path / "out" / "results.db") as store:
        rows = store.rows()
    assert len(rows) == 8
    # The engine starts within these, and a difference of wrong times would be hours.
    assert all(0 <= row.work_s <= row.wall_s < HOUR_S for row in rows)


def clock_reads(tree: ast.Module) -> list[int]:
    names = {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if ast.unparse(call.func) in names]


def test_the_time_of_day_is_read_for_stamps_alone() -> None:
    """Durations and limits are on `time.monotonic`; whoever reads the time of day is listed here with the reason."""
    allowed = {
        "harness/run/node_cache.py",  # the age of files, which have times of day
        "harness/run/store.py",  # finished_at
        "harness/workflow/finish.py",  # started_at and finished_at of the header
    }
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / "harness").rglob("*.py"))
        if (lines := clock_reads(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert {name: lines for name, lines in found.items() if name not in allowed} == {}
