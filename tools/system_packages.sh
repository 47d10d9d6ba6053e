#!/usr/bin/env bash
# Installs what the stack and tests run besides our own programs: HAProxy, Prometheus (with
# promtool), nginx, and Chromium for pages, from Debian's packages. Nothing happens where all of
# them are there, or where this is no root on a Debian system: the tests that need them are skipped
# then, or fail under ODIN_REQUIRE_STACK=1.
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

# The packages start their servers, on every interface. Status 101 of this script forbids that.
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
# Lists of packages may be missing or old.
install || { apt-get update -qq >/dev/null 2>&1 && install; } ||
  echo "${missing[*]} cannot be installed; the tests that need them are skipped" >&2
