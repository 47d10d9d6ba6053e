# Runs all tests on all cores; those that fail beside others run again, alone.
#
# Tests of brokers, browsers and real clocks compete for the cores: a failure counts if the test
# fails without competition too. The first failure is printed all the same.
#
# usage: bash tools/test.sh PYTEST [ARGUMENTS for pytest, which then runs once in one process...]
set -euo pipefail

pytest=$1
shift
if (($#)); then
  exec "$pytest" "$@"
fi

# Hundreds of tests start `odin-ws`: where this is set, each would compile all of its modules.
unset PYTHONDONTWRITEBYTECODE

status=0
# In the order of tests/conftest.py: xdist's own order begins with the files of many short tests.
"$pytest" -n auto --dist loadfile --no-loadscope-reorder || status=$?
# 1: some tests have failed. Any other status is not about the tests.
((status == 1)) || exit "$status"
echo 'Running the failed tests again, in one process:'
exec "$pytest" --last-failed --last-failed-no-failures none
