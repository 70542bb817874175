#!/usr/bin/env bash
# Decides a benchmark and reports on it: ./run_benchmark.sh cifar10_cnnb [--inputs N] [--timeout S] [--out DIR] [--resume] ...
#
# The same as `lgbench bench`, after setting up what is missing (see scripts/environment.sh; LGBENCH_VENV names another
# place for the virtual environment). Without a name: cifar10_cnnb. Exit codes: 0 done, 1 instances undecided by
# interruption or error, 2 usage or set-up, 3 soundness conflict.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/scripts/environment.sh"
prepare_environment run
case ${1-} in '' | -*) set -- cifar10_cnnb "$@" ;; esac
# What the printed commands begin with: lgbench itself is not on the caller's PATH.
LGBENCH_MAIN_JOB=$(printf '%q' "$0")
export LGBENCH_MAIN_JOB
exec "$venv/bin/lgbench" bench "$@"
