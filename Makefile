# make demo: the whole pipeline on a drawn sample.  make test: the whole suite.  Both make .venv first.

PYTHON ?= python3
BIN = .venv/bin
SOURCES = compcars process_data retrieval lopq benchmarks tests train.py build_image_db.py

PY = $(BIN)/python
DEMO = demo
SEED = 7
BENCH = demo/bench
PAGE = page
MINUTES = 5

# Without the libraries' bytecode, every command takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench bench-gpu campaign constraints
.DEFAULT_GOAL := test

# The marker is written last, so that an interrupted install is taken up again.
.venv/installed: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt -c constraints.txt
	touch $@

# The loops of lopq take seconds to compile; commands and workers of the tests find them compiled.
.venv/compiled: .venv/installed lopq/kernels.py
	$(PY) -m lopq.compile
	touch $@

.PHONY: .venv
.venv: .venv/compiled

# Run a command of ours, and note its seconds.
define step
@echo "python $(1)"; begin=$$(date +%s.%N); $(PY) $(1) && echo "$$(date +%s.%N) $$begin $(1)" >> $(DEMO)/times.txt

endef

# The commands of the README, on a sample that is small enough for two cores and three minutes; so is --scale=1.
demo: .venv
	@mkdir -p $(DEMO) && rm -f $(DEMO)/times.txt
	$(call step,-m compcars.sample --dpath=$(DEMO) --models=12 --images=60 --others=3 --surveillance=15 --seed=$(SEED))
	$(call step,-m compcars.data_info --dpath=$(DEMO))
	$(call step,-m compcars.test_data_info --dpath=$(DEMO))
	$(call step,-m process_data.image_matrix --dpath=$(DEMO) --image_info=car_front.csv --image_root_path=Image_data/data/image/ --mname=imageset.npy --image_resolution=128 --crop=box)
	$(call step,-m process_data.image_matrix --dpath=$(DEMO) --image_info=tindexinfo.csv --image_root_path=Image_data/sv_data/image/ --mname=test_image.npy --image_resolution=128)
	$(call step,-m process_data.make_train_valid --dpath=$(DEMO) --seed=$(SEED))
	$(call step,train.py --dpath=$(DEMO) --save_path=$(DEMO)/para/ --recipe=ce --arch=timm/tf_efficientnet_lite0 --scale=1 --epoch=5 --seed=$(SEED))
	$(call step,build_image_db.py --dpath=$(DEMO) --save_path=$(DEMO)/para/model.ep4 --batch_size=64 --input=imageset.npy --output=database.npy)
	$(call step,build_image_db.py --dpath=$(DEMO) --save_path=$(DEMO)/para/model.ep4 --batch_size=64 --input=test_image.npy --output=tdatabase.npy)
	$(call step,-m process_data.mask_data --dpath=$(DEMO))
	$(call step,-m process_data.baselines --dpath=$(DEMO) --k=20 --isValid=1)
	$(call step,-m process_data.baselines --dpath=$(DEMO) --k=20)
	$(call step,-m process_data.nns --dpath=$(DEMO) --dimension=32 --k=20 --isValid=1 --to_test=valid_for_test.npy --test_matrix=database.npy)
	$(call step,-m process_data.nns --dpath=$(DEMO) --dimension=32 --k=20)
	$(call step,-m process_data.mips --dpath=$(DEMO) --batch_size=1024 --k=20 --isValid=1 --to_test=valid_for_test.npy --test_matrix=database.npy)
	$(call step,-m process_data.contact_sheet --dpath=$(DEMO) --output=contact_sheet_valid.png)
	$(call step,-m process_data.mips --dpath=$(DEMO) --batch_size=1024 --k=20)
	$(call step,-m process_data.contact_sheet --dpath=$(DEMO))
	$(call step,-m process_data.audit --dpath=$(DEMO))
	$(call step,-m process_data.calibrate --dpath=$(DEMO))
	$(call step,-m process_data.report --dpath=$(DEMO))
	$(call step,-m process_data.summary --dpath=$(DEMO))
	@echo "seconds of each command, the longest first:"
	@awk '{printf "%7.1f  %s %s\n", $$1 - $$2, $$3, $$4; all += $$1 - $$2} END {printf "%7.1f  in all\n", all}' $(DEMO)/times.txt | sort -rn

# What the page needs beside the pipeline.
.venv/serving: .venv/installed requirements-serve.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-serve.txt -c constraints.txt
	touch $@

# The search page on the demo's cars, after `make demo`.
.PHONY: serve page
serve: .venv/serving
	$(PY) -m process_data.serve --dpath=$(DEMO) --save_path=$(DEMO)/para/model.ep4

