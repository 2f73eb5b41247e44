# `make demo` and `make test` are the whole set-up on a machine with Python 3.10 to 3.13 and make.
# Where no virtual environment is active, each target makes and uses .venv here.

PYTHON ?= python3
SMALL ?=

ifdef VIRTUAL_ENV
environment := $(VIRTUAL_ENV)
else
environment := .venv
endif
bin := $(environment)/bin
pip := $(bin)/python -m pip install --disable-pip-version-check --quiet
# One stamp for each set of extras; newer than pyproject.toml means installed.
for-demo := $(environment)/.misalign-bench-demo
for-test := $(environment)/.misalign-bench-test

.PHONY: help demo test attack torture check fmt bench docs sbom clean

help:
	@echo "make demo     build a small data set, bench two models on it, write the page (SMALL=1: less to download)"
	@echo "make test     check, then all tests"
	@echo "make attack   the short attacks of docs/reliability.md, about two minutes (part of make test)"
	@echo "make torture  the long ones, one after another (about 40 minutes), into docs/reliability.md"
	@echo "make check    ruff and mypy --strict"
	@echo "make fmt      format and mend what ruff can mend"
	@echo "make bench    measure speed (benchmarks/)"
	@echo "make docs     write docs/commands.md and docs/domains.md from the code"
	@echo "make sbom     write sbom.json, the bill of materials of what is installed (CycloneDX)"
	@echo "make clean    remove .venv, caches and build results; downloaded weights stay"

demo: $(for-demo)
	$(bin)/misalign-bench demo $(if $(SMALL),--small)

test: check
	$(bin)/python -m pytest

# By file: collecting all the others first would take ten seconds.
attack: $(for-test)
	$(bin)/python -m pytest $$(grep -l '^pytestmark = pytest.mark.attack' tests/test_*.py)

torture: $(for-test)
	$(bin)/python benchmarks/torture/run.py

check: $(for-test)
	$(bin)/ruff format --check src tests benchmarks scripts
	$(bin)/ruff check src tests benchmarks scripts
	$(bin)/mypy

fmt: $(for-test)
	$(bin)/ruff format src tests benchmarks scripts
	$(bin)/ruff check --fix src tests benchmarks scripts

bench: $(for-test)
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(bin)/python $$script; done

docs: $(for-test)
	$(bin)/python scripts/write_docs.py

sbom: $(for-test)
	$(bin)/python scripts/sbom.py --out sbom.json

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist runs
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(for-demo): pyproject.toml | $(bin)/python
	@echo "Installing misalign-bench with what the demo needs into $(environment) (about 650 MB) ..."
	@$(pip) --editable '.[demo]'
	@touch $@

$(for-test): pyproject.toml | $(bin)/python
	@echo "Installing misalign-bench with what its tests need into $(environment) (about 1 GB) ..."
	@$(pip) --editable '.[test]'
	@touch $@ $(for-demo)

$(bin)/python:
	@echo "Making a virtual environment in $(environment) with $(PYTHON) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "make: $(PYTHON) is missing or older than 3.10. Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(environment)
