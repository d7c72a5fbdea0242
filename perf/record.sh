#!/usr/bin/env bash
# Samples the stacks of one shard's thread, including those in the kernel.
#
#   perf/run record [--seconds 10] [--connections 10000] [--outstanding 1] [--bytes 64]
#               [--profile corecast] [--driver io_uring] [--out perf.data]
#   perf/run record --pid PID [--thread shard-0] [--seconds 10] [--out perf.data]
#
# Without --pid it starts a server with one shard on processor 0, and loads it from processor 1 with
# one channel and a closed loop of publications. With --pid it samples a thread of a running server
# under its present load. It prints the functions with the most samples. perf/run flame draws all of
# them, and `perf report -i FILE` browses them.
#
# Samples are taken by the clock (cpu-clock), which virtual machines have as well. Code that runs
# with interrupts disabled is only sampled when it enables them again. Kernel functions require
# root, or kernel.perf_event_paranoid of at most 1 and kernel.kptr_restrict of 0.

set -euo pipefail

START=$PWD
cd "$(dirname "$0")/.."

SECONDS_EACH=10 CONNECTIONS=10000 OUTSTANDING=1 BYTES=64 PROFILE=corecast
DRIVER=io_uring OUT=perf.data PID= THREAD=shard-0
while (($#)); do
  case "$1" in
    --seconds) SECONDS_EACH=$2 ;;
    --connections) CONNECTIONS=$2 ;;
    --outstanding) OUTSTANDING=$2 ;;
    --bytes) BYTES=$2 ;;
    --profile) PROFILE=$2 ;;
    --driver) DRIVER=$2 ;;
    --out) OUT=$2 ;;
    --pid) PID=$2 ;;
    --thread) THREAD=$2 ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "perf/run record: unknown flag $1; --help lists all there are" >&2; exit 2 ;;
  esac
  shift 2 || { echo "perf/run record: $1 needs a value" >&2; exit 2; }
done
[[ $OUT == /* ]] || OUT=$START/$OUT

SERVER_CPU=0 GENERATOR_CPU=1
# Samples per second. A prime number does not coincide with any timer.
FREQUENCY=997
# Bytes of the stack in each sample, which is unwound later because the build has no frame pointers.
STACK_BYTES=8192
# Seconds for the generator to connect, and seconds of load beyond the samples.
RAMP_MAX=60 LOAD_MORE=5

fail() {
  echo "perf/run record: $*" >&2
  exit 2
}

command -v perf >/dev/null || fail "perf is missing: apt-get install linux-perf (Debian), or the \
package of that name for your kernel"
LOGS=$(mktemp -d)

cleanup() {
  # They may have ended already.
  kill "${SERVER_PID:-}" "${LOAD_PID:-}" "${PORTS_HELD_PID:-}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$LOGS"
}
trap cleanup EXIT

# Starts a server and its load, and waits until publications are delivered.
start() {
  local bin=${CARGO_TARGET_DIR:-target}/release url_path
  case "$PROFILE" in
    corecast) url_path=/connection/websocket ;;
    plain) url_path="/ws?channels={channel}" ;;
    *) fail "--profile $PROFILE is not of Corecast: corecast or plain" ;;
  esac
  cargo build --locked --release --workspace
  coproc PORTS_HELD { exec python3 tests/e2e/harness/ports.py 2; }
  read -r -a PORTS <&"${PORTS_HELD[0]}"
  CLIENTS=127.0.0.1:${PORTS[0]} API=127.0.0.1:${PORTS[1]}
  CORECAST_SERVER_DRIVER=$DRIVER taskset -c "$SERVER_CPU" "$bin/corecast" serve --dev --shards 1 \
    --listen "$CLIENTS" --api-listen "$API" >"$LOGS/server.log" 2>&1 &
  SERVER_PID=$!
  await "${API#*:}"
  "$bin/corecast-bench" saturate --json --abort --cpus "$GENERATOR_CPU" --bytes "$BYTES" \
    --connections "$CONNECTIONS" --outstanding "$OUTSTANDING" --profile "$PROFILE" \
    --url "ws://$CLIENTS$url_path" --publish http --publish-url "http://$API/api/publish" \
    --seconds $((SECONDS_EACH + LOAD_MORE)) >"$LOGS/load.log" 2>&1 &
  LOAD_PID=$!
  local waited
  for ((waited = 0; waited < RAMP_MAX * 10; waited++)); do
    if (($(deliveries) > 2 * CONNECTIONS)); then PID=$SERVER_PID; return; fi
    kill -0 "$LOAD_PID" 2>/dev/null || break
    sleep 0.1
  done
  cat "$LOGS"/*.log >&2
  fail "the load did not begin within $RAMP_MAX s"
}

# Waits up to 10 s for a listener on port $1.
await() {
  local _
  for _ in {1..100}; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
    sleep 0.1
  done
  cat "$LOGS/server.log" >&2
  fail "nothing listens on port $1"
}

# Prints the server's number of deliveries so far.
deliveries() {
  curl -s --max-time 5 "http://$API/metrics" \
    | awk '/^corecast_deliveries_total/ {sum += $NF} END {printf "%d\n", sum}'
}

# Prints the id of thread $2 of process $1.
thread_of() {
  local task
  for task in "/proc/$1/task/"*; do
    if [[ $(cat "$task/comm" 2>/dev/null) == "$2" ]]; then basename "$task"; return; fi
  done
  fail "process $1 has no thread $2; it has: $(cat "/proc/$1/task/"*/comm | sort | tr '\n' ' ')"
}

if [[ -n $PID ]]; then
  [[ -d /proc/$PID ]] || fail "there is no process $PID"
else
  start
fi
TID=$(thread_of "$PID" "$THREAD")
perf record --quiet --event cpu-clock --freq "$FREQUENCY" --call-graph "dwarf,$STACK_BYTES" \
  --tid "$TID" --output "$OUT" -- sleep "$SECONDS_EACH" >&2
if [[ -n ${LOAD_PID:-} ]]; then
  wait "$LOAD_PID" || { cat "$LOGS/load.log" >&2; fail "the load failed"; }
fi
echo "   share       samples  function, [k] the kernel's"
perf report --input "$OUT" --no-children --call-graph none --stdio --percent-limit 1 \
  --fields overhead,sample,symbol 2>/dev/null | grep -v -e '^#' -e '^$' \
  || echo "none: the thread slept all the time"
echo "all samples: ${OUT#"$START"/}"
