# On a bare machine: a supported Python, make, and for `make test` Java 17, Maven and Go 1.26.
# `make help` lists.

# By default the first supported Python on the PATH; PYTHON=/path/to/python chooses another.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Stamps: the environment has what the demo needs, it has everything that development needs.
DEMO := $(VENV)/.demo
DEV := $(VENV)/.dev
KAFKA := tests/apache_kafka
JARS := $(KAFKA)/libs/.copied
OLDEST := $(KAFKA)/oldest
OLDEST_JARS := $(OLDEST)/libs/.copied
CLASSES := $(KAFKA)/libs/classes.jsa
KFAKE := tests/kfake/kfake
# Clients of other languages, for the tests of what they read.
INTEROP := tests/interop
GO_CLIENT := $(INTEROP)/go/client
NODE_WS := $(INTEROP)/node/node_modules/.package-lock.json
# What drives a browser, for the tests of the console's page.
CONSOLE := tests/console/node
PLAYWRIGHT := $(CONSOLE)/node_modules/.package-lock.json
# The compiled code of the benchmark is stored beside its modules: tests of both workers need it.
LOAD := src/odin_ws/bench/__pycache__/.compiled

# Every process of a test run would compile all modules and rewrite all tests.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo stack stack-long quick test test-long newest coverage pythons chaos bench bench-all bench-hot autobahn fuzz hostile bundle pictures check image-files release-check docs format peers packages clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(DEV) ## .venv with odin-ws (editable) and all that development needs, pinned

demo: $(DEMO) ## a broker, a publisher, the server and a client, on this machine; ARGS="--help"
	$(BIN)/odin-ws demo $(ARGS)

stack: setup packages ## three instances behind HAProxy, Prometheus with the alerts, a broker, a publisher; ARGS="--help"
	$(BIN)/python -m tests.stack $(ARGS)

stack-long: setup packages $(JARS) ## a rolling restart with 500 clients behind HAProxy, then alerts; 5 minutes
	$(BIN)/python -m tests.stack --course $(ARGS)

# No network, no Kafka, no other process: what needs only this one, and virtual time. Hypothesis tries
# a fifth of the examples of `make test`.
QUICK := --hypothesis-profile quick -m 'not long and not processes' \
	$(addprefix tests/,auth canary catalogue client_python connection handshake history hub kafka listener \
	ops protocol http_api resources resume scenarios session settings testing workers) $(wildcard tests/test_*.py)

quick: setup ## the tests without network, Kafka or processes, on all cores; ARGS="-k name"
	$(BIN)/pytest -q -n auto $(QUICK) $(ARGS)

newest: ## make quick with the newest supported Python on this machine
	@bash tools/pythons.sh newest $(QUICK)

coverage: setup ## make quick, with the branches that it takes, and the floor
	$(BIN)/pytest -q -n auto --session-timeout 1500 --cov --cov-report=term:skip-covered $(QUICK) $(ARGS)

test: setup peers ## all tests, with a real Apache Kafka; ARGS="-k name" goes to pytest
	@bash tools/test.sh $(BIN)/pytest $(ARGS)

test-long: setup peers ## tests of which `make test` has a short form: the image's build, more signals to workers
	@bash tools/test.sh $(BIN)/pytest -m long $(ARGS)

pythons: ## an import and a short demo with each other supported Python on this machine
	@bash tools/pythons.sh

chaos: setup $(JARS) ## breaks Kafka, instances, connections under 500 clients; ARGS="--cluster": 3 brokers
	$(BIN)/python -m tests.chaos $(ARGS)

bench: setup $(JARS) ## what the project promises, measured beside a baseline in three minutes; ARGS="--json -"
	$(BIN)/odin-ws bench short $(ARGS)

bench-all: setup $(JARS) ## all of it, in half an hour
	$(BIN)/odin-ws bench all $(ARGS)

bench-hot: setup ## what one delivered message costs in bytecode, against the stored figure
	$(BIN)/python -m tests.bench.hot_path $(ARGS)

fuzz: setup ## mutated heads, frames, commands, connections for 10 minutes; ARGS="--seconds 3600"
	$(BIN)/python -m tests.fuzz $(ARGS)

autobahn: setup ## all cases of Autobahn's WebSocket test suite, ten minutes; ARGS="--case 6.*"
	$(BIN)/python -m tests.autobahn $(ARGS)

hostile: setup $(JARS) ## 1,000 good clients beside 2,000 hostile ones, two minutes; ARGS="--help"
	$(BIN)/python -m tests.hostile $(ARGS)

bundle: ## copies clients/js, made into one file, to the console's page
	cd clients/js && node tools/bundle.js
	cp clients/js/dist/odin-ws.js src/odin_ws/ops/console/static/odin-ws-client.js

