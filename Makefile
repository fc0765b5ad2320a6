# SPDX-License-Identifier: Apache-2.0
# `make` alone lists the targets. Recipes are one line each; what takes more lives in tools/.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
PAIR := examples/models/pair

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing: Debian packages, .venv, the built package in it
	@tools/setup.sh run

demo: setup ## the main job: stitch two language models, carry an SAE across, write out/demo/report.html
	@.venv/bin/suture report $(PAIR)/small $(PAIR)/large --texts $(PAIR)/text/train.jsonl.gz \
		--held-out $(PAIR)/text/heldout.jsonl.gz --out out/demo

savings: setup ## train SAEs from random and transferred starts, write out/savings/savings.json and figures
	@.venv/bin/suture savings $(PAIR)/small $(PAIR)/large --texts $(PAIR)/text/train.jsonl.gz \
		--held-out $(PAIR)/text/heldout.jsonl.gz --out out/savings

paper: setup ## the paper's experiments, sections 2 to 5, on the pair: out/paper/report.html
	@.venv/bin/suture paper $(PAIR)/small $(PAIR)/large --texts $(PAIR)/text/train.jsonl.gz \
		--held-out $(PAIR)/text/heldout.jsonl.gz --out out/paper

real: ## the report on two pretrained models, SmolLM2 (Apache-2.0) and Gemma 3 (Gemma terms): out/real/report.html
	@tools/setup.sh real
	@$(PYTHON) examples/real/models.py out/real/models
	@$(PYTHON) examples/real/passages.py $(PAIR)/text out/real/text
	@$(PYTHON) examples/real/report.py out/real

test: test-swift test-c test-python ## every test

test-swift: packages ## Swift tests: numerics, domain, C interface
	@tools/swift.sh test
	@tools/swift.sh example

test-c: lib ## C and C++ programs and the examples, against Include/suture.h and libsuture.so
	@tools/test-c.sh

test-python: ## Python tests, in .venv with the package as installed
	@tools/setup.sh test
	@$(PYTHON) -m pytest -c python/pyproject.toml python/tests

check: lib ## format, lint, types, header drift, exported symbols, licence lines
	@tools/setup.sh check
	@tools/check.sh

bench: ## benchmarks of python/benchmarks, beside other libraries
	@tools/setup.sh bench
	@tools/bench.sh

header: lib ## write Include/suture.h anew
	@tools/header.py .build-lib/release

lib: packages ## build the shared library: .build-lib/release/libsuture.so
	@tools/swift.sh lib

ext: ## build and install the Python package into .venv if its sources changed
	@tools/setup.sh package

wheel: ## a wheel in out/wheels
	@tools/wheel.sh

format: ## format Swift and Python sources in place
	@tools/setup.sh check
	@tools/format.sh

clean: ## remove what was built; .venv and out/ stay
	@rm -rf .build .build-* python/build python/*.egg-info

packages:
	@tools/setup.sh packages

.PHONY: help setup demo savings paper real test test-swift test-c test-python check bench header lib ext wheel format clean packages
