# make demo   create .venv, install, train a CNN on the digits
# make test   create .venv, install what the tests need, run them
# make lint   ruff, its formatter, and the strict type check
# make bench  measure beside PyTorch, JAX and ONNX Runtime, into benchmarks/results/:
#             operations and import, steps, inference, memory, convolution

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint bench clean

demo: .venv/installed
	$(BIN)/sillar train digits

test: .venv/tests
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

lint: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/tests
	$(BIN)/python -m benchmarks.overhead --keep
	$(BIN)/python -m benchmarks.step --keep
	$(BIN)/python -m benchmarks.latency --keep
	$(BIN)/python -m benchmarks.memory --keep
	$(BIN)/python -m benchmarks.convolution --rounds 7 --keep

# Debian keeps the module that puts pip into an environment in a package of its own.
$(BIN)/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo 'installing python3-venv'; \
	  apt-get update -qq && apt-get install -qq -y python3-venv; } || { \
	  echo 'make: Python has no ensurepip: install the package python3-venv' >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

# PyTorch, an oracle of the tests, first and alone: on Linux an open version range
# takes a build of several gigabytes.
.venv/tests: .venv/installed
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[test,bench,lint]'
	@touch $@

clean:
	rm -rf .venv runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
