#!/usr/bin/env bash
# Installs Marabou 2.0 (maraboupy) from the package index into env/ here: install_tool.sh v1
set -uo pipefail
# shellcheck source=adapters/environment.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../environment.sh"
# maraboupy was built against numpy 1, which our pins are past.
pins=()
begin "${1:-}" python3.11 python3.12
install 'numpy<2' 'onnx<1.17' 'onnxruntime<1.20' vnnlib
alone maraboupy==2.0.0
finish 'from maraboupy import Marabou; from adapters.common import read_task'
