# Each target is one line of Python; train/README.md shows them. The first one makes .venv if it is needed.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/installed
RUN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)/python
# Without a .venv, and where PYTHON has all packages, it is used itself: nothing is installed.
ifeq ($(or $(wildcard $(INSTALLED)),$(shell $(PYTHON) -m pip install --quiet --dry-run --no-index \
		--requirement requirements.txt >/dev/null 2>&1 && echo yes)),yes)
INSTALLED :=
RUN := $(PYTHON)
endif

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
	@echo "make bench      compares the speed with the usual notebook; installs transformers into .venv-bench if missing"
	@echo "make lilliput   pretrains the small model: CORPUS=books.jsonl.xz"
	@echo "make setup      only makes .venv and installs, where packages are missing"

setup: $(INSTALLED)

$(VENV)/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check --requirement requirements.txt
	@touch $@

demo: $(INSTALLED)
	@$(RUN) -m train.sweep demo $(FLAGS)

map: $(INSTALLED)
	@$(RUN) -m train.sweep map $(FLAGS)

levers: $(INSTALLED)
	@$(RUN) -m train.sweep levers --schedule constant linear --leash 0 1 $(FLAGS)
	@$(RUN) -m train.sweep levers --schedule cosine --warmup 20 $(filter-out --overwrite,$(FLAGS))
	@$(RUN) -m train.sweep levers --clip 1 $(filter-out --overwrite,$(FLAGS))

sweep: $(INSTALLED)
	@$(RUN) -m train.sweep $(SWEEP_FLAGS)

mine: $(INSTALLED)
	@$(RUN) -m train.find $(SWEEP_FLAGS)

test: $(INSTALLED)
	@$(RUN) -m pytest

verify: $(INSTALLED)
	@$(RUN) -m train.verify $(FLAGS)

mutants: $(INSTALLED)
	@$(RUN) -m tests.mutants $(FLAGS)

bench: $(INSTALLED)
	@$(RUN) -m tests.bench $(FLAGS)

lilliput: $(INSTALLED)
	@$(RUN) -m train.pretrain --corpus "$(CORPUS)" $(if $(OUT),--out "$(OUT)") $(FLAGS)

clean:
	rm -rf $(VENV) .pytest_cache
	find model data train evaluate tests -name __pycache__ -type d -prune -exec rm -rf {} +
