#!/usr/bin/env bash
# Installs auto_LiRPA into env/ here: install_tool.sh v1
#
# The release on the package index, 0.3, pins a torch that is long gone; it is installed without its pins. To use another one,
# name a source tree or wheel of it in AUTO_LIRPA: AUTO_LIRPA=/path/to/auto_LiRPA install_tool.sh v1
set -uo pipefail
# shellcheck source=adapters/environment.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../environment.sh"
begin "${1:-}" python3.11 python3.12 python3
install torch numpy onnx onnxruntime vnnlib appdirs tqdm pyyaml packaging sortedcontainers pillow
alone torchvision onnx2pytorch "${AUTO_LIRPA:-auto_LiRPA==0.3}"
finish 'from adapters.auto_lirpa.solve import load; load()'
