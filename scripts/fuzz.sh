#!/bin/bash
# Runs every fuzz target of the project, each for the given time.
set -eu -o pipefail
cd "$(dirname "$0")/.."
fuzztime=${1:-10s}
grep -rlE '^func Fuzz' --include='*_test.go' internal cmd | while read -r file; do
	package=./$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r target; do
		printf '==> %s %s\n' "$package" "$target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzztime" "$package" </dev/null
	done
done
