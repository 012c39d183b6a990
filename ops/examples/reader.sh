#!/usr/bin/env bash
# Follows streams by the rules of ops/protocol.md: reader.sh KEY AFTER MARK, or such lines on stdin. Needs redis-cli 7 and jq.
# Prints a line of JSON per event. Exit code: 0 at the end, 3 when a stream was gone, 1 when REDIS_URL has not answered for 30 s.
set -euo pipefail
url=${REDIS_URL:-redis://127.0.0.1:6379}
terminal='^(completed|failed|cancelled|expired)$'

# Turns each reply into a line per entry (type, attempt, n, mark, run, id, JSON between unit separators), and a dot behind them.
coproc JQ { exec jq --unbuffered -r '
    (if type == "object" then .[] else . // [] end | .[] | .[0] as $id
      | [.[1] | while(. != []; .[2:]) | {(.[0]): .[1]}] | add
      | [.type, .attempt, .n, .mark, .run, $id, ({id: $id, type, fields: .} | tojson)] | map(. // "") | join("\u001f"))
    , "."'; }

# Leaves the entries of a reply in `entries`. Asked again while the server is away: to read twice does no harm.
ask() {
  local line try=0
  until redis-cli -e -u "$url" --json "$@" >&"${JQ[1]}" 2>/dev/null </dev/null; do
    ((++try < 150)) || exit 1
    sleep 0.2
  done
  entries=()
  while IFS= read -r line <&"${JQ[0]}" && [[ $line != . ]]; do entries+=("$line"); done
}

# Makes 0 of what is no number: bash would evaluate it.
number() { [[ ${!1} =~ ^[1-9][0-9]{0,17}$ ]] || printf -v "$1" 0; }

# Whether the entry in the variables below ends this reader's part of the stream.
is_end() { [[ $type =~ $terminal || ($type == left && $leaver == "$mark") ]]; }

# Says that all shown so far is void: the server forgot it, and so does not.
restart() {
  local fields='{"type":"restarted","v":"1","attempt":"%s","n":"0","reason":"lost"}'
  printf '{"stream":"%s","id":"%s","type":"restarted","fields":'"$fields"'}\n' "$stream" "$1" "$attempt"
}

follow() {
  local stream=$1 last=$2 mark=$3 entry entries type attempt n leaver run id json
  local of=0 seen=0 current='' rewound='' wait=1 ended=''
  ask XRANGE "$stream" "$last" "$last" # the entry we resume behind
  for entry in "${entries[@]}"; do
    IFS=$'\x1f' read -r type of seen leaver current id json <<<"$entry"
    number seen
    if is_end; then return 0; fi
  done
  if ((${#entries[@]} == 0)) && [[ $last == *[1-9]* ]]; then of='' seen=999999999999999999; fi # lost: who knows what was shown
  while :; do
    ask XREAD COUNT 256 BLOCK "$wait" STREAMS "$stream" "$last"
    if ((${#entries[@]} == 0)); then # nothing came: is the stream still there, and may anything come?
      if [[ $ended ]]; then return 0; fi
      ask XREVRANGE "$stream" + - COUNT 1
      ((${#entries[@]})) || return 3
      IFS=$'\x1f' read -r type _ <<<"${entries[0]}"
      wait=2000
      if [[ $type =~ $terminal ]]; then ended=yes wait=1; fi
      continue
    fi
    for entry in "${entries[@]}"; do
      IFS=$'\x1f' read -r type attempt n leaver run last json <<<"$entry"
      number n
      if [[ $type == left && $leaver != "$mark" ]]; then continue; fi # the end of another job aboard
      if [[ $type == restarted ]]; then of=$attempt seen=0; fi
      if [[ $type == started && $run != "$current" ]]; then # another run, whatever its number
        if ((seen > 1)); then restart "$last"; fi
        current=$run
      elif ((n > 0)) && [[ $attempt == "$of" ]] && ((n <= seen)); then # a repeat
        continue
      elif ((n > 1)) && [[ $attempt != "$of" && $of != 0 && ! $rewound ]]; then # not what was shown: from the beginning
        last=0-0
        restart "$last"
        of=0 seen=0 current='' rewound=yes
        break
      fi
      if ((n > 0)); then of=$attempt seen=$n; fi
      printf '{"stream":"%s",%s\n' "$stream" "${json#\{}"
      if is_end; then return 0; fi
    done
  done
}

code=0
if (($#)); then
  follow "$@" || code=$?
else
  while read -r stream after mark <&3; do follow "$stream" "$after" "$mark" || code=$?; done 3<&0
fi
exit "$code"
