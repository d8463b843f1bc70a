#!/bin/sh
# Claim to finish, Outlive beside Graphile Worker: the same PostgreSQL server, one after the other, three rounds each.
#
#   bench/peers/graphile-worker.sh [JOBS] [URL of a PostgreSQL server, as somebody who may create databases]
#
# Without a URL it starts a server of its own, with PostgreSQL's defaults, in a temporary folder. Graphile Worker is installed from
# npm into that folder. Needs: node, npm, psql (and initdb, pg_ctl), and OUTLIVE=path of a release build (target/release/outlive).
set -eu

jobs=${1:-50000}
url=${2:-}
outlive=${OUTLIVE:-target/release/outlive}
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
chmod 755 "$folder"

programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
PATH=$PATH:$programs

# PostgreSQL refuses to run as root.
as_owner() {
  if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid postgres --regid postgres --clear-groups "$@"); else "$@"; fi
}

stop() {
  if [ -d "$folder/data" ]; then as_owner pg_ctl -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true; fi
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT TERM

if [ -z "$url" ]; then
  mkdir "$folder/data"
  if [ "$(id -u)" = 0 ]; then chown postgres: "$folder/data"; fi
  as_owner initdb -D "$folder/data" -U postgres -A trust -E UTF8 --no-sync >/dev/null
  port=$(node -e 's=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})')
  as_owner pg_ctl -D "$folder/data" -w -s -l "$folder/data/log" -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=" start
  url=postgres://postgres@127.0.0.1:$port/postgres
fi

cp "$here/graphile-worker.mjs" "$folder/"
(cd "$folder" && npm init -y >/dev/null && npm install --no-audit --no-fund --silent graphile-worker@0.18 pg@8 2>/dev/null)
# It wants node 22.18 or newer.
node=node
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 18) ? 0 : 1)'; then
  (cd "$folder" && npm install --no-audit --no-fund --silent node@22)
  node=$folder/node_modules/.bin/node
fi

psql -X -q -A -t "$url" -c "SELECT 'PostgreSQL ' || current_setting('server_version') || ', synchronous_commit ' || current_setting('synchronous_commit')"
echo "$("$outlive" --version), graphile-worker $(cd "$folder" && npm ls --parseable --long --depth 0 graphile-worker | sed 's/.*@//'), node $("$node" --version)"
# Its local queue alone, and with completions in batches, too, as its own performance test has it.
peer() {
  database=peer_$$_$round
  psql -X -q "$url" -c "CREATE DATABASE $database"
  (cd "$folder" && "$node" graphile-worker.mjs "$(echo "$url" | sed "s|/[^/]*$|/$database|")" "$jobs" "$1") >>"$folder/$2"
  psql -X -q "$url" -c "DROP DATABASE $database WITH (FORCE)"
}

for round in 1 2 3; do
  "$outlive" bench throughput --backlog --runs "$jobs" --store "$url" -o json >"$folder/outlive.json"
  node -e 'const m = JSON.parse(require("fs").readFileSync(process.argv[1])); console.log(m.runs_per_second.toFixed(0))' \
    "$folder/outlive.json" >>"$folder/outlive"
  peer "" plain
  peer batches batches
  echo "round $round: Outlive $(tail -1 "$folder/outlive") /s, Graphile Worker $(tail -1 "$folder/plain") /s, with completions in batches $(tail -1 "$folder/batches") /s"
done

middle() { sort -n "$folder/$1" | sed -n 2p; }
ratio() { node -p "($(middle outlive) / $(middle "$1")).toFixed(2)"; }
echo "middle of three: Outlive $(middle outlive) /s"
echo "  Graphile Worker, local queue of 500: $(middle plain) /s; ratio $(ratio plain) (aim: 2 or more)"
echo "  and completions in batches: $(middle batches) /s; ratio $(ratio batches)"
