#!/usr/bin/env bash
# Measures the cost of more shards: Corecast with 1, 2 and 8 of them, on one processor, loaded in
# turn with the same load. On one processor more shards can't be faster, so the difference is the
# cost of dividing a channel's subscribers among threads. With --cpus they share these processors
# instead.
#
#   perf/run shards [--cpus LIST] [flag...]
#
# The other flags are those of `corecast-bench compare`: --connections, --pairs, --report and so on.

set -euo pipefail
cd "$(dirname "$0")/.."

SHARDS=(1 2 8) SERVER_CPUS=0 GENERATOR_CPU=1 FLAGS=()
while (($#)); do
  case "$1" in
    --cpus) SERVER_CPUS=${2:?}; shift ;;
    *) FLAGS+=("$1") ;;
  esac
  shift
done

cargo build --locked --release --workspace >&2
BIN=${CARGO_TARGET_DIR:-target}/release
PIDS=() SERVERS=() NAME="perf/run shards"
source perf/servers.sh

for shards in "${SHARDS[@]}"; do
  clients=127.0.0.1:${PORTS[0]} api=127.0.0.1:${PORTS[1]}
  PORTS=("${PORTS[@]:2}")
  start "$clients" taskset -c "$SERVER_CPUS" "$BIN/corecast" serve --dev --shards "$shards" \
    --listen "$clients" --api-listen "$api"
  url="ws://$clients/ws?channels={channel}"
  SERVERS+=(--server "plain,name=$shards shards,url=$url,publish=frame")
done

"$BIN/corecast-bench" compare saturate --spin --abort --cpus "$GENERATOR_CPU" "${SERVERS[@]}" \
  "${FLAGS[@]}" || { cat "$LOGS"/*.log >&2; exit 1; }
