# make train [DOMAIN=genomics|finance] [ARGS="key=value ..."]    make test
DOMAIN ?= genomics
PYTHON ?= python3
ARGS ?=

.PHONY: train test check clean

train: .venv/installed
	.venv/bin/python -m pipelines.train domain=$(DOMAIN) $(ARGS)

test: .venv/installed-dev
	.venv/bin/python -m pytest -n 2 --dist worksteal

check: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

.venv/installed: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	.venv/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache dist
