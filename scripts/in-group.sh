# shellcheck shell=bash
# in_group COMMAND... runs a command in a process group of its own and returns its
# code; to be sourced by bash scripts. A stop of the script is one of the whole
# group: the ginkgo command, which the suites are started by, hands no signal on.
in_group() {
	local group='' early='' code
	trap 'stop_group TERM' HUP TERM
	trap 'stop_group INT' INT
	set -m
	"$@" &
	group=$!
	[ -z "$early" ] || stop_group "$early"
	while kill -0 "$group" 2>/dev/null; do
		wait "$group"
	done
	wait "$group"
	code=$?
	trap - HUP INT TERM
	return "$code"
}

# stop_group SIGNAL hands a stop on to the group of in_group, once that is known
# and runs the command: a process that was only forked still has this shell's
# traps, and would lose it.
stop_group() {
	if [ -z "$group" ]; then
		early=$1
		return
	fi
	while cmp -s "/proc/$$/cmdline" "/proc/$group/cmdline"; do
		sleep 0.02
	done
	kill "-$1" -- "-$group" 2>/dev/null
}
