# Every command of this repository. All of them need Python >= 3.11 with venv and pip, make and git; the rest is
# installed into .venv from the pinned, hashed files in requirements/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

bin := .venv/bin
python_code := $(wildcard src tests bench examples)
generators := $(sort $(wildcard scripts/generate_*.py))

.PHONY: help setup run test check fix bench faults lock

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## create .venv with everything pinned, and .venv/bin/holdfast; does nothing when nothing changed
	@scripts/setup.sh

run: setup ## start the server on SQLite with the built-in assistant; the first start prints a key
	@exec $(bin)/holdfast serve

# An empty value is none: where nothing compiled is kept, each of the hundreds of processes of the tests compiles all that it
# imports again, and that was a fifth of their time.
test bench faults: export PYTHONDONTWRITEBYTECODE :=

test: setup ## all tests except the long fault campaigns; ARGS="-k name" narrows them
	@$(bin)/pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not faults" $(ARGS)

check: setup ## format, lint, types, layers, generated files: changes nothing
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy $(python_code)
	scripts/pyright.sh
	$(bin)/lint-imports
	@for generator in $(generators); do echo "$$generator --check"; $(bin)/python "$$generator" --check; done

fix: setup ## write generated files again, format, and repair what the linter can
	@for generator in $(generators); do echo "$$generator"; $(bin)/python "$$generator"; done
	$(bin)/ruff check --fix .
	$(bin)/ruff format .

bench: setup ## measure, print the table, write bench/results/; ARGS are passed on
	@$(bin)/python -m bench $(ARGS)

faults: setup ## the long campaigns: kills, cuts, full disks
	@$(bin)/pytest -m faults tests $(ARGS)

lock: setup ## pin dependencies again from pyproject.toml; ARGS=--upgrade takes the newest
	@scripts/lock.sh $(ARGS)
