"""What a machine offers for deciding instances, found out without importing torch."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of this machine for the choice of a device."""

    gpus: tuple[str, ...]
    """Names of the CUDA devices that the driver shows."""
    torch_cuda: str | None
    """CUDA version that the installed torch was built for; None for a CPU build."""
    cores: int
    """CPU cores that this process may use."""


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
