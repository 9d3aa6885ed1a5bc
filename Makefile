# make demo    train on the sphere and on the flat torus, print a table, draw pictures
# make test    the test suite
# make lint    ruff and pyright
# make docs    the documentation, into docs/_build/html
# make clean   remove .venv and everything built (runs/ stays)
#
# All of it happens in .venv, made on first use from a Python of at least 3.11. Variables:
#   PYTHON=/path/to/python3.12   the interpreter to make .venv from
#   PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"   further arguments of pip

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
DOCS_BUILD := docs/_build
PIP_ARGS ?=
# Interpreters to try, in this order.
PYTHON ?= python3 python3.11 python3.12 python3.13 python3.14

# One stamp an extra: pip runs again only when the requirements change.
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
REQUIREMENTS := pyproject.toml constraints.txt

.PHONY: help demo test lint docs clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs $(DOCS_BUILD)/html
	@echo "open $(DOCS_BUILD)/html/index.html"

clean:
	rm -rf $(VENV) build dist $(DOCS_BUILD) .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/.created:
	@set +e; \
	for candidate in $(PYTHON); do \
	  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	  echo "No Python of at least 3.11 with the venv module among: $(PYTHON)." >&2; \
	  echo "Install one (Debian and Ubuntu: apt install python3-venv), or name it:" >&2; \
	  echo "  make demo PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "making $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV) && touch $@

$(VENV)/.installed: $(VENV)/.created $(REQUIREMENTS)
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.created $(REQUIREMENTS)
	$(PIP_INSTALL) -e ".[$*]"
	@touch $@
