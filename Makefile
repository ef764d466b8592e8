# `make demo` (a calibrated machine, a checked prediction, a report), `make test`, `make docs` (the site).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

.PHONY: bench demo docs test clean
.PRECIOUS: $(VENV)/%

$(VENV)/%: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

demo: $(VENV)/calibrate
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh $(DEMO)

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Speed against the stored baseline, memory, the command as a process. Peers and the scaling plot: docs/benchmarks.md.
bench: $(VENV)/dev
	mkdir -p build
	$(BIN)/pytest benchmarks --benchmark-timer=time.process_time --benchmark-json=build/bench.json
	$(BIN)/python benchmarks/compare.py build/bench.json
	$(BIN)/python benchmarks/process.py

clean:
	rm -rf build dist $(VENV)
