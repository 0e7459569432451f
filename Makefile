# make demo   own virtual environment, signnet on stand-ins, one published figure of ima for real
# make smoke  all studies on stand-ins, with nnU-Net
# make test   own virtual environment with what tests need, lint and all tests
# make reference  what is generated of the documentation
# make faults 50 kills at random moments and other faults: nothing may be lost or changed
VENV ?= .venv
PYTHON ?= python3
# `nproc` obeys OMP_NUM_THREADS, which is about threads within a job, not about jobs.
CORES ?= $(shell env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || echo 2)
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

# Shows of pip's many lines those on downloads of 10 MB and more, the last step, and errors.
define install
	@echo "Installing $(1) into $(VENV): some minutes, most of them for PyTorch; all lines are in $(VENV)/pip.log"
	@{ $(BIN)/pip install --disable-pip-version-check --progress-bar off -r $(1) 2>&1; echo $$? > $(VENV)/.status; } \
	  | tee $(VENV)/pip.log \
	  | awk '/^Installing|^ERROR|error:/ || /\([0-9][0-9][0-9.]* MB\)/ {sub(/^ +/, ""); print substr($$0, 1, 110); fflush()}'
	@status=$$(cat $(VENV)/.status); rm -f $(VENV)/.status; \
	  [ $$status -eq 0 ] || { tail -n 20 $(VENV)/pip.log; exit $$status; }
endef

.PHONY: demo smoke test lint bench report faults reference

# What runs the studies.
$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "medrobust needs Python 3.11 or newer; try: make demo PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	$(call install,requirements.txt)
	@touch $@

# What tests them, lints and measures.
$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(call install,requirements-dev.txt)
	@touch $@

demo: $(VENV)/.installed
	$(SNAKEMAKE) --config scale=smoke studies=signnet 'leave_out=[ptbdb, chest_xray, kather]'
	$(SNAKEMAKE) ima_fig6 ima_tab8 --config studies=ima
	$(SNAKEMAKE) --config scale=smoke studies=signnet 'leave_out=[ptbdb, chest_xray, kather]' --report report.html
	@$(BIN)/python workflow/scripts/show_results.py

$(VENV)/.installed-segmentation: requirements-segmentation.txt $(VENV)/.installed
	$(call install,requirements-segmentation.txt)
	@touch $@

smoke: $(VENV)/.installed-segmentation
	$(SNAKEMAKE) --config scale=smoke

report: $(VENV)/.installed
	$(SNAKEMAKE) --report report.html

lint: $(VENV)/.installed-dev
	@start=$$(date +%s); set -ex; \
	  $(BIN)/ruff check .; \
	  $(BIN)/ruff format --check .; \
	  PYTHONPATH=workflow/scripts $(BIN)/lint-imports pyproject.toml; \
	  $(BIN)/snakefmt --check Snakefile workflow; \
	  $(BIN)/snakemake --lint; \
	  set +x; echo "[stage] lint: $$(($$(date +%s) - start)) s"

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What is generated of the documentation; tests hold it in step.
reference: $(VENV)/.installed
	@for page in config:config/README.md data:docs/data-sets.md artefacts:docs/artefacts.md readme:README.md; do \
	  PYTHONPATH=workflow/scripts $(BIN)/python -m medrobust $${page%%:*}-reference > .reference && mv .reference $${page#*:} || exit 1; \
	done

bench: $(VENV)/.installed-dev
	@for script in benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

faults: $(VENV)/.installed-dev
	PYTHONPATH=workflow/scripts $(BIN)/python -m tests.workflow.faults
