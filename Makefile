# Everything starts here: `make help`. It makes its own .venv with Python 3.11 or newer and needs nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYDANTIC_AI_NO_BANNER := 1
# Every process of the service and of the tests would compile all it imports again: twice the time to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo serve dev test proofs eval up down kind-up kind-down observability operations gameday gameday-short look exemplars faults outage soak rolling bench-api bench-planner attacks attacks-short loadtest loadtest-short hpa-proof hpa-proof-short release-check release check format lock clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: $(VENV)/.runtime  ## run the main job end to end: a sentence and a dataset in, features and their telemetry out
	@$(BIN)/feature-agent demo

serve: $(VENV)/.runtime  ## keep the service running, with its documentation at /api/docs
	@$(BIN)/feature-agent serve

dev: $(VENV)/.dev  ## serve, and start again whenever a file of service/ changes; the embedded database goes on
	@$(BIN)/python -m tools.dev

test: $(VENV)/.dev  ## run the tests, with coverage
	$(PYTEST) -m "not proof and not unmeasured" --cov --cov-report=term --cov-fail-under=90
	$(PYTEST) -m "not proof and unmeasured"

proofs: $(VENV)/.dev  ## run what takes its time: faults, outages, several processes, every panel and runbook over real traffic
	$(PYTEST) -m proof

PYTEST = $(BIN)/python -m pytest -n auto --dist loadgroup --durations=25 --durations-min=3

loadtest: $(VENV)/.dev  ## say yes or no to the service by its objectives under load (HOST=… KEY=… METRICS=… for one that runs); under 5 min
	$(BIN)/python -m loadtest gate $(LOAD_TARGET) --shape smoke --shape staircase --out build/loadtest

loadtest-short: $(VENV)/.dev  ## the same with the first shape, in a minute
	$(BIN)/python -m loadtest gate $(LOAD_TARGET) --shape smoke --out build/loadtest

LOAD_TARGET = $(if $(HOST),--host "$(HOST)") $(if $(KEY),--key "$(KEY)") $(if $(METRICS),--metrics "$(METRICS)")

hpa-proof: $(VENV)/.dev  ## prove the autoscalers' targets with real processes, 12 min on an idle machine; writes docs/measurements/hpa-proof.*
	$(BIN)/python -m loadtest hpa prove --out build/hpa-proof
	cp build/hpa-proof/hpa-proof.json build/hpa-proof/hpa-proof.md build/hpa-proof/hpa-proof.html docs/measurements/

hpa-proof-short: $(VENV)/.dev  ## the same with one to three pods, in three minutes
	$(BIN)/python -m loadtest hpa prove --short --out build/hpa-proof-short

release-check: $(VENV)/.dev  ## one verdict on a release: checks, tests, load and autoscaler; the page for the ticket is build/release/release.html
	$(BIN)/python -m loadtest release --out build/release

release: $(VENV)/.dev  ## cut the changelog, set the version, commit and tag, on this machine alone: make release VERSION=1.2.3
	@$(BIN)/python -m tools.release "$(VERSION)"

eval: $(VENV)/.dev  ## measure a planner on the cases of evals/ and write its table: make eval MODEL=openai:gpt-5
	$(BIN)/python -m evals --model "$(MODEL)"

MODEL ?= builtin:planner

faults: $(VENV)/.dev  ## the fault tests in their long form: the database restarted in the middle of 200 jobs
	FAULT_JOBS=200 $(BIN)/python -m pytest -q -rP tests/e2e/test_kill.py tests/e2e/test_faults.py tests/e2e/test_drill.py tests/e2e/test_pods.py

outage: $(VENV)/.dev  ## the preferred model out for a minute under 200 clients, on a machine with nothing else to do
	OUTAGE_SECONDS=60 $(BIN)/python -m pytest -q -s tests/e2e/test_outage.py

soak: $(VENV)/.dev  ## run 1000 extractions over 2 APIs and 3 workers while one is killed every 5 s: make soak JOBS=1000
	$(BIN)/python -m tools.soak --jobs $(JOBS) --out docs/measurements/soak.json

rolling: $(VENV)/.dev  ## replace every process under load, three times over, and count the requests that fail
	$(BIN)/python -m tools.rolling --rounds $(ROUNDS) --out docs/measurements/rolling.json

JOBS ?= 1000
ROUNDS ?= 3

up:  ## run the service with everything around it in containers, and print where it is (needs Docker)
	@$(PYTHON) -m observability.stack up

down:  ## stop what `make up` started; its data stay (make down ARGS=--volumes throws them away)
	@$(PYTHON) -m observability.stack down $(ARGS)

