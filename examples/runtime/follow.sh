#!/bin/sh
# Start a run and print its events, one JSON object a line. After a cut it goes on where it was.
# Needs curl, jq and awk. HOLDFAST_URL and HOLDFAST_KEY say where and as whom.
set -eu
url=${HOLDFAST_URL:-http://localhost:8000}
key="X-API-Key: ${HOLDFAST_KEY:-}"

run=$(curl -sSf -X POST "$url/runs" -H "Content-Type: application/json" -H "$key" -d "${1:-{\}}" | jq -r .run_id)
next=0
while [ "$next" != done ]; do
    # A frame counts once its empty line is there: the last one of a stream that was cut may be half.
    next=$(curl -sN "$url/runs/$run/events?from_sequence=$next" -H "$key" | awk -v next_="$next" '
        /^id: / { id = substr($0, 5) + 0 }
        /^event: / { event = substr($0, 8) }
        /^data: / { data = substr($0, 7) }
        /^$/ && data != "" {
            print data > "/dev/stderr"
            next_ = event ~ /^(complete|error|cancelled)$/ ? "done" : id + 1
            data = ""
        }
        END { print next_ }' 2>&3) || true
done 3>&1
