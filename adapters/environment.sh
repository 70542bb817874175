# Sourced by an adapter's install_tool.sh, never run: makes the environment that the verifier runs in, in env/ of its folder.
#
#   begin v1 PYTHON...     env/ with the first of these Pythons that there is; ends the script where it is complete already
#   install REQUIREMENT... into it, at the versions of constraints.txt where that names the package
#   alone REQUIREMENT...   the same without what it asks for: for packages whose pins keep them from today's torch
#   finish CODE            runs CODE in it, then writes env/installed.txt, by which an installation is known to be complete
#
# Everything printed goes to standard error. An installation that was interrupted is taken up again.
# shellcheck shell=bash

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[1]}")")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)
env=$here/env
pins=(-c "$root/constraints.txt")
exec 1>&2

fail() {
  printf 'error: %s: %s\n' "$(basename "$here")" "$*"
  exit 1
}

begin() {
  local interface=${1:-} candidate
  shift || true
  [ "$interface" = v1 ] || fail "usage: install_tool.sh v1"
  recipe=$(cat "$here/install_tool.sh" "${BASH_SOURCE[0]}" "$root/constraints.txt" | sha256sum | cut -c1-64)
  if [ -f "$env/installed.txt" ] && grep -qx "# $recipe" "$env/installed.txt"; then
    printf '%s: is installed in %s\n' "$(basename "$here")" "$env"
    exit 0
  fi
  rm -f "$env/installed.txt"
  if ! "$env/bin/python" -m pip --version >/dev/null 2>&1; then
    for candidate in "$@"; do
      if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        "$candidate" -m venv --clear "$env" || fail "no virtual environment could be made in $env"
        return
      fi
    done
    fail "needs one of $* with its venv module on PATH"
  fi
}

install() {
  "$env/bin/python" -m pip install --quiet --disable-pip-version-check "${pins[@]}" "$@" ||
    fail "the installation stopped; see the lines above, then start again"
}

alone() { install --no-deps "$@"; }

finish() {
  PYTHONPATH=$root "$env/bin/python" -c "$1" || fail "what was installed does not work; see the lines above"
  { printf '# %s\n' "$recipe" && "$env/bin/python" -m pip freeze --disable-pip-version-check; } >"$env/installed.part" ||
    fail "pip cannot list what it installed"
  mv "$env/installed.part" "$env/installed.txt"
  printf '%s: installed in %s\n' "$(basename "$here")" "$env"
}