kind-up:  ## run the service in Kubernetes on this machine (needs Docker, kind and kubectl)
	@$(PYTHON) -m k8s.kind up

kind-down:  ## throw that cluster away, with its data
	@$(PYTHON) -m k8s.kind down

bench-api: $(VENV)/.bench  ## measure what a request costs against the seed design, 10 min on an idle machine: make bench-api BENCH_ROUNDS=8
	$(BIN)/python -m loadtest.benchmarks.api --rounds $(BENCH_ROUNDS) --write loadtest/benchmarks/api/RESULTS.md

BENCH_ROUNDS ?= 8

bench-planner: $(VENV)/.dev  ## measure what planning by the built-in planner costs, by sentence and columns; 2 min
	$(BIN)/python -m loadtest.benchmarks.planner --write loadtest/benchmarks/planner/RESULTS.md

operations: $(VENV)/.dev  ## write docs/operations.md from the classes of operations; print what each declares and how it is held
	$(BIN)/python -m tools.operations_document --write
	$(BIN)/python -m tests.operations.matrix

attacks: $(VENV)/.dev  ## attack a real service in every way of a table and measure everybody else; 15 min on an idle machine, writes docs/measurements/attacks.md
	$(BIN)/python -m tests.attacks --write

attacks-short: $(VENV)/.dev  ## the same against one service, with wider bounds, in some minutes
	$(BIN)/python -m tests.attacks --short

observability: $(VENV)/.dev  ## render what is generated in observability/ from slo.yaml and the telemetry catalog
	$(BIN)/python -m observability.source

gameday: $(VENV)/.dev  ## inflict every fault on real processes and see each alert come and go; 40 min, writes docs/measurements/gameday.md
	$(BIN)/python -m tools.gameday --write $(FAULTS)

gameday-short: $(VENV)/.dev  ## the same with three faults, in some minutes
	$(BIN)/python -m tools.gameday --short --at-once 2

FAULTS ?=

look: $(VENV)/.dev  ## photograph every board in a Grafana, healthy and during faults: make look GRAFANA_BIN=/usr/share/grafana/bin/grafana
	GRAFANA_BIN=$(GRAFANA_BIN) GRAFANA_URL=$(GRAFANA_URL) LOOK_PICTURES=build/look $(BIN)/python -m pytest -q -n0 tests/monitoring/look

exemplars: $(VENV)/.dev  ## follow every exemplar of five minutes to its trace in a real Jaeger (JAEGER_BIN=…); writes docs/measurements/exemplars.md
	$(BIN)/python -m tests.monitoring.dots --write

check: $(VENV)/.dev  ## lint, formatting, types, import layers, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m observability.source --check

format: $(VENV)/.dev  ## write the formatting that `check` wants
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.bootstrap  ## resolve the locks again from pyproject.toml
	$(BIN)/uv pip compile -q $(LOCK_FLAGS) $(EXTRAS) pyproject.toml -o requirements/runtime.lock
	$(BIN)/uv pip compile -q $(LOCK_FLAGS) $(EXTRAS) --group dev -c requirements/runtime.lock pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile -q $(LOCK_FLAGS) $(EXTRAS) --group bench -c requirements/runtime.lock pyproject.toml -o requirements/bench.lock
	$(BIN)/uv pip compile -q $(LOCK_FLAGS) --group load -c requirements/dev.lock -o requirements/load.lock
	$(BIN)/uv pip compile -q $(LOCK_FLAGS) requirements/bootstrap.in -o requirements/bootstrap.lock

LOCK_FLAGS := --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
EXTRAS := --extra embedded --extra openai --extra anthropic --extra google --extra s3

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .coverage* build dist

# pip brings uv (and the build backend), uv brings the rest: every package by hash.
$(VENV)/.bootstrap: requirements/bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "feature-agent needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@touch $@

INSTALL = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
INSTALL_SELF = $(INSTALL) --no-deps --no-build-isolation --editable .

$(VENV)/.runtime: $(VENV)/.bootstrap requirements/runtime.lock pyproject.toml
	$(INSTALL) --require-hashes -r requirements/runtime.lock
	$(INSTALL_SELF)
	@touch $@

$(VENV)/.dev: $(VENV)/.bootstrap requirements/dev.lock pyproject.toml
	$(INSTALL) --require-hashes -r requirements/dev.lock
	$(INSTALL_SELF)
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: $(VENV)/.dev requirements/bench.lock
	$(INSTALL) --require-hashes -r requirements/bench.lock
	@touch $@
