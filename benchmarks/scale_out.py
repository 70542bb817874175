"""`python -m benchmarks.scale_out overhead|simulate`: what a cluster costs a job, and how far it scales.

`overhead` sends jobs that take no time through runner, driver and workers of a real Ray cluster (one on this machine,
unless --ray-address names another) and counts the processor seconds of each part. `simulate` plays runs of any size
through, with the job times of a real run and these figures, beside the formula of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.null_driver import answer
from benchmarks.scale_model import Cluster, Costs, formula, simulate
from benchmarks.table import columns
from harness.data.datasets import load_images
from harness.domain import Instance, Job, LgBenchError, Limits
from harness.files import sha256_file
from harness.formats.compressed import write_gz
from harness.formats.vnnlib import robustness_box, write_robustness_property
from harness.judging.clean import clean_outputs
from harness.judging.judge import Judge
from harness.run.cluster import RayCluster
from harness.run.cluster_protocol import ClusterSettings, RemoteTool
from harness.run.executors import Executor
from harness.run.identity import JobPlanner
from harness.run.scheduler import run_jobs
from harness.run.store import Store
from harness.tools.dummy import DummyTool
from harness.tools.registry import ToolOptions
from harness.workflow.folder import float_images

NULL_DRIVER = (sys.executable, "-m", "benchmarks.null_driver")
JOB_TIMES = Path(__file__).with_name("job_times.json")
NETWORK = Path(__file__).parents[1] / "models" / "cifar10_cnnb" / "baseline.onnx.gz"
EPS, CLASSES = 2 / 255, 10
# In milliseconds of one core; docs/reliability.md says which of them are measured and which assumed.
COSTS_MS = {"input": 11.5, "answer": 3.4, "relay": 1.5, "chunk": 10.0, "start": 10_000.0, "row": 0.75}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the two; returns the exit code."""
    options = parser().parse_args(argv)
    try:
        if options.command == "overhead":
            settings = None if options.without_ray else ClusterSettings(options.ray_address, 1, options.chunk)
            print(json.dumps(overhead(options.jobs, settings), indent=2))
        else:
            for line in simulated(options):
                print(line, flush=True)
    except LgBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Returns what reads the command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.scale_out", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("overhead", help="measure what everything but deciding costs")
    cost.add_argument("--jobs", type=int, default=400)
    cost.add_argument("--without-ray", action="store_true", help="only what this machine does by itself")
    cost.add_argument("--ray-address", help="of a running cluster; default: one is started here")
    cost.add_argument("--chunk", type=int, help="the most inputs that a worker gets at once")
    play = commands.add_parser("simulate", help="play runs through")
    play.add_argument("--inputs", type=_counts, default=[1000, 10_000, 100_000])
    play.add_argument("--workers", type=_counts, default=[1, 4, 16, 64, 256])
    play.add_argument("--play-up-to", type=int, default=20_000, help="more inputs are left to the formula")
    play.add_argument("--speed", type=float, default=1.0, help="of a worker, against the one of the job times")
    play.add_argument("--lost", type=float, default=0.0, help="share of the workers that is lost in an hour")
    play.add_argument("--chunk", type=int, help="the most inputs that a worker gets at once")
    play.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="whose default chunks are used")
    play.add_argument("--times", type=Path, default=JOB_TIMES, help="job times, JSON")
    for name, value in COSTS_MS.items():
        play.add_argument(f"--{name}-ms", type=float, default=value, help="[%(default)s]")
    return top


def _counts(text: str) -> list[int]:
    return [int(float(part)) for part in text.split(",")]


def simulated(options: argparse.Namespace) -> Iterator[str]:
    """Yields the lines of a table: for each size and number of workers the simulation beside the formula."""
    times = json.loads(options.times.read_text(encoding="utf-8"))["work_s"]
    costs = Costs(**{f"{name}_s": getattr(options, f"{name}_ms") / 1000 for name in COSTS_MS})
    sizes = ClusterSettings(chunk=options.chunk).chunk_sizes(batched=True, device=options.device)
    head = ["inputs x workers", "files h", "deciding h", "(formula)", "report h", "workers busy %", "runner busy %"]
    rows = [head]
    for inputs, workers in product(options.inputs, options.workers):
        cluster = Cluster(workers, options.speed, options.lost)
        paper = shown = formula(inputs, times, cluster, costs)
        played = "-"
        if inputs <= options.play_up_to:
            shown = simulate(inputs, times, cluster, costs, sizes)
            played = _hours(shown.deciding_s)
        hours = [_hours(shown.before_s), played, _hours(paper.deciding_s), _hours(shown.after_s)]
        rows.append([f"{inputs:,} x {workers}", *hours, f"{100 * shown.busy:.1f}", f"{100 * shown.runner_busy:.1f}"])
    yield from columns(rows)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3f}"


