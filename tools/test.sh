# Runs all tests on all cores; failed tests run again, one at a time.
#
# Tests of brokers, browsers and real clocks compete for the cores: a failure counts only if the
# test also fails alone. The first failure is printed in any case.
#
# usage: bash tools/test.sh PYTEST [ARGUMENTS for pytest, which then runs once in one process...]
set -euo pipefail

pytest=$1
shift
if (($#)); then
  exec "$pytest" "$@"
fi

# Hundreds of tests start `odin-ws`: with the variable set, each would compile all modules.
unset PYTHONDONTWRITEBYTECODE

# Two for each core: tests of brokers, browsers and real clocks wait for much of their time.
processes=$(($(nproc) * 2))

status=0
# The order of tests/conftest.py: xdist would begin with the files of many short tests.
"$pytest" -n "$processes" --dist loadfile --no-loadscope-reorder || status=$?
# 1: some tests have failed. Any other status is an error of pytest.
((status == 1)) || exit "$status"
echo 'Running the failed tests again, in one process:'
exec "$pytest" --last-failed --last-failed-no-failures none
