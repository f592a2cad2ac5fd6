# sandproof: the commands are described by `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The configuration; default: ginkgo.yml.
CONFIG ?=
# What to judge: names of ginkgo.yml or of the deployment, comma-separated.
TEMPLATES ?=
# Where sandboxes come from: auto, live or lab.
TARGET ?=
# What decides a verdict: auto, core, gate or extended.
PROFILE ?=
# In the lab: an envd version for the stand-in ("stand-in 0.4.3"), or a path.
ENVD ?=
# Judge only one part of the templates, such as 2/3 (docs/ci.md).
SHARD ?=
# The run's name, which is its directory below runs/; default: the time.
RUN ?=
# What e2e-diff compares: run directories; default: the newest runs/before-* and
# runs/after-*. And how: text, markdown or json.
BEFORE ?=
AFTER ?=
FORMAT ?=
# Further flags for ginkgo, such as --label-filter='stage:value'.
GINKGO_FLAGS ?=

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
FUZZTIME ?= 10s
# Which faults to boot: all, or beginnings of their names, comma-separated.
FAULTS ?= all

# How many random kills, and the seed that repeats those of an earlier time.
CHAOS ?= 5
SEED ?=

# Set to anything: before-after keeps its storage and its runs.
KEEP ?=
# Set to anything: a sandbox of which something is red is kept, to look at it.
KEEP_ON_FAILURE ?=

export CONFIG TEMPLATES TARGET PROFILE ENVD SHARD RUN BEFORE AFTER FORMAT KEEP KEEP_ON_FAILURE

.PHONY: help
help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: e2e
e2e: ## Judge the templates: run the suites, show the verdicts, exit with the gate's code (CONFIG=, TEMPLATES=, TARGET=, PROFILE=, ENVD=, SHARD=, RUN=).
	@scripts/e2e.sh $(GINKGO_FLAGS)

.PHONY: e2e-before
e2e-before: ## Judge the templates before a patch, as make e2e does, in a run before-TIME (or RUN=).
	@scripts/e2e-diff.sh before $(GINKGO_FLAGS)

.PHONY: e2e-after
e2e-after: ## Judge the templates after a patch, in a run after-TIME (or RUN=).
	@scripts/e2e-diff.sh after $(GINKGO_FLAGS)

.PHONY: e2e-diff
e2e-diff: ## Compare the run before a patch with the run after it (BEFORE=, AFTER=, FORMAT=text|markdown|json).
	@scripts/e2e-diff.sh diff

.PHONY: before-after
before-after: ## In the lab: judge an unpatched template, patch its image, judge it again, compare (KEEP=1 keeps what was made).
	@scripts/before-after.sh

.PHONY: doctor
doctor: ## Find out why a target cannot be used, and what to fix first (CONFIG=, TEMPLATES=, TARGET=; docs/doctor.md).
	@go build -o bin/sandproof ./cmd/sandproof
	@bin/sandproof doctor -- $(if $(CONFIG),-e2e.config="$(CONFIG)") $(if $(TARGET),-e2e.target="$(TARGET)") $(if $(TEMPLATES),-e2e.templates="$(TEMPLATES)") $(if $(ENVD),-e2e.envd="$(ENVD)")

.PHONY: lab-deps
lab-deps: ## Install what the lab needs through the package manager.
	@scripts/lab-deps.sh

.PHONY: test-deps
test-deps:
	@scripts/lab-deps.sh race

.PHONY: test
test: test-deps ## Run unit, contract and lab integration tests with the race detector.
	@scripts/sdk-deps.sh >/dev/null
	go test -race -timeout 60m $$(go list ./internal/... ./cmd/... ./deploy/... | grep -v -e /fixtures/faults -e /cmd/sandproof)
	# Faults are about shares of a CPU and bounds of time, and so is the judging of
	# images: they run alone, one after the other.
	go test -race -timeout 60m -p 1 ./internal/fixtures/faults ./cmd/sandproof
	GOEXPERIMENT=simd go test ./internal/logscan/search ./internal/logscan/history

.PHONY: test-short
test-short: test-deps ## Run the tests that need no guest.
	go test -race -short ./internal/... ./cmd/... ./deploy/...

.PHONY: faults
faults: test-deps ## Boot broken and healthy guests, two at a time, and show what is caught: the kill matrix (FAULTS=b9,c11).
	@matrix=$$(mktemp) && trap 'rm -f "$$matrix"' EXIT && \
		FAULTS="$(FAULTS)" FAULTS_MATRIX="$$matrix" go test -count 1 -timeout 60m -run '^Test(Faults|World|WorldOfRun)$$' ./internal/fixtures/faults; \
		code=$$?; cat "$$matrix"; exit $$code

.PHONY: chaos
chaos: test-deps ## Kill random processes of the flow at random moments: no leak, no false green, no lost outcome (CHAOS=5, SEED=).
	CHAOS="$(CHAOS)" SEED="$(SEED)" go test -count 1 -v -timeout 90m -run '^TestChaos$$' ./internal/fixtures/faults

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME each.
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: fuzz-guest
fuzz-guest: ## Run the fuzz targets of everything that reads a guest's text, or a log's, for 30 s each.
	@scripts/fuzz.sh 30s cmd/guestprobe internal/cgroup2 internal/evidence internal/logscan internal/requirement internal/sandboxapi/envd

.PHONY: real-servers
real-servers: test-deps ## Build a real Loki and a real Nomad into the cache and read logs from them.
	@scripts/real-servers.sh

.PHONY: nightly
nightly: test-deps ## Run what takes long: all faults three times, 200 seeds of the log torture, a real Loki and a real Nomad, 100 random kills, 200 templates in one run, the measured guests whole, and every fuzz target for a minute.
	for round in 1 2 3; do $(MAKE) faults || exit 1; done
	SANDPROOF_TORTURE=200 go test -race -count 1 -timeout 60m -run '^TestTorture$$' ./internal/logscan
	$(MAKE) real-servers
	$(MAKE) chaos CHAOS=100
	LOAD=200 go test -count 1 -v -timeout 30m -run '^Test(Load|GuestsInSequence)$$' ./internal/fixtures/faults
	SANDPROOF_CONFORMANCE_WHOLE=1 go test -race -count 1 -timeout 60m ./internal/fixtures/...
	@scripts/fuzz.sh 1m

.PHONY: bench
bench: ## Run the benchmarks, ready for benchstat, and the comparison of bench-log.
	go test -run '^$$' -bench . -benchmem -count 6 ./internal/...
	@scripts/bench-log.sh

.PHONY: bench-log
bench-log: ## Compare logs scan with ripgrep and grep on 5 GiB of generated logs (installs ripgrep, hyperfine and jq).
	@scripts/bench-log.sh

.PHONY: lint
lint: ## Check style, floors between rooms, formatting, generated files and workflows.
	go vet ./...
	go mod tidy -diff
	go run $(GOLANGCI_LINT) run ./...
	go run $(ACTIONLINT)

.PHONY: generate
generate: ## Make envd's services anew from their descriptions (needs protoc and its own .proto files).
	go build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	for service in process filesystem; do \
		PATH="$(CURDIR)/bin:$$PATH" protoc -I internal/sandboxapi/envd/$${service}pb -I /usr/include \
			--go_out=. --go_opt=module=sandproof --connect-go_out=. --connect-go_opt=module=sandproof $$service.proto || exit 1; \
	done

.PHONY: clean
clean: ## Remove runs; caches stay.
	rm -rf runs
