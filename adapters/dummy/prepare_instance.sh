#!/usr/bin/env bash
# prepare_instance.sh v1 CATEGORY ONNX VNNLIB: nothing to prepare.
[ "${1:-}" = v1 ] && [ -f "${3:-}" ] && [ -f "${4:-}" ]
