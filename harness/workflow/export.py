"""A benchmark as a folder that VNN-COMP takes: networks and data laid out, instances drawn by the shipped generator."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from harness.config import BenchmarkSpec
from harness.data.datasets import load_images
from harness.data.images import ImageSet
from harness.domain import UsageError
from harness.files import write_atomically
from harness.formats import vnnlib2_writer, vnnlib_writer
from harness.formats.compressed import gzip_bytes
from harness.formats.instances import format_seconds
from harness.workflow import export_generate
from harness.workflow.export_generate import IMAGES_FILE, SETTINGS_FILE, OnProgress, generate
from harness.workflow.plan import CheckedNetwork, check_networks, chosen_variants

SIX_HOURS_S = 21_600.0
"""The competition's bound on the sum of a benchmark's time limits."""
TIMEOUT_S = 180.0
DELTA = 1.0
GENERATOR = "generate_properties.py"
REQUIREMENTS = "numpy>=1.23\nonnxruntime>=1.15\n"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the user wants exported; None: the benchmark's own, or what its name says."""

    out: Path
    variants: tuple[str, ...] | None = None
    seed: int | None = None
    inputs: int | None = None
    """Test inputs that are drawn from: the first so many; None: those of the full protocol."""
    instances: int | None = None
    """None: as many as six hours take."""
    timeout_s: float = TIMEOUT_S
    every: bool = False
    """All inputs that every network classifies rightly, instead of a draw."""
    gzip: bool = False
    two_network: bool = False
    delta: float = DELTA
    """What the outputs of two networks may differ by."""
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export left."""

    folder: Path
    versions: tuple[str, ...]
    networks: tuple[str, ...]
    instances: int
    timeout_s: float
    seed: int

    @property
    def timeout_sum_s(self) -> float:
        """Sum of all time limits, seconds."""
        return self.instances * self.timeout_s


def export_benchmark(spec: BenchmarkSpec, options: ExportOptions, on_progress: OnProgress) -> Exported:
    """Writes a benchmark's folder, complete or not at all, and says what is in it.

    Left are `1.0/` and `2.0/` (of two-network properties `2.0/` alone), each with `instances.csv`, `onnx/` and
    `vnnlib/`; `generate_properties.py`, which draws the instances anew; its `data/`; `README.md`.

    Raises:
        UsageError: an option, a network or the data cannot be used, or the folder has something in it already.
    """
    options = _checked(options)
    networks = check_networks(spec, chosen_variants(spec, options.variants))
    pairs = _pairs(spec, networks) if options.two_network else []
    images = load_images(spec.dataset, "test", options.data, options.inputs or spec.protocols.full.inputs)
    seed = spec.seed if options.seed is None else options.seed
    versions = ("2.0",) if options.two_network else export_generate.VERSIONS
    settings = _settings(spec, options, networks, pairs)
    with _new_folder(options.out) as part:
        _write_networks(part, versions, networks, zipped=options.gzip)
        _write_data(part, settings, images)
        write_atomically(part / GENERATOR, generator_source())
        write_atomically(part / "requirements.txt", REQUIREMENTS)
        try:
            count = generate(part, seed, options.every, on_progress=on_progress)
        except ValueError as error:
            raise UsageError(f"{spec.name}: {error}; choose others with --variants, --inputs or --data") from error
        done = Exported(options.out, versions, tuple(n.variant for n in networks), count, options.timeout_s, seed)
        write_atomically(part / "README.md", _readme(spec, options, done, networks, pairs))
    return done


def generator_source() -> str:
    """Returns `generate_properties.py`: this package's generator, with the writers it imports written out in it."""
    source = inspect.getsource(export_generate)
    for module in (vnnlib_writer, vnnlib2_writer):
        statement = re.compile(rf"^from {re.escape(module.__name__)} import (?:\([^)]*\)|[^\n]*)\n", re.MULTILINE)
        source, found = statement.subn("", source)
        if found != 1:
            raise RuntimeError(f"the generator imports {module.__name__} {found} times, not once")
    head, mark, body = source.partition("SETTINGS_FILE, IMAGES_FILE =")
    writers = "\n\n".join(_body(module) for module in (vnnlib_writer, vnnlib2_writer))
    head = head.replace("import io\n", "import io\nimport itertools\n")
    head = head.replace("from pathlib", "from decimal import Decimal\nfrom functools import lru_cache\nfrom pathlib")
    return f"{head.rstrip()}\n\n\n{writers}\n\n{mark}{body}"


def _body(module: ModuleType) -> str:
    """Returns a module's source from behind its imports."""
    source = inspect.getsource(module)
    last = list(re.finditer(r"^(?:from|import) [^\n(]*(?:\([^)]*\))?\n", source, re.MULTILINE))[-1]
    return source[last.end() :].strip("\n") + "\n"


