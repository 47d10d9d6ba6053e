# Makes a virtual environment with a supported Python and installs odin-ws with one extra into it,
# and the Python client that it needs.
#
# usage: bash tools/environment.sh FOLDER EXTRA [PYTHON]
#
# PYTHON: the interpreter; by default the first supported one on the PATH. `requires-python` in
# pyproject.toml has the supported versions, in the form >=3.A,<3.B.
set -euo pipefail
folder=$1 extra=$2 chosen=${3:-}

bounds=$(sed -n 's/^requires-python = ">=3\.\([0-9]*\),<3\.\([0-9]*\)"$/\1 \2/p' pyproject.toml)
read -r oldest below <<<"$bounds"
supported="3.$oldest to 3.$((below - 1))"

fail() {
  echo "$1" >&2
  exit 1
}

# Prints X.Y, or nothing for a shim on the PATH without an interpreter.
version_of() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

is_supported() {
  local minor=${1#3.}
  [[ $1 == 3.* ]] && ((minor >= oldest && minor < below))
}

find_python() {
  local candidate version seen=
  for candidate in python3 $(seq -f 'python3.%g' $((below - 1)) -1 "$oldest"); do
    version=$(version_of "$candidate")
    if [[ -n $version ]] && is_supported "$version"; then
      echo "$candidate"
      return
    fi
    [[ -z $version ]] || seen="; $candidate is Python $version"
  done
  fail "odin-ws needs Python $supported, and none is on the PATH$seen"
}

make_environment() {
  local python=$chosen version
  [[ -n $python ]] || python=$(find_python)
  version=$(version_of "$python")
  [[ -n $version ]] || fail "$python is no Python interpreter"
  is_supported "$version" || fail "odin-ws needs Python $supported; $python is Python $version"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments: install python3-venv (Debian: python$version-venv)"
  echo "Making $folder with Python $version ($(command -v "$python"))"
  rm -rf "$folder"
  "$python" -m venv "$folder"
}

# An environment is created again if its interpreter is missing, has another version (after an
# upgrade of the system), or is not the chosen one.
usable() {
  local version
  version=$(version_of "$folder/bin/python")
  [[ -n $version ]] && is_supported "$version" || return
  [[ -z $chosen || $version == "$(version_of "$chosen")" ]] || return
  "$folder/bin/python" -c 'import pip' 2>/dev/null
}

usable || make_environment
echo "Installing odin-ws[$extra] into $folder:"
# Shows only the lines of pip for downloads and installation, which take most of the time.
# Modules are compiled at their first import: most are never imported.
"$folder/bin/python" -m pip install --no-compile --disable-pip-version-check --progress-bar off \
  --constraint constraints.txt --editable "./clients/python[trio]" --editable ".[$extra]" |
  while IFS= read -r line; do
    case $line in
    *Downloading*\(*\))
      IFS=- read -r name version _ <<<"${line##*Downloading }"
      echo "  $name $version ${line##* (}" | sed 's/ \([^ ]* [kM]B\))$/ (\1)/'
      ;;
    'Installing collected packages:'*) read -ra names <<<"${line#*:}" && echo "  unpacking ${#names[@]} packages" ;;
    esac
  done
