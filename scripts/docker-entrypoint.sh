#!/bin/sh
# docker run lg-bench [BENCHMARK] [OPTION ...]   the main job (cifar10_cnnb unless named)
# docker run lg-bench lgbench COMMAND ...        any other command, e.g. lgbench doctor
set -eu
case ${1-} in
  lgbench | python | python3 | sh | bash) exec "$@" ;;
  '' | -*) exec lgbench bench cifar10_cnnb "$@" ;;
  *) exec lgbench bench "$@" ;;
esac
