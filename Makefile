# Two commands: `make demo` sets everything up and analyses a real run; `make test` sets up and passes the tests that do not take long.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test test-all test-timing test-timing-dear fuzz check docs format benchmark clean

help:
	@echo "make demo        set up and analyse the run under examples/"
	@echo "make test        set up and run the tests, without the slow ones"
	@echo "make test-all    set up and run all tests"
	@echo "make fuzz SECONDS=60     random changes of what the parsers read, for as long on each"
	@echo "make test-timing N=100   repeat every test that waits, sleeps, signals or orders by time; TESTS=tests/jobs for some"
	@echo "make test-timing-dear N=10   those of them that take more than a second: processes, servers, the page"
	@echo "make check       format, lint, spelling, types, import contract"
	@echo "make docs        build the documentation site into build/site; warnings are errors"
	@echo "make benchmark   measure against reading, BLAS and what people write instead"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "trajsvc needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt torch -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/trajsvc analyze examples/pythia-nano --store trajsvc-store

# A third worker on two cores: tests of servers, queues and pages wait for much of their time. Tests start hundreds of Pythons, which
# would all compile what they import where no byte code is kept.
WORKERS ?= 3
test test-all test-timing test-timing-dear: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-all: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

SECONDS ?= 60
EXAMPLES ?= 50
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(SECONDS)
	TRAJSVC_FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest -s tests/hub/test_hub_fuzz.py
	TRAJSVC_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/service/test_openapi.py

test-timing: N ?= 100
test-timing: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist load -m "timing and not dear and not slow" --repeat $(N) $(TESTS)

test-timing-dear: N ?= 10
test-timing-dear: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "timing and (dear or slow)" --repeat $(N) $(TESTS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python docs/generate build/docs
	$(BIN)/zensical build --strict --clean

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmark: $(STAMP)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) trajsvc-store benchmarks/work build
