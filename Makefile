# claudefs. "make help" lists the targets. Everything a target needs it installs (Debian) or builds itself.
SHELL := /bin/bash
GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/claudefs/claudefs/internal/version.Version=$(VERSION)
PREFIX ?= /usr/local

.PHONY: help deps build demo test check lint unit race single fuzz e2e authserver bench soak gen install uninstall clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

deps: ## install the Debian packages that demo and tests need
	test/install-deps.sh

build: ## build bin/claudefs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/claudefs ./cmd/claudefs

demo: deps build ## show it working on this machine, then clean up
	test/demo.sh

test: deps lint gen race single authserver e2e ## everything: FUSE, keyring, Docker, real client
	@echo "all tests passed"

check: lint unit ## what needs no Docker, in a few minutes

lint: ## format, vet, staticcheck, module file
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run gofmt"; exit 1; }
	@test -z "$$($(GO) run $(GOFUMPT) -l . | tee /dev/stderr)" || { echo "run gofumpt"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags e2e ./test/...
	$(GO) run $(STATICCHECK) -tags e2e ./...
	$(GO) mod tidy -diff
	for m in authserver zitadelserver; do (cd test/$$m && $(GO) vet ./... && $(GO) mod tidy -diff) || exit 1; done

unit: ## unit tests
	$(GO) test ./...

race: ## unit tests under the race detector
	$(GO) test -race ./...

single: ## unit tests of the concurrent parts on one processor
	GOMAXPROCS=1 $(GO) test -count=1 ./fs ./vault ./refresh ./internal/broker ./internal/audit ./internal/daemon

fuzz: ## fuzz each parser for FUZZTIME (default 30s)
	@set -e; for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
		echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-30s} $$p; done; done

e2e: ## real mounts, private dockerd, real client, real authorization server
	$(GO) test -tags e2e -count=1 -timeout 30m -race ./test/internal/runtimes
	$(GO) test -tags e2e -count=1 -timeout 30m ./test/e2e

authserver: ## tests of the authorization servers that e2e uses
	for m in authserver zitadelserver; do (cd test/$$m && $(GO) test ./...) || exit 1; done

bench: build ## the figures of docs/performance.md
	$(GO) run ./test/bench -claudefs bin/claudefs

soak: ## hours of readers, rotations and faults (SOAK=1h), 1,000 kills (KILLS) and 50 upgrades of the server
	SOAK=$${SOAK:-1h} KILLS=$${KILLS:-1000} $(GO) test -tags e2e -count=1 -timeout 26h \
		-run '^(TestServerKills|TestUpgradesUnderLoad|TestClientsThroughKills|TestSoak)$$' -v ./test/e2e

gen: build ## man pages and completions into dist/
	bin/claudefs gen dist

install: build ## install the binary below PREFIX
	install -D -m 0755 bin/claudefs $(DESTDIR)$(PREFIX)/bin/claudefs

uninstall: ## remove it again
	rm -f $(DESTDIR)$(PREFIX)/bin/claudefs

clean: ## remove what was built and generated
	rm -rf bin dist
