#!/usr/bin/env bash
# Compares Corecast with other servers, loaded in turn by one generator (`corecast-bench compare`).
# All servers stay up on one processor, and the generator has another one. Each pair of windows
# gives one ratio.
#
#   perf/run compare PEER[,PEER...] LOAD [--shards N] [--driver NAME] [--profile NAME] [flag...]
#
# A peer is `limit` (perf/limit, with one thread per shard), `limit-send` (the same with a loop of
# `send`), or a name of bench/peers/run. LOAD and the other flags are those of `corecast-bench
# compare`: saturate, fanout, channels or connect, --connections, --bytes, --pairs, --publish,
# --assert, --json and so on. The generator never sleeps, and resets its connections at the end.
#
#   perf/run compare limit,bun saturate --connections 10000 --bytes 128 --assert limit:cpu=1.05

set -euo pipefail
cd "$(dirname "$0")/.."

if (($# < 2)); then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
IFS=, read -ra PEERS <<<"$1"
LOAD=$2
shift 2
SHARDS=1 DRIVER=io_uring PROFILE=plain BYTES=64 WAY= FLAGS=()
while (($#)); do
  case "$1" in
    --shards) SHARDS=${2:?}; shift ;;
    --driver) DRIVER=${2:?}; shift ;;
    --profile) PROFILE=${2:?}; shift ;;
    --publish) WAY=${2:?}; shift ;;
    --bytes) BYTES=${2:?}; FLAGS+=(--bytes "$2"); shift ;;
    --*=*) echo "perf/run compare: write ${1%%=*} and its value apart" >&2; exit 2 ;;
    *) FLAGS+=("$1") ;;
  esac
  shift
done

SERVER_CPU=0 GENERATOR_CPU=1

cargo build --locked --release --workspace >&2
BIN=${CARGO_TARGET_DIR:-target}/release
PIDS=() NAME="perf/run compare"
source perf/servers.sh
CLIENTS=127.0.0.1:${PORTS[0]} API=127.0.0.1:${PORTS[1]}
PEER_PORTS=("${PORTS[@]:2}")
if ((2 * ${#PEERS[@]} > ${#PEER_PORTS[@]})); then
  echo "$NAME: ${#PEERS[@]} peers, and there are ports for $((${#PEER_PORTS[@]} / 2))" >&2
  exit 2
fi

URL_PATH=$(path_of "$PROFILE")
export CORECAST_SERVER_DRIVER=$DRIVER
start "$CLIENTS" taskset -c "$SERVER_CPU" "$BIN/corecast" serve --dev --shards "$SHARDS" \
  --listen "$CLIENTS" --api-listen "$API"
OURS="$PROFILE,name=corecast,url=ws://$CLIENTS$URL_PATH"
if [[ $WAY != frame ]]; then OURS+=",publish-url=http://$API/api/publish"; fi
SERVERS=(--server "$OURS${WAY:+,publish=$WAY}")

for peer in "${PEERS[@]}"; do
  port=${PEER_PORTS[0]}
  case "$peer" in
    limit | limit-send)
      [[ $peer == limit ]] && driver=io_uring || driver=epoll
      limit=127.0.0.1:$port trigger=127.0.0.1:${PEER_PORTS[1]}
      start "$trigger" "$BIN/corecast-limit" --listen "$limit" --trigger "$trigger" --coalesce \
        --cpu "$SERVER_CPU" --threads "$SHARDS" --bytes "$BYTES" --driver "$driver"
      SERVERS+=(--server "limit,name=$peer,url=ws://$limit/,publish-url=$trigger")
      ;;
    *)
      bench/peers/run --install "$peer" >&2
      start "127.0.0.1:$port" bench/peers/run "$peer" --port "$port" --cpus "$SERVER_CPU"
      url=$(sed -En '/^url = /{s#.*//[^/]*([^"]*)"#ws://127.0.0.1:'"$port"'\1#p;q}' \
        "bench/profiles/$peer.toml")
      SERVERS+=(--server "$peer,url=$url${WAY:+,publish=$WAY}")
      ;;
  esac
  PEER_PORTS=("${PEER_PORTS[@]:2}")
done

"$BIN/corecast-bench" compare "$LOAD" --spin --abort --cpus "$GENERATOR_CPU" "${SERVERS[@]}" \
  "${FLAGS[@]}"
