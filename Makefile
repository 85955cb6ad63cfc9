# What people and machines call. Everything happens in a virtual environment here, of the
# versions in constraints.txt; with NEWEST=1, in another one, of the newest there are.
PYTHON ?= python3
VENV := $(if $(NEWEST),.venv-newest,.venv)
TESTED := $(if $(NEWEST),,--constraint constraints.txt)
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Real servers for the tests, and the tools that hosts are tried with and without.
PACKAGES := openssh-server openssh-client git git-lfs zstd busybox sudo util-linux \
	iproute2 shellcheck procps zsh fish tcsh haproxy dropbear-bin faketime zip acl attr \
	libcap2-bin krb5-kdc krb5-admin-server python3-gssapi

.PHONY: demo test fast soak lint format bench dist constraints clean hosts

demo: $(VENV)/installed ## the main job on a fleet within one process
	$(BIN)/ghostasync demo

test: $(VENV)/tested hosts ## the whole suite; installs Debian packages
	GHOSTASYNC_REQUIRE_FLEET=1 $(BIN)/pytest -n $(or $(JOBS),auto) --dist worksteal

fast: $(VENV)/tested ## what needs no server
	$(BIN)/pytest -n auto -m "not fleet"

soak: $(VENV)/tested hosts ## random faults, as root; DEPLOYS=200, SEED= to try one again
	$(SUDO) $(BIN)/python -m tests.fleet.soak --deploys $(or $(DEPLOYS),200) \
		$(if $(SEED),--seed $(SEED))

lint: $(VENV)/tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck --shell=sh --check-sourced --external-sources \
		--source-path=SCRIPTDIR src/ghostasync/_remote/*.sh src/ghostasync/_packaging/*.sh \
		src/ghostasync/_build/*.sh
	$(BIN)/shellcheck .ci/run

format: $(VENV)/tested
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/tested
	$(BIN)/python -m benchmarks.rollout

dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist: $(VENV)/tested ## the wheel, the same bytes each time, and what it is made of
	rm -rf dist
	umask 022 && $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation \
		--wheel-dir dist .
	cd dist && ../$(BIN)/python ../.ci/sbom.py ghostasync-*.whl ../constraints.txt >sbom.cdx.json

constraints: $(VENV)/tested ## write down what is installed, once the suite has passed
	@{ grep '^#' constraints.txt && $(BIN)/python -m pip list --format=freeze \
		--exclude-editable --exclude pip --exclude setuptools | LC_ALL=C sort -f; \
	} >constraints.new && mv constraints.new constraints.txt

hosts:
	@missing=; for package in $(PACKAGES); do \
		dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y --no-install-recommends $$missing; }

$(VENV)/bin/python:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv; }
	@$(PYTHON) -c 'import ensurepip' || { echo "install Debian's python3-venv first" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade $(TESTED) --editable '.[fast,s3]'
	touch $@

$(VENV)/tested: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --upgrade $(TESTED) --group dev
	touch $@

clean:
	rm -rf .venv .venv-newest build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
