"""From wishes to a plan: every choice made and every input checked before anything is written."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.analysis.summary import RunHeader
from harness.config import SPEC_FILE, BenchmarkSpec
from harness.domain import ARITHMETICS, Limits, UsageError
from harness.files import sha256_bytes
from harness.formats.competition import file_stem
from harness.formats.instances import format_seconds
from harness.formats.onnx_file import load_model_bytes, open_session
from harness.judging.replay import Rules
from harness.tools.registry import INTERNAL
from harness.tools.supervise import ToolBounds
from harness.workflow.device import Machine, choose_device
from harness.workflow.limits import make_limits
from harness.workflow.options import RunOptions, RunPlan
from harness.workflow.place import cluster_settings, device_on, executor_options

DEFAULT_TOOL = INTERNAL
PROTOCOLS = ("full", "cpu")


@dataclass(frozen=True, slots=True, eq=False)
class CheckedNetwork:
    """A network that fits its benchmark."""

    variant: str
    path: Path
    model: bytes
    """The ONNX model, uncompressed."""
    sha256: str
    """Of `model`, in hex."""
    manifest: Mapping[str, Any] | None
    """What the file beside the network says of it; None where there is none."""


def resumed_options(options: RunOptions, header: RunHeader | None) -> RunOptions:
    """Returns the options with every choice that was left open taken from the run that is resumed.

    Args:
        options: as asked for.
        header: of the earlier run; None where there is none, then the options stay as they are.

    Raises:
        UsageError: other rules are asked for than the folder's results were judged by.
    """
    if header is None:
        return options
    if options.rules not in (None, header.rules):
        raise UsageError(
            f"--rules {options.rules}: the run in {options.out} is judged by those of {header.rules}; "
            "choose another --out, or leave --rules out"
        )
    earlier: dict[str, Any] = {
        "rules": header.rules,
        "variants": header.variants,
        "seed": header.seed,
        "device": header.provenance.get("device"),
    }
    if options.tool is None and options.tool_dir is None:
        earlier |= {"tool": header.tool or None, **foreign_options(header.provenance)}
        earlier["arithmetic"] = None if header.arithmetic == ARITHMETICS[0] else header.arithmetic
    if options.executor is None:
        earlier |= executor_options(header.provenance)
    if options.protocol is None:
        limits = {"timeout_s": header.timeout_s, "max_domains": header.max_domains}
        earlier |= {"inputs": header.inputs, **limits}
    return replace(options, **{name: value for name, value in earlier.items() if getattr(options, name) is None})


def plan_benchmark(spec: BenchmarkSpec, options: RunOptions, machine: Machine) -> RunPlan:
    """Returns the plan of a benchmark's run: what is not asked for comes from the protocol that suits the device.

    Without `options.out` the folder is `results/<benchmark>-<protocol>` below the current one.

    Raises:
        UsageError: an option has a value that the benchmark or this machine does not allow.
    """
    cluster = cluster_settings(options)
    device = device_on(cluster, choose_device(options.device or "auto", machine))
    name = options.protocol or ("full" if device.name == "cuda" else "cpu")
    if name not in PROTOCOLS:
        raise UsageError(f"there is no protocol '{name}'; choose from {', '.join(PROTOCOLS)}")
    protocol = spec.protocols.full if name == "full" else spec.protocols.cpu
    inputs = protocol.inputs if options.inputs is None else options.inputs
    if inputs < 1:
        raise UsageError(f"--inputs {inputs}: at least one input is needed")
    limits = make_limits(protocol.timeout_s if options.timeout_s is None else options.timeout_s, options.max_domains)
    name = _protocol_name(spec, inputs, limits)
    variants = chosen_variants(spec, options.variants)
    seed = spec.seed if options.seed is None else options.seed
    out = options.out or Path("results") / f"{spec.name}-{name}"
    options = named_tool(options)
    tool = options.tool or DEFAULT_TOOL
    chosen = replace(
        options,
        out=out,
        inputs=inputs,
        timeout_s=limits.timeout_s,
        device=device.name,
        variants=variants,
        tool=tool,
        seed=seed,
    )
    return RunPlan(
        benchmark=spec.name,
        title=spec.title,
        protocol=name,
        out=out,
        variants=variants,
        inputs=inputs,
        limits=limits,
        device=device,
        tool=tool,
        seed=seed,
        instances=inputs * len(variants),
        command=spelt_out(chosen),
        tool_dir=options.tool_dir,
        bounds=tool_bounds(options),
        cluster=cluster,
        rules=Rules(options.rules or Rules.Y2026),
        arithmetic=chosen_arithmetic(options),
    )


def _protocol_name(spec: BenchmarkSpec, inputs: int, limits: Limits) -> str:
    """Returns which protocol a run turns out to be; `custom` for none."""
    sizes = {"full": spec.protocols.full, "cpu": spec.protocols.cpu}
    asked = (inputs, limits.timeout_s, limits.max_domains)
    return next((name for name, size in sizes.items() if asked == (size.inputs, size.timeout_s, None)), "custom")


def named_tool(options: RunOptions) -> RunOptions:
    """Returns the options with an absolute folder of scripts, and its name for the tool where that has none."""
    if options.tool_dir is None:
        return options
    folder = options.tool_dir.absolute()
    return replace(options, tool_dir=folder, tool=options.tool or folder.name)


def tool_bounds(options: RunOptions) -> ToolBounds:
    """Returns what a tool of others may use.

    Raises:
        UsageError: a value is not positive, or our own engine is to be bounded by it.
    """
    given = {
        "--tool-memory": options.tool_memory,
        "--tool-cores": options.tool_cores,
        "--tool-cpu": options.tool_cpu,
    }
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} {value:g}: has to be a positive number")
        if value is not None and (options.tool or DEFAULT_TOOL) == DEFAULT_TOOL:
            raise UsageError(f"{name} bounds tools of others, not {DEFAULT_TOOL}; leave it out, or name a --tool")
    return ToolBounds(options.tool_memory, options.tool_cores, options.tool_cpu)


def chosen_arithmetic(options: RunOptions) -> str:
    """Returns what `unsat` is to speak of.

    Raises:
        UsageError: a tool of others is asked for it, or there is no such arithmetic.
    """
    if options.arithmetic is None:
        return ARITHMETICS[0]
    if options.arithmetic not in ARITHMETICS:
        raise UsageError(f"--arithmetic {options.arithmetic}: choose from {', '.join(ARITHMETICS)}")
    if (options.tool or DEFAULT_TOOL) != DEFAULT_TOOL:
        raise UsageError(f"--arithmetic: {options.tool} has a meaning of its own; leave it out, or take {DEFAULT_TOOL}")
    return options.arithmetic


def foreign_options(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a tool of others as `foreign_provenance` noted them."""
    folder, bounds = provenance.get("tool_dir"), provenance.get("tool_bounds") or {}
    return {
        "tool_dir": None if folder is None else Path(folder),
        "tool_memory": bounds.get("memory_gib"),
        "tool_cores": bounds.get("cores"),
        "tool_cpu": bounds.get("cpu_s"),
    }


