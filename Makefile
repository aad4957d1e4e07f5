PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARALLEL := -n 2 --dist=worksteal

.PHONY: demo test test-fast test-min docs clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --progress-bar on -e ".[dev]"
	touch $@

demo: $(VENV)/installed  ## train a timm model on MNIST three ways and draw what GenLabel changes
	$(BIN)/python examples/demo.py

test: $(VENV)/installed  ## lint, types, tests with coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL) --cov --cov-report=term  # two workers with one thread each: more would wait for one another

test-fast: $(VENV)/installed  ## the tests of the core and the quick ones of each door
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL) -m "not slow"

docs: $(VENV)/installed  ## the documentation site, into site/
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -j auto docs site

test-min:  ## the tests that need no newer host, with the lowest versions that pyproject.toml declares
	$(PYTHON) -m venv .venv-min
	.venv-min/bin/pip install --quiet uv
	echo deeptab > .venv-min/newer.txt  # asks for torch 2.13, for the sake of one recipe, which its test leaves out then
	.venv-min/bin/uv pip compile --quiet --resolution lowest-direct --extra dev --excludes .venv-min/newer.txt pyproject.toml -o .venv-min/lowest.txt
	.venv-min/bin/pip install --progress-bar on -r .venv-min/lowest.txt
	.venv-min/bin/pip install --no-deps -e .
	OMP_NUM_THREADS=1 .venv-min/bin/pytest $(PARALLEL)

clean:
	rm -rf $(VENV) .venv-min outputs site docs/api docs/auto_gallery docs/auto_tutorials
