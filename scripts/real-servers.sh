#!/bin/bash
# Builds a real Loki from the Go module proxy into the user's cache, once, and
# runs against it the tests that otherwise have only the double. It is the last
# release under the Apache licence, 2.2.1; later ones are under the AGPL. Nomad is
# not built: from 1.7 on its licence is not open.
set -eu -o pipefail
cd "$(dirname "$0")/.."

module=github.com/grafana/loki
version=v1.6.2-0.20210406003638-babea82ef558 # 2.2.1, as a module
go=$(go env GOVERSION)
loki=${XDG_CACHE_HOME:-$HOME/.cache}/sandproof/loki-2.2.1-$go

if [ ! -x "$loki" ]; then
	echo "==> building Loki 2.2.1 with $go, which takes some minutes" >&2
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	cd "$work"
	# The replacements of its own go.mod count only in the main module. Of two
	# libraries the versions that it names read Go's maps as they were before 1.18.
	printf 'module build\n\ngo 1.26\n' >go.mod
	own=$(go mod download -json "$module@$version" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p')
	cat - <(sed -n '/^replace /p' "$own") >>go.mod <<-END

		require (
			$module $version
			github.com/json-iterator/go v1.1.12
			github.com/modern-go/reflect2 v1.0.2
		)

	END
	printf '//go:build tools\n\npackage build\n\nimport _ "%s/cmd/loki"\n' "$module" >build.go
	nice go build -mod=mod -o loki "$module/cmd/loki"
	mkdir -p "$(dirname "$loki")"
	mv loki "$loki.new" && mv "$loki.new" "$loki"
	cd "$OLDPWD"
fi

SANDPROOF_LOKI=$loki go test -race -count 1 -timeout 10m -v -run '^(TestRealLoki|TestLokiAnswers)$' ./internal/logscan
