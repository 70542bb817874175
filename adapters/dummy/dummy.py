"""A verifier that answers what it is told, for tests and demos: `dummy.py CATEGORY ONNX VNNLIB RESULT SECONDS`.

What it is told stands in the JSON file that LGBENCH_DUMMY names; without it every answer is `unknown`. The file is one
answer, or `{"default": answer, "answers": {PATTERN: answer, ...}}` with shell patterns over
`<onnx stem>_<vnnlib stem>`, the first that fits. Keys of an answer, all optional:

verdict      line 1 of the result file, any text; default unknown
witness      text after it; or "center": the middle of the property's box
garbage      text that is the whole result file, instead
nothing      true: no result file
delay        seconds before the file is written
overtime     true: waits for as many seconds more as the limit has
exit         exit status
print        text for standard output
fork         seconds that a child in a session of its own sleeps on
ignore_term  true: TERM is ignored, by the child too
memory_mib   MiB that it fills
burn         true: computes while it waits
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import signal
import sys
import time
from pathlib import Path


def told(onnx: str, vnnlib: str) -> dict[str, object]:
    """Returns what the instance is to be answered."""
    path = os.environ.get("LGBENCH_DUMMY")
    answers = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    if "answers" not in answers and "default" not in answers:
        return dict(answers)
    name = f"{Path(onnx).stem}_{Path(vnnlib).stem}"
    fitting = (answer for pattern, answer in answers.get("answers", {}).items() if fnmatch.fnmatchcase(name, pattern))
    return dict(next(fitting, answers.get("default", {})))


def center(vnnlib: str) -> str:
    """Returns the middle of a 1.0 property's only box as a witness without outputs."""
    bounds: dict[int, list[float]] = {}
    for _, index, value in re.findall(r"\((<=|>=)\s+X_(\d+)\s+([^\s()]+)\)", Path(vnnlib).read_text(encoding="utf-8")):
        bounds.setdefault(int(index), []).append(float(value))
    return "(" + "\n".join(f"(X_{i} {sum(bounds[i]) / len(bounds[i])!r})" for i in sorted(bounds)) + ")\n"


def wait(seconds: float, *, burn: bool) -> None:
    """Waits, computing or not."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not burn:
            time.sleep(left)


def main() -> int:
    """Answers; returns the exit status."""
    _, onnx, vnnlib, result, limit = sys.argv[1:]
    answer = told(onnx, vnnlib)
    if answer.get("ignore_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if answer.get("fork") and os.fork() == 0:
        os.setsid()
        time.sleep(float(str(answer["fork"])))
        return 0
    filled = bytearray(b"x") * (int(str(answer.get("memory_mib", 0))) * 2**20)
    if "print" in answer:
        print(answer["print"], flush=True)
    seconds = float(str(answer.get("delay", 0))) + (float(limit) if answer.get("overtime") else 0)
    wait(seconds, burn=bool(answer.get("burn")))
    del filled
    if not answer.get("nothing"):
        witness = str(answer.get("witness", ""))
        text = f"{answer.get('verdict', 'unknown')}\n{center(vnnlib) if witness == 'center' else witness}"
        Path(result).write_text(str(answer.get("garbage", text)), encoding="utf-8")
    return int(str(answer.get("exit", 0)))


if __name__ == "__main__":
    sys.exit(main())
