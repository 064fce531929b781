# `make` alone lists what there is. Everything is made in this folder and ignored by git.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE := $(CURDIR)/.demo
DEMO_ENV := OCTO_LAKE=$(STATE)/lake OCTO_CONFIG=$(CURDIR)/allocator_configs OCTO_AWS_EXPORTS=$(STATE)/exports/aws \
	OCTO_AZURE_EXPORTS=$(STATE)/exports/azure OCTO_GCP_EXPORTS=$(STATE)/exports/gcp OCTO_START_MONTH=2024-01 DAGSTER_HOME=$(STATE)/dagster
# pip lists what it collects while it works, so nobody looks at an empty screen for minutes.
PIP_INSTALL := install --disable-pip-version-check --progress-bar off

.PHONY: help demo demo-admin console test test-fast torture several spark ui browser check check-python check-types check-sql fmt docs house pictures bench bench-short bench-compare focus focus-validation schemas manifest emulators sbom clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed $(STATE)/dagster/dagster.yaml ## Installs what runs, writes three sample months and allocates them
	@echo "Writing sample months of three vendors and allocating them."
	@test -d $(STATE)/exports || $(DEMO_ENV) $(BIN)/octo sample $(STATE)/exports --from 2024-01 --to 2024-03
	@$(DEMO_ENV) $(BIN)/octo run --from 2024-01 --to 2024-03
	@echo
	@echo "To look at it in the Dagster UI: make ui, then open http://127.0.0.1:3000"

# Who runs it becomes the administrator of the demo.
demo-admin: demo
	@test -f $(STATE)/lake/registry.sqlite || $(DEMO_ENV) $(BIN)/octo registry init --admin "$$(id -un)"

ui: $(VENV)/installed $(STATE)/dagster/dagster.yaml ## Opens the Dagster UI on the demo's data
	$(DEMO_ENV) $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

console: demo-admin ## Opens the console on the demo's data
	$(DEMO_ENV) $(BIN)/octo serve

test: $(VENV)/installed-test emulators ## Adds what the tests need, then runs them all
	$(BIN)/pytest -n 2

test-fast: $(VENV)/installed-test emulators ## Runs the tests that take no more than a few seconds each
	$(BIN)/pytest -n 2 -m "not slow and not browser"

# The seed that it prints repeats it.
torture: OCTO_TORTURE_SEED := $(or $(OCTO_TORTURE_SEED),$(shell od -An -N3 -tu4 /dev/urandom | tr -d ' '))
torture: $(VENV)/installed-test ## Breaks lakes on purpose, at random, for long
	@echo "OCTO_TORTURE_SEED=$(OCTO_TORTURE_SEED)"
	OCTO_TORTURE_SEED=$(OCTO_TORTURE_SEED) $(BIN)/pytest -n 2 tests/torture

# Debian's PostgreSQL, Caddy and Prometheus, the store, and the program's processes, each killed once. Takes minutes; no part of CI.
several: $(VENV)/installed-test ## Runs what deploy/ describes as processes, and kills each of them in the middle
	$(BIN)/pytest -s -m several tests/several

# A master and two workers on loopback, and a server of Spark Connect. Needs Debian's default-jre-headless; no part of CI.
spark: .emulators/spark/installed ## Makes months on a Spark cluster, of which a worker is killed in the middle
	.emulators/spark/bin/python -m pytest -s -m spark tests

# Ratios to the least work that could give the same result.
bench: $(VENV)/installed-test .bench/library/installed ## Measures speed, by default with a very large month
	$(BIN)/python -m benchmarks.bench --json .bench/$$(git rev-parse --short HEAD).json

bench-short: $(VENV)/installed-test .bench/library/installed ## The same with small months, to see that all of it runs
	$(BIN)/python -m benchmarks.bench --short

bench-compare: $(VENV)/installed-test ## What changed between two runs of bench: OLD=... NEW=...
	$(BIN)/python -m benchmarks.table $(OLD) $(NEW)

# What splitting is compared with, in an environment of its own: it is no dependency of ours.
# An environment of its own: with what it brings, jsonschema and so dbt take two seconds longer to import.
.bench/sbom/installed:
	$(PYTHON) -m venv .bench/sbom
	.bench/sbom/bin/pip $(PIP_INSTALL) cyclonedx-bom==7.5.0
	@touch $@

# What splitting is compared with, in an environment of its own: it is no dependency of ours.
.bench/library/installed:
	$(PYTHON) -m venv .bench/library
	.bench/library/bin/pip $(PIP_INSTALL) cloud-cost-allocation==2.3.4
	@touch $@

# The validator needs Python 3.12 and packages that the project does not run with, so it has an environment of its own.
focus: demo ## Validates the demo's FOCUS export with the FinOps Foundation's validator, where Python 3.12 is installed
	@if python3.12 -c "" 2>/dev/null; then $(MAKE) --no-print-directory focus-validation; \
	else echo "Python 3.12 is not installed, so the FOCUS export is not validated."; fi

focus-validation: .bench/focus/installed
	@$(DEMO_ENV) $(BIN)/octo export focus $(STATE)/focus.parquet --month 2024-01 --to 2024-03 --version 1.2
	@.bench/focus/bin/python .ci/validate_focus.py $(STATE)/focus.parquet

