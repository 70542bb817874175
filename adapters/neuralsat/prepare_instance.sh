#!/usr/bin/env bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB: looks whether the files are there. Ends no process: others may be working.
{ [ "${1:-}" = v1 ] && [ $# -eq 4 ]; } || { echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2; exit 2; }
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
[ -x "$here/env/bin/python" ] || { echo "error: not installed; run $here/install_tool.sh v1" >&2; exit 1; }
[ -f "$4" ] || { echo "error: $4: no such file" >&2; exit 1; }
