#!/bin/bash
# Runs fuzz targets, each for the given time, two at a time on one CPU each:
# all of the project, or those of the directories that follow.
#
#   scripts/fuzz.sh 30s internal/cgroup2 cmd/guestprobe
set -eu -o pipefail
cd "$(dirname "$0")/.."
export fuzztime=${1:-10s}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- internal cmd

# One that fails is shown whole, and ends all others. Go would take up to 60 s of
# the given time to make each new input of interest smaller, and try few others.
fuzz() {
	if ! said=$(GOMAXPROCS=1 go test -run '^$' -fuzz "^$2\$" -fuzztime "$fuzztime" -fuzzminimizetime 1s "./$1" 2>&1 </dev/null); then
		printf '%s\n==> %s %s failed\n' "$said" "$1" "$2"
		return 255
	fi
	printf '==> %s %s: %s\n' "$1" "$2" "$(grep -oE 'execs: [0-9]+' <<<"$said" | tail -1)"
}
export -f fuzz

grep -rlE '^func Fuzz' --include='*_test.go' "$@" | sort | while read -r file; do
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed "s|^func |$(dirname "$file") |"
done | xargs -P 2 -L 1 bash -c 'fuzz "$1" "$2"' fuzz
