# Sourced, never run: leaves in $python the Python that has lg-bench, with what else the verifier needs in the environment.
#
# LGBENCH_VENV's, else that of the checkout's .venv, else the one on PATH (as in the container).
# shellcheck shell=bash

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
python=${LGBENCH_VENV:-$root/.venv}/bin/python
[ -x "$python" ] || python=$(command -v python3) || { echo "error: no Python; run install_tool.sh v1" >&2; exit 1; }
if [ -d "$root/harness" ]; then export PYTHONPATH=$root; fi
# Settings of other commands must not become options of this one.
for name in ${!LGBENCH_*}; do
  [ "$name" = LGBENCH_VENV ] || unset "$name"
done
# Threads that spin while they wait take the cores from each other.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
