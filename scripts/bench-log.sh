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
# Without cgo, as README.md builds it: the program need not look for libraries
# when it starts.
export CGO_ENABLED=0
go build -o "$work/bin/portable" ./cmd/sandproof
GOEXPERIMENT=simd go build -o "$work/bin/simd" ./cmd/sandproof
go build -o "$work/bin/gen" ./internal/logscan/corpus/gen

for every in 20000 200; do
	"$work/bin/gen" -dir "$work/nomad-$every" -size $((1 << 30)) -every $every -seed 1
	"$work/bin/gen" -file "$work/one-$every.log" -size $((3 << 29)) -every $every -seed 2
done

for corpus in nomad-20000 one-20000.log nomad-200 one-200.log; do
	path=$work/$corpus
	# The same lines, and not only as many (TestSameLinesAsRipgrep), by both ways
	# to search.
	for experiment in "" simd; do
		GOEXPERIMENT=$experiment SANDPROOF_CORPUS=$path go test -count 1 -v -run '^TestSameLinesAsRipgrep$' ./internal/logscan/history |
			grep -E '^ .*(the same|finds)|^FAIL'
	done
	echo "== $corpus"
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

echo "== following 1,000 idle files: what it holds and what it costs, by /proc, over ten seconds"
for n in $(seq 1000); do
	mkdir -p "$work/idle/alloc/$n/alloc/logs"
	echo hello >"$work/idle/alloc/$n/alloc/logs/orchestrator.stdout.0"
done
"$work/bin/portable" logs scan --follow "$work/idle" >/dev/null &
pid=$!
sleep 3
before=$(awk '{ print $14 + $15 }' /proc/$pid/stat)
sleep 10
after=$(awk '{ print $14 + $15 }' /proc/$pid/stat)
awk '/^VmRSS|^RssAnon/ { printf "%s %.1f MiB\n", $1, $2 / 1024 }' /proc/$pid/status
awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f %% of a core\n", ticks / hz / 10 * 100 }'
kill -INT $pid && wait $pid || true

echo "== from a written line to its finding, beside 1,000 idle files"
go test -run '^$' -bench 'FollowLatency' -benchtime 200x ./internal/logscan/history | grep Benchmark
go test -run '^$' -bench 'FollowIdle' ./internal/logscan/history | grep Benchmark
