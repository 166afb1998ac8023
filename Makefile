# Two commands matter: `make book` and `make test`. `make help` lists the rest.
PROFILE ?= demo
DEVICE ?=
DATA ?=
PYTHON ?= python3
CORES ?=
PROCESSES ?=
WORKFLOW ?=
FROM ?= py
N ?=
PARAMS ?=

export PYTHONUNBUFFERED := 1
export PROFILE DEVICE CORES PROCESSES WORKFLOW FROM N PARAMS  # recipes read them as data, not as words of a command
ifneq ($(DATA),)
export NEURON_CONSISTENCY_DATA := $(DATA)
endif
# the library of this checkout, also where .venv came with a copy of another one
export PYTHONPATH := $(CURDIR)/lib
export PIP_USER := 0

BIN := .venv/bin
RUN := $(BIN)/python -m neuron_consistency.workflow
OPTIONS := --profile "$$PROFILE" --device "$$DEVICE"

.DEFAULT_GOAL := help
.PHONY: help book test notebook lab results golden bench pairs environment lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 22
	@echo
	@echo '  PROFILE=   demo (default) $(basename $(notdir $(wildcard notebooks/profiles/*.yaml)))'
	@echo '  DEVICE=    auto, cpu, cuda, cuda:1 ...; as the notebooks say if not given'
	@echo '  DATA=      folder with photographs: official archives or folders (sets NEURON_CONSISTENCY_DATA)'
	@echo '  CORES=     processor cores the jobs share (default: all)'
	@echo '  PROCESSES= how many train a network together, one a graphics card (default: 1)'
	@echo '  WORKFLOW=  further arguments for Snakemake, e.g. "--executor slurm --jobs 20"'

book: environment  ## run what is out of date, build the pages, print their path   (PROFILE DEVICE DATA CORES PROCESSES WORKFLOW)
	@$(RUN) book $(OPTIONS) --cores "$${CORES:-all}" --processes "$${PROCESSES:-1}" --snakemake="$$WORKFLOW"

test: environment  ## lint, types, unit tests, pairs, every notebook with the profile smoke, the book's checks   (CORES)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest -n "$${CORES:-auto}" --dist loadfile --no-loadscope-reorder

test-faults: environment  ## kills, damage, full disks and odd inputs, hundreds of each; an hour   (ROUNDS=60)
	@$(BIN)/pytest -p no:cacheprovider tests/faults/hundreds.py

notebook: environment  ## run one notebook with checked parameters   (N=04 PARAMS="sigma=1.5" PROFILE DEVICE DATA)
	@$(RUN) run "$$N" $(OPTIONS) --set "$$PARAMS"

lab: .venv/lab  ## change the notebooks in JupyterLab: both halves of a pair are saved, outputs are not
	@$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks \
		--FileContentsManager.pre_save_hook=neuron_consistency.workflow.pairs.bare

results: environment  ## run the long studies anew; their tables go to book/results/   (N="name ..." DATA DEVICE)
	@$(RUN) results "$$N" --device "$$DEVICE"

golden: environment  ## keep the numbers of topics whose version in versions.py was raised; tests hold the code to them
	@PYTHONPATH=tests $(BIN)/python -m golden.write

bench: environment  ## time every fast path beside a plain one; the tables go to book/results/   (DATA DEVICE)
	@$(BIN)/python benchmarks/growth.py
	@$(BIN)/python benchmarks/table.py $(if $(DATA),--data "$$NEURON_CONSISTENCY_DATA") $(if $(DEVICE),--device "$$DEVICE")

pairs: environment  ## write each notebook from its script (FROM=ipynb: each script from its notebook)
	@$(RUN) pairs --edited "$$FROM"

environment: .venv/complete  ## create .venv from requirements.lock

.venv/complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'error: python 3.11 or newer is needed (PYTHON=... names one)'; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv .venv; } || { rm -rf .venv; echo 'error: python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet 'uv>=0.9'
	@echo 'installing the packages of requirements.lock into .venv (some 5 GB; a minute or a few) ...'
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/lab: .venv/complete
	@echo 'installing JupyterLab into .venv (some 100 MB) ...'
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --constraint requirements.lock --editable '.[lab]'
	@touch $@

lock: environment  ## write requirements.lock anew from pyproject.toml (newest versions that fit)
	$(BIN)/uv pip compile pyproject.toml --quiet --extra autoattack --extra book --extra test --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock

clean:  ## remove all results: executed notebooks, pages, artifacts (the environment stays)
	rm -rf artifacts book/notebooks book/_build .snakemake
