#!/bin/sh
# Installs what the lab needs on Debian and Ubuntu: QEMU and e2fsprogs, what
# makes a Debian for guests (a plain user needs uidmap for that), and the
# package lists from which the guests' kernel is fetched. It says nothing
# when all is there. Without root and without sudo it prints the one command
# to run. With the argument "race" it also sees to what the tests need: the C
# compiler of Go's race detector, what holds JUnit reports to their schema, and
# the browser that looks at the HTML report.
set -u

missing=
need() { # need COMMAND PACKAGE...
	command -v "$1" >/dev/null 2>&1 && return
	shift
	missing="$missing $*"
}

case $(uname -m) in
aarch64 | arm64) need qemu-system-aarch64 qemu-system-arm ;;
*) need qemu-system-x86_64 qemu-system-x86 seabios ;;
esac
PATH=$PATH:/usr/sbin:/sbin
need mke2fs e2fsprogs
need debugfs e2fsprogs
need dpkg-deb dpkg
need mmdebstrap mmdebstrap
[ "$(id -u)" = 0 ] || need newuidmap uidmap
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"

if [ "${1:-}" = race ]; then
	need cc gcc libc6-dev
	need xmllint libxml2-utils
	for browser in chromium chromium-browser google-chrome; do
		command -v "$browser" >/dev/null 2>&1 && break
	done || missing="$missing chromium"
fi

if ! command -v apt-get >/dev/null 2>&1; then
	[ -z "$missing" ] && exit 0
	echo "The lab needs:$missing, and a Debian kernel from apt-get, which this machine does not have." >&2
	exit 1
fi

lists=yes
apt-cache show socat >/dev/null 2>&1 || lists=no
[ -z "$missing" ] && [ "$lists" = yes ] && exit 0

todo="apt-get update"
[ -n "$missing" ] && todo="$todo && apt-get install -y --no-install-recommends$missing"

if [ "$(id -u)" = 0 ]; then
	run="sh -c"
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
	run="sudo sh -c"
else
	echo "The lab needs packages, and this user may not install them. Run once, as root:" >&2
	echo "    $todo" >&2
	exit 1
fi
echo "==> installing for the lab: $todo" >&2
DEBIAN_FRONTEND=noninteractive $run "$todo" >&2
