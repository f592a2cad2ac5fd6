#!/bin/sh
# Runs the precompiled suites, then the gate, and exits with the gate's code:
# 0 isolated, 1 not isolated, 2 unproven, 3 infrastructure or harness.
#
# Settings come from the environment: CONFIG, TEMPLATES, TARGET, PROFILE,
# SHARD, RUN (the run's name), RUNS (the directory for runs), and GATE_TARGET
# (the target that the gate insists on). Arguments go to the suites, as
# -ginkgo.label-filter=stage:value and -ginkgo.timeout=3h.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 3
runs=${RUNS:-runs}
run=${RUN:-$(date -u +%Y%m%dT%H%M%SZ)-$$}

# A directory of that name would be judged as if this run had made it.
if [ -e "$runs/$run" ]; then
	echo "run $run exists already: give this run another name (RUN=NAME), or remove $runs/$run" >&2
	exit 3
fi

set -- "-e2e.probe=$here/guestprobe" "-e2e.runs=$runs" "-e2e.run=$run" "$@"
[ -n "${CONFIG:-}" ] && set -- "-e2e.config=$CONFIG" "$@"
[ -n "${TEMPLATES:-}" ] && set -- "-e2e.templates=$TEMPLATES" "$@"
[ -n "${TARGET:-}" ] && set -- "-e2e.target=$TARGET" "$@"
[ -n "${PROFILE:-}" ] && set -- "-e2e.profile=$PROFILE" "$@"
[ -n "${SHARD:-}" ] && set -- "-e2e.shard=$SHARD" "$@"
# Without the ginkgo command nobody looks whether this is a terminal.
[ -t 1 ] || set -- -ginkgo.no-color "$@"

# In a GitHub workflow no line that a guest or a log wrote is a command of the
# workflow (scripts/stop-commands.sh says more).
token=
if [ "${GITHUB_ACTIONS:-}" = true ]; then
	token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	[ "${#token}" -eq 32 ] || exit 3
	printf '::stop-commands::%s\n' "$token"
	exec 2>&1
fi

# A stop goes to the suites, which end their sandboxes and then themselves. The
# gate comes after that, so nothing that was recorded is lost. It is handed on once
# their process is known and runs them: one that was only forked still has this
# shell's traps, and would lose it.
suites='' early=''
stop() {
	if [ -z "$suites" ]; then
		early=yes
		return
	fi
	while cmp -s "/proc/$$/cmdline" "/proc/$suites/cmdline"; do
		sleep 0.02
	done
	kill -TERM "$suites" 2>/dev/null
}
trap stop TERM INT HUP
"$here/e2e.test" -test.timeout=0 "$@" &
suites=$!
[ -z "$early" ] || stop
wait "$suites"
code=$?
while kill -0 "$suites" 2>/dev/null; do
	wait "$suites"
	code=$?
done
trap - TERM INT HUP
[ -z "$token" ] || printf '\n::%s::\n' "$token"

set -- "--ginkgo-exit=$code"
[ -n "${GATE_TARGET:-}" ] && set -- "$@" --target "$GATE_TARGET"
exec "$here/sandproof" gate "$@" "$runs/$run"
