"""Runs a benchmark in forked processes that meet a fault at a chosen point; then resumes it without the fault.

Usage: `crash_points.py FOLDER PLAN`. `FOLDER` holds the benchmark `tiny`. `PLAN` is JSON: `{"mode": MODE, "points":
null | [numbers]}`. A point is the number of a change to the run folder: a file opened for writing, a rename, a folder
made, a file removed (Python's audit events), an SQL statement that writes, or a question to the tool. With null the
points of a run that nobody disturbs are listed; else each is tried and reported, one JSON object a line. The tool is a
dummy within the process; it notes what it is asked in a pipe, which no fault touches.

Modes: `kill` (SIGKILL), `interrupt` (SIGINT), `full` (the disk is full from then on; the run folder is on a tmpfs that
this program mounts, so it has to run in a mount namespace of its own), `limit` (no file may grow any more).
"""

import json
import logging
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness.cli import bench, outcome, progress, show  # noqa: F401 - everything is imported before the fork
from harness.cli.main import main
from harness.domain import EngineRecord, Stage, ToolAnswer, Verdict
from harness.report import page  # noqa: F401
from harness.run.store import Store
from harness.tools import registry
from harness.tools.contract import Answered
from harness.tools.dummy import DummyTool
from harness.workflow import benchmark, transfer  # noqa: F401

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "sqlite3.connect")
SQL = ("INSERT", "UPDATE", "BEGIN", "COMMIT", "CREATE", "PRAGMA")
INPUTS = "3"
DISK_MIB = 64
BALLAST = "ballast"


def answer(job):
    if job.index % 2:
        return ToolAnswer(Verdict.TIMEOUT, 1.0, 0.5, record=EngineRecord(domains=9, entered_bab=True, neurons=64))
    return ToolAnswer(Verdict.UNSAT, 0.2, 0.1, Stage.INCOMPLETE)


class NotingTool(DummyTool):
    """Notes what it is asked before it answers."""

    def __init__(self, notes, points):
        super().__init__(answer)
        self.notes, self.points = notes, points

    def decide(self, jobs):
        for job in jobs:
            self.points.point("the tool is asked")
            os.write(self.notes, f"{job.key}\n".encode())
            yield Answered(job, answer(job))


class Points:
    """Counts the changes to a folder, and strikes at one of them."""

    def __init__(self, folder, at, mode):
        self.folder, self.at, self.mode = str(folder), at, mode
        self.seen = []
        self.main = threading.get_ident()
        sys.addaudithook(self.audit)
        self.connect, sqlite3.connect = sqlite3.connect, self.traced

    def audit(self, event, args):
        if event == "open":
            path, mode, flags = args
            writes = bool(flags & WRITES) if isinstance(flags, int) else "r" not in str(mode)
            if writes and self.inside(path):
                self.point(f"open {self.name(path)}")
        elif event in CHANGES and self.inside(args[0]):
            self.point(f"{event} {self.name(args[0])}")

    def inside(self, path):
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)

    def name(self, path):
        # The suffix goes first: it is random, and now and then has five digits in a row.
        named = re.sub(r"\.\w{8}\.part$", "", os.fspath(path)[len(self.folder) + 1 :])
        return re.sub(r"\d{5}", "N", named)

    def traced(self, *args, **kwargs):
        connection = self.connect(*args, **kwargs)
        connection.set_trace_callback(self.statement)
        return connection

    def statement(self, sql):
        word = sql.lstrip().split(" ", 1)[0].upper()
        if word in SQL:
            table = next((name for name in ("meta_digests", "results", "meta") if name in sql), "")
            self.point(f"sql {word} {table}".strip(), within_c=True)

    def point(self, name, within_c=False):
        if threading.get_ident() != self.main:
            return
        self.seen.append(name)
        if len(self.seen) - 1 == self.at:
            self.strike(within_c)

    def strike(self, within_c):
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.mode == "full":
            fill(Path(self.folder).parent / BALLAST)
        elif self.mode == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        elif within_c:
            # What a callback of SQLite raises is lost; a signal that comes when the statement is at work is not.
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 2e-4)
        else:
            signal.raise_signal(signal.SIGINT)


def fill(path):
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (2**20, 4096, 1):
        try:
            while os.write(handle, bytes(size)):
                pass
        except OSError:
            continue
    os.close(handle)


def run(root, out, at, mode, resume):
    """Carries out the main job in a forked process; returns its wait status, what it said and what was asked."""
    asked, notes = os.pipe()
    said, saying = os.pipe()
    pid = os.fork()
    if pid:
        os.close(saying)
        os.close(notes)
        with os.fdopen(said) as stream, os.fdopen(asked) as keys:
            text, noted = stream.read(), keys.read().split()
        return os.waitpid(pid, 0)[1], text, noted
    code = 70
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        os.chdir(root)
        os.dup2(saying, 1)
        os.dup2(saying, 2)
        points = Points(out, at, mode)
        registry.make_tool = lambda name, options: NotingTool(notes, points)
        logging.disable(logging.INFO)
        given = ["bench", "tiny", "--inputs", INPUTS, "--device", "cpu", "--out", str(out)]
        code = main([*given, *(["--resume"] if resume else [])])
        if at is None and not resume:
            (root / "points").write_text(json.dumps(points.seen))
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - whatever it is belongs into the report
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def table(out):
    """Everything of the results that has to be the same, and when each was stored."""
    if not (out / "results.db").exists():
        return {}
    with Store.read(out / "results.db") as store:
        rows = store.rows()
    return {
        f"{row.variant} {row.index}": [
            row.key,
            row.verdict,
            row.tool_verdict,
            row.stage,
            row.result_set,
            row.message,
            row.finished_at,
        ]
        for row in rows
    }


def table_after_fault(out):
    try:
        return table(out)
    except Exception as error:
        # A store without its tables is that of a run that is not begun.
        if "not a results store" in str(error):
            return {}
        raise


def figures(out):
    """What the files say that are read by others, without times."""
    summary = json.loads((out / "summary.json").read_text())
    sets = {name: block["sets"] for name, block in summary["variants"].items()}
    results = [line.rsplit(",", 1)[0] for line in (out / "results.csv").read_text().splitlines()]
    examples = sorted(path.name for path in (out / "counterexamples").iterdir())
    unfinished = sorted(path.name for path in out.rglob(".*"))
    return [sets, summary["transitions"], summary["conflicts"], summary["complete"], results, examples, unfinished]


def try_point(root, base, at, mode):
    out = base / f"{mode}-{at}"
    first, said, _ = run(root, out, at, mode, resume=False)
    (base / BALLAST).unlink(missing_ok=True)
    before = table_after_fault(out)
    second, said_after, asked_after = run(root, out, None, mode, resume=True)
    report = {
        "point": at,
        "first": first,
        "said": said,
        "before": before,
        "second": second,
        "said_after": said_after,
        "asked_after": asked_after,
    }
    if second == 0:
        report |= {"table": table(out), "figures": figures(out)}
    shutil.rmtree(out, ignore_errors=True)
    return report


def main_program():
    root, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    base = root
    if plan["mode"] == "full":
        base = root / "disk"
        base.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", base], check=True)
    if plan["points"] is None:
        out = base / "whole"
        status, said, _ = run(root, out, None, plan["mode"], resume=False)
        points = json.loads((root / "points").read_text())
        whole = {"status": status, "said": said, "points": points, "table": table(out), "figures": figures(out)}
        print(json.dumps(whole))
        return
    for at in plan["points"]:
        print(json.dumps(try_point(root, base, at, plan["mode"])), flush=True)


if __name__ == "__main__":
    main_program()
