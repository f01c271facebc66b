# Every target sets up what it needs: Python 3.11 and a package registry are all it asks for.
PYTHON ?= python3.11
VENV := .venv
CLIENT_VENV := .venv-client
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE := 1
export TF_CPP_MIN_LOG_LEVEL ?= 2

# Own data for `make demo`: a classifier, a folder of images and a file of labels.
MODEL ?=
IMAGES ?=
LABELS ?=
# The version and host of the wire's own generator: the oldest protoc whose code every supported protobuf imports.
PROTOC_VENV := .venv-protoc
# Independent libraries, whose Grad-CAM ours must agree with.
PEERS_VENV := .venv-peers
# The oldest and newest of what the client allows, each in an environment of its own.
CLIENT_MATRIX := $(basename $(notdir $(wildcard tests/client_matrix/*.txt)))
# Apache Beam wants older releases of protobuf and Pillow than the rest is tested with.
BEAM_VENV := .venv-beam
# Releases of TensorFlow to export with, each in an environment of its own: make test-matrix TF="2.18 2.21".
TF ?= 2.18 2.19 2.20 2.21

.PHONY: demo test test-all soak coverage-table agreement test-matrix test-beam lint bench bench-peers bench-gpu clean wire tls
.DEFAULT_GOAL := test

$(VENV)/.ready: pyproject.toml client/pyproject.toml export/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ./client --editable './export[demo]' --group dev
	touch $@

$(CLIENT_VENV)/.ready: pyproject.toml client/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CLIENT_VENV)
	$(CLIENT_VENV)/bin/python -m pip install --quiet --constraint constraints.txt pip
	$(CLIENT_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ./client --group client-test
	touch $@

$(PEERS_VENV)/.ready: tests/benchmarks/requirements-peers.txt export/pyproject.toml
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --constraint $< pip
	$(PEERS_VENV)/bin/python -m pip install --quiet --no-deps --requirement $<
	$(PEERS_VENV)/bin/python -m pip install --quiet --no-deps --editable ./export
	touch $@

demo: $(VENV)/.ready
	$(BIN)/gradcam-export demo demo $(if $(MODEL),--model $(MODEL)) $(if $(IMAGES),--images $(IMAGES)) $(if $(LABELS),--labels $(LABELS))

test: lint $(CLIENT_VENV)/.ready
	$(CLIENT_VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile tests/client
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore tests/client tests

# One after the other: the largest networks take most of the memory each.
test-all: test
	$(BIN)/python -m pytest -m large tests

# Minutes of load and thousands of hostile connections.
soak: $(VENV)/.ready
	$(BIN)/python -m pytest -m soak tests

coverage-table: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -m zoo.table

agreement: $(PEERS_VENV)/.ready
	$(PEERS_VENV)/bin/python -m pytest tests/agreement

$(VENV)-tf%/.ready: tests/matrix/constraints-%.txt export/pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint $< pip
	$(@D)/bin/python -m pip install --quiet --constraint $< --editable ./export
	touch $@

$(CLIENT_VENV)-%/.ready: tests/client_matrix/%.txt pyproject.toml client/pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint $< pip
	$(@D)/bin/python -m pip install --quiet --constraint $< --editable ./client --group client-test
	touch $@

$(BEAM_VENV)/.ready: tests/beam/constraints.txt pyproject.toml client/pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint $< pip
	$(@D)/bin/python -m pip install --quiet --constraint $< --editable './client[beam]' --group client-test
	touch $@

test-client-%: $(CLIENT_VENV)-%/.ready
	$(CLIENT_VENV)-$*/bin/python -m pytest tests/client

test-beam: $(VENV)/.ready $(BEAM_VENV)/.ready
	$(BEAM_VENV)/bin/python -m pytest tests/beam
	BEAM_PYTHON=$(CURDIR)/$(BEAM_VENV)/bin/python $(BIN)/python -m pytest tests/serving/test_beam.py

test-matrix: $(CLIENT_MATRIX:%=test-client-%) $(VENV)/.ready $(TF:%=$(VENV)-tf%/.ready)
	TENSORFLOW_RELEASES="$(TF)" $(BIN)/python -m pytest tests/matrix

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/methods.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/batching.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/serving.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/client.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/precision.py
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/quality.py

# Beside other tools that explain Keras models, in their own environment.
bench-peers: $(PEERS_VENV)/.ready
	PYTHONPATH=tests $(PEERS_VENV)/bin/python tests/benchmarks/peers.py

bench-gpu: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/gpu.py

wire:
	$(PYTHON) -m venv $(PROTOC_VENV)
	$(PROTOC_VENV)/bin/python -m pip install --quiet 'grpcio-tools==1.62.3' 'setuptools<81'
	cd client && ../$(PROTOC_VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. gradcam_client/wire/gradcam_wire.proto

# Certificates to try TLS with; names other than those of this machine: make tls TLS_HOSTS="serving.example".
tls: $(VENV)/.ready
	$(BIN)/python serving_config/make_tls.py serving_config/tls $(if $(TLS_HOSTS),--host $(TLS_HOSTS))

clean:
	rm -rf $(VENV) $(CLIENT_VENV) $(PROTOC_VENV) $(PEERS_VENV) $(BEAM_VENV) $(CLIENT_VENV)-* $(VENV)-tf* demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
