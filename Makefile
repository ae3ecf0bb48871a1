# Everything a person does here, one target each; `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TIMEOUT := $(if $(shell command -v timeout),timeout 7200,)  # for what hangs: no machine is so slow
.DEFAULT_GOAL := help
# where this is set, every start of Python compiles torch anew: nine seconds instead of three
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup lock data train pipeline lint types test test-slow mutate coverage hooks lab notebooks readme docs bench bench-engine bench-record bench-best bench-zoo bench-trust bench-photos bench-strangers clean bench-serve test-notebooks test-files

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "make %-14s %s\n", $$1, $$2}'

# the versions of requirements.lock; `make setup NEWEST=1` takes the newest that settings.ini allows
VERSIONS := $(if $(NEWEST),--upgrade,--constraints requirements.lock)
ifdef NEWEST
.PHONY: $(STAMP)
endif

$(STAMP): settings.ini setup.py pyproject.toml requirements.lock
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; say which: make setup PYTHON=python3.12')"
	$(PYTHON) -m venv "$(VENV)"
	"$(BIN)"/pip install --quiet uv
	"$(BIN)"/uv pip install --quiet --python "$(BIN)"/python $(VERSIONS) -e ".[dev]" || { \
	    echo "$(if $(NEWEST),The newest versions,The versions in requirements.lock) do not install here: the lines above say why.$(if $(NEWEST),, The newest that do: make setup NEWEST=1)" >&2; exit 1; }
	@touch $(STAMP)

setup: $(STAMP)  ## make .venv and install the project with its development tools

lock: $(STAMP)  ## write requirements.lock for what settings.ini asks; NEWEST=1 also renews what is locked
	env -u UV_TORCH_BACKEND "$(BIN)"/uv pip compile setup.py --extra dev --universal --python-version 3.11 \
	    --no-annotate --custom-compile-command "make lock" $(if $(NEWEST),--upgrade) --quiet --output-file requirements.lock

hooks: $(STAMP)  ## once after cloning: check before each commit, and merge notebooks cell by cell
	"$(BIN)"/pre-commit install
	"$(BIN)"/nbdev[_-]install[_-]hooks

data: $(STAMP)  ## unpack MNIST and show a summary
	@"$(BIN)"/vit_mnist_data

train: $(STAMP)  ## train the preset `fast` to 99 %, about half a minute on two cores
	@"$(BIN)"/vit_mnist_train --preset fast

pipeline: $(STAMP)  ## data, train, evaluate, explain with DVC, in a git clone: runs what has changed
	"$(BIN)"/nbdev[_-]export  # nbdev 2 spells its commands with _, nbdev 3 with -
	@mkdir -p .dvc-storage  # the remote `local`; `dvc remote modify local url s3://...` names another place
	PATH="$$(cd "$(BIN)" && pwd):$$PATH" "$(BIN)"/dvc repro
	"$(BIN)"/dvc push
	"$(BIN)"/dvc metrics show

lint: $(STAMP)  ## faults in all code, layout of what is written by hand, with ruff
	"$(BIN)"/ruff check nbs tests benchmarks tools setup.py vit_mnist
	"$(BIN)"/ruff format --check nbs tests benchmarks tools setup.py

types: $(STAMP)  ## what public functions take and return, with mypy, about a minute the first time
	"$(BIN)"/mypy

test: lint  ## lint, run all notebooks as tests and pytest beside them
	@$(MAKE) -j 2 test-notebooks test-files  # each fills the time in which the other waits

test-notebooks: $(STAMP)  ## run all notebooks as tests; says what they print at its end
	@log=$$(mktemp); OMP_NUM_THREADS=1 $(TIMEOUT) "$(BIN)"/nbdev[_-]test --n_workers 1 --timing --do_print \
	    >"$$log" 2>&1; status=$$?; cat "$$log"; rm "$$log"; exit $$status

test-files: $(STAMP)  ## run the test files with pytest
	"$(BIN)"/python -m pytest tests -m "not slow" -n 2 --durations 15

test-slow: $(STAMP)  ## the tests and notebook cells that take minutes
	"$(BIN)"/nbdev[_-]test --n_workers 0 --timing --do_print --flags slow
	"$(BIN)"/python -m pytest tests -m slow

mutate: $(STAMP)  ## change the code one thing at a time: do tests notice? hours; MUTATE="loop --sample 40"
	"$(BIN)"/python tools/mutate.py $(MUTATE)

coverage: $(STAMP)  ## the lines that notebooks and tests run together, and their badge; a quarter of an hour
	"$(BIN)"/python tools/cover.py

lab: $(STAMP)  ## open the first lesson in JupyterLab, beside the other notebooks
	"$(BIN)"/jupyter lab --notebook-dir nbs --config tools/jupyter_server_config.py

notebooks: $(STAMP)  ## run all notebooks in place; slow cells keep their outputs
	"$(BIN)"/python tools/notebooks.py
	"$(BIN)"/nbdev[_-]clean

readme: $(STAMP)  ## make README.md from nbs/index.ipynb
	"$(BIN)"/python tools/readme.py

docs: $(STAMP)  ## build the site into _docs/ (with Quarto where there is one) and check it
	"$(BIN)"/python tools/docs.py

bench: $(STAMP)  ## measure speed, memory and start-up, about two minutes
	"$(BIN)"/python benchmarks/bench.py

bench-engine: $(STAMP)  ## measure the engine's options and the cost of checkpoints, about eight minutes
	"$(BIN)"/python benchmarks/engine.py

bench-zoo: $(STAMP)  ## train every model briefly, an hour or two; resumes where it was stopped
	"$(BIN)"/python benchmarks/zoo.py

bench-trust: $(STAMP)  ## how far to trust each explanation, about three hours; resumes where it was stopped
	"$(BIN)"/python benchmarks/trust.py

bench-photos: $(STAMP)  ## read 2,000 photographs of test digits, kind by kind, and 300 rows of digits
	"$(BIN)"/python benchmarks/photos.py

bench-strangers: $(STAMP)  ## which answers are to be trusted: network, thresholds, digits and strangers
	"$(BIN)"/python benchmarks/strangers.py

bench-serve: $(STAMP)  ## the service under load beside a plain one, start and end, about five minutes
	"$(BIN)"/python benchmarks/serve.py

bench-record: $(STAMP)  ## the preset `fast` against its peers, about seven minutes
	"$(BIN)"/python benchmarks/record.py

bench-best: $(STAMP)  ## the preset `best` from three seeds, about an hour; resumes where it was stopped
	"$(BIN)"/python benchmarks/train.py best --threads 1

clean:  ## remove what building and testing left; runs/ and .venv/ stay
	rm -rf build dist *.egg-info _proc _docs .pytest_cache .mypy_cache .ruff_cache .coverage*
	find nbs tests tools benchmarks vit_mnist -name __pycache__ -prune -exec rm -rf {} +
