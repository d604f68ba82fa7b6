# All targets use .venv, which is created on demand from pyproject.toml and constraints.txt.
# Needs python3 (3.10 or newer, with its venv module) and make.
# `make PYTHON=python3.12 test` uses another interpreter. pip reads PIP_* variables as usual: set
# PIP_EXTRA_INDEX_URL to an index with CPU-only builds of torch on a machine without a GPU.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo test test-slow test-scatter test-models test-trl test-gpu lint bench plan-accuracy bench-gpu gpu install-site site docs check-wheel wheel clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "graphformer needs Python 3.10 or newer: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment: install its venv module (Debian: python3-venv)" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,logging]'
	@touch $@

$(VENV)/.installed-scatter: $(VENV)/.installed-dev
	$(PIP) install --quiet --constraint constraints.txt setuptools wheel ninja
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --constraint constraints.txt --no-build-isolation --no-deps torch-scatter
	@touch $@

install: $(VENV)/.installed ## create .venv and install the library

install-dev: $(VENV)/.installed-dev ## create .venv and install the library and the tools for tests and checks

demo: $(VENV)/.installed ## train one Transformer on images, text and a graph, each with two adjacencies
	$(BIN)/graphformer demo

# With as many processes as cores, spinning OpenMP threads would waste time slices: wait passively.
test: $(VENV)/.installed-dev ## run the test suite with one process per core
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -q -n auto --dist worksteal

test-slow: $(VENV)/.installed-dev ## run the tests marked slow
	$(BIN)/python -m pytest -q -m "slow and not gpu"

test-scatter: $(VENV)/.installed-scatter ## build torch-scatter (ten minutes) and run the tests of the backend scatter
	$(BIN)/python -c "import torch_scatter"
	$(BIN)/python -m pytest -q -k scatter

$(VENV)/.installed-models: $(VENV)/.installed-dev
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,logging,models]'
	@touch $@

test-models: $(VENV)/.installed-models ## run the tests of public weights against transformers
	$(BIN)/python -m pytest -q tests/pretrained -m "not gpu"

$(VENV)/.installed-trl: $(VENV)/.installed-models
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,logging,models,trl]'
	@touch $@

test-trl: $(VENV)/.installed-trl ## run the tests of post-training losses against TRL
	$(BIN)/python -m pytest -q tests/tasks/post_training/test_trl.py -m "not gpu"

test-gpu: $(VENV)/.installed-dev ## run the tests that need a CUDA device
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "test-gpu needs a CUDA device and a torch built for it")'
	$(BIN)/python -m pytest -q -m gpu

lint: $(VENV)/.installed-dev ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed ## run the benchmark of attention and layers against other libraries
	$(BIN)/python experiments/benchmark.py

plan-accuracy: $(VENV)/.installed ## compare the memory that plan predicts with that of five runs on this CPU (Linux)
	$(BIN)/python experiments/plan_accuracy.py

$(VENV)/.installed-peers: $(VENV)/.installed-dev
	$(PIP) install --quiet --no-deps anemoi-models
	@touch $@

bench-gpu: $(VENV)/.installed-peers ## run the benchmark on a CUDA device
	$(BIN)/python experiments/benchmark.py --device cuda

gpu: test-gpu bench-gpu ## run test-gpu and bench-gpu; results in experiments/results/benchmark-gpu

# No installation: PYTHON needs torch, triton, numba, networkx and PyG.
gpu-quick: ## check and measure the CUDA kernels in 8 minutes with PYTHON, without installing anything
	PYTHONPATH="$(CURDIR)" $(PYTHON) experiments/gpu_quick.py

$(VENV)/.installed-site: $(VENV)/.installed-dev
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,logging,docs]'
	@touch $@

install-site: $(VENV)/.installed-site

site: $(VENV)/.installed-site ## build the documentation into site/ and follow its links
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	$(BIN)/python docs/check_links.py site

$(VENV)/.installed-docs: $(VENV)/.installed-site
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,logging,models,docs]'
	@touch $@

docs: $(VENV)/.installed-docs ## run the examples of the documentation, then make site
	$(BIN)/python docs/run_examples.py
	$(MAKE) site

# The libraries are those of .venv; its editable installation comes after PYTHONPATH.
check-wheel: $(VENV)/.installed-dev ## build the wheel and try its content with the libraries of .venv
	rm -rf build/check
	$(PIP) wheel --quiet --no-deps --wheel-dir build/check .
	$(PIP) install --quiet --no-deps --target build/check/files build/check/*.whl
	PYTHONPATH="$(CURDIR)/build/check/files" $(BIN)/python tests/smoke.py

wheel: $(VENV)/.installed-dev ## build wheel and sdist into dist/, and try the wheel in a new environment
	$(PIP) install --quiet build
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	build/wheel/bin/python tests/smoke.py

clean: ## remove .venv, build folders and caches
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
