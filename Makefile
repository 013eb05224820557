# Two commands do all the set-up: `make quickstart` and `make test`. Both create and fill .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: quickstart test test-core check format clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

quickstart: $(STAMP)
	$(BIN)/kdc run recipes/quickstart.yaml
	@echo; echo 'One answer from the bundle:'
	@echo '{"text": "red trainers for running", "text_pair": "Sprint Crimson Running Shoes EU 42"}' \
	    | $(BIN)/kdc predict --quiet $$(ls -t runs/quickstart-*/bundle/quickstart.kdc | head -n 1)

# Two processes; the tests of a file stay in one, since what they share takes longer to make than to use.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(STAMP)
	$(PYTEST)

test-core: $(STAMP)
	$(PYTEST) -m 'not long'

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs
