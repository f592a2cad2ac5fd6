#!/bin/bash
# Makes one run of the run directories that directories are or hold, wherever in
# them they lie, and exits with the gate's code. A shard that is missing leaves its
# templates unproven.
#
#   scripts/gate-shards.sh NAME DIR...
#
# GATE_TARGET, where it is set, is the target that the gate insists on, and
# GATE_PROFILE the profile that it judges by, whatever that of the runs is.
set -u -o pipefail
name=$1
shift
dirs=()
for dir; do
	dirs+=("$(realpath -m "$dir")")
done

shards=()
while IFS= read -r -d '' manifest; do
	shards+=("$(dirname "$manifest")")
done < <(find "${dirs[@]:?no directory is named}" -mindepth 1 -name artifacts -type d -prune -o -name manifest.json -print0 | sort -z)

cd "$(dirname "$0")/.." || exit 3
bin/sandproof merge --into "runs/$name" "${shards[@]}"
code=$?
# With 2 it merged, and a shard is missing: the gate tells which.
[ "$code" = 0 ] || [ "$code" = 2 ] || exit "$code"
exec bin/sandproof gate ${GATE_TARGET:+--target "$GATE_TARGET"} ${GATE_PROFILE:+--profile "$GATE_PROFILE"} "runs/$name"
