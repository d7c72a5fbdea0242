#!/usr/bin/env bash
# Draws the samples of perf/run record as a flame graph. This is an SVG for a browser in which the
# width of a function is its share of the time, and its callees are above it.
#
#   perf/run flame [--data perf.data] [--out flame.svg] [--title TEXT]
#
# It is drawn by inferno, which is built by the first run in tests/.cache. That directory may be
# deleted at any time.

set -euo pipefail

START=$PWD
cd "$(dirname "$0")/.."

INFERNO_VERSION=0.12.8
DATA=perf.data OUT=flame.svg TITLE="Corecast, one shard"
while (($#)); do
  case "$1" in
    --data) DATA=$2 ;;
    --out) OUT=$2 ;;
    --title) TITLE=$2 ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "perf/run flame: unknown flag $1; --help lists all there are" >&2; exit 2 ;;
  esac
  shift 2 || { echo "perf/run flame: $1 needs a value" >&2; exit 2; }
done
[[ $DATA == /* ]] || DATA=$START/$DATA
[[ $OUT == /* ]] || OUT=$START/$OUT

fail() {
  echo "perf/run flame: $*" >&2
  exit 2
}

command -v perf >/dev/null || fail "perf is missing: apt-get install linux-perf (Debian), or the \
package of that name for your kernel"
[[ -f $DATA ]] || fail "there are no samples in ${DATA#"$START"/}: perf/run record makes them"

# One directory for each version, because the programs do not print their version.
INFERNO=$PWD/tests/.cache/inferno-$INFERNO_VERSION
if [[ ! -x $INFERNO/bin/inferno-flamegraph ]]; then
  echo "building inferno $INFERNO_VERSION" >&2
  cargo install --quiet --locked --root "$INFERNO" --version "$INFERNO_VERSION" inferno
fi

STACKS=$(mktemp)
trap 'rm -f "$STACKS"' EXIT
# Skip inlined functions, because finding each of them takes minutes.
perf script --no-inline --input "$DATA" 2>/dev/null \
  | "$INFERNO/bin/inferno-collapse-perf" >"$STACKS"
[[ -s $STACKS ]] || fail "${DATA#"$START"/} has no stacks"
"$INFERNO/bin/inferno-flamegraph" --title "$TITLE" --countname nanoseconds --colors rust \
  <"$STACKS" >"$OUT"
TOTAL=$(awk '{sum += $NF} END {printf "%.2f", sum / 1e9}' "$STACKS")
echo "$TOTAL s of samples: ${OUT#"$START"/}"
