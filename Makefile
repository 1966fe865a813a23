# Both targets set up their own virtual environment; nothing but Python >= 3.11, pip and make is needed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN = JAX_PLATFORMS=cpu $(BIN)/python

.PHONY: demo demo-quick test lint docs clean

demo: $(VENV)/demo  ## the controlled study in miniature: table, plots, report (under 10 minutes on 2 cores)
	$(RUN) -m experiments.study --preset=mini --run_dir=runs/demo $(ARGS)

demo-quick: $(VENV)/demo  ## the same in under 3 minutes: fewer methods, fewer steps
	$(RUN) -m experiments.study --preset=quick --run_dir=runs/demo-quick $(ARGS)
	$(RUN) -m tools.check_report --dir=runs/demo-quick

# XLA's cache writer has been seen to crash a test process (jaxlib 0.10.2); what failed therefore runs once more, alone.
test: $(VENV)/dev lint  ## every law, golden number and lint rule
	$(RUN) -m pytest -q -n 2 --dist worksteal $(ARGS) || \
	  $(RUN) -m pytest -q --last-failed --last-failed-no-failures=none $(ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/basedpyright

docs: $(VENV)/dev  ## the documentation site: open build/docs/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) runs build *.egg-info

$(VENV)/demo: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/dev: setup.py | $(VENV)/demo  # with the peers that tests compare with: torch, transformers, lm_eval, libtpu
	$(BIN)/pip install -q -e ".[dev]"
	touch $@
