"""`python -m benchmarks.report`: time and memory of a report of 4 networks and 1,000 inputs against their targets.

The results are made up (their kinds, sizes and counts are those of CNN-B on CIFAR-10); the report is written by the
command in a process of its own. Exit codes: 0 measured (a missed target is printed as missed), 2 usage error.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.analysis.summary import RunHeader
from harness.config import REPOSITORY
from harness.data.datasets import load_images
from harness.domain import Counterexample, EngineRecord, Instance, InstanceResult, Job, Limits, Stage, Verdict
from harness.report.page import MAX_BYTES
from harness.report.source import HEADER_META, MANIFESTS_META
from harness.run.store import Store

VARIANTS = ("baseline", "grafted_min", "grafted_norank", "grafted_min_nwrt")
LAYERS = {"relu1": 8192, "relu2": 8192, "relu3": 250}
EPS = 2 / 255
TARGET_S, TARGET_BYTES = 15.0, 10**9
_CHILD = """
import json, resource, sys, time
began = time.perf_counter()
from harness.cli.main import main
code = main(["report", *sys.argv[1:]])
print(json.dumps({"code": code, "s": time.perf_counter() - began, "cpu_s": time.process_time(),
                  "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def made_up_run(folder: Path, inputs: int) -> None:
    """Leaves a run folder with a result of every kind for each network and input."""
    chance, numbers = random.Random(0), np.random.default_rng(0)
    images = load_images("cifar10", "test", None, inputs).images.reshape(inputs, -1) / 255.0
    header = RunHeader("cifar10_cnnb", VARIANTS, inputs, 180.0, "made up", eps=EPS, baseline="baseline")
    manifests = {}
    for name in VARIANTS:
        path = REPOSITORY / "models" / "cifar10_cnnb" / f"{name}.json"
        manifests[name] = json.loads(path.read_text(encoding="utf-8"))
    kinds = (
        (Verdict.SAT, Stage.CLEAN), (Verdict.SAT, Stage.ATTACK), (Verdict.UNSAT, Stage.INCOMPLETE),
        (Verdict.UNSAT, Stage.BAB), (Verdict.TIMEOUT, None),
    )  # fmt: skip
    with Store.open(folder / "results.db", create=True) as store:
        store.meta.set_all({HEADER_META: replace(header, finished_at="made up").to_json(), MANIFESTS_META: manifests})
        for variant in VARIANTS:
            for index in range(inputs):
                verdict, stage = chance.choices(kinds, (22, 20, 22, 22, 14))[0]
                instance = Instance(Path(f"{variant}.onnx"), Path(f"{index}.vnnlib"), 180.0)
                job = Job(f"{variant}-{index}", instance, variant, index, Limits(180.0))
                witness = None
                if stage is Stage.ATTACK:
                    x = images[index] + EPS * numbers.choice((-1.0, 1.0), images.shape[1])
                    witness = Counterexample(np.clip(x, 0, 1).astype(np.float32), np.zeros(10, np.float32))
                entered = stage in (Stage.BAB, None)
                masks = {name: numbers.random(n) < 0.15 for name, n in LAYERS.items()} if entered else None
                record = EngineRecord(numbers.normal(0, 2, 9), 100, masks, entered, 16634, 2000)
                seconds = chance.expovariate(0.2)
                store.add(
                    InstanceResult(
                        job, verdict, verdict, stage, 2 * seconds, seconds, counterexample=witness,
                        record=None if stage is Stage.CLEAN else record,
                    ),
                    tool="made up",
                )  # fmt: skip


def main() -> int:
    """Makes the run, writes its report and prints what that took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000, help="inputs of each of the 4 networks, at most 1000")
    given = parser.parse_args()
    if not 1 <= given.inputs <= 1000:
        parser.error("--inputs is from 1 to 1000")
    with tempfile.TemporaryDirectory(prefix="lgbench-report-") as scratch:
        folder = Path(scratch)
        began = time.perf_counter()
        made_up_run(folder, given.inputs)
        print(f"made up {len(VARIANTS)} x {given.inputs} results in {time.perf_counter() - began:.1f} s")
        for name, options in (("page alone", ["--no-figures"]), ("page and figure files", [])):
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, str(folder), *options],
                cwd=REPOSITORY, capture_output=True, text=True, check=True,
            )  # fmt: skip
            took = json.loads(done.stdout.splitlines()[-1])
            size = (folder / "report.html").stat().st_size
            met = took["s"] < TARGET_S and took["bytes"] < TARGET_BYTES and size < MAX_BYTES
            print(
                f"{name}: {took['s']:.1f} s elapsed, {took['cpu_s']:.1f} s of processor, "
                f"{took['bytes'] / 1e6:.0f} MB of memory, page {size / 1e6:.1f} MB; "
                f"target {TARGET_S:g} s, {TARGET_BYTES / 1e6:.0f} MB, {MAX_BYTES / 1e6:g} MB: "
                f"{'met' if met else 'missed'} (load {os.getloadavg()[0]:.1f})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
