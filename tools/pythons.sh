# Quick checks of every other supported Python on this machine: imports the server with warnings as
# errors, and runs a short demo. `make test` checks one version in full.
# With `newest`, runs the given tests with the newest other Python instead.
#
# usage: bash tools/pythons.sh [newest TESTS...]
set -euo pipefail

bounds=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\),<3\.\([0-9]*\)"$/\1 \2/p' pyproject.toml)
read -r oldest below <<<"$bounds"
full=$(.venv/bin/python -c 'import sys; print(sys.version_info.minor)' 2>/dev/null || echo none)
shopt -s nullglob
order=$(seq "$oldest" $((below - 1)))
[[ ${1:-} != newest ]] || order=$(seq $((below - 1)) -1 "$oldest")

for minor in $order; do
  [[ $minor != "$full" ]] || continue
  found=
  # A shim of pyenv on the PATH may have no selected interpreter.
  for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python; do
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      found=$python
      break
    fi
  done
  if [[ -z $found ]]; then
    echo "Python 3.$minor: not on this machine"
    continue
  fi
  if [[ ${1:-} == newest ]]; then
    folder=build/python-3.$minor-dev
    bash tools/environment.sh "$folder" dev "$found"
    exec "$folder/bin/pytest" -q -n auto "${@:2}"
  fi
  folder=build/python-3.$minor
  bash tools/environment.sh "$folder" demo "$found"
  "$folder/bin/python" -W error -c 'import odin_ws.cli.serve_process, odin_ws.cli.demo'
  "$folder/bin/odin-ws" demo --seconds 3 --port 0 --ops-port 0 | tail -n 1
done
