#!/usr/bin/env bash
# An Outlive worker over plain HTTP: bash, curl and jq. It runs one command at a time.
#
#     OUTLIVE_SERVER=http://127.0.0.1:7070 OUTLIVE_WORKER_NAME=mine ./worker.sh
#
# What must be right in any language is said at the top of worker.py; this does the same in the same order.
set -uo pipefail
server=${OUTLIVE_SERVER:-http://127.0.0.1:7070} name=${OUTLIVE_WORKER_NAME:-$(hostname)} queues=${OUTLIVE_QUEUES:-default}
beat=${OUTLIVE_HEARTBEAT_SECONDS:-2} # a request in each; silent for three, it is written off
dir=$(mktemp -d) wishes=0 pid='' token=''
trap 'wishes=$((wishes + 1))' TERM INT
trap 'tell KILL; rm -rf "$dir"' EXIT

now() { read -r up _ </proc/uptime && echo "${up/./}0"; } # milliseconds; they go on while this machine sleeps
tell() { [[ -z $pid ]] || kill -s "$1" -- "-$pid" 2>/dev/null || true; }
lease() { jq -r "$1" "$dir/lease"; }
say() { jq -c "$@" >>"$dir/items"; } # one item of the next report

call() { # PATH: asks with $dir/body until there is an answer, in $dir/answer; fails if it is a refusal, whose status is in $code
  local limit=30000
  for (( ; ; )); do
    asked=$(now)
    if [[ -n $pid ]]; then # work whose last answered beat is too old stands still
      limit=$((answered + ttl * 4 / 5 - asked))
      ((limit > 0)) || tell STOP
      limit=$((limit < 500 ? 500 : limit > 5000 ? 5000 : limit))
    fi
    code=$(curl -s -m "$((limit / 1000)).$((limit % 1000 / 100))" -o "$dir/answer" -w '%{http_code}' -H 'Content-Type: application/json' \
      ${token:+-H "Authorization: Bearer $token"} --data-binary @"$dir/body" "$server$1") &&
      ((code < 500)) && [[ $code$1 != 409/v1/workers ]] && break # that: who had the name still answers
    [[ $1 != */claim ]] || ((wishes == 0)) || return
    sleep 0.2
  done
  ((code < 300))
}

register() {
  token=''
  jq -n --arg name "$name" --arg queues "$queues" --arg beat "${beat}s" --arg instance "$(</proc/sys/kernel/random/uuid)" '{protocol: 1,
    $name, $instance, queues: ($queues / ","), kinds: ["exec"], slots: 1, liveness: "poll", heartbeat_interval: $beat}' >"$dir/body"
  call /v1/workers || refused
  token=$(jq -r .session_token "$dir/answer") worker=$(jq -r .worker_id "$dir/answer")
}

refused() {
  case $code in
    401 | 404) register ;; # the server does not know me: its store is another
    409) exit 5 ;;         # a newer worker has the name
    *) cat "$dir/answer" >&2 && exit 1 ;;
  esac
}

report() { # what is in $dir/items, and a beat
  jq -cs --arg run_id "$run" --argjson epoch "$epoch" '{$run_id, $epoch} as $r | {beat: {held: [$r]}, items: map($r + .)}' "$dir/items" >"$dir/body"
  call "/v1/workers/$worker/report"
}

frame() { # CHANNEL: its next bytes, at most 256 KiB
  tail -c +"$((sent[$1] + 1))" "$dir/$1" | head -c 262144 >"$dir/frame"
  local size && size=$(stat -c %s "$dir/frame")
  ((size == 0)) && return
  sent[$1]=$((sent[$1] + size)) seq=$((seq + 1))
  base64 -w0 "$dir/frame" | say -R --arg channel "$1" --argjson seq $seq '{op: "output", $seq, $channel, base64: .}'
}

work() { # the lease in $dir/lease
  declare -A sent=([stdout]=0 [stderr]=0)
  local seq=0 ending='' patience=0 saved status last state
  run=$(lease .run_id) epoch=$(lease .epoch) ttl=$(lease .lease_ttl_ms) saved=$(lease '.checkpoint | values | tojson')
  eval "local command=($(lease '.input.command | @sh')) env=($(lease '.input.env // {} | to_entries | map("\(.key)=\(.value)") | @sh'))"
  rm -rf "$dir/work" && mkdir "$dir/work"
  : >"$dir/stdout" 2>"$dir/stderr" # now, and not when the command gets to it: the output of the run before must not be read as its own
  printf %s "$saved" >"$dir/checkpoint.json"
  lease '.input.stdin // "" | tostring' | head -c -1 >"$dir/stdin"
  set -m # the command gets a process group of its own
  (cd "$(lease ".input.cwd // \"$dir/work\"")" && exec env -i "PATH=$PATH" "HOME=${HOME:-/}" "${env[@]}" "OUTLIVE_RUN_ID=$run" "OUTLIVE_EPOCH=$epoch" \
    "OUTLIVE_ATTEMPT=$(lease .attempt)" "OUTLIVE_CHECKPOINT_FILE=$dir/checkpoint.json" "${command[@]}") \
    <"$dir/stdin" >"$dir/stdout" 2>"$dir/stderr" &
  pid=$! answered=$(now)
  set +m
  for (( ; ; )); do
    last=1 && kill -0 $pid 2>/dev/null && last='' # first whether it has ended, then what it had said
    : >"$dir/items"
    frame stdout
    frame stderr
    state=$(jq -c . "$dir/checkpoint.json" 2>/dev/null)
    [[ -z $state || $state == "$saved" ]] || { saved=$state && say -n --argjson data "$state" '{op: "checkpoint", $data}'; }
    [[ ! -s $dir/items ]] || last=''
    if [[ -n $last ]]; then
      wait $pid && status=0 || status=$?
      say -n --argjson code $status --argjson seq $seq --arg how "${ending:-fail}" '{last_output_seq: $seq, exit: {$code}} +
        if $code == 0 then {op: "complete"} elif $how == "fail" then {op: "fail", reason: "exit_code"} else {op: $how} end'
    fi
    report || { tell KILL && pid='' && refused && return; }
    answered=$asked
    told=$(jq -r --arg run "$run" '(.results[].status), (.orders[] | select(.run_id == $run) | .type)' "$dir/answer")
    [[ -z $last && ! $told =~ fenced|terminal|lost ]] || { tell KILL && pid='' && return; }
    tell CONT
    if [[ -z $ending ]] && { [[ $told =~ cancel ]] || ((wishes > 1)); }; then
      [[ $told =~ cancel ]] && ending=cancelled || ending=release
      patience=$(($(now) + $(lease .cancel_grace_ms))) && tell TERM
    elif [[ -n $ending ]] && (($(now) > patience)); then
      tell KILL
    fi
    [[ -s $dir/items ]] || { sleep "$(jq -n "[$beat, $ttl / 5000] | min")" & wait -n $pid $!; }
  done
}

register
while ((wishes == 0)); do
  jq -n --arg request_id "$(</proc/sys/kernel/random/uuid)" '{$request_id, max: 1, wait: "5s"}' >"$dir/body"
  call "/v1/workers/$worker/claim" || { ((wishes == 0)) && refused && continue || break; }
  jq -c '.leases[]' "$dir/answer" >"$dir/lease"
  [[ ! -s $dir/lease ]] || work
done
echo '{}' >"$dir/body"
call "/v1/workers/$worker/leave"
