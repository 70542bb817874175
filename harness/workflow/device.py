"""Which device a run can use, found out without importing torch."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.domain import UsageError

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of this machine for the choice of a device."""

    gpus: tuple[str, ...]
    """Names of the CUDA devices that the driver shows."""
    torch_cuda: str | None
    """CUDA version that the installed torch was built for; None for a CPU build."""
    cores: int
    """CPU cores that this process may use."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where the engine runs."""

    name: str
    """`cpu` or `cuda`."""
    words: str
    """The device for people, e.g. `CPU, 2 cores`."""


def choose_device(asked: str, machine: Machine) -> Device:
    """Returns the device to run on: with `auto` a GPU wherever one can be used, else the CPU.

    Raises:
        UsageError: `cuda` is asked for and cannot be used, or the word is none of `DEVICES`.
    """
    if asked not in DEVICES:
        raise UsageError(f"there is no device '{asked}'; choose from {', '.join(DEVICES)}")
    if asked == "cuda" and not machine.gpus:
        raise UsageError(
            "--device cuda: the driver shows no GPU; use --device cpu, or start the container with --gpus all"
        )
    if asked == "cuda" and machine.torch_cuda is None:
        raise UsageError("--device cuda: the installed torch is a CPU build; install a CUDA build or use --device cpu")
    if asked != "cpu" and machine.gpus and machine.torch_cuda is not None:
        return Device("cuda", f"{machine.gpus[0]}, CUDA {machine.torch_cuda}")
    reason = " (a GPU is here, but the installed torch is a CPU build)" if asked == "auto" and machine.gpus else ""
    return Device("cpu", f"CPU, {machine.cores} core{'' if machine.cores == 1 else 's'}{reason}")


def this_machine() -> Machine:
    """Returns what this machine offers; asks the driver and reads torch's version file, neither of which takes long."""
    return Machine(_driver_gpus(), _torch_cuda(), len(os.sched_getaffinity(0)))


def _driver_gpus() -> tuple[str, ...]:
    """Returns the devices of NVIDIA's driver library; none where it is absent or does not start."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    names = []
    for ordinal in range(count.value):
        handle, name = ctypes.c_int(0), ctypes.create_string_buffer(128)
        if driver.cuDeviceGet(ctypes.byref(handle), ordinal) == 0 and driver.cuDeviceGetName(name, 128, handle) == 0:
            names.append(name.value.decode(errors="replace"))
    return tuple(names)


def _torch_cuda() -> str | None:
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    version = Path(spec.origin).with_name("version.py")
    try:
        text = version.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^cuda[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found.group(1) if found else None
