# Everything a developer runs. Each target makes the virtual environment itself when it is missing or stale.

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := deploy/requirements
# Named after the locks' content: another lock, another stamp, and the environment is brought up to date.
STAMP := $(VENV)/.installed-$(shell cat $(REQUIREMENTS)/bootstrap.txt $(REQUIREMENTS)/dev.txt | cksum | cut -d' ' -f1)
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-annotate

# Certificates the machine trusts, a company's proxy for one, count for downloads too.
export UV_SYSTEM_CERTS := 1

# The workflow sandbox imports a workflow's module anew for each run; where bytecode is not kept, it compiles it anew.
unexport PYTHONDONTWRITEBYTECODE

DETACH ?=
EXIT ?=
SANDBOX ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo up down reset status test lint format bench lock env check-deploy

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## start the stack and tell the story of four purchases (EXIT=1 stops it afterwards)
	@$(BIN)/lyceum demo $(if $(EXIT),--exit)

up: $(STAMP) ## start the whole stack with a live table, until Ctrl-C (DETACH=1 returns when all is ready)
	@$(BIN)/lyceum up $(if $(DETACH),--detach)

down: $(STAMP) ## stop the stack; its data stays
	@$(BIN)/lyceum down

reset: $(STAMP) ## stop the stack and forget its data
	@$(BIN)/lyceum reset

status: $(STAMP) ## list every service and process with pid, port, health and restarts
	@$(BIN)/lyceum status || true

test: lint ## lint, then every test on real servers (ARGS='-k name' picks some)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --ignore tests/architecture $(ARGS)

lint: $(STAMP) ## format check, ruff, mypy, import rules, architecture rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -q -p no:randomly tests/architecture

format: $(STAMP) ## format the code and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## measure, and write docs/benchmarks.md
	@$(BIN)/python -m tests.bench $(ARGS)

lock: $(STAMP) ## resolve the requirements again and write the locks
	@$(COMPILE) $(if $(UPGRADE),--upgrade) pyproject.toml --extra stack --extra dev -o $(REQUIREMENTS)/dev.txt
	@$(COMPILE) pyproject.toml -c $(REQUIREMENTS)/dev.txt -o $(REQUIREMENTS)/runtime.txt

env: $(STAMP) ## write .env, the secrets of docker-compose.yml (SANDBOX=1 adds the stand-in for Stripe)
	@$(BIN)/python -m deploy.docker.env $(if $(SANDBOX),--sandbox)

check-deploy: $(STAMP) ## validate the Dockerfile and docker-compose.yml with the tools that are there
	@$(BIN)/python -m deploy.check

$(STAMP):
	@echo "Making the virtual environment (once per lock)…"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; PYTHON=/path/to/python names one" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(REQUIREMENTS)/bootstrap.txt
	@$(BIN)/uv pip sync -q --compile-bytecode --python $(BIN)/python --require-hashes \
		$(REQUIREMENTS)/bootstrap.txt $(REQUIREMENTS)/dev.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-* && touch $@
