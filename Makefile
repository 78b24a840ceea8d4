# make demo: the whole pipeline on a drawn sample.  make test: the whole suite.  Both make .venv first.

PYTHON ?= python3
BIN = .venv/bin
SOURCES = compcars process_data retrieval lopq benchmarks tests train.py build_image_db.py

.PHONY: test lint constraints
.DEFAULT_GOAL := test

# The marker is written last, so that an interrupted install is taken up again.
.venv/installed: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt -c constraints.txt
	touch $@

.PHONY: .venv
.venv: .venv/installed

test: .venv
	$(BIN)/python -m pytest

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch and torchvision are released in pairs: say here which pair the rest is resolved for.
constraints: .venv
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' > .venv/pair.txt
	printf '# One exact set of versions that is known to work, for Python 3.10 to 3.13.\n# Remade by `make constraints`; `make .venv` installs it.\n' > .venv/constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
	  -c .venv/pair.txt requirements-dev.txt >> .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt
