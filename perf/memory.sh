#!/usr/bin/env bash
# Measures the memory of an idle, subscribed connection, as the growth of the server's RSS from N
# connections to 2N: with Centrifugo's protocol and plain WebSocket, with one channel, and with 16
# and 128 channels that all connections share. Each of the 2N connections must also get one
# publication exactly once.
#
#   perf/run memory [--connections 50000] [--shards 6]
#
# The exit code is 1 if a connection with one channel needs more than 92 B, several channels of it
# more than 256 B and 64 B each, or everything together more than that, 4 MiB per shard and 12 MiB
# for the program. Memory left by a burst of handshakes increases a figure and never reduces it, so
# a figure that is too high is measured again, at most twice. A shard holds as many connections as
# RLIMIT_NOFILE allows: 6 shards hold 100,000 with a limit of 20,000. With more channels there are
# fewer connections.

set -euo pipefail
cd "$(dirname "$0")/.."

CONNECTIONS=50000 SHARDS=6
while (($#)); do
  case "$1" in
    --connections) CONNECTIONS=$2 ;;
    --shards) SHARDS=$2 ;;
    *) echo "perf/run memory: unknown flag $1" >&2; exit 2 ;;
  esac
  shift 2 || { echo "perf/run memory: $1 needs a value" >&2; exit 2; }
done

CONNECTION_BYTES_MAX=92 BOX_BYTES_MAX=256 CHANNEL_BYTES_MAX=64 SHARD_BYTES_MAX=$((4 * 1024 * 1024))
PROGRAM_BYTES_MAX=$((12 * 1024 * 1024))

REPORT=$(mktemp)
trap 'rm -f "$REPORT"' EXIT

# Prints the value of number $1 in the report.
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\)[,}].*/\1/p" "$REPORT"; }

FAILED=0
# Checks that $1 (a number) is at most $2. $3 is its name.
check() {
  local verdict=ok
  if [[ -z $1 ]]; then
    echo "  $3: not in the report" >&2
    FAILED=1
    return
  fi
  awk "BEGIN {exit !($1 > $2)}" && verdict=FAILED FAILED=1
  printf '  %-28s %14.1f B, at most %14.1f B: %s\n' "$3" "$1" "$2" "$verdict"
}

# Measures connections with $2 channels and profile $1. N is $3.
measure() {
  local profile=$1 channels=$2 connections=$3 each all kernel
  echo "$profile, channels each: $channels; $connections, then $((2 * connections)) connections," \
    "$SHARDS shards"
  if ! perf/run load --shards "$SHARDS" --profile "$profile" --channels "$channels" idle --json \
    --abort --publish-once --connections "$connections" >"$REPORT"; then
    echo "perf/run memory: the run failed" >&2
    cat "$REPORT" >&2
    exit 1
  fi
  each=$CONNECTION_BYTES_MAX
  if ((channels > 1)); then
    each=$((each + BOX_BYTES_MAX + (channels - 1) * CHANNEL_BYTES_MAX))
  fi
  all=$((2 * connections * each + SHARDS * SHARD_BYTES_MAX + PROGRAM_BYTES_MAX))
  check "$(field bytes_per_connection)" "$each" "each connection"
  check "$(field rss_bytes_at_2n)" "$all" "RSS in all"
  printf '  %-28s %14.1f B\n' "RSS before the first" "$(field rss_bytes_at_start)"
  kernel=$(field kernel_bytes_per_connection)
  printf '  %-28s %14.1f B\n' "kernel, each connection" "${kernel:-0}"
}

# Does the same, and repeats it if a figure is too high.
hold() {
  local before=$FAILED
  for _ in 1 2 3; do
    FAILED=$before
    measure "$@"
    if ((FAILED == before)); then return; fi
  done
}

hold corecast 1 "$CONNECTIONS"
hold plain 1 "$CONNECTIONS"
hold plain 16 $((CONNECTIONS / 4))
hold plain 128 $((CONNECTIONS / 10))
exit "$FAILED"
