# Bytecode makes every later import two to three times faster; some environments switch it off.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3.11
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: install run test test-all check format bench clean

install: $(STAMP)
	@$(BIN)/python -m maintenance.link_kernels # at once where it was done before; else nobody waits for it later
	@$(BIN)/python -m backbone.compile_modules # likewise; HYBRID_INTERPRETED=1 leaves it out

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q backbone maintenance resources quality sensors hybrid_assets gateway chaos cli
	touch $(STAMP)

run: install ## the demo plant, with its UI at http://127.0.0.1:3000
	$(BIN)/hybrid up $(ARGS)

test: install ## what needs no server, on two processors
	$(BIN)/python -m pytest $(ARGS)

$(STAMP)-all: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test-all]'
	touch $(STAMP)-all

test-all: $(STAMP)-all ## also the tests that need a browser, a server, a cluster or minutes
	$(BIN)/python -m pytest $(ARGS)
	$(BIN)/python -m pytest --numprocesses 3 -m "(slow or postgres or ray) and not (plant or browser or alone)" $(ARGS)
	$(BIN)/python -m pytest --numprocesses 2 -m "plant or browser" $(ARGS)
	$(BIN)/python -m pytest --numprocesses 0 -m alone $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check defs
	$(BIN)/hybrid contracts check

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
