# shellcheck shell=bash
# in_group COMMAND... runs a command in a process group of its own and returns its
# code; to be sourced by bash scripts. A stop of the script is one of the whole
# group: the ginkgo command, which the suites are started by, hands no signal on.
in_group() {
	local group='' early='' code
	# A stop may come when the command runs, and its group is not known yet.
	trap 'if [ -n "$group" ]; then kill -TERM -- "-$group" 2>/dev/null; else early=TERM; fi' HUP TERM
	trap 'if [ -n "$group" ]; then kill -INT -- "-$group" 2>/dev/null; else early=INT; fi' INT
	set -m
	"$@" &
	group=$!
	[ -z "$early" ] || kill "-$early" -- "-$group" 2>/dev/null
	while kill -0 "$group" 2>/dev/null; do
		wait "$group"
	done
	wait "$group"
	code=$?
	trap - HUP INT TERM
	return "$code"
}
