# Two commands: `make demo` and `make test`. Both set everything up first, in a virtual environment of their own.
VENV ?= .venv
# A Python of 3.11 to 3.13; the default `python3` where it is one.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN = $(VENV)/bin
WHEEL = $(VENV)/wheel

.PHONY: demo test wheel clean
demo: wheel
	$(BIN)/q3omni demo

# The tests test the installed wheel: `pytest`, never `python -m pytest`, which would import the source tree.
test: wheel
	$(BIN)/pytest $(PYTEST_ARGS)

wheel: $(VENV)/.dependencies
	rm -rf $(WHEEL)
	$(BIN)/pip wheel -q --no-deps --wheel-dir $(WHEEL) .
	$(BIN)/pip install -q --no-deps --force-reinstall $(WHEEL)/*.whl

$(VENV)/.dependencies: pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found; set PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade 'pip>=25.1'
	@echo "Installing the dependencies (torch is most of it): some minutes"
	$(BIN)/pip install -q '.[quantize]' --group test --group docs
	touch $@

clean:
	rm -rf $(VENV) q3omni-demo dist build
