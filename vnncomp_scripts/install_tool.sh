#!/usr/bin/env bash
# Installs lg-bench's verifier: install_tool.sh v1
#
# Makes the checkout's environment (LGBENCH_VENV, else .venv) and compiles the engine once, which would otherwise be part
# of the first instance's time. Exit status 0: everything is there.
set -uo pipefail
[ "${1:-}" = v1 ] || { echo "usage: install_tool.sh v1" >&2; exit 2; }
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
if [ -f "$here/../scripts/environment.sh" ]; then
  # shellcheck source=scripts/environment.sh
  source "$here/../scripts/environment.sh"
  prepare_environment run
fi
# shellcheck source=vnncomp_scripts/python.sh
source "$here/python.sh"
"$python" -c 'from harness.verifier.api import warm_up; warm_up()' || exit 1
echo "lg-bench: the verifier is installed" >&2
