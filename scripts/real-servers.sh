#!/bin/bash
# Builds a real Loki and a real Nomad from the Go module proxy into the user's
# cache, once, and runs against them the tests that otherwise have only doubles.
# Both are the last releases under open licences that can be had there: Loki 2.2.1
# (Apache) and Nomad 1.6.1 (MPL).
set -eu -o pipefail
cd "$(dirname "$0")/.."

go=$(go env GOVERSION)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sandproof
loki=$cache/loki-2.2.1-$go
nomad=$cache/nomad-1.6.1-$go
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# download prints where a module's field, such as Dir, lies.
download() {
	go mod download -json "$1" | sed -n "s/^\t\"$2\": \"\(.*\)\",\$/\1/p"
}

# keep moves what was built into the cache, whole or not at all.
keep() {
	mkdir -p "$cache"
	mv "$1" "$2.new" && mv "$2.new" "$2"
}

build_loki() (
	module=github.com/grafana/loki
	version=v1.6.2-0.20210406003638-babea82ef558 # 2.2.1, as a module
	mkdir "$work/loki"
	cd "$work/loki"
	# The replacements of its own go.mod count only in the main module. Of two
	# libraries the versions that it names read Go's maps as they were before 1.18.
	printf 'module build\n\ngo 1.26\n' >go.mod
	own=$(download "$module@$version" GoMod)
	cat - <(sed -n '/^replace /p' "$own") >>go.mod <<-END

		require (
			$module $version
			github.com/json-iterator/go v1.1.12
			github.com/modern-go/reflect2 v1.0.2
		)

	END
	printf '//go:build tools\n\npackage build\n\nimport _ "%s/cmd/loki"\n' "$module" >build.go
	nice go build -mod=mod -o loki "$module/cmd/loki"
	keep loki "$loki"
)

build_nomad() (
	# Its go.mod replaces its api by a directory of its repository, which is a
	# module of its own and so not in the archive: the one of the same commit.
	cd "$work"
	printf 'module build\n\ngo 1.26\n' >go.mod
	source=$(download github.com/hashicorp/nomad@v1.6.1 Dir)
	api=$(download github.com/hashicorp/nomad/api@v0.0.0-20230721134942-515895c7690c Dir)
	cp -r "$source" nomad
	chmod -R u+w nomad
	cp -r "$api" nomad/api
	chmod -R u+w nomad/api
	cd nomad
	# It links runc's namespace code, which is C.
	CGO_ENABLED=1 nice go build -o ../nomad-program .
	keep ../nomad-program "$nomad"
)

for server in loki nomad; do
	if [ ! -x "${!server}" ]; then
		echo "==> building $server with $go, which takes some minutes" >&2
		"build_$server"
	fi
done

SANDPROOF_LOKI=$loki SANDPROOF_NOMAD=$nomad go test -race -count 1 -timeout 10m -v \
	-run '^(TestRealLoki|TestLokiAnswers|TestRealNomad)$' ./internal/logscan
