# Two commands do everything on a fresh machine: `make demo` and `make test`.
# What they install goes to a cache outside the tree, keyed by version.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:

CACHE := $(or $(DATAKEYS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/datakey-operator)
VENV := $(CACHE)/venv-$(shell sha256sum requirements/dev.lock | cut -c1-12)
PYTHON := $(VENV)/bin/python
export DATAKEYS_CACHE := $(CACHE)
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)/hack:$(CURDIR)/tests/support
export PATH := $(VENV)/bin:$(PATH)

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s $$'\t'

# The name says for which lock file it was made: a fresh clone, whose files are all new, needs no other.
$(VENV)/complete:
	@hack/bootstrap.sh $(VENV)

.PHONY: demo
demo: $(VENV)/complete ## Start a real cluster, install the chart and show the whole path (minutes the first time)
	@$(PYTHON) -m demo up

.PHONY: demo-down
demo-down: $(VENV)/complete ## Remove the demo cluster
	@$(PYTHON) -m demo down

.PHONY: test
test: $(VENV)/complete ## Lint and run all tiers, on real clusters where the tier says so
	@set -e
	$(MAKE) --no-print-directory lint
	$(PYTHON) -m testcluster packages
	$(PYTHON) -m testcluster build
	$(PYTHON) -m pytest $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: $(VENV)/complete ## Only the tiers that need no cluster
	@$(PYTHON) -m pytest -m "unit or property" $(PYTEST_ARGS)

.PHONY: search
search: $(VENV)/complete ## Look for counterexamples to the properties, thirty times longer than the tests do
	@HYPOTHESIS_PROFILE=deep $(PYTHON) -m pytest -m property $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/complete ## Run the benchmarks, print tables, write JSON and plots to dist/bench (QUICK=1: minutes)
	@$(PYTHON) benchmarks/run.py $(if $(QUICK),--quick)

FUZZ := $(CACHE)/fuzz-$(shell sha256sum requirements/fuzz.lock | cut -c1-12)
$(FUZZ)/complete: $(VENV)/complete
	@set -e
	$(PYTHON) -m pip install -q --disable-pip-version-check --require-hashes --target $(FUZZ) -r requirements/fuzz.lock
	touch $@

.PHONY: fuzz
fuzz: $(FUZZ)/complete ## Fuzz what takes hostile input (FUZZ_SECONDS=600 each, TARGETS="a b": only these)
	@PYTHONPATH=$(PYTHONPATH):$(FUZZ) nice -n 19 $(PYTHON) -m fuzz --seconds $(or $(FUZZ_SECONDS),600) $(TARGETS)

.PHONY: lint
lint: $(VENV)/complete ## ruff, mypy --strict, import rules between rooms
	@set -e
	ruff check .
	ruff format --check .
	mypy operator/datakeys hack tests
	lint-imports --no-cache

.PHONY: bench-workload
bench-workload: $(VENV)/complete ## Measure sidecar, admission and pod start on a cluster of their own (as root)
	@$(PYTHON) benchmarks/workload.py

.PHONY: crds
crds: $(VENV)/complete ## Write crds/ and the chart's copies from the contract
	@$(PYTHON) hack/generate_crds.py

.PHONY: conformance
conformance: $(VENV)/complete ## Write docs/conformance.md from what the tests run on
	@$(PYTHON) hack/generate_conformance.py

.PHONY: plugin
plugin: $(VENV)/complete ## Build `kubectl kms` as one file, dist/kubectl-kms, with its krew manifest
	@$(PYTHON) hack/build_plugin.py dist $(if $(PLUGIN_URI),--uri $(PLUGIN_URI))

.PHONY: lock
lock: ## Resolve the lock files again (needs uv)
	@set -e
	resolve() {
	  uv pip compile -q pyproject.toml --extra "$$1" --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header --python-version 3.11 -o "requirements/$$1.lock" "$${@:2}"
	}
	resolve dev
	resolve fuzz
	# What is shipped is what is tested.
	for room in controller webhook keyservice; do resolve $$room -c requirements/dev.lock; done
