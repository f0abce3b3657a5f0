# `make` says what there is. The steps themselves are in tools/*.sh, which run without make too.

.DEFAULT_GOAL := help

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check
check: ## all static checks, as CI runs them: format, vet, fix, linters, go.mod, builds for windows and darwin
	@tools/check.sh

.PHONY: test
test: ## the test command of README.md, and how many tests ran
	@tools/test.sh

.PHONY: lint
lint: ## the checks of the code alone: quicker than check
	@tools/check.sh format vet fix staticcheck golangci

.PHONY: fmt
fmt: ## format all code and apply what go fix suggests
	go tool -modfile=tools/go.mod gofumpt -w .
	go fix ./...

.PHONY: tools
tools: ## build the pinned linters into Go's cache (minutes, once)
	go tool -modfile=tools/go.mod gofumpt -version
	go tool -modfile=tools/go.mod staticcheck -version
	go tool -modfile=tools/go.mod golangci-lint version

.PHONY: bench
bench: ## measure skybus against its peers
	@if [ -f integration/bench/go.mod ]; then \
		go test -C integration/bench -run '^$$' -bench . -benchtime 1x -v; \
	else \
		echo 'there is no integration/bench yet'; \
	fi

.PHONY: clean
clean: ## remove what building, testing and measuring left behind
	git clean -fdXq -- bin dist skybus skybus.exe '*.test' '*.out' '*.prof' '*_artifacts'
