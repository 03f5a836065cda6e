# What a developer runs; 'make' alone lists it. Set-up that has been done is not repeated.

PYTHON ?= python3
PREFIX ?= /usr/local
ARGS ?=

BIN := .venv/bin
STAMPS := build/stamps

BPF_SOURCES := $(wildcard bpf/*.[ch]) build_bpf.py
OBJECTS := $(foreach arch,x86_64 arm64,$(patsubst bpf/%.c,libagenttracer/bpf_objects/$(arch)/%.o,$(wildcard bpf/*.bpf.c)))
EXTENSION := libagenttracer/binding/_libbpf.abi3.so
EXTENSION_SOURCES := $(wildcard _cffi_build/*.[ch]) $(wildcard _cffi_build/*.py) setup.py
PACKAGE := $(shell find libagenttracer -name '*.py' -o -name py.typed)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | sed 's/:.* ## /\t/' | expand -t 14

# --- set-up ---------------------------------------------------------------------------------------

.PHONY: setup
setup: $(EXTENSION) $(OBJECTS) ## system packages, .venv/, BPF objects and the extension module

.PHONY: build
build: $(OBJECTS) $(EXTENSION) ## compile what has changed: BPF objects and the extension module

$(STAMPS)/system: tools/system-packages.sh
	tools/system-packages.sh $(PYTHON)
	@mkdir -p $(@D) && touch $@

.venv/pyvenv.cfg: | $(STAMPS)/system
	$(PYTHON) -m venv .venv

# One run makes all of them.
$(OBJECTS) &: $(BPF_SOURCES) | .venv/pyvenv.cfg
	$(BIN)/python build_bpf.py

# An editable installation: it brings the Python packages, and compiles the extension where it lies.
$(EXTENSION): $(EXTENSION_SOURCES) pyproject.toml .venv/pyvenv.cfg | $(OBJECTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

.PHONY: debug
debug: setup ## BPF objects that say what they do, and how to read all logs
	BPF_CFLAGS='$(BPF_CFLAGS) -DDEBUG' $(BIN)/python build_bpf.py --force
	@touch -d @0 $(OBJECTS) # out of date, so that none gets into a wheel
	@echo
	@echo 'Until the next make, the BPF objects are those with debug messages. As root:'
	@echo '  cat /sys/kernel/tracing/trace_pipe &      # theirs; first: mount -t tracefs tracefs /sys/kernel/tracing'
	@echo "  $(BIN)/python -X dev -m libagenttracer ssl -vv -- COMMAND    # the tracer's, and libbpf's"

.PHONY: install
install: setup ## install for all users into PREFIX (/usr/local), in a virtual environment of its own
	$(PYTHON) -m venv --clear $(PREFIX)/lib/libagenttracer
	$(PREFIX)/lib/libagenttracer/bin/python -m pip install --quiet --disable-pip-version-check .
	mkdir -p $(PREFIX)/bin
	ln -sf ../lib/libagenttracer/bin/libagenttracer $(PREFIX)/bin/libagenttracer

# --- use and check --------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## see the plaintext of real TLS traffic: a local server, curl and Python (needs root)
	$(BIN)/python -m demo.demo

.PHONY: test
test: setup ## run the tests; ARGS='-k name' chooses
	$(BIN)/pytest $(ARGS)

.PHONY: lint
lint: setup ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: bench
bench: setup ## benchmarks, then a report of what tracing costs (needs root)
	$(BIN)/pytest benchmarks --benchmark-only $(ARGS)
	$(BIN)/python -m benchmarks

# --- wheel ----------------------------------------------------------------------------------------

$(STAMPS)/wheel-tools: $(EXTENSION)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[wheel]'
	@mkdir -p $(@D) && touch $(EXTENSION) $@

# In dist/, so that removing that folder removes it too.
dist/.built: $(PACKAGE) $(OBJECTS) $(EXTENSION_SOURCES) pyproject.toml MANIFEST.in tools/build_wheel.py | $(STAMPS)/wheel-tools
	$(BIN)/python tools/build_wheel.py
	@touch $@

.PHONY: wheel
wheel: dist/.built ## build sdist and self-contained wheel into dist/, and check them
	@ls -l dist

.PHONY: test-wheel
test-wheel: dist/.built ## install the wheel on each Python there is and trace with it (needs root)
	$(BIN)/python -m tests.wheel.check $(ARGS)

.PHONY: test-kernels
test-kernels: dist/.built ## trace with the wheel on other kernels, in QEMU (needs root)
	$(BIN)/python tests/kernels/job.py $(ARGS)

.PHONY: test-clients
test-clients: setup ## trace many real clients, installed into build/clients/ (needs root; docs/clients.md)
	$(BIN)/python -m tests.clients $(or $(ARGS),--all --addresses)

# --- clean ----------------------------------------------------------------------------------------

# --- fuzzing --------------------------------------------------------------------------------------

FUZZ_SECONDS ?= 600

.PHONY: fuzz
fuzz: setup ## fuzz each decoder with atheris for FUZZ_SECONDS; ARGS='http1 sse' chooses some
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,fuzz]'
	set -e; for target in $(or $(ARGS),$$($(BIN)/python -m tests.fuzz --list)); do \
		$(BIN)/python -m tests.fuzz $$target --seconds $(FUZZ_SECONDS); \
	done

.PHONY: clean
clean: ## remove what was built, but for .venv/, downloaded kernels and clients
	rm -rf $(STAMPS) build/lib* build/temp* build/bdist* build/wheel build/kernel-job dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
	rm -rf libagenttracer/bpf_objects libagenttracer/binding/_libbpf.c $(EXTENSION)
	find libagenttracer tests benchmarks demo tools _cffi_build -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove everything that is not in git: .venv/, kernels and clients too
	rm -rf .venv build