def spelt_out(options: RunOptions) -> str:
    """Returns the command line that asks for exactly these options, ready for a shell."""
    values = {
        "--inputs": options.inputs,
        "--timeout": None if options.timeout_s is None else format_seconds(options.timeout_s),
        "--max-domains": options.max_domains,
        "--device": options.device,
        "--variants": None if options.variants is None else ",".join(options.variants),
        "--tool": options.tool,
        "--tool-dir": options.tool_dir,
        "--tool-memory": options.tool_memory,
        "--tool-cores": options.tool_cores,
        "--tool-cpu": options.tool_cpu,
        "--rules": None if options.rules == Rules.Y2026 else options.rules,
        "--seed": options.seed,
        "--arithmetic": options.arithmetic,
        "--executor": options.executor if options.executor == "ray" else None,
        "--ray-address": options.ray_address,
        "--job-cores": options.job_cores,
        "--chunk": options.chunk,
        "--data": options.data,
        "--out": options.out,
    }
    given = [part for name, value in values.items() if value is not None for part in (name, str(value))]
    return f"{options.command} {shlex.join(given)}".strip()


def chosen_variants(spec: BenchmarkSpec, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Returns the names of the variants that are asked for (None: all), in the order of the specification.

    Raises:
        UsageError: none is asked for, or one that the benchmark does not have.
    """
    if asked is None:
        return spec.variant_names
    chosen = {spec.variant(name).name for name in asked}
    if not chosen:
        raise UsageError(f"--variants names none; choose from {', '.join(spec.variant_names)}")
    return tuple(name for name in spec.variant_names if name in chosen)


def check_networks(spec: BenchmarkSpec, variants: tuple[str, ...]) -> list[CheckedNetwork]:
    """Returns the networks of the variants, each read, run-ready and of the benchmark's shape.

    Raises:
        UsageError: a network is missing, does not fit the specification, or is not the one of its manifest.
    """
    missing = [name for name in variants if not spec.network_path(name).exists()]
    if missing:
        path = spec.network_path(missing[0])
        more = f" (with {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UsageError(f"{path}: the network of '{missing[0]}' is missing{more}; {_remedy(spec, missing[0])}")
    return [_check_network(spec, name) for name in variants]


def _remedy(spec: BenchmarkSpec, variant: str) -> str:
    """Returns what to do about a network that is missing: train it, where that is known, or run those that are here."""
    present = [name for name in spec.variant_names if spec.network_path(name).exists()]
    others = f"run the others with --variants {','.join(present)}" if present else ""
    trained = spec.root / "models" / spec.name / f"{variant}.onnx.gz"
    if spec.training is None or spec.grafting is None or spec.network_path(variant) != trained:
        return others or "put it there"
    known = spec.source.resolve() == (spec.root / "specs" / spec.name / SPEC_FILE).resolve()
    command = f"scripts/train_all {spec.name if known else shlex.quote(str(spec.source))} --data DIR"
    return f"make it with `{command}`" + (f", or {others}" if others else "")


def _check_network(spec: BenchmarkSpec, variant: str) -> CheckedNetwork:
    path = spec.network_path(variant)
    model = load_model_bytes(path)
    session = open_session(path)
    expected, found = spec.input_shape, session.input.shape
    if found not in ((1, *expected), expected):
        raise UsageError(
            f"{path}: takes inputs of shape {_shape(found)}, but {spec.source} says {_shape(expected)}; "
            "name another network there, or correct input_shape"
        )
    if session.output.size != spec.classes:
        raise UsageError(
            f"{path}: gives {session.output.size} outputs, but {spec.source} says {spec.classes} classes; "
            "name another network there, or correct classes"
        )
    sha256 = sha256_bytes(model)
    return CheckedNetwork(variant, path, model, sha256, _manifest(path, sha256))


def manifest_path(network: Path) -> Path:
    """Returns where a network's manifest would be: beside it, under its name with `.json`."""
    return network.with_name(f"{file_stem(network.name)}.json")


def _manifest(network: Path, sha256: str) -> Mapping[str, Any] | None:
    path = manifest_path(network)
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable manifest ({error}); restore it or move it away") from error
    if not isinstance(manifest, dict):
        raise UsageError(f"{path}: not a manifest; restore it or move it away")
    onnx = manifest.get("onnx")
    stated = onnx.get("sha256") if isinstance(onnx, dict) else None
    if stated != sha256:
        raise UsageError(
            f"{network}: is not the network of its manifest {path.name} "
            f"(SHA-256 {sha256[:12]}, stated {str(stated)[:12]}); restore the pair, or remove the manifest"
        )
    return manifest


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
