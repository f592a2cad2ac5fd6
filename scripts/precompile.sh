#!/bin/sh
# Builds what runs without Go and without this source: sandproof, the suites
# and the guest probe, static, into a directory. GOOS and GOARCH choose for
# whom; the probe runs in guests, which are of the same architecture.
#
#   scripts/precompile.sh DIR
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."

version=$(sed -n 's/^const version = "\(.*\)"$/\1/p' e2e/target_test.go)
[ -n "$version" ] || { echo "e2e/target_test.go does not tell the harness's version" >&2; exit 1; }
export CGO_ENABLED=0
go build -trimpath -buildvcs=false -o "$out/sandproof" ./cmd/sandproof
go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$out/guestprobe" ./cmd/guestprobe
go test -c -trimpath -buildvcs=false -o "$out/e2e.test" ./e2e
