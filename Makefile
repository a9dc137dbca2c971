# Every target works on a fresh machine with Python 3.11 or newer, venv and make; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# `make test COVERAGE=1` also reports which lines the tests run, and takes 30 to 50 % longer on Python 3.11
COVERAGE ?=

# mutations of each kind of input in `make fuzz`
EXAMPLES ?= 200

LOWEST := $(VENV)-lowest

.PHONY: help demo test lint types unit test-lowest fuzz coverage format docs benchmark wheel install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## train a small detector on generated images and draw what it finds
	$(BIN)/anchordetr demo

test: lint types unit ## check style and types, run the tests

lint: $(INSTALLED) ## check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED) ## check types
	$(BIN)/mypy

# sys.monitoring measures at little cost; it needs Python 3.12
unit: $(INSTALLED) ## run the tests but the slow ones, in one process of one thread for each core
	OMP_NUM_THREADS=1 COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
		$(BIN)/pytest -m "not slow" -n auto $(if $(COVERAGE),--cov --cov-report=term)

# Python 3.11 or 3.12, for which all of them have wheels; old versions use what newer ones of others call deprecated
test-lowest: ## run most tests with the lowest versions of the dependencies that pyproject.toml allows; downloads 3 GB
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python .ci/lowest_versions.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/pip install --quiet --constraint $(LOWEST)/constraints.txt --editable ".[dev]"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/pytest -m "not slow" -n auto -W ignore::DeprecationWarning \
		tests/cli tests/data tests/evaluation tests/weights tests/test_*.py

fuzz: $(INSTALLED) ## read mutated files and run mutated commands: make fuzz EXAMPLES=20000
	OMP_NUM_THREADS=1 EXAMPLES=$(EXAMPLES) HF_HUB_OFFLINE=1 $(BIN)/pytest -m slow tests/fuzz --hypothesis-show-statistics

coverage: ## run the tests and report which lines they run
	$(MAKE) unit COVERAGE=1

format: $(INSTALLED) ## format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED) ## write docs/settings.md and the keyword arguments from the configuration, check the links of all pages
	$(BIN)/python tests/typed_settings.py
	$(BIN)/anchordetr config --markdown > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(BIN)/pytest --quiet tests/test_docs.py

benchmark: $(INSTALLED) ## measure speed in a minute or two: the attention, and a network against the original's order
	$(BIN)/anchordetr benchmark rcda --size 25x34 --rounds 5
	$(BIN)/python benchmarks/against_the_original.py inference --size 320x416 --rounds 3

wheel: $(INSTALLED) ## build sdist and wheel, predict with the wheel in a clean environment, run tests of the sdist
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	.ci/check_wheel $(BIN)/python dist/*.whl
	.ci/check_sdist $(BIN)/python dist/*.tar.gz

install: $(INSTALLED) ## make the virtual environment

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .coverage
