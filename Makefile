# Every target works on a fresh machine with Python 3.11+ and make: the first one that needs it builds .venv.
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help demo demo-lake test test-unit fuzz test-fault test-browser screenshots oracle test-gpu check format lock docs schema-ids wire clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/.dev: requirements/runtime.txt requirements/dev.txt
	./sightline --install dev
	@touch $@

demo:            ## the main job on real servers: 500 pictures, live progress, the ledger
	./sightline demo

demo-lake:       ## the same with Kafka Connect and Iceberg tables: counts rows, and asks by SQL
	./sightline demo --lake

test: .venv/.dev ## all layers (unit, contract, integration, fault, system, browser)
	$(PY) -m pytest tests -n 2 --dist loadfile --durations=20

test-unit: .venv/.dev  ## unit tests only, seconds
	$(PY) -m pytest tests/unit

fuzz: .venv/.dev ## hostile input for everything that reads foreign bytes: some minutes; `make fuzz FUZZ="--inputs 200000 --seed 2"`
	$(PY) -m tests.fuzz $(FUZZ)

test-fault: .venv/.dev ## the tests that kill, freeze and cut
	$(PY) -m pytest tests/fault

test-browser: .venv/.dev ## the console in a real browser (Chromium), and the API fuzzed by its own document
	$(PY) -m pytest tests/browser tests/integration/api/test_fuzz.py

screenshots: .venv/.dev ## takes the pictures in docs/screenshots again, by the tests that they show
	SCREENSHOTS=docs/screenshots REQUIRE_SERVICES=1 $(PY) -m pytest tests/browser/test_screenshots.py

oracle: .venv/.dev ## compares the decoder with Chromium, and writes the table in docs/images.md
	ORACLE_PAGE=docs/images.md REQUIRE_SERVICES=1 $(PY) -m pytest tests/browser/test_oracle.py

test-gpu:        ## model tests on a GPU; puts TensorFlow for GPUs into .venv
	./sightline --install gpu
	./sightline --install dev
	SIGHTLINE_INFERENCE_DEVICE=gpu $(PY) -m pytest tests -m gpu

check: .venv/.dev ## ruff, mypy strict, import contracts, the console's JavaScript, schemas, generated files; changes nothing
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache
	console/lint check $(PY)
	$(PY) -m app schemas check
	$(PY) -m app docs --check

format: .venv/.dev ## format and sort
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .
	console/lint format $(PY)

docs: .venv/.dev ## regenerate docs/configuration.md, topics.md, metrics.md, lake-tables.md and openapi.json
	$(PY) -m app docs

schema-ids: .venv/.dev ## number schemas that schemas/ids.lock does not name yet, by a fresh registry
	$(PY) -m app stack lock --schemas

wire: .venv/.dev ## write schemas/records.py from the .avsc files, and the bytes of new examples
	$(PY) -m app schemas write
	$(PY) -m tests.support.schema_examples

lock:            ## pin requirements with hashes (needs uv; npm packages: `npm install` in console)
	for name in runtime dev gpu console; do \
	  uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done

clean:           ## remove everything that these targets made
	rm -rf .venv var .tools console/node_modules .mypy_cache .ruff_cache .hypothesis
