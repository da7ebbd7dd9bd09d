# `make help` lists the targets. Each is one script or one go command, so that
# anything here can be run by hand.

.DEFAULT_GOAL := help
.PHONY: help build run test check lint generate fuzz soak bench upstream clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build: ## bin/gatehouse and bin/gatehouse-edge
	go build -o bin/ ./cmd/gatehouse ./cmd/gatehouse-edge

run: ## build and start the control plane with everything embedded
	@scripts/run

test: ## install what the tests need, then every check and every test
	scripts/install-test-deps
	scripts/build-upstream
	scripts/install-oidc-provider
	scripts/build-witness
	scripts/check
	scripts/test
	scripts/fuzz

check: ## format, vet, staticcheck, tidy modules, generated files
	scripts/check

lint: check ## the same as check

generate: ## rewrite generated files
	go generate ./...

fuzz: ## every fuzz target for FUZZTIME (default 2s)
	scripts/fuzz

soak: ## kill and restart the control plane under load for SOAK (default 10m), and below a cluster that ships EVENTS (default 200000), and search the disk for TOKENS (default 100000)
	go test -count=1 -timeout 0 -run '^TestCrash' -v ./test/e2e -args -soak=$(or $(SOAK),10m)
	go test -count=1 -timeout 0 -run '^TestNoTokenOnDisk' -v ./test/e2e -args -soak-tokens=$(or $(TOKENS),100000)
	go test -count=1 -timeout 0 -run '^TestShippingSurvivesKills' -v ./test/e2e -args -events=$(or $(EVENTS),200000)

bench: ## ours beside upstream, tables with ratios
	scripts/bench

upstream: ## build the stock programs the tests run beside ours
	scripts/build-upstream

clean: ## remove built programs and the data of make run
	rm -rf bin .gatehouse
