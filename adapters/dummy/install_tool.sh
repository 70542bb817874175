#!/usr/bin/env bash
# Installs nothing: the dummy needs a Python 3 on PATH and no package.
[ "${1:-}" = v1 ] || { echo "usage: install_tool.sh v1" >&2; exit 2; }
command -v python3 >/dev/null || { echo "no python3 on PATH" >&2; exit 1; }
