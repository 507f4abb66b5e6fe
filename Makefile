# Two commands are all that a newcomer needs: `make demo` and `make test`.
# A machine needs Python 3.11 or newer, with venv, and make. PYTHON=python3.13 chooses another.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Most tests wait for something most of the time.
JOBS ?= 4
GROUP = $(BIN)/python -m pip install --quiet --group

.PHONY: demo test compiled soak fuzz cpython pythons freethreaded lint docs bench compare programs clean

demo: $(VENV)/.installed  ## the crash that hangup is about, beside hangup
	$(BIN)/hangup demo

# With ARGS some of the tests, and no gate: `make test ARGS="-k wire"`, `make test ARGS=tests/test_tls.py`.
test: $(VENV)/.installed-test  ## the tests, with the coverage gate
ifeq ($(strip $(ARGS)),)
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist loadgroup
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
else
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)
endif

# It is built from a source distribution, so that nothing compiled comes to stand in src/. A C compiler and
# Python's headers are needed. .compiled/src is for a comparison: benchmarks/traffic.py --against compiled=.compiled
compiled: $(VENV)/.installed-build  ## the wheel with a compiled engine, in .compiled/dist, and the tests on it
	rm -rf .compiled
	HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(BIN)/python -m build --quiet --outdir .compiled/dist
	$(PYTHON) -m venv .compiled/venv
	.compiled/venv/bin/python -m pip install --quiet --upgrade 'pip >= 25.1'
	.compiled/venv/bin/python -m pip install --quiet .compiled/dist/*.whl --group test
	.compiled/venv/bin/python -m pip install --quiet --no-deps --target .compiled/src .compiled/dist/*.whl
	.compiled/venv/bin/hangup --version | grep -F '(compiled,'
	.compiled/venv/bin/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

soak: $(VENV)/.installed  ## ten minutes of good, departing, slow and malformed clients; SECONDS=60: one
	$(BIN)/python tests/endurance.py $(or $(SECONDS),600)

fuzz: $(VENV)/.installed-test $(VENV)/.installed-fuzz  ## streams that the wire gets wrong, sought for five minutes; SECONDS=60: one
	$(BIN)/python tests/fuzz_wire.py $(or $(SECONDS),300)

cpython: $(VENV)/.installed-test  ## CPython's own tests of http.server, on each Python that is installed
	$(BIN)/python tests/every_python.py

pythons: $(VENV)/.installed-test  ## that, and all tests, on those and on Debian's: sid's, if root can have them
	$(BIN)/python tests/every_python.py --tests --debian $(if $(NEED),--need $(NEED))

freethreaded:  ## a Python without an interpreter lock is built, and has all but the probe's tests, and the soak
	tests/freethreaded.sh $(ARGS)

lint: $(VENV)/.installed-test $(VENV)/.installed-lint  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## the documentation, in docs/_build
	$(BIN)/python -m sphinx -W --quiet -b html docs docs/_build

bench: $(VENV)/.installed  ## the benchmarks, in two hours; needs wrk and nginx (Debian: apt install wrk nginx)
	$(BIN)/python benchmarks/traffic.py
	$(BIN)/python benchmarks/handler.py
	$(BIN)/python benchmarks/departures.py
	$(BIN)/python benchmarks/wsgi.py
	$(BIN)/python benchmarks/overload.py
	$(BIN)/python benchmarks/slow_clients.py
	$(BIN)/python benchmarks/tls.py

compare: $(VENV)/.installed-test  ## hangup probe against other servers: docs/comparison.md, in ten minutes
	$(BIN)/python benchmarks/compare.py $(ARGS)

programs: .venv-programs/.installed  ## programs and test suites on http.server and on hangup: docs/programs.md
	.venv-programs/bin/python tests/programs/compare.py $(ARGS)

clean:
	rm -rf --one-file-system .debian .debian.new .freethreaded .compiled
	rm -rf $(VENV) .venv-peers .venv-programs .coverage .coverage.* docs/_build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip >= 25.1'

# An editable install: what is tested and shown is what stands in src/.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(GROUP) $*
	touch $@

.venv-programs/.installed: tests/programs/requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv-programs
	.venv-programs/bin/python -m pip install --quiet --editable . --requirement $<
	touch $@
