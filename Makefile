# make demo   own virtual environment, signnet on stand-ins, one published figure of ima for real
# make test   own virtual environment, lint and all tests
VENV ?= .venv
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

.PHONY: demo smoke test lint bench report

$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "medrobust needs Python 3.11 or newer; try: make demo PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

demo: $(VENV)/.installed
	$(SNAKEMAKE) --config scale=smoke studies=signnet
	$(SNAKEMAKE) --config scale=smoke studies=signnet --report report.html
	$(SNAKEMAKE) ima_fig6 ima_tab8 --config studies=ima
	@$(BIN)/python workflow/scripts/show_results.py

smoke: $(VENV)/.installed
	$(SNAKEMAKE) --config scale=smoke

report: $(VENV)/.installed
	$(SNAKEMAKE) --report report.html

lint: $(VENV)/.installed
	@start=$$(date +%s); set -ex; \
	  $(BIN)/ruff check .; \
	  $(BIN)/ruff format --check .; \
	  PYTHONPATH=workflow/scripts $(BIN)/lint-imports pyproject.toml; \
	  $(BIN)/snakefmt --check Snakefile workflow; \
	  $(BIN)/snakemake --lint; \
	  set +x; echo "[stage] lint: $$(($$(date +%s) - start)) s"

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.installed
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done
