#!/bin/sh
# docker run lg-bench [BENCHMARK] [OPTION ...]   the main job (cifar10_cnnb unless named)
# docker run lg-bench lgbench COMMAND ...        any other command, e.g. lgbench doctor
set -eu
# Numba uses compiled code only where it can write: the image's own folder, unless the container is read-only.
: "${NUMBA_CACHE_DIR:=/opt/numba}"
[ "$NUMBA_CACHE_DIR" != /opt/numba ] || [ -w /opt/numba ] || NUMBA_CACHE_DIR=/tmp/numba
if [ "$NUMBA_CACHE_DIR" != /opt/numba ]; then
  { mkdir -p "$NUMBA_CACHE_DIR" && cp -rn /opt/numba/. "$NUMBA_CACHE_DIR"; } 2>/dev/null || true
fi
export NUMBA_CACHE_DIR
case ${1-} in
  lgbench | python | python3 | sh | bash) exec "$@" ;;
  '' | -*) set -- cifar10_cnnb "$@" ;;
esac
# What the printed commands begin with; the dots are the user's own options, such as --volume and --gpus.
export LGBENCH_MAIN_JOB='docker run ... lg-bench'
exec lgbench bench "$@"
