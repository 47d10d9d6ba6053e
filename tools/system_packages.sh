#!/usr/bin/env bash
# Installs the programs that the stack and tests need: HAProxy, Prometheus (with promtool), nginx,
# and Chromium for pages, from Debian's packages. Does nothing if all of the programs are installed,
# or without root on a Debian system: tests that need a missing program are then skipped, or fail
# with ODIN_REQUIRE_STACK=1.
#
# usage: bash tools/system_packages.sh
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in haproxy:haproxy prometheus:promtool nginx:nginx chromium:chromium; do
  command -v "${pair#*:}" >/dev/null || missing+=("${pair%:*}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]} (Debian's packages); the tests that need them are skipped" >&2
  exit 0
fi

# The packages start their servers, on every interface; status 101 of this script prevents that.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi

echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install() {
  apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null 2>&1
}
# The package lists may be missing or old.
install || { apt-get update -qq >/dev/null 2>&1 && install; } ||
  echo "${missing[*]} cannot be installed; the tests that need them are skipped" >&2
