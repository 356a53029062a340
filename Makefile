# Everything from a bare machine with Python 3.10 or later: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow lint types docs links wheel check benchmark clean

demo: $(READY)
	$(BIN)/whatwhere-air train --preset demo --output runs/demo

test: $(READY)
	$(BIN)/pytest -n auto

slow: $(READY)
	$(BIN)/pytest -m slow

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# The repository root is the package, so mypy sees it through a link of the package's name.
types: $(READY)
	mkdir -p $(VENV)/types
	ln -sfn ../.. $(VENV)/types/whatwhere
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p whatwhere

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

links: $(READY)
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links

wheel: $(READY)
	VENV=$(VENV) bash .ci/check_wheel

benchmark: $(READY)
	$(BIN)/python -m benchmarks.air

check: test lint types docs wheel

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist docs/_build docs/reference docs/notebooks *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
