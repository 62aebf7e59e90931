# Every target sets up what it needs: a virtual environment in .venv and the project in it.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Each half's output in one piece, where make can do that.
TOGETHER := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
QUICK := not slow and not chaos and not gpu

.PHONY: demo test test-on-ray test-without-ray slow chaos lint audit docs format clean

demo: $(INSTALLED)
	@echo "Condensing handwritten digits to 1 image per class; then, for a quick look, only"
	@echo "3 networks x 200 epochs (the paper: 5 x 1000), and 10 epochs on the whole data."
	$(BIN)/idm-ray condense --out runs/demo --overwrite --protocol quick --whole-epochs 10
	@echo "Look at runs/demo/gallery.png"

# Tests on Ray wait for processes most of the time: all others run beside them.
test: $(INSTALLED)
	@echo "Two halves run side by side, some 10 minutes; each shows what it found when it is done."
	$(MAKE) --no-print-directory --jobs=2 $(TOGETHER) test-on-ray test-without-ray

test-on-ray: $(INSTALLED)
	$(BIN)/python -m pytest -m "ray and $(QUICK)"

test-without-ray: $(INSTALLED)
	$(BIN)/python -m pytest -m "not ray and $(QUICK)"

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# 20 kills at random moments of a run on a cluster of two nodes; IDM_RAY_CHAOS_SEEDS="1 2" for others.
chaos: $(INSTALLED)
	$(BIN)/python -m pytest -m chaos

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# B101: an assert says what our own code has made true; nothing from outside is checked by one.
	$(BIN)/bandit -q -r --skip B101 idm_ray pipelines cluster

# Known vulnerabilities of what the project needs to run. Where nobody answers it says "skipped".
audit: $(INSTALLED)
	$(BIN)/python -m tests.audit

# The pages that are written by programs.
docs: $(INSTALLED)
	$(BIN)/python docs/settings.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(INSTALLED): setup.cfg setup.py
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "Python 3.11 or newer is needed, $(PYTHON) is older; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@
