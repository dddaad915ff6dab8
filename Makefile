# make run: everything, from an empty folder to the default study's report.  make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY ?= smoke
SECONDS ?= 1800
PAPER := config/papers/groundthink.yaml
PUBLISHED := $(patsubst %/records,%,$(sort $(wildcard results/published/*/records)))
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONNOUSERSITE := 1
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help run test test-cluster test-server test-container test-s3 docs report headline publish faults reliability ui lock schemas clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.run  ## install, then train, compare and report the study (STUDY=smoke)
	snakemake --cores all --config study=$(STUDY)
	@gt summary --study results/studies/$(STUDY)

test: $(VENV)/.test  ## install, then lint, type-check and test
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check workflow
	snakemake --lint
	OMP_NUM_THREADS=1 pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-cluster: $(VENV)/.cluster  ## install, Debian's Slurm included, and train a study on a cluster of two nodes on this machine
	@command -v slurmctld && command -v slurmd || { apt-get update --quiet && DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --quiet --no-install-recommends munge slurmctld slurmd slurm-client; }
	OMP_NUM_THREADS=1 pytest -m cluster tests/cluster

test-server: $(VENV)/.server  ## install, Debian's PostgreSQL included, and import runs through an MLflow server over it
	@ls /usr/lib/postgresql/*/bin/initdb || { apt-get update --quiet && DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --quiet --no-install-recommends postgresql; }
	OMP_NUM_THREADS=1 pytest -m server tests/server

test-container: $(VENV)/.test  ## build the image for CPUs on a Debian made here, and train in it (needs root)
	@command -v buildah && command -v mmdebstrap && command -v bwrap || { apt-get update --quiet && \
		apt-get install --yes --quiet --no-install-recommends buildah bubblewrap mmdebstrap; }
	OMP_NUM_THREADS=1 pytest -m container tests/container

test-s3: $(VENV)/.test  ## install a server that plays S3 as well, and keep records in it
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[test,s3]' 'moto[server]==5.2.5'
	OMP_NUM_THREADS=1 pytest -m s3 tests/store

docs: $(VENV)/.test  ## build the documentation into results/site, and check its links
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true mkdocs build --quiet
	@echo "results/site/index.html; with search: python -m http.server --directory results/site"

report: $(VENV)/.run  ## make the report of every published study again from its records, one of all of them, and the paper
	gt rebuild --published $(PUBLISHED) --templates report_templates --paper $(PAPER)

headline: $(VENV)/.run  ## write the top of the README anew from the published studies
	gt headline --published $(PUBLISHED) --paper $(PAPER) --readme README.md

publish: $(VENV)/.run  ## keep the records and the report of a study that has run (STUDY=smoke) under results/published
	gt publish --plan results/studies/$(STUDY)/plan.json --runs results/runs --out results/published/$(STUDY) --templates report_templates

faults: $(VENV)/.test  ## disturb a small study for so long and compare it with its undisturbed twin (SECONDS=1800)
	PYTHONPATH=tests:. python -m faults.driver --seconds $(SECONDS) --out results/faults

reliability: $(VENV)/.test  ## keep what the last `make faults` found, and write the README's table of it
	cp results/faults/faults.json results/published/faults.json
	PYTHONPATH=tests:. python -m faults.table results/published/faults.json README.md

ui: $(VENV)/.run  ## serve the MLflow UI on this machine only
	mlflow server --backend-store-uri sqlite:///results/mlflow.db --host 127.0.0.1 --port 5000

lock:  ## write the locks anew: the newest versions, in a fresh environment, and the sums of their files
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --editable '.[test]'
	@{ sed -n '/^#/p' requirements.lock; $(VENV)-lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v -e '^nvidia-' -e '^triton=='; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	$(VENV)-lock/bin/python -m pip install --quiet uv==0.13.8
	@{ sed -n '/^#/p' requirements.linux-64.lock; $(VENV)-lock/bin/uv pip compile --no-config --quiet --generate-hashes --no-annotate \
		--no-header --python-version 3.12 --python-platform x86_64-manylinux_2_28 --constraint requirements.lock pyproject.toml; } \
		> requirements.linux-64.lock.new
	@mv requirements.linux-64.lock.new requirements.linux-64.lock
	rm -rf $(VENV)-lock

schemas: $(VENV)/.run  ## generate workflow/schemas from the models
	gt schema --out workflow/schemas

clean:  ## remove the environment; results stay
	rm -rf $(VENV)

$(VENV)/.run: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.test: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.cluster: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[test,slurm]'
	@touch $@ $(VENV)/.run $(VENV)/.test

$(VENV)/.server: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[test,postgres]'
	@touch $@ $(VENV)/.run $(VENV)/.test
