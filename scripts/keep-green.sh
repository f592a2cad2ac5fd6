#!/bin/bash
# Takes what a gated run says into last-green.json, which is kept from run to run.
#
#   scripts/keep-green.sh NAME
#
# Where it cannot be taken, as where nothing could be merged, anything may have
# been red: nothing is green any more then, and the code is not 0. The file is
# emptied and not removed, since a cache that is given none keeps the one before.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 3
bin/sandproof green --state last-green.json "runs/$1" && exit
code=$?
echo '{"version": 1, "target": "live", "builds": {}}' >last-green.json || exit 3
echo "last-green.json: what runs/$1 says could not be taken, so nothing is green any more" >&2
exit "$code"
