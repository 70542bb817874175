#!/usr/bin/env bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS: answers what the file in LGBENCH_DUMMY says, see dummy.py.
{ [ "${1:-}" = v1 ] && [ $# -eq 6 ]; } || { echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS" >&2; exit 2; }
# The system's own Python first: version managers put a slow start before theirs.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
exec "$python" -I "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/dummy.py" "${@:2}"
