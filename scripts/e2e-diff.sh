#!/bin/bash
# The two runs around a patch of a cluster, and what changed between them:
#
#   scripts/e2e-diff.sh before [GINKGO FLAGS]   judge the templates as they are
#   scripts/e2e-diff.sh after [GINKGO FLAGS]    judge them once more
#   scripts/e2e-diff.sh diff                    compare the two
#
# A run is named before-TIME or after-TIME, or as RUN says. The newest of each are
# compared, or those that BEFORE and AFTER name; FORMAT is text, markdown or json.
# Exits with the gate's code, or that of the comparison.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 3

# newest RUN-PREFIX: the directory of the newest run of that kind.
newest() {
	local found
	found=$(ls -1d "runs/$1"-*/ 2>/dev/null | sort | tail -n 1)
	if [ -z "$found" ]; then
		echo "there is no run runs/$1-*: make e2e-$1, or name the run's directory (BEFORE=DIR AFTER=DIR)" >&2
		return 1
	fi
	printf '%s\n' "${found%/}"
}

case ${1:-} in
before | after)
	side=$1
	shift
	RUN=${RUN:-$side-$(date -u +%Y%m%dT%H%M%SZ)} exec scripts/e2e.sh "$@"
	;;
diff)
	before=${BEFORE:-$(newest before)} || exit 3
	after=${AFTER:-$(newest after)} || exit 3
	go build -o bin/sandproof ./cmd/sandproof || exit 3
	exec bin/sandproof diff --format "${FORMAT:-text}" "$before" "$after"
	;;
*)
	echo "want before, after or diff" >&2
	exit 3
	;;
esac
