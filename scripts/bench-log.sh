#!/bin/bash
# Compares "sandproof logs scan" with ripgrep and grep, side by side on the same
# generated logs, after it has shown that all find the same lines. WORK is where
# the logs are made (5 GiB), RUNS how often each command is timed.
set -eu -o pipefail
cd "$(dirname "$0")/.."
if ! command -v rg >/dev/null || ! command -v hyperfine >/dev/null || ! command -v jq >/dev/null; then
	sudo=""
	[ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -qq
	$sudo apt-get install -y -qq ripgrep hyperfine jq >/dev/null
fi
work=${WORK:-$(mktemp -d)}
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin"
go build -o "$work/bin/portable" ./cmd/sandproof
GOEXPERIMENT=simd go build -o "$work/bin/simd" ./cmd/sandproof
go build -o "$work/bin/gen" ./internal/logscan/corpus/gen

for every in 20000 200; do
	"$work/bin/gen" -dir "$work/nomad-$every" -size $((1 << 30)) -every $every -seed 1
	"$work/bin/gen" -file "$work/one-$every.log" -size $((3 << 29)) -every $every -seed 2
done

for corpus in nomad-20000 one-20000.log nomad-200 one-200.log; do
	path=$work/$corpus
	# Both streams of the correctness gate: how many lines, by ripgrep and by us.
	want=$(rg -a -uuu -c --no-filename 'cgroup|falling back' "$path" | awk '{ n += $1 } END { print n }')
	for build in portable simd; do
		got=$("$work/bin/$build" logs scan --json "$path" | jq .lines || true)
		if [ "$got" != "$want" ]; then
			echo "bench-log: $corpus: $build finds $got lines, ripgrep $want" >&2
			exit 1
		fi
	done
	echo "== $corpus: $want lines found by each"
	hyperfine --shell=none --output=pipe --ignore-failure --warmup 2 --runs "${RUNS:-11}" --export-json "$work/times.json" \
		"rg -a -uuu -j2 'cgroup|falling back' $path" \
		"$work/bin/portable logs scan $path" \
		"$work/bin/simd logs scan $path" \
		"env LC_ALL=C grep -raE 'cgroup|falling back' $path" >/dev/null 2>&1
	jq -r --arg work "$work/" '.results[0].median as $rg | .results[] |
		"\(.median * 1000 | round) ms median, \(.min * 1000 | round) least, \($rg / .median * 100 | round / 100) x rg: \(.command | gsub($work; ""))"' "$work/times.json"
done

echo "== anonymous memory while the largest is read (RssAnon, most of a look each ms)"
"$work/bin/portable" logs scan "$work/one-200.log" >/dev/null &
pid=$!
most=0
while kill -0 $pid 2>/dev/null; do
	kb=$(awk '/RssAnon/ { print $2 }' /proc/$pid/status 2>/dev/null || true)
	[ "${kb:-0}" -gt "$most" ] && most=$kb
	sleep 0.001
done
echo "$((most / 1024)) MiB"
if [ "$most" -ge $((64 * 1024)) ]; then
	echo "bench-log: more than 64 MiB" >&2
	exit 1
fi

echo "== following 1,000 idle files"
go test -run '^$' -bench FollowIdle ./internal/logscan/history | grep Benchmark
