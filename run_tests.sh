#!/usr/bin/env bash
# Runs the linters, the type checker, the import contracts and the tests: ./run_tests.sh [PYTEST ARGUMENT ...]
#
# Sets up what is missing first (see scripts/environment.sh). All parts run even when one fails; exit code 1 then.
# Tests marked nightly or docker run on request only: ./run_tests.sh -m docker.
set -uo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/scripts/environment.sh"
prepare_environment dev
cd "$root" || exit 2
passed=() failed=()

part() {
  local name=$1 code
  shift
  printf '\n== %s\n' "$name"
  "$@"
  code=$?
  if [ $code -eq 0 ]; then passed+=("$name"); else failed+=("$name (exit $code)"); fi
}

part 'ruff check' "$venv/bin/ruff" check .
part 'ruff format' "$venv/bin/ruff" format --check .
part 'mypy --strict' "$venv/bin/mypy"
part 'import contracts' "$venv/bin/lint-imports"
# As many tests at a time as there are cores; threads that wait must not spin then.
export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
part 'pytest' "$venv/bin/python" -m pytest -n logical --dist worksteal "$@"

printf '\nlg-bench: %d of %d parts passed' "${#passed[@]}" $((${#passed[@]} + ${#failed[@]}))
if [ ${#failed[@]} -gt 0 ]; then
  printf '; failed:%s\n' "$(printf ' %s,' "${failed[@]}" | sed 's/,$//')"
  exit 1
fi
printf ' in %d s\n' "$SECONDS"
