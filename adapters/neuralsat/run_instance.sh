#!/usr/bin/env bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS: decides one instance; TERM ends it, and the result then says timeout.
{ [ "${1:-}" = v1 ] && [ $# -eq 6 ]; } || { echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS" >&2; exit 2; }
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
exec "$here/env/bin/python" "$here/solve.py" "${@:2}"