def _checked(options: ExportOptions) -> ExportOptions:
    """Returns the options with the number of instances chosen.

    Raises:
        UsageError: a number is out of range, or the limits sum up to more than six hours.
    """
    if not (np.isfinite(options.timeout_s) and options.timeout_s > 0):
        raise UsageError(f"--timeout {options.timeout_s}: a time limit is a positive number of seconds; correct it")
    if not (np.isfinite(options.delta) and options.delta > 0):
        raise UsageError(f"--delta {options.delta}: a bound on a difference is a positive number; correct it")
    most = int(SIX_HOURS_S // options.timeout_s)
    count = most if options.instances is None else options.instances
    if not options.every and not 1 <= count <= most:
        limit = format_seconds(options.timeout_s)
        raise UsageError(
            f"{max(count, 1)} instances at {limit} s are more than VNN-COMP's six hours; "
            f"choose --instances up to {most}, or a lower --timeout"
            if most
            else f"--timeout {limit}: one instance is more than VNN-COMP's six hours; choose at most 21600"
        )
    return replace(options, instances=count)


def _pairs(spec: BenchmarkSpec, networks: Sequence[CheckedNetwork]) -> list[tuple[str, str]]:
    names = [network.variant for network in networks]
    if spec.baseline not in names or len(names) < 2:
        raise UsageError(f"--two-network compares {spec.baseline} with others; name it and one more with --variants")
    return [(spec.baseline, name) for name in names if name != spec.baseline]


def _settings(
    spec: BenchmarkSpec, options: ExportOptions, networks: Sequence[CheckedNetwork], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": spec.name,
        "title": spec.title,
        "dataset": spec.dataset,
        "input_shape": list(spec.input_shape),
        "input_range": [0.0, 1.0],
        "classes": spec.classes,
        "eps": spec.eps,
        "instances": options.instances,
        "timeout_s": options.timeout_s,
        "networks": [network.variant for network in networks],
        "pairs": [list(pair) for pair in pairs],
        "delta": options.delta if pairs else None,
        "gzip": options.gzip,
    }


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder that takes the name `folder` when the block ends without an error, and else is gone.

    Raises:
        UsageError: there is a file or a filled folder of that name, or it cannot be made.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder}: exists and is not an empty folder; choose another --out")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    try:
        yield part
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_networks(folder: Path, versions: Sequence[str], networks: Sequence[CheckedNetwork], *, zipped: bool) -> None:
    for version in versions:
        for network in networks:
            path = folder / version / "onnx" / f"{network.variant}.onnx"
            if zipped:
                write_atomically(path.with_name(f"{path.name}.gz"), gzip_bytes(network.model))
            else:
                write_atomically(path, network.model)


def _write_data(folder: Path, settings: dict[str, Any], images: ImageSet) -> None:
    write_atomically(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
    np.savez_compressed(folder / IMAGES_FILE, images=images.images, labels=images.labels)


def _readme(
    spec: BenchmarkSpec,
    options: ExportOptions,
    done: Exported,
    networks: Sequence[CheckedNetwork],
    pairs: Sequence[tuple[str, str]],
) -> str:
    pick = "All inputs" if options.every else f"Inputs drawn with seed {done.seed} from those"
    shape = "x".join(map(str, spec.input_shape))
    limit, total = format_seconds(options.timeout_s), format_seconds(done.timeout_sum_s)
    zipped = " Files are gzipped; `instances.csv` names them without `.gz`. `gunzip -r .` unzips all."
    size = (
        f"{done.instances} instances in {_folders(done.versions)}, {limit} s each, {total} s together. {pick} that "
        f"every network classifies rightly. Made by `lgbench export {spec.name}`.{zipped if options.gzip else ''}"
    )
    inputs = (
        f"Inputs are images of the test set of {spec.dataset} in [0, 1], of shape {shape}, channels first; "
        f"normalisation is inside the networks. The radius is {spec.eps!r} in the maximum norm, cut off at 0 and 1; "
        "bounds are float32 values, printed exactly."
    )
    rows = (f"| `onnx/{network.variant}.onnx` | `{network.sha256}` |" for network in networks)
    table = "\n".join(("| network | SHA-256 |", "|---|---|", *rows))
    asked = _pair_words(options.delta, pairs) if pairs else _SINGLE
    how = _HOW.format(folder=_folders(done.versions[:1]))
    return "\n\n".join((f"# {spec.title}", size, inputs, asked, table, how)) + "\n"


_SINGLE = (
    "Each property asks for a violation: `sat` is an input in the ball that gives another class an output of at least "
    "the label's, `unsat` means that there is none. `1.0/` and `2.0/` hold the same instances in the same order."
)
_HOW = (
    "`python generate_properties.py SEED` draws other inputs from `data/inputs.npz` and rewrites `vnnlib/` and "
    "`instances.csv`; it needs numpy and ONNX Runtime. `--data FILE` names another npz file with the arrays `images` "
    "and `labels`, `--all` takes all inputs that are classified rightly. Copied into {folder} together with `data/`, "
    "the script serves that folder alone."
)


def _pair_words(delta: float, pairs: Sequence[tuple[str, str]]) -> str:
    compared = ", ".join(f"{graft} with {base}" for base, graft in pairs)
    return (
        f"Each property is about two networks on the same input: {compared}. `difference_*`: `sat` is an input in the "
        f"ball on which an output differs by more than {delta!r}. `regression_*`: `sat` is an input in the ball that "
        "`base` classifies rightly and `graft` does not. VNN-LIB 1.0 cannot say it, so there is only `2.0/`."
    )


def _folders(versions: Sequence[str]) -> str:
    return " and ".join(f"`{version}/`" for version in versions)
