# Sourced by run_benchmark.sh and run_tests.sh, never run: makes the virtual environment that they need, once.
#
# prepare_environment run|dev   leaves $venv naming a complete environment: what pyproject.toml asks for, at the
#                               versions of constraints.txt, with this checkout installed editable.
#
# Everything that it says goes to stderr. A stamp written last marks a complete environment, so an interrupted set-up
# is taken up again, and a second start costs one hash.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${LGBENCH_VENV:-$root/.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

# OpenMP threads that spin while they wait take the cores from each other's processes.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}

say() { printf 'lg-bench: %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer on PATH; install one (Debian, Ubuntu: apt-get install python3 python3-venv) and start again"
}

make_venv() {
  if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
  local python version
  python=$(find_python) || exit 2
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; install the package (apt-get install python$version-venv) and start again"
  # What is half made is made anew, but a folder that is something else is not ours to empty.
  if [ -n "$(ls -A "$venv")" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ ! -e "$venv/bin/python" ]; then
    fail "$venv is neither empty nor a virtual environment; name another folder in LGBENCH_VENV"
  fi
  say "making a virtual environment in $venv (Python $version)"
  "$python" -m venv --clear "$venv" >&2 || fail "no virtual environment could be made in $venv; see the lines above"
}

install_packages() {
  local extra=$1 quiet=(--quiet)
  if [ -t 2 ]; then quiet=(); fi
  local pip=("$venv/bin/python" -m pip install --disable-pip-version-check "${quiet[@]}" -c "$root/constraints.txt")
  local help="the installation stopped; see the lines above, then start again: what is installed is kept"
  # A package whose installation was killed may have its metadata already, but never its RECORD: without this pip would
  # take it for installed.
  find "$venv/lib" -maxdepth 3 -name '*.dist-info' -type d ! -exec test -e {}/RECORD \; -exec rm -rf {} +
  say "installing torch at the pinned version (the largest part; minutes, once)"
  "${pip[@]}" torch >&2 || fail "$help"
  say "installing the other packages"
  "${pip[@]}" hatchling editables >&2 || fail "$help"
  "${pip[@]}" --no-build-isolation -e "$root$extra" >&2 || fail "$help"
  if [ "$extra" = '[dev]' ]; then
    say "installing auto_LiRPA, which the tests compare bounds with, beside the old torch that it asks for"
    "${pip[@]}" --no-deps auto_LiRPA >&2 || fail "$help"
  fi
}

# `dev` holds all that `run` needs, so one stamp names the larger of the two that is complete.
prepare_environment() {
  local wanted=$1 stamp key made extra=
  key=$(cat "$root/pyproject.toml" "$root/constraints.txt" <(printf '%s' "$root") | sha256sum | cut -c1-64)
  mkdir -p "$venv" 2>/dev/null || fail "the folder $venv cannot be made; name another in LGBENCH_VENV"
  stamp=$venv/.lg-bench
  made=$(cat "$stamp" 2>/dev/null || true)
  if [ -x "$venv/bin/lgbench" ] && { [ "$made" = "$key dev" ] || [ "$made" = "$key $wanted" ]; }; then return; fi
  if command -v flock >/dev/null; then
    exec 9<"$venv"
    flock -n 9 || { say "waiting for another set-up of $venv"; flock 9; }
  fi
  made=$(cat "$stamp" 2>/dev/null || true)
  if [ ! -x "$venv/bin/lgbench" ] || { [ "$made" != "$key dev" ] && [ "$made" != "$key $wanted" ]; }; then
    case "$made" in *dev) wanted=dev ;; esac
    if [ "$wanted" = dev ]; then extra='[dev]'; fi
    rm -f "$stamp"
    make_venv
    install_packages "$extra"
    printf '%s %s\n' "$key" "$wanted" >"$stamp"
    say "ready"
  fi
  exec 9<&-
}
