#!/usr/bin/env bash
# Installs NeuralSAT 0.2.17 from the package index into env/ here: install_tool.sh v1
set -uo pipefail
# shellcheck source=adapters/environment.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../environment.sh"
begin "${1:-}" python3.11 python3.12 python3
install torch numpy onnx onnxruntime vnnlib
install beartype gurobipy joblib pillow psutil scipy sortedcontainers termcolor tqdm coloredlogs
# Their pins ask for torchaudio, onnxsim and an older protobuf, which no code on the way to an answer needs.
alone torchvision neuralsat==0.2.17
finish 'import importlib.util, torch, gurobipy, beartype; from adapters.common import read_task'
