# What a newcomer needs: `make demo`, `make test`, `make ui`. Everything is made in this folder and ignored by git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE := $(CURDIR)/.demo
DEMO_ENV := OCTO_LAKE=$(STATE)/lake OCTO_CONFIG=$(CURDIR)/allocator_configs OCTO_AWS_EXPORTS=$(STATE)/exports/aws \
	OCTO_AZURE_EXPORTS=$(STATE)/exports/azure OCTO_GCP_EXPORTS=$(STATE)/exports/gcp OCTO_START_MONTH=2024-01 DAGSTER_HOME=$(STATE)/dagster
DBT_FILES := $(shell find dbt_project -name '*.sql' -o -name '*.yml' | grep -v /target/)

.PHONY: demo test test-fast torture ui browser check docs pictures bench manifest emulators sbom clean

demo: manifest $(STATE)/dagster/dagster.yaml
	@test -d $(STATE)/exports || $(DEMO_ENV) $(BIN)/octo sample $(STATE)/exports --from 2024-01 --to 2024-03
	@$(DEMO_ENV) $(BIN)/octo run --from 2024-01 --to 2024-03
	@echo
	@echo "To look at it in the Dagster UI: make ui, then open http://127.0.0.1:3000"

ui: manifest $(STATE)/dagster/dagster.yaml
	$(DEMO_ENV) $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p 3000

test: manifest emulators
	$(BIN)/pytest -n 2

test-fast: manifest emulators
	$(BIN)/pytest -n 2 -m "not slow and not browser"

# Breaks lakes on purpose, by a seed that it prints and that repeats it.
torture: OCTO_TORTURE_SEED := $(or $(OCTO_TORTURE_SEED),$(shell od -An -N3 -tu4 /dev/urandom | tr -d ' '))
torture: manifest
	@echo "OCTO_TORTURE_SEED=$(OCTO_TORTURE_SEED)"
	OCTO_TORTURE_SEED=$(OCTO_TORTURE_SEED) $(BIN)/pytest -n 2 tests/torture

# Ratios to the least work that could give the same result; by default of a very large month, so it takes long.
bench: manifest .bench/library/installed
	$(BIN)/python -m benchmarks.bench

# What splitting is compared with, in an environment of its own: it is no dependency of ours.
.bench/library/installed:
	$(PYTHON) -m venv .bench/library
	.bench/library/bin/pip install --quiet --disable-pip-version-check cloud-cost-allocation==2.3.4
	@touch $@

# The documentation site, in site/; open site/index.html.
docs: manifest
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The pictures in docs/images/, of the demo's data in the Dagster UI. Needs Debian's chromium; no part of CI.
pictures: demo
	$(DEMO_ENV) $(BIN)/python docs/pictures.py $(BIN)/dagster

# The UI on the demo's data in a browser. Needs Debian's chromium; no part of CI.
browser: demo
	$(DEMO_ENV) $(BIN)/pytest -m browser tests/browser

check: manifest docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml octo_pipeline
	$(BIN)/sqlfluff lint dbt_project/models octo_pipeline
	$(BIN)/cfn-lint --regions us-east-1 -- octo_pipeline/vendors/aws/templates/*.yaml

# What is installed, as CycloneDX. Validating it takes minutes and would look at the tool, not at what is installed.
sbom: $(VENV)/installed
	$(BIN)/cyclonedx-py environment --short-PURLs --output-reproducible --no-validate --output-file - $(BIN)/python | $(BIN)/python .ci/sbom.py > sbom.json

# What the tests start on loopback, each in a folder of its own.
emulators: .emulators/bigquery/installed .emulators/azurite/installed

.emulators/azurite/installed:
	npm install --silent --no-audit --no-fund --prefix .emulators/azurite azurite@3.37.0
	@touch $@

manifest: dbt_project/target/octo_manifest.digest

dbt_project/target/octo_manifest.digest: $(VENV)/installed $(DBT_FILES)
	@$(BIN)/octo manifest

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

# Beside the project's packages pip would take an old version; the emulator's DuckDB must be the extension's.
.emulators/bigquery/installed: tests/emulators/bigquery.txt
	$(PYTHON) -m venv .emulators/bigquery
	.emulators/bigquery/bin/pip install --quiet --disable-pip-version-check -r tests/emulators/bigquery.txt
	@touch $@

$(STATE)/dagster/dagster.yaml: dagster.yaml
	@mkdir -p $(STATE)/dagster
	@cp dagster.yaml $@

clean:
	rm -rf $(STATE) $(VENV) .emulators .bench dbt_project/target site sbom.json
