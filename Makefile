# Every target sets up what it needs; Python >= 3.10 and make are all that must be there.
# Environments are rebuilt only when pyproject.toml changes.

PYTHON ?= python3
# What `make parity` and `make bench` compare with; the plain CPU build is enough.
TORCH ?= torch==2.13.0
# Processes that run the tests.
WORKERS ?= auto
# More arguments for pytest, such as: make test ARGS="-k loader"
ARGS ?=

BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
VENV := .venv
RUN := $(VENV)/$(BIN)
PARITY := .venv-parity
BENCH := .venv-bench
CUDA := .venv-cuda
# The compiler of CUDA sources and its headers, with no need for a GPU; nvcc serves where these cannot be installed.
NVRTC := nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt
# What `make bench` measures too, each only if it can be installed here.
PEERS := '$(TORCH)' jax mygrad autograd tinygrad
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PIP_FLAGS := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check parity bench profile cuda-check gpu-check docs typings clean

help: ## say what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The matrices of this network are small: more threads would wait for each other, on a busy machine for long, and sums
# in another order give other figures in the last digits, which training makes large.
demo: $(VENV)/.core ## train a small network with and without BatchNorm and compare
	$(ONE_THREAD) $(RUN)/minigrad train mlp --compare none,batch

# The tests run in one process per core; with more threads in each, cores would be promised twice.
test: $(VENV)/.dev ## run the tests that need neither GPU nor network nor PyTorch
	$(ONE_THREAD) $(RUN)/pytest -q -n $(WORKERS) -m "not gpu and not slow and not parity" $(ARGS)

check: $(VENV)/.dev ## lint, types, layering, packaging, code size, examples in docstrings
	$(RUN)/ruff check .
	$(RUN)/mypy -p minigrad
	$(RUN)/pytest -q $(addprefix tests/test_,layering.py packaging.py typings.py code_size.py doctests.py)

parity: $(PARITY)/.installed ## compare with PyTorch, in an environment of its own
	$(PARITY)/$(BIN)/pytest -q tests/parity $(ARGS)

bench: $(BENCH)/.installed ## measure the speed beside PyTorch and others, in an environment of its own
	$(BENCH)/$(BIN)/python benchmarks/run.py $(ARGS)

profile: $(VENV)/.dev ## show a trainer's time by operation; make profile ARGS="cnn --norm batch"
	$(RUN)/minigrad profile $(or $(ARGS),mlp)

cuda-check: $(CUDA)/.installed ## compile the CUDA sources for sm_90, without a GPU
	$(CUDA)/$(BIN)/python tools/check_cuda.py $(ARGS)

# Without a network: the interpreter it is run with has CuPy, NumPy, safetensors, pytest and setuptools already.
gpu-check: ## test and measure on this machine's GPU, writing benchmarks/results/gpu-*
	rm -rf build/gpu-check
	$(PYTHON) -m pip install $(PIP_FLAGS) --no-index --no-deps --no-build-isolation --target build/gpu-check .
	PYTHONPATH=$(CURDIR)/build/gpu-check $(PYTHON) benchmarks/gpu_check.py $(ARGS)

docs: $(VENV)/.docs ## draw the pictures in docs/pictures, write the pages of the programming interface to build/docs
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN)/python tools/draw_pictures.py
	$(RUN)/pdoc --docformat numpy --output-directory build/docs minigrad minigrad.layers minigrad.optim

typings: ## repair the links that type checkers follow
	$(PYTHON) tools/link_typings.py

clean: ## remove all that the other targets made
	rm -rf $(VENV) $(PARITY) $(BENCH) $(CUDA) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call make-venv,FOLDER)
define make-venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "minigrad needs Python 3.10 or newer and" \
  "$(PYTHON) is older; choose another: make PYTHON=python3.12 ..." >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu:" \
  "apt install python3-venv" >&2; exit 1; }
rm -rf $(1)
$(PYTHON) -m venv $(1)
@touch $@
endef

$(VENV)/.made:
	$(call make-venv,$(VENV))

$(PARITY)/.made:
	$(call make-venv,$(PARITY))

$(BENCH)/.made:
	$(call make-venv,$(BENCH))

$(CUDA)/.made:
	$(call make-venv,$(CUDA))

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(RUN)/python -m pip install $(PIP_FLAGS) -e '.[progress]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(RUN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	@touch $@ $(VENV)/.core

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(RUN)/python -m pip install $(PIP_FLAGS) -e '.[docs,viz]' playwright
	@touch $@ $(VENV)/.core

$(PARITY)/.installed: $(PARITY)/.made pyproject.toml
	$(PARITY)/$(BIN)/python -m pip install $(PIP_FLAGS) -e . '$(TORCH)' pytest hypothesis
	@touch $@

$(BENCH)/.installed: $(BENCH)/.made pyproject.toml
	$(BENCH)/$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[fast,onednn,plot]'
	@for package in $(PEERS); do $(BENCH)/$(BIN)/python -m pip install $(PIP_FLAGS) "$$package" \
	  || echo "make bench: $$package could not be installed and is left out" >&2; done
	@touch $@

$(CUDA)/.installed: $(CUDA)/.made pyproject.toml
	$(CUDA)/$(BIN)/python -m pip install $(PIP_FLAGS) -e .
	@$(CUDA)/$(BIN)/python -m pip install $(PIP_FLAGS) $(NVRTC) || echo "make cuda-check: NVRTC could not be installed" >&2
	@touch $@
