PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready
OUTPUT ?= output

.PHONY: setup demo test test-slow lint bench nano

setup: $(READY)

# detectron2's wheel says "Python 3.10" but is pure Python, so pip is told to take it as it is.
$(READY): setup.py requirements/detectron2.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: maskclip needs Python 3.11 or newer, $(PYTHON) is older: run make PYTHON=python3.11" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || \
	  { echo "make: could not make $(VENV): on Debian or Ubuntu run apt-get install python3-venv" >&2; exit 2; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --upgrade --no-deps --require-hashes \
	  --only-binary=:all: --implementation cp --python-version 3.10 \
	  --target "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" \
	  --requirement requirements/detectron2.txt
	@touch $@

demo: $(READY)
	$(RUN) tools/demo.py --output $(OUTPUT)/demo

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: lint
	$(RUN) -m pytest -m "not slow"

test-slow: $(READY)
	$(RUN) -m pytest -m slow

bench: $(READY)
	$(RUN) tools/benchmark.py
