#!/bin/bash
# Runs the suites and then the gate, whatever the suites said, and exits with
# the gate's code: 0 isolated, 1 not isolated, 2 unproven, 3 infrastructure or
# harness. Usage: scripts/e2e.sh RUN [ginkgo flags] -- [suite flags].
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 3

run=$1
shift
ginkgo_flags=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
	ginkgo_flags+=("$1")
	shift
done
shift

say() { printf '==> %s\n' "$*" >&2; }

say "preparing"
go build -o bin/sandproof ./cmd/sandproof || exit 3
target=$(bin/sandproof config --target -- "$@") || exit 3
if [ "$target" = lab ]; then
	scripts/lab-deps.sh || exit 3
	bin/sandproof lab prepare -- "$@" || exit 3
fi

say "running the suites on target $target, run $run"
go tool ginkgo run "${ginkgo_flags[@]}" ./e2e -- "$@"
ginkgo_exit=$?

bin/sandproof gate "runs/$run"
gate_exit=$?
if [ "$gate_exit" -eq 0 ] && [ "$ginkgo_exit" -ne 0 ]; then
	say "every verdict is isolated, but ginkgo ended with $ginkgo_exit: see its output above"
	exit 3
fi
exit "$gate_exit"
