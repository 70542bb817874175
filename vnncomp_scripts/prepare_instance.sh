#!/usr/bin/env bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB: looks whether the instance's files are there.
#
# Nothing is converted, because nothing has to be, and no process is ended: others may be working on this machine.
{ [ "${1:-}" = v1 ] && [ $# -eq 4 ]; } || { echo "usage: prepare_instance.sh v1 CATEGORY ONNX VNNLIB" >&2; exit 2; }
case $3 in
  \[*) files=("$4") ;; # a list of networks: run_instance.sh reads it
  *) files=("$3" "$4") ;;
esac
for file in "${files[@]}"; do
  [ -f "$file" ] || [ -f "$file.gz" ] || { echo "error: $file: no such file, and no $file.gz beside it" >&2; exit 1; }
done
