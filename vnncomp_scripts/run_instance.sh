#!/usr/bin/env bash
# run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS: decides one instance.
#
# RESULT holds the verdict on line 1, after sat the witness in the form of the property's version (VNN-LIB 1.0 or 2.0). It
# says timeout from the start, so that TERM, which ends this at once, leaves a valid file. Exit status 0: there is an answer.
{ [ "${1:-}" = v1 ] && [ $# -eq 6 ]; } || { echo "usage: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULT SECONDS" >&2; exit 2; }
echo timeout >"$5" || exit 1
# shellcheck source=vnncomp_scripts/python.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/python.sh"
network=$3
case $network in
  \[*)
    # A list of declared names and paths: of one network it is that one, of several it is beyond this verifier.
    list='import ast, sys; pairs = ast.literal_eval(sys.argv[1]); print(pairs[0][1] if len(pairs) == 1 else "")'
    network=$("$python" -c "$list" "$3") || { echo "error: '$3' is no list of networks" >&2; exit 1; }
    if [ -z "$network" ]; then
      echo "an instance of several networks is not supported" >&2
      echo unknown >"$5"
      exit 0
    fi
    ;;
esac
# In place of this shell, so that TERM reaches it.
exec "$python" -m harness verify "$network" "$4" --out "$5" --timeout "$6"
