# What there is to do here. `make run` and `make test` set up all that is missing.
SHELL := /bin/bash
.DEFAULT_GOAL := build
.PHONY: build run test test-examples race lint fuzz bench batch steps simulation soak image relay-image ready clean help

MODELS    := ocr-line text-angle ./examples/own-model
PYTHONS   := digits ocr demo
LISTEN    ?= 127.0.0.1:$(or $(PORT),8080)
FUZZTIME  ?= 20s
BENCHTIME ?= 1s
SOAK      ?= 10m
BENCH     ?= .
PACKAGES  ?= ./...
SOURCES   := go.mod go.sum $(shell find actions cmd deploy proxy runtime -type f -not -name '*_test.go' -not -path '*/testdata/*' -not -path '*/tests/*' -not -path '*/__pycache__/*')
LINT      := go tool -modfile=.ci/tools.mod golangci-lint
LAUNCHER  := runtime/worker/launcher
STACKS    := deepaas current
TESTENV    = DEEPFN_TEST_PYTHON_DEEPAAS="$(CURDIR)/.cache/stack-deepaas/bin/python" \
	DEEPFN_TEST_PYTHON_CURRENT="$(CURDIR)/.cache/stack-current/bin/python" \
	DEEPFN_TEST_PYTHON_TOOLS="$(CURDIR)/.venv/bin/python" DEEPFN_TEST_ONNXRUNTIME="$$(readlink -f .cache/models/libonnxruntime.so*)" DEEPFN_TEST_MODELS="$(CURDIR)/.cache/models" \
	DEEPFN_TEST_CLOUDEVENTS="$(CURDIR)/.cache/cloudevents" DEEPFN_TEST_QUEUE_PROXY="$(CURDIR)/.cache/queue-proxy" \
	DEEPFN_TEST_S3_SERVER="$(CURDIR)/.cache/versitygw"

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t12

build: .cache/fetched bin/deepfn-knative ## bin/deepfn, with what the shipped models need, and bin/deepfn-knative

run: .cache/fetched ## serve ocr-line and make one real prediction
	@exec bin/deepfn serve ocr-line --listen $(LISTEN) --log-level warn --try image=@examples/ocr-line/line.png

test: ready ## every test
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(STACKS:%=test-stack-%) test-examples
	$(TESTENV) go test -timeout 14m ./...

test-stack-%: ready
	@echo "pytest with the stack $*"
	@cd $(LAUNCHER) && $(CURDIR)/.cache/stack-$*/bin/python -m pytest

test-examples: ready
	@while IFS=$$'\t' read -r model _ python; do echo "tests of $$model"; \
		$$python -m unittest discover -q -s examples/$$model/tests || exit 1; done < .cache/pythons

race: ready ## every test under the race detector
	$(TESTENV) go test -race -timeout 30m ./...

lint: .venv/ready ## golangci-lint, ruff, mypy
	$(LINT) run ./...
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	cd $(LAUNCHER) && $(CURDIR)/.venv/bin/mypy

fuzz: ready ## each fuzz target for FUZZTIME
	@set -e; for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(TESTENV) go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

bench: ready ## every benchmark, or BENCH=pattern in PACKAGES
	$(TESTENV) go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(PACKAGES)

soak: ready ## 50 relays on one node for SOAK, with all that can happen to them
	$(TESTENV) DEEPFN_TEST_SOAK=$(SOAK) go test -count 1 -timeout 60m -run '^TestSoak$$' -v ./cmd/deepfn

batch: ready bin/deepfn ## batches of a million rows and of 10,000 pictures: killed, and beside single calls
	$(TESTENV) DEEPFN_TEST_BATCH_ROWS=1000000 DEEPFN_TEST_BATCH_IMAGES=10000 go test -count 1 -timeout 60m -run '^TestBatchKilled$$' -v ./cmd/deepfn
	$(TESTENV) DEEPFN_BENCH_ROWS=1000000 DEEPFN_BENCH_IMAGES=10000 go test -run '^$$' -bench 'Batch(Rows|Images)' -benchtime 1x ./benchmarks

steps: ## a million random steps of the pool under the race detector
	DEEPFN_TEST_STEPS=1000000 go test -race -count=1 -run '^TestSteps$$' -timeout 30m -v ./runtime/invoker

simulation: ## a day of invocations through the pool, and docs/simulation.* from it
	DEEPFN_TEST_SIMULATION="$(CURDIR)/docs" go test -count=1 -run '^TestSimulation$$' -timeout 60m -v ./runtime/invoker

image: ## the container image deepfn:latest
	docker build -t deepfn .

relay-image: ## the image of a relay alone, deepfn-relay:latest
	docker build -f Dockerfile.relay -t deepfn-relay .

clean: ## what was built here; the user's cache stays
	rm -rf bin .cache .venv

# The tag disable_grpc_modules leaves out a way to Google's store that is not used: 18 MB, 6 ms of each start.
bin/deepfn: $(SOURCES)
	@echo "building $@ (the first time takes minutes)"
	@go build -trimpath -tags disable_grpc_modules -o $@ ./cmd/deepfn

bin/deepfn-knative: $(SOURCES)
	@echo "building $@ (the first time takes minutes)"
	@go build -trimpath -o $@ ./cmd/deepfn-knative

# The models' files, verified, in the user's cache; links to them here for the tests.
.cache/fetched: bin/deepfn
	@mkdir -p .cache/models
	@bin/deepfn models fetch $(MODELS) --log-level info > .cache/files
	@rm -f .cache/models/*
	@awk -F'\t' '{print $$NF}' .cache/files | xargs -d '\n' ln -sf -t .cache/models
	@touch $@

ready: .cache/fetched .cache/pythons .venv/ready $(STACKS:%=.cache/stack-%/ready) .cache/cloudevents/ready .cache/queue-proxy .cache/versitygw # what the tests need

# The environments of the shipped Python models, in the user's cache.
.cache/pythons: bin/deepfn
	@mkdir -p .cache
	@bin/deepfn models fetch $(PYTHONS) --log-level info > $@.new && mv $@.new $@

# Interpreters with what modules bring: the launcher runs in each of them.
.cache/stack-%/ready: .ci/stack-%.txt
	python3 -m venv .cache/stack-$*
	.cache/stack-$*/bin/pip install --quiet --requirement $<
	@touch $@

# A server of S3 on a folder: Versity's gateway, whose conditional writes are atomic.
.cache/versitygw: .ci/s3.mod
	@mkdir -p $(@D)
	go build -modfile=$< -trimpath -o $@ github.com/versity/versitygw/cmd/versitygw

# Knative's queue-proxy, which stands before a function there.
.cache/queue-proxy: .ci/queue.mod
	@mkdir -p $(@D)
	go build -trimpath -modfile=$< -o $@ knative.dev/serving/cmd/queue

# The conformance cases of CloudEvents, and the program of their authors that sends them.
.cache/cloudevents/ready: .ci/cloudevents.mod
	@mkdir -p $(@D)
	go build -modfile=$< -o $(@D)/cloudevents github.com/cloudevents/conformance/cmd/cloudevents
	@ln -sfn "$$(go list -modfile=$< -m -f '{{.Dir}}' github.com/cloudevents/conformance)" $(@D)/cases
	@touch $@

.venv/ready: .ci/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install --quiet --requirement .ci/requirements.txt
	@touch $@
