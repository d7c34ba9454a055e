# make run   the demo, on a machine with nothing but Python 3.11 or newer
# make test  lint, types, tests
# make weights MOTION=DIR WORK=DIR  the networks that ship, from nothing: hours on two cores (docs/model_card.md)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT := out
SYSTEM_PACKAGES := libgl1 libglib2.0-0 libegl1 libgles2

.PHONY: run test lint types install install-dev weights clean

run: install
	@mkdir -p $(OUT)
	$(BIN)/python run_stream.py --source demo --overlay $(OUT)/demo.mp4 --print
	@echo "Look at $(OUT)/demo.mp4. With a camera: $(BIN)/python run_stream.py --source 0 --view"

test: install-dev lint types
	$(BIN)/python -m pytest

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

install: $(VENV)/.stream
install-dev: $(VENV)/.dev

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) came: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "This Python cannot make environments: apt install python3-venv, then make again."; exit 1; }
	@touch $@

$(VENV)/.stream: requirements-stream.txt $(VENV)/.python
	$(PIP) install -q -r requirements-stream.txt
	@$(BIN)/python -c 'import cv2, mediapipe' 2>/dev/null || $(MAKE) --no-print-directory system
	$(BIN)/python -m engines.models fetch
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt $(VENV)/.stream
	$(PIP) install -q -r requirements-dev.txt
	@touch $@

# OpenCV and MediaPipe want a few libraries that a bare server lacks; root may install them, others are told how.
.PHONY: system
system:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -q && apt-get install -q -y --no-install-recommends $(SYSTEM_PACKAGES); fi
	@$(BIN)/python -c 'import cv2, mediapipe' || \
	  { echo "Libraries of the system are missing: sudo apt install $(SYSTEM_PACKAGES), then make again."; exit 1; }

# Each step goes on where it was stopped or is skipped when its file is there.
WORK ?= $(OUT)/training
weights: install-dev
	@[ -n "$(MOTION)" ] || { echo "Type: make weights MOTION=DIR, the folder of captured motions (docs/model_card.md)."; exit 1; }
	@mkdir -p $(WORK)/renders $(WORK)/nets
	[ -f $(WORK)/motions.npz ] || $(BIN)/python -m training.make_data motions --motion $(MOTION) --out $(WORK)/motions.npz
	$(BIN)/python -m training.make_data render --motions $(WORK)/motions.npz --out $(WORK)/renders \
	  --sequences 6400 --workers 2
	[ -f $(WORK)/errors.safetensors ] || \
	  $(BIN)/python -m training.error_model_fit --work $(WORK)/renders --rows 3000 --out $(WORK)/errors.safetensors
	[ -f $(WORK)/train.pt ] || $(BIN)/python -m training.scenes --motions $(WORK)/motions.npz \
	  --errors $(WORK)/errors.safetensors --windows 800000 --seed 1 --out $(WORK)/train.pt
	[ -f $(WORK)/held_out.pt ] || $(BIN)/python -m training.scenes --motions $(WORK)/motions.npz \
	  --errors $(WORK)/errors.safetensors --windows 10000 --seed 2 --held-out --out $(WORK)/held_out.pt
	for stage in 1 2 3; do \
	  $(BIN)/python -m training.train --stage $$stage --data $(WORK) --work $(WORK)/nets || exit 1; done
	$(BIN)/python -m training.export --work $(WORK)/nets
	$(BIN)/python -m training.card --data $(WORK) --into docs/model_card.md

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis
