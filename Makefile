# Two words for people: `make demo` runs the main job, `make test` passes the tests. Both need only Python and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-minimum test-newest lint docs benchmark clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[plot,excel,netcdf]" --group test --group tools --group lint --group docs
	touch $@

demo: $(VENV)/.installed
	$(BIN)/sen2chain demo demo-archive

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST)

# The same tests with the oldest versions that pyproject.toml allows.
$(VENV)-minimum/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-minimum
	$(PYTHON) -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
	    print(*p['project']['dependencies'], *p['dependency-groups']['test'], sep='\n')" \
	    | sed 's/>=/==/' > $(VENV)-minimum/requirements.txt
	$(VENV)-minimum/bin/python -m pip install --quiet -r $(VENV)-minimum/requirements.txt
	$(VENV)-minimum/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

test-minimum: $(VENV)-minimum/.installed
	$(VENV)-minimum/bin/python -m pytest $(PYTEST)

# The same tests with the newest Python of this machine: make test-newest NEWEST=python3.13
NEWEST ?= $(PYTHON)
$(VENV)-newest/.installed: pyproject.toml
	$(NEWEST) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-newest/bin/python -m pip install --quiet --editable . --group test
	touch $@

test-newest: $(VENV)-newest/.installed
	$(VENV)-newest/bin/python -m pytest $(PYTEST)

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.installed
	$(BIN)/mkdocs build --strict

benchmark: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group benchmark
	$(BIN)/python -m benchmarks $(BENCHMARK)

clean:
	rm -rf $(VENV) $(VENV)-minimum $(VENV)-newest demo-archive site
