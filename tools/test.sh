#!/bin/sh
# Runs the test command that README.md shows and ends with a line that says how many tests ran.
set -eu

cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT

# Built rather than `go run`: that would add "exit status 1" below the last line.
go build -C tools -buildvcs=false -o "$bin/" ./testcount
"$bin/testcount" README.md
