#!/bin/bash
# Runs a command in whose output a guest or a log may speak, so that GitHub takes
# no line of it for a command of the workflow, and exits with its code.
#
#   scripts/stop-commands.sh COMMAND...
#
# What it prints on both streams goes to the standard output: on two, GitHub may
# read the end of the one after the line that ends the stop on the other. A stop
# of this script is one of the command. Commands of the workflow count again
# once the command has ended, however it did.
# https://docs.github.com/actions/reference/workflow-commands-for-github-actions#stopping-and-starting-workflow-commands
set -u -o pipefail
. "$(dirname "$0")/in-group.sh" || exit 3

# Nobody who has not read this line can tell the other one.
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
if [ "${#token}" -ne 32 ]; then
	echo "no random token from /dev/urandom, so $1 is not run" >&2
	exit 3
fi
printf '::stop-commands::%s\n' "$token"
# Its last line may have no end. A stop may come before there is a command.
trap 'printf "\n::%s::\n" "$token"' EXIT
in_group "$@" 2>&1
