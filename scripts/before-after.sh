#!/bin/bash
# The whole story of a patch, in the lab, on a real image in a real storage:
#
#   an unpatched template is not isolated -> its image is patched and its caches
#   are purged -> the same template is isolated -> the comparison says so.
#
# The storage is a temporary directory, removed in the end with the two runs,
# unless KEEP is set; runs/latest then leads where it led before. ENVD chooses the stand-in's version, or a real envd.
# Exits with 0 only where every step went as told; else with 1 where the harness
# said something else, and 3 in trouble.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 3

template=base-unpatched
stamp=$(date -u +%Y%m%dT%H%M%SZ)-$$
before=before-$stamp after=after-$stamp
storage=$(mktemp -d) || exit 3
# Relative paths and the source count from the configuration's directory.
config=.before-after-$$.yml
latest=$(readlink runs/latest)

clean() {
	rm -f "$config"
	if [ -n "${KEEP:-}" ]; then
		printf 'kept: %s, runs/%s, runs/%s\n' "$storage" "$before" "$after" >&2
	else
		rm -rf "$storage" "runs/$before" "runs/$after"
		# Where another run began meanwhile, it is the latest.
		case $(readlink runs/latest) in
		"$before" | "$after")
			rm -f runs/latest
			[ -z "$latest" ] || ln -s "$latest" runs/latest
			;;
		esac
	fi
}
trap clean EXIT
trap 'exit 3' INT TERM

say() { printf '\n==> %s\n' "$*" >&2; }

# want CODE WHAT COMMAND...: runs a command that must end with the code.
want() {
	local code=$1 what=$2
	shift 2
	"$@"
	local got=$?
	if [ "$got" -ne "$code" ]; then
		printf '\n%s: exit code %d, want %d\n' "$what" "$got" "$code" >&2
		[ "$got" -eq 3 ] && exit 3
		exit 1
	fi
}

# judge RUN: one run of the suites on the template, in the storage.
judge() {
	CONFIG="$config" TARGET=lab TEMPLATES=$template RUN=$1 scripts/e2e.sh
}

cat >"$config" <<YAML || exit 3
# Made by scripts/before-after.sh, and removed by it.
target: lab
lab:
  storage: $storage
YAML
go build -o bin/sandproof ./cmd/sandproof || exit 3

say "1 of 5: the template $template as it is must not be isolated"
want 1 "the unpatched template" judge "$before"
# A guest that a busy host did not boot in time is not isolated either.
if ! grep -q "^$template: not-isolated, first broken stage: enable " "runs/$before/report.txt"; then
	echo "the unpatched template is not isolated for another reason than that its controllers are not enabled, so the patch would prove nothing" >&2
	exit 3
fi

say "2 of 5: what the patch would do"
want 0 "the dry run" bin/sandproof image --config "$config" patch --dry-run $template

say "3 of 5: the image is patched, and the caches are purged"
want 0 "the patch" bin/sandproof image --config "$config" patch $template
want 0 "the status" bin/sandproof image --config "$config" status

say "4 of 5: the patched template must be isolated (the lab is a new one: its orchestrator was restarted)"
want 0 "the patched template" judge "$after"

say "5 of 5: what changed"
want 0 "the comparison" bin/sandproof diff "runs/$before" "runs/$after"
