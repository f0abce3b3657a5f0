#!/bin/sh
# The static checks of the repository. Without arguments all of them run, in this order; with arguments the named ones.
# Needs Go and nothing else: the linters are pinned in tools/go.mod and built by `go tool`, once, into Go's cache.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# Each folder with a go.mod of its own: `./...` does not cross into another module.
modules=". tools"
if [ -f integration/bench/go.mod ]; then
	modules="$modules integration/bench"
fi

tool() {
	go tool -modfile="$root/tools/go.mod" "$@"
}

# each runs a command in every module and stops at the first that fails.
each() {
	for module in $modules; do
		(cd "$module" && "$@") || fail "$* (in $module)"
	done
}

fail() {
	echo "check: failed: $*" >&2
	exit 1
}

format() {
	unformatted=$(tool gofumpt -l .) || fail "gofumpt"
	[ -z "$unformatted" ] || fail "not formatted, 'make fmt' mends it:
$unformatted"
}

# Only the main module is meant to run elsewhere. go vet compiles all of it; linked is skybus alone, which has in it what the examples have. Nothing is written: /dev/null
# takes the program.
cross() {
	for os in windows darwin; do
		echo "   $os"
		GOOS=$os GOARCH=amd64 CGO_ENABLED=0 go build -buildvcs=false -ldflags="-s -w" -o /dev/null ./cmd/skybus || fail "go build for $os"
		GOOS=$os GOARCH=amd64 CGO_ENABLED=0 go vet ./... || fail "go vet for $os"
	done
}

if [ $# -eq 0 ]; then
	set -- format vet fix staticcheck golangci tidy cross tools
fi
for step in "$@"; do
	echo "== $step"
	case $step in
	format) format ;;
	vet) each go vet ./... ;;
	fix) each go fix -diff ./... ;;
	staticcheck) each tool staticcheck ./... ;;
	golangci) each tool golangci-lint run ;;
	tidy) each go mod tidy -diff ;;
	cross) cross ;;
	tools) go test -C tools ./... || fail "the tests of tools" ;;
	*) fail "no such step: $step" ;;
	esac
done
