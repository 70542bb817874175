"""An engine that does as it is told: speaks the engine's protocol and misbehaves on request.

Usage: `fake_engine.py FOLDER`. `FOLDER/behaviour.json` maps job keys to words (below; default `unsat`), and
`most at once` to how many instances the device has memory for. Every start and
every request is noted in `FOLDER/history.jsonl`. Words with `_once` misbehave only until a marker file exists.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

from harness.domain import EngineRecord, Stage, ToolAnswer, Verdict
from harness.formats.engine_protocol import decode_request, encode_answer

FOLDER = Path(sys.argv[1])


def say(event):
    sys.stdout.write((event if isinstance(event, str) else json.dumps(event)) + "\n")
    sys.stdout.flush()


def note(entry):
    with (FOLDER / "history.jsonl").open("a") as history:
        history.write(json.dumps(entry) + "\n")


def crash(key):
    sys.stderr.write(f"RuntimeError: no good on {key}\n")
    sys.stderr.flush()
    os._exit(3)


def hang(key):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def stop(key):
    os.kill(os.getpid(), signal.SIGSTOP)


def leak(key):
    """Takes memory until somebody ends it, and leaves in a file how much it has, in bytes."""
    taken = []
    while True:
        taken.append(bytearray(b"x") * 2**20)
        (FOLDER / "leaked").write_text(str(len(taken) * 2**20))
        time.sleep(0.001)


def fork(key):
    """Leaves a deaf child in a session of its own, ignores TERM itself and never answers."""
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note({"forked": os.getpid()})
        time.sleep(600)
        os._exit(0)
    hang(key)


def out_of_device_memory(asked):
    """As torch ends a process whose GPU is full."""
    note({"full": asked})
    sys.stderr.write("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 is full.\n")
    sys.stderr.flush()
    os._exit(1)


def answer(key, **changes):
    record = EngineRecord(domains=7, entered_bab=True, neurons=10)
    fields = {"verdict": Verdict.UNSAT, "wall_s": 0.5, "work_s": 0.0, "stage": Stage.BAB, "record": record}
    return encode_answer(key, ToolAnswer(**(fields | changes)))


ACTIONS = {
    "unsat": lambda key: say(answer(key)),
    "crash": crash,
    "kill": lambda key: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "garbage": lambda key: say("Segmentation fault (core dumped)"),
    "no_object": lambda key: say("[1, 2]"),
    "no_kind": lambda key: say({"key": key}),
    "infinite": lambda key: say('{"event": "progress", "key": "k", "stage": "bab", "domains": Infinity}'),
    "deep": lambda key: say("[" * 100_000),
    "bad_verdict": lambda key: say(answer(key) | {"verdict": "holds"}),
    "bad_array": lambda key: say(answer(key) | {"x": ["|O8", ""]}),
    "twice": lambda key: [say(answer(key)), say(answer(key))],
    "not_asked": lambda key: say(answer("somebody else's")),
    "omit": lambda key: None,
    "nan_time": lambda key: say(answer(key) | {"work_s": float("nan")}),
    "much_work": lambda key: say(answer(key) | {"work_s": 1e9}),
    "stop": stop,
    "leak": leak,
    "fork": fork,
    "quit": lambda key: os._exit(0),
}


def act(key, word):
    if word.endswith("_once"):
        marker = FOLDER / f"{key}.once"
        word = "unsat" if marker.exists() else word.removesuffix("_once")
        marker.touch()
    ACTIONS[word](key)


def main():
    behaviour = json.loads((FOLDER / "behaviour.json").read_text())
    note({"start": os.getpid(), "omp": os.environ.get("OMP_WAIT_POLICY")})
    for line in sys.stdin:
        request = decode_request(line)
        if len(request.properties) > behaviour.get("most at once", 10**9):
            out_of_device_memory(len(request.properties))
        note({"asked": list(request.properties), "seed": request.seed, "device": request.device})
        for key in request.properties:
            say({"event": "progress", "key": key, "stage": "bab", "domains": 1})
            act(key, behaviour.get(key, "unsat"))
        say({"event": "done"})


main()
