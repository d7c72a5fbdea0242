#!/usr/bin/env bash
# Runs one scenario of the load generator against a new Corecast.
#
#   perf/run load [--shards N] [--driver NAME] [--profile corecast|plain] [--server-cpus LIST]
#             [--channels N] SCENARIO [flag...]
#
# With --channels every connection has this number of channels instead of one. All connections have
# the same ones. This requires plain WebSocket, whose URL names them. Publications go to the first
# one.
#
# SCENARIO and the flags after it are those of `corecast-bench`. A shard holds as many connections
# as RLIMIT_NOFILE allows. With a limit of 20,000, 6 shards hold 100,000 connections and 54 a
# million. Settings of the server may be set in the environment (CORECAST_CLIENT_PING_INTERVAL=2m).
#
#   perf/run load --shards 6 idle --connections 50000 --publish-once

set -euo pipefail
cd "$(dirname "$0")/.."

SHARDS=1 DRIVER=auto PROFILE=corecast SERVER_CPUS= CHANNELS=1
while (($#)); do
  case "$1" in
    --shards) SHARDS=${2:?} ;;
    --driver) DRIVER=${2:?} ;;
    --profile) PROFILE=${2:?} ;;
    --server-cpus) SERVER_CPUS=${2:?} ;;
    --channels) CHANNELS=${2:?} ;;
    -*)
      echo "perf/run load: unknown flag $1; those of the generator follow the scenario" >&2
      exit 2
      ;;
    *) break ;;
  esac
  shift 2
done
if (($# == 0)); then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
SCENARIO=$1
shift

cargo build --locked --release --workspace >&2
BIN=${CARGO_TARGET_DIR:-target}/release
PIDS=() NAME="perf/run load"
source perf/servers.sh
CLIENTS=127.0.0.1:${PORTS[0]} API=127.0.0.1:${PORTS[1]}
URL_PATH=$(path_of "$PROFILE")
if ((CHANNELS > 1)); then
  if [[ $PROFILE != plain ]]; then
    echo "perf/run load: --channels $CHANNELS needs --profile plain" >&2
    exit 2
  fi
  for ((channel = 2; channel <= CHANNELS; channel++)); do URL_PATH+=,channel-$channel; done
fi

export CORECAST_SERVER_DRIVER=$DRIVER
start "$CLIENTS" ${SERVER_CPUS:+taskset -c "$SERVER_CPUS"} "$BIN/corecast" serve --dev \
  --shards "$SHARDS" --listen "$CLIENTS" --api-listen "$API"

PUBLISH=(--publish-url "http://$API/api/publish")
for flag in "$SCENARIO" "$@"; do
  if [[ $flag == --publish=* ]]; then
    echo "perf/run load: write --publish and its value apart" >&2
    exit 2
  fi
  if [[ $flag == connect || $flag == churn || $flag == frame ]]; then PUBLISH=(); fi
done
if ! "$BIN/corecast-bench" "$SCENARIO" --profile "$PROFILE" --url "ws://$CLIENTS$URL_PATH" \
  --pid "${PIDS[0]}" "${PUBLISH[@]}" "$@"; then
  cat "$LOGS"/*.log >&2
  exit 1
fi