def overhead(count: int, settings: ClusterSettings | None) -> dict[str, Any]:
    """Returns milliseconds of processor time by part, and the wall time, of `count` jobs that take no time.

    Args:
        count: of jobs.
        settings: of the cluster; None: only what this machine does by itself is measured.
    """
    with tempfile.TemporaryDirectory(prefix="lgbench-") as scratch:
        folder = Path(scratch)
        jobs, found = _prepare(folder, count)
        found |= {"jobs": count, "machine": f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"}
        found["local"] = _timed(jobs, folder / "local", None)
        return found | (_over_ray(jobs, folder, settings) if settings is not None else {})


def _over_ray(jobs: Sequence[Job], folder: Path, settings: ClusterSettings) -> dict[str, Any]:
    tool, began = DummyTool(answer), time.perf_counter()
    with RayCluster(settings, command=NULL_DRIVER) as cluster:
        connected = time.perf_counter()
        remote = RemoteTool(tool.name, ToolOptions(folder), tool.identity(), batched=True, jobs=len(jobs))
        cluster.prepare(remote, log_dir=folder)
        ready, driver = time.perf_counter(), psutil.Process(cluster.pid)
        used = _cpu_s(driver)
        there = _timed(jobs, folder / "ray", cluster, lambda: _cpu_s(driver) - used)
    return {"connect_s": round(connected - began, 2), "first_worker_s": round(ready - connected, 2), "ray": there}


def _prepare(folder: Path, count: int) -> tuple[list[Job], dict[str, Any]]:
    """Makes jobs with properties of real images; returns them and what each part of that took."""
    images = load_images("cifar10", "test", count=min(count, 1000))
    flat, planner = float_images(images), JobPlanner(DummyTool(answer).identity())
    began = time.process_time()
    paths = []
    for index, (image, label) in enumerate(zip(flat, images.labels, strict=True)):
        path = folder / f"vnnlib/{index}.vnnlib.gz"
        lower, upper = robustness_box(image, EPS)
        write_gz(path, write_robustness_property(lower, upper, int(label), CLASSES))
        paths.append(path)
    written = time.process_time()
    jobs = _planned(planner, paths, count)
    planned = time.process_time()
    # The same property many times would be one job: keys are told apart as other properties' would be.
    jobs = [replace(job, key=f"{job.key[:48]}{index:016x}") for index, job in enumerate(jobs)]
    checked = time.process_time()
    clean_outputs(NETWORK, flat.astype(np.float32))
    done = time.process_time()
    return jobs, {
        "property_ms": round(1000 * (written - began) / len(paths), 3),
        "plan_ms": round(1000 * (planned - written) / len(paths), 3),
        "clean_check_ms": round(1000 * (done - checked) / len(paths), 3),
        "property_bytes": sum(path.stat().st_size for path in paths) // len(paths),
        "network_bytes": NETWORK.stat().st_size,
        "network_sha256": sha256_file(NETWORK)[:12],
        "job_bytes": _job_bytes(planner, paths, count),
    }


def _planned(planner: JobPlanner, paths: Sequence[Path], count: int) -> list[Job]:
    limits = Limits(600.0, "work", 1000)
    instances = [Instance(NETWORK, paths[index % len(paths)], limits.timeout_s) for index in range(count)]
    return [planner.plan(instance, "base", index, limits) for index, instance in enumerate(instances)]


def _job_bytes(planner: JobPlanner, paths: Sequence[Path], count: int) -> int:
    """Returns the memory that a planned job takes, with the names of its files."""
    tracemalloc.start()
    jobs = _planned(planner, [Path(str(paths[index % len(paths)])) for index in range(count)], count)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used // len(jobs)


def _timed(
    jobs: Sequence[Job], out: Path, executor: Executor | None, driver_cpu_s: Callable[[], float] = lambda: 0.0
) -> dict[str, float]:
    """Returns the milliseconds an answer of a run: wall, the runner's processor time, and that of the driver.

    All until the last answer is stored; the seconds from there on are those of letting the cluster go.
    """
    results, spent = 0, {"wall_ms": 0.0, "runner_cpu_ms": 0.0, "driver_cpu_ms": 0.0}

    def on_result(_result: object) -> None:
        nonlocal results, spent
        results += 1
        if results == len(jobs):
            # The driver is still there: it ends after its last answer is taken.
            seconds = time.perf_counter() - wall, time.process_time() - cpu, driver_cpu_s()
            spent = {name: round(1000 * spent / len(jobs), 3) for name, spent in zip(spent, seconds, strict=True)}

    with Store.open(out / "results.db", create=True) as store:
        wall, cpu = time.perf_counter(), time.process_time()
        done = run_jobs(jobs, DummyTool(answer), Judge(), store, on_result=on_result, executor=executor)
        closing_s = time.perf_counter() - wall - spent["wall_ms"] * len(jobs) / 1000
    if done.done != len(jobs) or done.errors:
        raise LgBenchError(f"{done.errors} of {len(jobs)} jobs failed, {len(jobs) - done.done} are open")
    return spent | {"closing_s": round(closing_s, 2)}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
