"""A Ray cluster of two nodes on this machine: `ray_cluster.py`; a process of its own, ended by the end of its input.

Prints the cluster's address when both nodes are there. A line on standard input kills the second node's processes at
once, as a power cut would; `killed` is printed then. Nothing that it started outlives it.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import socket
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

warnings.simplefilter("ignore")
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A busy machine with two cores: patience at the start, no workers before they are asked for.
    "RAY_raylet_start_wait_time_s": "200",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}

from ray._private import services  # noqa: E402 - Ray reads the environment when it is imported
from ray.cluster_utils import Cluster  # noqa: E402

STORE_BYTES = 80 * 2**20
PR_SET_CHILD_SUBREAPER = 36
ATTEMPTS = 3


def announce_ports() -> None:
    """Says for a node's agents which ports they have, before the node is started.

    A node ends where an agent has not left that in a file within 15 seconds, which on a busy machine is soon. These
    agents serve nothing but the environments of workers, at a port of our choice.
    """
    start = services.start_raylet
    signature = inspect.signature(start)

    def start_announced(*arguments: Any, **named: Any) -> Any:
        call = signature.bind(*arguments, **named)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            call.arguments["runtime_env_agent_port"] = port = free.getsockname()[1]
        for name in ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"):
            _port_file(call.arguments, name).write_text("-1")
        _port_file(call.arguments, "runtime_env_agent_port").write_text(str(port))
        return start(*call.args, **call.kwargs)

    services.start_raylet = start_announced


def _port_file(arguments: Mapping[str, Any], name: str) -> Path:
    return Path(arguments["session_dir"]) / f"{name}_{arguments['node_id']}"


def main() -> int:
    # What loses its parent becomes a child of this process, and can be found.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    announce_ports()
    try:
        return serve()
    finally:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.kill()


def serve() -> int:
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_log_monitor": False}
    cluster = patient(lambda: Cluster(True, head_node_args={**node, "include_dashboard": False}))
    try:
        second = patient(lambda: cluster.add_node(**node), *psutil.Process().children(recursive=True))
        print(cluster.address, file=said, flush=True)
        if sys.stdin.readline():
            cluster.remove_node(second, allow_graceful=False)
            print("killed", file=said, flush=True)
            sys.stdin.read()
    finally:
        cluster.shutdown()
    return 0


def patient(start: Callable[[], Any], *spared: psutil.Process) -> Any:
    """Starts a node, again where the machine was too busy for it: Ray gives its agents 15 seconds."""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            return start()
        except Exception:
            if not attempts_left:
                raise
            for process in psutil.Process().children(recursive=True):
                if process not in spared:
                    with suppress(psutil.Error):
                        process.kill()
    raise AssertionError


if __name__ == "__main__":
    sys.exit(main())
