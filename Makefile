# Each target is one line of Python; train/README.md shows them. The first target that needs .venv makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# make sweep SAMPLES=50 LRS="1e-3 1e-4" MODEL=folder TEXT=file SEED=1 OUT=runs/mine FLAGS="--batch-size 4"
SWEEP_FLAGS = $(if $(MODEL),--model "$(MODEL)") $(if $(TEXT),--text "$(TEXT)") $(if $(LRS),--lrs $(LRS)) \
	$(if $(SAMPLES),--samples $(SAMPLES)) $(if $(SEED),--seed $(SEED)) $(if $(OUT),--out "$(OUT)") $(FLAGS)

.PHONY: help setup demo map levers sweep mine test verify mutants bench lilliput clean

help:
	@echo "make demo       the whole experiment on a small model and a short text: three minutes, no downloads"
	@echo "make map        the demo at seven learning rates: the learning rate as a clock; ten minutes"
	@echo "make levers     the demo with a decay, a warm-up, a leash, a clip: do they make the rate matter less? 15 minutes"
	@echo "make sweep      the experiment: three learning rates x 800 samples, table, figure"
	@echo "                also SAMPLES= LRS= MODEL= TEXT= SEED= OUT= FLAGS="
	@echo "make mine TEXT=my.txt   which rate for your text, how many steps, and the model; also MODEL= SAMPLES= OUT= FLAGS="
	@echo "make test       the tests; they need no network and no model"
	@echo "make verify     is this GPT-2? compares OpenAI's weights with published numbers"
	@echo "make mutants    puts faults into copies of the code: do the tests notice? (15 minutes)"
	@echo "make bench      compares the speed with the usual notebook; installs transformers into .venv-bench"
	@echo "make lilliput   pretrains the small model: CORPUS=books.jsonl.xz"
	@echo "make setup      only makes .venv and installs"

setup: $(VENV)/installed

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	@touch $@

demo: $(VENV)/installed
	@$(BIN)/python -m train.sweep demo $(FLAGS)

map: $(VENV)/installed
	@$(BIN)/python -m train.sweep map $(FLAGS)

levers: $(VENV)/installed
	@$(BIN)/python -m train.sweep levers --schedule constant linear --leash 0 1 $(FLAGS)
	@$(BIN)/python -m train.sweep levers --schedule cosine --warmup 20 $(filter-out --overwrite,$(FLAGS))
	@$(BIN)/python -m train.sweep levers --clip 1 $(filter-out --overwrite,$(FLAGS))

sweep: $(VENV)/installed
	@$(BIN)/python -m train.sweep $(SWEEP_FLAGS)

mine: $(VENV)/installed
	@$(BIN)/python -m train.find $(SWEEP_FLAGS)

test: $(VENV)/installed
	@$(BIN)/python -m pytest

verify: $(VENV)/installed
	@$(BIN)/python -m train.verify $(FLAGS)

mutants: $(VENV)/installed
	@$(BIN)/python -m tests.mutants $(FLAGS)

bench: $(VENV)/installed
	@$(BIN)/python -m tests.bench $(FLAGS)

lilliput: $(VENV)/installed
	@$(BIN)/python -m train.pretrain --corpus "$(CORPUS)" $(if $(OUT),--out "$(OUT)") $(FLAGS)

clean:
	rm -rf $(VENV) .pytest_cache
	find model data train evaluate tests -name __pycache__ -type d -prune -exec rm -rf {} +
