# make demo | quick | test | check | audit | sanitize | bench | gpu | peers | full-size | soak | fuzz | install | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
INSTALLED := $(VENV)/.installed
# Idle threads of a numerical library spin and slow down everything else; tests and runs each use one thread.
export OMP_WAIT_POLICY := PASSIVE
# What Python has compiled once is kept: every command imports PyTorch.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo quick test check lint types floors audit mutants sanitize bench gpu peers full-size soak fuzz clean
.DEFAULT_GOAL := check

install: $(INSTALLED)

# What runs tltool, and what tests and checks it too. Python compiles a module when it is first imported, which is
# quicker than to compile all of them here.
$(RUNS) $(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "tltool needs Python 3.11, 3.12 or 3.13; run make PYTHON=python3.11")'
	@echo 'Installing the tested set of packages into $(VENV); this takes a minute or two.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.$(if $(filter $(INSTALLED),$@),[dev])'
	touch $(RUNS) $@

demo: $(RUNS)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh

# Of two processes each takes whole files for as long as there are some: what a file prepares is prepared once.
# Tests marked 'long' are left to 'make check'.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not long"

# Lint, types, floors and the fast tests of what differs from the branch BASE.
quick: $(INSTALLED)
	$(BIN)/python scripts/quick.py --base $(or $(BASE),main)

check: lint types floors
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Known faults of the tested set of packages, where their list can be reached; ruff's rules S (bandit) are part of lint.
# S603 names every start of a process; all are lists of words, without a shell.
AUDIT := $(VENV)/audit
audit: $(INSTALLED)
	$(BIN)/ruff check --select S --ignore S603 tltool scripts
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/pip install --quiet pip-audit; }
	$(AUDIT)/bin/pip-audit -r constraints.txt --no-deps --disable-pip --progress-spinner off

types: $(INSTALLED)
	$(BIN)/mypy

floors: $(INSTALLED)
	$(BIN)/lint-imports

# How many small changes to the code the tests notice. All of them take hours; an interrupted call goes on.
# make mutants SAMPLE=200 draws some (SEED=1 others), MODULES="splits scaler" takes these modules.
mutants: $(INSTALLED)
	$(BIN)/python scripts/mutants.py $(MODULES) $(if $(SAMPLE),--sample $(SAMPLE)) --seed $(or $(SEED),0)

# Builds the C++ with sanitizers for addresses and undefined behaviour and runs its tests; needs GCC. Leaks are not looked
# for, since Python and PyTorch end with memory in use.
KERNEL_TESTS := tests/model/kernels/test_every_width.py tests/model/kernels/test_cgcnn_cpp.py \
	tests/model/kernels/test_megnet_layers.py tests/sweep/test_stacked_fit.py

sanitize: $(INSTALLED)
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 CXX=$(CURDIR)/scripts/sanitized_cxx.sh \
	$(BIN)/python -m pytest -p no:cacheprovider $(KERNEL_TESTS)

# Prints each row as it is measured; ends within five minutes. BENCH="--parts encoders" or "--help" are its options.
bench: $(INSTALLED)
	PYTHONPATH=scripts $(BIN)/python -m bench $(BENCH)

# Trains the installable peers beside tltool, each in an environment of its own under ~/.cache/tltool/peers.
peers: $(INSTALLED)
	$(BIN)/python scripts/peers/run.py

# Tests and measures on a GPU; where there is none, says so and lists the tests.
gpu: $(INSTALLED)
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
		$(BIN)/python -m pytest tests/gpu && $(BIN)/python scripts/bench_gpu.py --json bench_gpu.json; \
	else \
		echo 'There is no CUDA device here, so that these tests were collected and not run:'; \
		$(BIN)/python -m pytest tests/gpu --collect-only -q; \
	fi

# Writes, prepares and trains on a dump of the size of Alexandria, or of COUNT entries, in FOLDER; needs an hour or so.
full-size: $(INSTALLED)
	@test -n "$(FOLDER)" || { echo 'Name a folder on a disk with 20 GB free: make full-size FOLDER=DIR'; exit 2; }
	$(BIN)/python scripts/full_size.py --folder $(FOLDER) $(if $(COUNT),--count $(COUNT)) $(if $(KEEP),--keep)

# Kills runs at random and compares what they give in the end with runs that were never stopped; COUNT kills in all.
# Then fills the disk at every write of a run in turn, and at every size of it.
soak: $(INSTALLED)
	$(BIN)/python scripts/soak.py --count $(or $(COUNT),200)
	$(BIN)/python scripts/full_disk.py

# Reads COUNT changed files with every reader; what is not read as it should be is kept in tests/faults/corpus.
fuzz: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python scripts/fuzz.py --count $(or $(COUNT),25000)

clean:
	rm -rf $(VENV) build dist *.egg-info
