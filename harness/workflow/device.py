"""Which device a run can use."""

from __future__ import annotations

from dataclasses import dataclass

from harness.domain import UsageError
from harness.run.machine import Machine, this_machine

__all__ = ["DEVICES", "Device", "Machine", "choose_device", "this_machine"]

DEVICES = ("auto", "cpu", "cuda")


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
