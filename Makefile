.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never

.PHONY: help setup demo serve test soak scale fuzz openapi bench lint audit format clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.synced ## Create .venv with the locked dependencies

.venv/.synced: pyproject.toml uv.lock scripts/bootstrap
	@PYTHON=$(PYTHON) sh scripts/bootstrap

demo: setup ## Start everything, make a first call, show the promise, keep serving (ONCE=1 exits)
	@$(BIN)/python manage.py demo $(if $(ONCE),--once)

serve: setup ## Start the gateway, the console and their database
	@$(BIN)/python manage.py serve

# Compiled once: in an environment that keeps no bytecode each of the many processes of the tests would compile it all.
# For the same reason pytest keeps what it makes of the tests, whatever that environment says.
test: setup ## Run every test on a real PostgreSQL
	-@$(BIN)/python -m compileall -q -j 0 accounts config console enforcement integrations monitoring proxy telemetry tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

soak: setup ## The longer proofs: crashes and races at length
	@$(BIN)/python -m pytest -m soak -n 0 $(ARGS)

scale: setup ## Measure sums and pages over ten million calls (needs 20 GB; ARGS="--rows 1000000" for fewer)
	@$(BIN)/python -m tests.scale $(ARGS)

fuzz: setup ## Ask REST and the gateway 20,000 questions that nobody would
	@$(BIN)/python -m pytest -m fuzz -n 0 $(ARGS)

openapi: setup ## Write docs/openapi.json anew from the code
	@$(BIN)/python manage.py openapi

bench: setup ## Measure speed, CPU and memory (needs gcc and wrk; PEERS=1 adds competitors)
	@$(BIN)/python -m tests.bench $(if $(PEERS),--peers) $(ARGS)

lint: setup ## Formatting, lint, types, import contracts, templates, migrations
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports
	@$(BIN)/djlint --quiet --lint templates
	@$(BIN)/python manage.py makemigrations --check --dry-run

audit: setup ## Bill of materials (var/sbom.cdx.json), known vulnerabilities, risky code (AUDIT_SERVICE=osv asks another)
	@sh scripts/audit

format: setup ## Rewrite the code in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## Remove what was built; the data in var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache tests/bench/build
