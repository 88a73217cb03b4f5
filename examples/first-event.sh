#!/bin/sh
# The first own event with curl: two items, one click, one question.
#   npm start                      in one terminal
#   sh examples/first-event.sh     in another; an address other than http://127.0.0.1:8080 as its argument
set -eu
server="${1:-http://127.0.0.1:8080}"
json='content-type: application/json'

curl -sS --fail-with-body -X PUT "$server/v1/items" -H "$json" \
  -d '[{"id": "m-1", "title": "Noodle night", "category": "cooking"}, {"id": "m-2", "title": "Late jazz", "category": "music"}]'
echo
curl -sS --fail-with-body -X POST "$server/v1/events" -H "$json" -d '{"type": "click", "user": "ann", "item": "m-1"}'
echo
curl -sS --fail-with-body -X POST "$server/v1/recommend/home" -H "$json" -d '{"user": "ann", "n": 5}'
echo
