#!/usr/bin/env bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS: decides one instance.
#
# RESULT holds the verdict on line 1, after sat the witness in the form of the property's version (VNN-LIB 1.0 or 2.0). It
# says timeout from the start, so that TERM, which ends this at once, leaves a valid file. Exit status 0: there is an answer.
{ [ "${1:-}" = v1 ] && [ $# -eq 6 ]; } || { echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS" >&2; exit 2; }
echo timeout >"$5" || exit 1
# shellcheck source=vnncomp_scripts/python.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/python.sh"
# In place of this shell, so that TERM reaches it.
exec "$python" -m harness verify "$3" "$4" --out "$5" --timeout "$6"
