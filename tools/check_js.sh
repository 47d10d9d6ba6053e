#!/usr/bin/env bash
# Checks the JavaScript package: its types, its tests, and the files that npm packs; and the types
# of the console's modules. Without npm the checks are skipped, or fail if ODIN_REQUIRE_NODE=1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../clients/js"

leave_out() {
    echo "$1: $2" >&2
    [ "${ODIN_REQUIRE_NODE:-}" != 1 ]
    exit
}

command -v npm >/dev/null || leave_out "npm is missing" "the JavaScript package is not checked"
node --test --test-reporter=dot test/*.test.js
npm pack --silent --dry-run
# Installs TypeScript from the registry, once.
if [ ! node_modules/typescript/package.json -nt package.json ]; then
    npm install --silent --no-package-lock --no-audit --no-fund &&
        touch node_modules/typescript/package.json ||
        leave_out "TypeScript cannot be installed" "types of the JavaScript package are not checked"
fi
npm run --silent types
node_modules/.bin/tsc -p ../../tools/console_types.json
