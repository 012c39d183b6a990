#!/usr/bin/env bash
# Follows streams by the rules of ops/protocol.md: reader.sh KEY AFTER MARK, or such lines on stdin. Needs redis-cli 7 and jq.
# Prints a line of JSON per event. Exit code: 0 at the end, 3 when a stream was gone, 4 when nobody ends it and
# its deadline passed 60 s ago (READER_PATIENCE), 1 when REDIS_URL has not answered for 30 s.
set -euo pipefail
url=${REDIS_URL:-redis://127.0.0.1:6379}
terminal='^(completed|failed|cancelled|expired)$'
beginning='^(restarted|continued)$'
patience=${READER_PATIENCE:-60}

# Turns each reply into a line per entry (type, attempt, n, mark, run, kept, deadline, id, JSON between unit separators), and
# a dot behind them.
coproc JQ { exec jq --unbuffered -r '
    (if type == "object" then .[] else . // [] end | .[] | .[0] as $id
      | [.[1] | while(. != []; .[2:]) | {(.[0]): .[1]}] | add
      | [.type, .attempt, .n, .mark, .run, .kept, .deadline, $id, ({id: $id, type, fields: .} | tojson)] | map(. // "") | join("\u001f"))
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

# Whether nobody ends what should have ended, by the server's clock; takes the newest entry's id.
is_overdue() {
  local entries deadline seconds written=${1%-*}
  ask XRANGE "$stream" - + COUNT 1
  IFS=$'\x1f' read -r _ _ _ _ _ _ deadline _ <<<"${entries[0]:-}"
  number deadline
  seconds=$(redis-cli -e -u "$url" TIME 2>/dev/null | head -n 1) || return
  number seconds
  ((deadline > 0 && deadline < (seconds - patience) * 1000 && written < (seconds - patience) * 1000))
}

# Whether the entry in the variables below goes on with what was shown last.
goes_on() {
  local before=$attempt
  number before
  if [[ $type != continued ]]; then ((n <= 1)) || [[ $attempt == "$of" ]]; return; fi
  [[ $seen == -1 || ($of == "$((before - 1))" && $seen == "$kept") ]]
}

# Says that all shown so far is void: the server forgot it, and so does not.
restart() {
  local fields='{"type":"restarted","v":"1","attempt":"%s","n":"0","reason":"lost"}'
  printf '{"stream":"%s","id":"%s","type":"restarted","fields":'"$fields"'}\n' "$stream" "$1" "$attempt"
}

follow() {
  local stream=$1 last=$2 mark=$3 entry entries type attempt n leaver run kept id json
  local of=0 seen=0 current='' rewound='' wait=1 ended=''
  ask XRANGE "$stream" "$last" "$last" # the entry we resume behind
  for entry in "${entries[@]}"; do
    IFS=$'\x1f' read -r type of seen leaver current _ <<<"$entry"
    number seen
    if is_end; then return 0; fi
    if ((seen == 0)) && [[ ! $type =~ $beginning ]]; then seen=-1; fi # who knows how far its attempt had come
  done
  if ((${#entries[@]} == 0)) && [[ $last == *[1-9]* ]]; then of='' seen=999999999999999999; fi # lost: who knows what was shown
  while :; do
    ask XREAD COUNT 256 BLOCK "$wait" STREAMS "$stream" "$last"
    if ((${#entries[@]} == 0)); then # nothing came: is the stream still there, and may anything come?
      if [[ $ended ]]; then return 0; fi
      ask XREVRANGE "$stream" + - COUNT 1
      ((${#entries[@]})) || return 3
      IFS=$'\x1f' read -r type _ _ _ _ _ _ id _ <<<"${entries[0]}"
      wait=2000
      if [[ $type =~ $terminal ]]; then ended=yes wait=1; elif is_overdue "$id"; then return 4; fi
      continue
    fi
    for entry in "${entries[@]}"; do
      IFS=$'\x1f' read -r type attempt n leaver run kept _ last json <<<"$entry"
      number n
      if [[ $type == left && $leaver != "$mark" ]]; then continue; fi # the end of another job aboard
      if [[ $type == started && $run != "$current" ]]; then # another run, whatever its number
        if ((seen > 1)); then restart "$last"; fi
        current=$run
      elif ((n > 0)) && [[ $attempt == "$of" ]] && ((n <= seen)); then # a repeat
        continue
      elif ! goes_on && [[ $of != 0 && ! $rewound ]]; then # not what was shown: from the beginning
        last=0-0
        restart "$last"
        of=0 seen=0 current='' rewound=yes
        break
      fi
      if ((n > 0)) || [[ $type =~ $beginning ]]; then of=$attempt seen=$n; fi
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
