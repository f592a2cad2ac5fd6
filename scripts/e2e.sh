#!/bin/bash
# Runs the suites and then the gate, whatever the suites said, and exits with
# the gate's code: 0 isolated, 1 not isolated, 2 unproven, 3 infrastructure or
# harness. (make turns every failing code into its own 2.)
#
# Settings come from the environment: CONFIG, TEMPLATES, TARGET, PROFILE, ENVD,
# SHARD, RUN, KEEP_ON_FAILURE. Arguments go to ginkgo:
# scripts/e2e.sh --label-filter='stage:value'
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 3
. scripts/in-group.sh || exit 3

run=${RUN:-$(date -u +%Y%m%dT%H%M%SZ)-$$}
# The gate reads what the suites write, also where CONFIG lies elsewhere: they
# would write beside it.
suite=("-e2e.run=$run" "-e2e.runs=$PWD/runs")
[ -n "${CONFIG:-}" ] && suite+=("-e2e.config=$CONFIG")
[ -n "${TARGET:-}" ] && suite+=("-e2e.target=$TARGET")
[ -n "${TEMPLATES:-}" ] && suite+=("-e2e.templates=$TEMPLATES")
[ -n "${PROFILE:-}" ] && suite+=("-e2e.profile=$PROFILE")
[ -n "${SHARD:-}" ] && suite+=("-e2e.shard=$SHARD")
[ -n "${ENVD:-}" ] && suite+=("-e2e.envd=$ENVD")
[ -n "${KEEP_ON_FAILURE:-}" ] && suite+=("-e2e.keep-on-failure")

say() { printf '==> %s\n' "$*" >&2; }

# A directory of that name would be judged as if this run had made it.
if [ -e "runs/$run" ]; then
	echo "run $run exists already: give this run another name (RUN=NAME), or remove runs/$run" >&2
	exit 3
fi

say "preparing"
go build -o bin/sandproof ./cmd/sandproof || exit 3
target=$(bin/sandproof config --target -- "${suite[@]}") || exit 3
if [ "$target" = lab ]; then
	scripts/lab-deps.sh || exit 3
	bin/sandproof lab prepare -- "${suite[@]}" || exit 3
fi

say "running the suites on target $target, run $run"
ginkgo=(go tool ginkgo run "$@" ./e2e -- "${suite[@]}")
# What the gate itself says to the workflow comes after this, and counts.
[ "${GITHUB_ACTIONS:-}" = true ] && ginkgo=(scripts/stop-commands.sh "${ginkgo[@]}")
# A stop of this script is one of the suites, which end their sandboxes; the gate
# comes after them.
in_group "${ginkgo[@]}"
code=$?
exec bin/sandproof gate "--ginkgo-exit=$code" "runs/$run"
