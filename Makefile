# What a contributor runs, and what .ci/run is made of. A line with two # is the help of its target.

GO ?= go
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
# Every Go file, without directories that begin with a dot.
GOFILES = $$(find . -name '.?*' -prune -o -name '*.go' -print)

.DEFAULT_GOAL := help

## Every change:

.PHONY: check
check: gofmt vet tidy lint-changed fast ## under a minute: format, vet, go.mod files, lint, fast tests

.PHONY: format
format: ## formats the Go files
	@gofmt -l -w $(GOFILES)

.PHONY: test
test: ## every test that needs neither network nor server, as the README says
	$(GO) test work

## A change of the Worker, its leases, or anything with goroutines:

.PHONY: race
race: ## every test under the race detector
	@.ci/race

# 1,500 seeds of twelve kinds and 20 of each over the SDK; 1,200 of three kinds of the lease protocol, and with a sick member; 2,000 of
# the other world; 70 of the storm of redrives, and 14 of each of its other runs; 100,000 worlds of the order's
# model, 2,000 of the order, and 500 that change over to it; 1,000 of Reconcile.
.PHONY: sim
sim: export WORKER_SEEDS ?= 1500
sim: export WORKER_WIRE_SEEDS ?= 20
sim: export LEASE_SEEDS ?= 1200
sim: export ADVERSARY_SEEDS ?= 2000
sim: export STORM_SEEDS ?= 70
sim: export ORDER_MODEL_SEEDS ?= 100000
sim: export ORDER_SEEDS ?= 2000
sim: export RECONCILE_SEEDS ?= 1000
sim: ## simulated fleets, and a crash at every boundary; WORKER_SEEDS=10 LEASE_SEEDS=10 ADVERSARY_SEEDS=10 STORM_SEEDS=10 ORDER_MODEL_SEEDS=10 ORDER_SEEDS=10 RECONCILE_SEEDS=10 for few
	@.ci/named 'TestWorkerSimulation$$ TestACrashOfAWorkerAtEveryBoundary$$' ./fleetsim
	@.ci/named 'TestSimulation$$ TestSimulationWithASickMember$$' ./internal/lease
	@.ci/named 'TestAdversary$$' ./adversary
	@.ci/named 'TestRedriveStorm$$ TestLettersAre TestAHotAggregate TestThreeHundred TestAClaimIs TestAnOutageIs TestATransientFailure TestInvokeAnswers' ./storm
	@.ci/named 'TestSmallWorlds$$ TestRandomWorlds$$' ./ordermodel
	@.ci/named 'TestOrderWhateverTheStreamDoes$$ TestTheChangeOverWhateverTheStreamDoes$$' ./orderstorm
	@.ci/named 'TestNothingIsMissingWhateverIsLost$$' ./reconcilestorm

.PHONY: soak
soak: export SOAK_DURATION ?= 60s
soak: ## the order service in a storm, for SOAK_DURATION
	@.ci/named 'TestSoak$$' -race ./examples/orders

## A change of a decoder or a format:

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZ_SECONDS (10)
	@.ci/fuzz

## A change of outboxtest, of requests to AWS, or of the order service:

.PHONY: integration
integration: ## the same cases on servers of others, which it installs; the order service, its page in a browser
	@integration/run

.PHONY: deploy-check
deploy-check: ## the order service's template, module and image, as far as can be known without AWS
	@$(MAKE) -C examples/orders deploy-check

## A change of the API, of a go.mod file, or of what is released:

.PHONY: api
api: ## is the exported API what release/api says?
	@$(GO) run ./release/api

.PHONY: api-update
api-update: ## writes it there
	@$(GO) run ./release/api -update

.PHONY: vuln
vuln: ## known vulnerabilities in what is called
	@release/vulncheck

.PHONY: release-test
release-test: ## a release from this tree is tagged, served and installed
	@OUTBOX_RELEASE=1 .ci/named Test ./release

## Everything:

.PHONY: ci
ci: ## all of the above, and what it took
	@.ci/run

## Steps of check and ci:

.PHONY: gofmt
gofmt: ## are the Go files formatted?
	@unformatted=$$(gofmt -l $(GOFILES)); [ -z "$$unformatted" ] || { echo "not formatted, make format does it:"; echo "$$unformatted"; exit 1; }

.PHONY: vet
vet: ## go vet, every module
	$(GO) vet work

.PHONY: lint
lint: ## golangci-lint, every module
	@.ci/lint

.PHONY: lint-changed
lint-changed: ## the same, without modules that have nothing uncommitted; the root always
	@.ci/lint changed

.PHONY: tidy
tidy: ## are the go.mod files tidy?
	@for module in $$($(GO) list -m -f '{{.Dir}}'); do (cd "$$module" && $(GO) mod tidy -diff); done

.PHONY: fast
fast: ## the root module's tests, without the longest
	@.ci/fast

.PHONY: cover
cover: ## the root package's tests cover 90 % of it
	@.ci/cover

.PHONY: help
help: ## this
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
