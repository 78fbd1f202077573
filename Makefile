# From a clone with Python 3.11 and nothing else: `make demo`, `make test`, `make lint`, `make package`.
# Every environment below is built from a lock with hashes, and rebuilt when its lock changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
BIN = .venv/bin

# make package: what the Lambda function runs on
RUNTIME ?= python3.11
ARCH ?= x86_64

# The end-to-end tests run the package on this machine, with the Python of the environments below.
OWN_RUNTIME = python$(shell $(or $(wildcard $(BIN)/python),$(PYTHON)) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
OWN_ARCH = $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)

.PHONY: help demo test soak months mutate lint format lock runtimes package clean always
.DELETE_ON_ERROR:

help:
	@echo 'make demo       sweep, assess and protect a simulated organization, and print the path of its report'
	@echo 'make test       every test; TESTS="tests/unit -k name" runs some'
	@echo 'make soak       fault campaigns until 10,000 changes have passed; SOAK="--seed 7 --changes 1" runs one again'
	@echo 'make months     ninety days of hourly runs in a simulated organization; MONTHS="--seed 7 --days 20" lives others'
	@echo 'make mutate     run the tests on a thousand mutants of the code; MUTANTS="remediator.change.delta.*" runs some'
	@echo 'make lint       formatting, rules, types, import contract, templates, policies, known vulnerabilities, licences'
	@echo 'make format     let ruff format and fix'
	@echo 'make lock       write the locks again from pyproject.toml; UPGRADE=--upgrade moves every version'
	@echo 'make runtimes   write the table of Lambda runtimes again from the locked cfn-lint'
	@echo 'make package    the Lambda zip and its SBOM; RUNTIME=python3.11|python3.12|python3.13 ARCH=x86_64|arm64'
	@echo 'make clean      remove what was built, environments too'

demo: .venv/.demo
	$(BIN)/auto-defender demo $(DEMO)

test: .venv/.dev .venv-ministack/.ready dist/auto-defender-$(OWN_RUNTIME)-$(OWN_ARCH).zip
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

soak: .venv/.dev
	$(BIN)/python -m tests.faults.soak $(SOAK)

months: .venv/.dev
	$(BIN)/python -m tests.months $(MONTHS)

# In a copy of the last commit: mutmut writes into the sources.
mutate: .venv-mutation/.ready
	rm -rf build/mutation && mkdir -p build/mutation
	git archive HEAD | tar -x -C build/mutation
	cp tools/mutation.cfg build/mutation/setup.cfg
	cd build/mutation && nice "$(CURDIR)/.venv-mutation/bin/mutmut" run --max-children 2 $(MUTANTS)
	cd build/mutation && "$(CURDIR)/.venv-mutation/bin/mutmut" results

RUNTIME_PACKAGES = $(shell sed -nE 's/^([a-z0-9._-]+).*==.*/\1/p' requirements.txt)

lint: .venv/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/cfn-lint --include-checks I -- $(wildcard stacksets/*.yaml)
	$(BIN)/python -m tools.policy_lint
	$(BIN)/pip-licenses --packages $(RUNTIME_PACKAGES)
	$(BIN)/python -m tools.audit requirements-dev.txt

format: .venv/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# Resolved for Linux with the oldest Python served, from the index that the environment sets or else uv's own; a test
# verifies that the locks name no index and that every package has a hash.
LOCK = $(BIN)/uv pip compile --quiet --no-config $(UPGRADE) \
	--python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	--generate-hashes --no-header --no-strip-extras --no-emit-index-url --no-emit-find-links

lock: .venv/.dev
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --extra demo --group build -c requirements.txt -o requirements-demo.txt
	$(LOCK) pyproject.toml --extra demo --group dev -c requirements-demo.txt -o requirements-dev.txt
	$(LOCK) --group ministack -o requirements-ministack.txt
	$(LOCK) --group mutation -o requirements-mutation.txt

runtimes: .venv/.dev
	$(BIN)/python -m tools.lambda_runtimes

package: dist/auto-defender-$(RUNTIME)-$(ARCH).zip
	@sha256sum $<

dist/auto-defender-%.zip: build/packaged | .venv/.dev
	$(BIN)/python -m tools.package --runtime $(firstword $(subst -, ,$*)) --arch $(lastword $(subst -, ,$*))

# What goes into a package, by name and checksum; written again only where that changes, whatever the files' times are.
build/packaged: always
	@mkdir -p build
	@find auto_defender reports remediator scanner storage tools/package requirements.txt pyproject.toml \
		-type f ! -name '*.pyc' | LC_ALL=C sort | xargs cksum > $@.now
	@if cmp -s $@.now $@; then rm $@.now; else mv $@.now $@; fi

clean:
	rm -rf .venv .venv-ministack .venv-mutation build dist demo-out *.egg-info \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo 'Auto-Defender needs Python 3.11, 3.12 or 3.13; name one with make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: requirements-demo.txt pyproject.toml | .venv/bin/python
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements-demo.txt
	$(BIN)/python $(PIP_INSTALL) --no-build-isolation --editable .
	touch $@

.venv/.dev: requirements-dev.txt .venv/.demo
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	touch $@

.venv-ministack/.ready: requirements-ministack.txt .venv/bin/python
	$(BIN)/python -m venv .venv-ministack
	.venv-ministack/bin/python $(PIP_INSTALL) --require-hashes -r requirements-ministack.txt
	touch $@

# Its own packages beside those that the tests need.
PURELIB = -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
.venv-mutation/.ready: requirements-mutation.txt .venv/.dev
	$(BIN)/python -m venv .venv-mutation
	.venv-mutation/bin/python $(PIP_INSTALL) --require-hashes -r requirements-mutation.txt
	$(BIN)/python $(PURELIB) > "$$(.venv-mutation/bin/python $(PURELIB))/project.pth"
	touch $@