pictures: setup $(JARS) $(PLAYWRIGHT) ## the pictures of the console in docs/images, in Chromium, after a quarter of an hour
	$(BIN)/python -m tests.console.pictures $(ARGS)

check: setup ## what needs no test run: format, lint, types, import contracts, compose file, JavaScript package
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose/compose.yaml
	bash tools/check_js.sh

image-files: setup ## hashes and bill of materials (SBOM) of what the image installs, for deploy/image
	$(BIN)/python tools/image_files.py

docs: setup ## the documentation as a site in build/docs, its links and anchors checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

release-check: setup ## wheels, sdists, changelog and version, installed in an empty environment; ARGS=0.2.0 for a dry run
	$(BIN)/python tools/release.py check $(ARGS)

format: setup ## writes the format and the lint fixes that are safe
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Not listed: what the tests run against. `.ci/run` makes it beside `make check`, which saves minutes.
peers: packages $(JARS) $(CLASSES) $(OLDEST_JARS) $(KFAKE) $(GO_CLIENT) $(NODE_WS) $(PLAYWRIGHT) $(LOAD)

# Not listed: `make test` and `make stack` call it. As root on Debian it installs what is missing.
packages:
	@bash tools/system_packages.sh

clean: ## removes what make made
	rm -rf clients/js/node_modules clients/js/dist $(VENV) $(KAFKA)/libs $(OLDEST)/libs $(KFAKE) $(GO_CLIENT) $(INTEROP)/node/node_modules $(CONSOLE)/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src clients tests -name __pycache__ -type d -exec rm -rf {} +

$(DEMO): pyproject.toml clients/python/pyproject.toml constraints.txt tools/environment.sh
	@bash tools/environment.sh $(VENV) demo $(PYTHON)
	@touch $@

$(DEV): pyproject.toml clients/python/pyproject.toml constraints.txt tools/environment.sh
	@bash tools/environment.sh $(VENV) dev $(PYTHON)
	@touch $(DEMO) $@

# Without Maven the tests that need Apache Kafka are skipped (or fail, under ODIN_REQUIRE_KAFKA=1).
$(JARS) $(OLDEST_JARS): %/libs/.copied: %/pom.xml
	rm -rf $(@D)
	@if command -v mvn >/dev/null; then \
		echo 'Copying the jars of Apache Kafka (at most 54 MB) to $(@D)'; \
		mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=libs && touch $@; \
	else \
		echo 'Maven is missing: no Apache Kafka for the tests' >&2; \
	fi

# With it each start of Apache Kafka takes two thirds of the CPU.
$(CLASSES): $(JARS) $(DEV) tests/apache_kafka/class_archive.py
	@[ ! -e $(JARS) ] || $(BIN)/python -m tests.apache_kafka.class_archive $(@D)

# Without Go the tests that need kfake are skipped (or fail, under ODIN_REQUIRE_KAFKA=1).
$(KFAKE): $(wildcard tests/kfake/*.go) tests/kfake/go.mod tests/kfake/go.sum
	@if command -v go >/dev/null; then \
		cd $(@D) && go build -o $(@F) .; \
	else \
		echo 'Go is missing: no kfake for the tests' >&2; \
	fi

$(GO_CLIENT): $(wildcard $(INTEROP)/go/*.go) $(INTEROP)/go/go.mod $(INTEROP)/go/go.sum
	@if command -v go >/dev/null; then \
		cd $(@D) && go build -o $(@F) . || \
			echo 'Go modules are missing: WebSocket libraries of Go are not tested' >&2; \
	else \
		echo 'Go is missing: its WebSocket libraries are not tested' >&2; \
	fi

$(PLAYWRIGHT): $(CONSOLE)/package.json $(CONSOLE)/package-lock.json
	@if command -v npm >/dev/null; then \
		cd $(CONSOLE) && npm ci --silent --no-audit --no-fund || \
			echo 'playwright-core is missing: the console is not tested in a browser' >&2; \
	else \
		echo 'npm is missing: the console is not tested in a browser' >&2; \
	fi

# numba takes what it stored although functions that are called have changed, and fails if their
# module is gone.
$(LOAD): $(DEV) $(wildcard src/odin_ws/bench/*.py) tests/bench/compile_load.py
	@rm -f $(@D)/*.nb[ci]
	@$(BIN)/python -m tests.bench.compile_load
	@touch $@

$(NODE_WS): $(INTEROP)/node/package.json $(INTEROP)/node/package-lock.json
	@if command -v npm >/dev/null; then \
		cd $(INTEROP)/node && npm ci --silent --no-audit --no-fund || \
			echo 'the npm package ws is missing: it is not tested' >&2; \
	else \
		echo 'npm is missing: its WebSocket library is not tested' >&2; \
	fi
