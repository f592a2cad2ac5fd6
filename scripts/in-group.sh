# shellcheck shell=bash
# in_group COMMAND... runs a command in a process group of its own and returns its
# code; to be sourced by bash scripts. A stop of the script is one of the whole
# group: the ginkgo command, which the suites are started by, hands no signal on.
in_group() {
	local group code
	set -m
	"$@" &
	group=$!
	trap 'kill -TERM -- "-$group" 2>/dev/null' HUP TERM
	trap 'kill -INT -- "-$group" 2>/dev/null' INT
	while kill -0 "$group" 2>/dev/null; do
		wait "$group"
	done
	wait "$group"
	code=$?
	trap - HUP INT TERM
	return "$code"
}