# NumPy 2, which newer versions of pyarrow need, is too new for it.
.bench/focus/installed:
	python3.12 -m venv .bench/focus
	.bench/focus/bin/pip $(PIP_INSTALL) focus-validator==2.2.1 pyarrow==21.0.0 "duckdb<2"
	@touch $@

# Needs the network once, like the validator of FOCUS; no part of CI.
schemas: .bench/schemas/installed ## Compares deploy/ with the schemas of compose files, Kubernetes and Grafana's dashboards
	.bench/schemas/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/docker-compose.yaml deploy/docker-compose.git.yaml
	.bench/schemas/bin/python .ci/validate_values.py
	.bench/schemas/bin/python .ci/validate_dashboard.py

# It needs a newer click than dbt.
.bench/schemas/installed:
	$(PYTHON) -m venv .bench/schemas
	.bench/schemas/bin/pip $(PIP_INSTALL) check-jsonschema==0.39.0 kubernetes-validate==1.37.0 pyyaml grafana-foundation-sdk==1769699998\!10.1.0
	@touch $@

docs: $(VENV)/installed-test ## Builds the documentation site; open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# A test fails if the picture is not that of the imports.
house: $(VENV)/installed-test ## Draws docs/dev/house.svg again, after packages or their imports changed
	$(BIN)/python docs/house.py

# The pictures in docs/images/, of the demo's data in the Dagster UI and the console. Needs Debian's chromium; no part of CI.
pictures: demo-admin $(VENV)/installed-test
	$(DEMO_ENV) $(BIN)/python docs/pictures.py $(BIN)/dagster

# The UI on the demo's data and the console in a browser. Needs Debian's chromium; no part of CI.
browser: demo $(VENV)/installed-test
	$(DEMO_ENV) $(BIN)/pytest -m browser tests/browser tests/console

check: $(VENV)/installed-dev ## Runs every linter and type check that CI runs; .pre-commit-config.yaml has the same
	@$(MAKE) --no-print-directory --jobs=2 --output-sync check-sql check-types check-python docs

check-python: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml octo_pipeline
	$(BIN)/cfn-lint --regions us-east-1 -- octo_pipeline/vendors/aws/templates/*.yaml

check-types: $(VENV)/installed-dev
	$(BIN)/mypy

check-sql: $(VENV)/installed-dev
	$(BIN)/sqlfluff lint --processes 2 dbt_project/models octo_pipeline

fmt: $(VENV)/installed-dev ## Formats the Python code and sorts its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

# What is installed, as CycloneDX. Validating it takes minutes and would look at the tool, not at what is installed.
sbom: $(VENV)/installed-dev .bench/sbom/installed
	.bench/sbom/bin/cyclonedx-py environment --short-PURLs --output-reproducible --no-validate --output-file - $(BIN)/python | $(BIN)/python .ci/sbom.py > sbom.json

# What the project runs with, and Spark on top: half a gigabyte that nobody else needs.
.emulators/spark/installed: tests/emulators/spark.txt $(VENV)/installed-test
	@echo "Installing Spark into .emulators."
	@$(PYTHON) -m venv .emulators/spark
	@echo "import site; site.addsitedir('$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')')" \
		> "$$(.emulators/spark/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	@.emulators/spark/bin/python -m pip $(PIP_INSTALL) -c constraints.txt -r tests/emulators/spark.txt
	@touch $@

# What the tests start on loopback, each in a folder of its own.
emulators: .emulators/bigquery/installed .emulators/azurite/installed

.emulators/azurite/installed:
	@echo "Installing the emulator of Azure's storage into .emulators."
	@npm install --no-audit --no-fund --prefix .emulators/azurite azurite@3.37.0
	@touch $@

# The first command that needs the manifest builds it; this only does it beforehand.
manifest: $(VENV)/installed
	$(BIN)/octo manifest

$(VENV)/installed: pyproject.toml setup.py constraints.txt
	@echo "Installing octo-pipeline and what it runs with into $(VENV); the first time this takes a minute or two."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip $(PIP_INSTALL) -c constraints.txt -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	@echo "Installing what the tests need into $(VENV)."
	@$(BIN)/pip $(PIP_INSTALL) -c constraints.txt -e ".[test]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed-test
	@echo "Installing the linters and the type checker into $(VENV)."
	@$(BIN)/pip $(PIP_INSTALL) -c constraints.txt -e ".[dev]"
	@touch $@

# Beside the project's packages pip would take an old version; the emulator's DuckDB must be the extension's.
.emulators/bigquery/installed: tests/emulators/bigquery.txt
	@echo "Installing the emulator of BigQuery into .emulators."
	@$(PYTHON) -m venv .emulators/bigquery
	@.emulators/bigquery/bin/pip $(PIP_INSTALL) -r tests/emulators/bigquery.txt
	@touch $@

$(STATE)/dagster/dagster.yaml: dagster.yaml
	@mkdir -p $(STATE)/dagster
	@cp dagster.yaml $@

clean: ## Removes all that these targets made
	rm -rf $(STATE) $(VENV) .emulators .bench dbt_project/target site sbom.json build octo_pipeline.egg-info