# From a folder of photos to a page: make page PHOTOS=~/photos
# Sub-folders of classes train for MINUTES, if there are two of some photos; all else is searched untrained.
# make_train_valid decides, by writing a split or not.
page: .venv/serving
	@test -n "$(PHOTOS)" || { echo "name the folder of the photos: make page PHOTOS=~/photos"; exit 1; }
	@set -e; photos=$$(cd "$(PHOTOS:~%=$(HOME)%)" && pwd); mkdir -p "$(PAGE)"; \
	run() { echo "python $$*"; $(PY) "$$@"; }; \
	run -m process_data.data_info --dpath="$(PAGE)" --image_root_path="$$photos"; \
	run -m process_data.image_matrix --dpath="$(PAGE)" --image_info=indexinfo.csv --image_root_path="$$photos" --image_resolution=128 --on_unreadable=drop; \
	run -m process_data.make_train_valid --dpath="$(PAGE)" --iname=imageset.json --min_len=10 --fit; \
	if [ -e "$(PAGE)/split.json" ]; then \
	  run train.py --dpath="$(PAGE)" --save_path="$(PAGE)/para/" --recipe=ce --minutes=$(MINUTES) --arch=timm/tf_efficientnet_lite0; \
	  model=$$(ls -v "$(PAGE)"/para/model.ep* | tail -n 1); \
	  run build_image_db.py --dpath="$(PAGE)" --save_path="$$model"; \
	  run -m process_data.mask_data --dpath="$(PAGE)"; \
	  run -m process_data.calibrate --dpath="$(PAGE)" || echo "the page shows similarities without probabilities"; \
	else \
	  run train.py --dpath="$(PAGE)" --save_path="$(PAGE)/para/" --arch=timm/tf_efficientnet_lite0 --epoch=0 --whitening --encode_tta=flip --encode_scale=1.25; \
	  model="$(PAGE)/para/model.untrained"; \
	  run build_image_db.py --dpath="$(PAGE)" --save_path="$$model"; \
	fi; \
	run -m process_data.serve --dpath="$(PAGE)" --save_path="$$model"

# All benchmarks, small: about a quarter of an hour on two cores. Results go to $(BENCH)/results. Not here: those of
# many rows (pipeline.many_rows), and those that take a demo (pipeline.shared_cores, search.latency,
# search.unseen_photos, serve.load).
bench: .venv
	mkdir -p $(BENCH)
	$(PY) -m benchmarks.encode.image_matrix --scale=0.25 --repeats=1 --folder=$(BENCH)/photos --output=$(BENCH)/results
	$(PY) -m benchmarks.encode.from_photos --network=resnet18 --side=64 --images=64 --batch=16 --repeats=1 --output=$(BENCH)/results
	$(PY) -m benchmarks.encode.runtimes --quick --networks resnet18 --side=64 --batches 16 --images=64 --seconds=1 --repeats=1 --output=$(BENCH)/results
	$(PY) -m benchmarks.pipeline.lists --labels=0.1 --splits 1 --repeats=3 --output=$(BENCH)/results
	$(PY) -m benchmarks.pipeline.stages --sizes 100 200 --photos=28 --steps=5 --repeats=1 --samples=$(BENCH) --output=$(BENCH)/results
	$(PY) -m benchmarks.pipeline.startup --repeats=1 --dpath=$(BENCH)/sample200 --save_path=$(BENCH)/sample200/para/model.ep0 --output=$(BENCH)/results
	$(PY) -m benchmarks.search.exact --rows 5000 20000 --n_query=500 --repeats=1 --output=$(BENCH)/results
	$(PY) -m benchmarks.search.store --rows 20000 --dim 64 --queries 20 --probes 20 --refine 10 --output=$(BENCH)/results
	$(PY) -m benchmarks.search.ranking_options --models=4 --photos=28 --seeds=7 --only=qe --training="--arch=resnet18 --weights=none --dim=128 --batch_size=16 --epoch=1 --max_tuples=160" --samples=$(BENCH)/ranking --output=$(BENCH)/results
	$(PY) -m benchmarks.lopq.recall_speed --dim=128 --settings disjoint --bytes 8 --cells 16 --n_query=200 --opq_rounds=5 --recall_only --output=$(BENCH)/results
	$(PY) -m benchmarks.lopq.updates --rows 100000 --cells 64 --n_query=200 --output=$(BENCH)/results
	$(PY) -m benchmarks.train.speed --sides 64 --images=256 --seconds=3 --repeats=1 --output=$(BENCH)/results
	$(PY) -m benchmarks.train.accuracy --dpath $(BENCH)/sample200 --name=small --minutes=0.02 --output=$(BENCH)/results

# Every test and benchmark that needs a GPU, made for eight minutes of one; says so where there is none.
bench-gpu: .venv
	$(PY) -m benchmarks.gpu

# Each file goes to one of two workers, so that its fixtures are made once. In the order of the files,
# the slow ones are not left to the end. In another order: make test ORDER=1
test: .venv
	$(PY) -m pytest -n 2 --dist=loadfile --no-loadscope-reorder $(if $(ORDER),--order-seed=$(ORDER))

# Kills, damaged files, odd options and bad disks, for every stage: about 40 minutes on two cores. Rewrites
# the table of docs/reliability.md; fails if a stage breaks a promise.
campaign: .venv
	nice $(PY) -m tests.faults.campaign --output=docs/reliability.md

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch and torchvision are released in pairs: say here which pair the rest is resolved for.
constraints: .venv
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' > .venv/pair.txt
	printf '# One exact set of versions that is known to work, for Python 3.10 to 3.13.\n# Remade by `make constraints`; `make .venv` installs it.\n' > .venv/constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
	  -c .venv/pair.txt requirements-dev.txt >> .venv/constraints.txt
	mv .venv/constraints.txt constraints.txt
