# Sourced by the scripts here that start servers: they are ended with the script, each has a log,
# and none shares its port with another by accident, nor with an outgoing connection: PORTS are 12
# that are held for them. Expects PIDS=() and NAME, the script's.

LOGS=$(mktemp -d)
trap servers_end EXIT

coproc PORTS_HELD { exec python3 tests/e2e/harness/ports.py 12; }
read -r -a PORTS <&"${PORTS_HELD[0]}"

servers_end() {
  # One may have ended by itself; its log has been shown where that matters.
  kill "${PIDS[@]}" "$PORTS_HELD_PID" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$LOGS"
}

# Whether something listens on address $1.
listens() { (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null; }

# Waits up to 60 s until something listens on address $1; shows log $2 if nothing does.
await() {
  local _
  for _ in {1..600}; do
    if listens "$1"; then return 0; fi
    sleep 0.1
  done
  echo "$NAME: nothing listens on $1" >&2
  cat "$2" >&2
  return 1
}

# Starts the command behind address $1 with its output in a log. The kernel would share connections
# out if something listened there already.
start() {
  local address=$1 log
  log=$LOGS/${address#*:}.log
  shift
  if listens "$address"; then
    echo "$NAME: something listens on $address already" >&2
    return 1
  fi
  "$@" >"$log" 2>&1 &
  PIDS+=($!)
  await "$address" "$log"
}

# Where clients of Corecast's profile $1 connect: the path of the url.
path_of() {
  case "$1" in
    corecast) echo /connection/websocket ;;
    plain) echo '/ws?channels={channel}' ;;
    *) echo "$NAME: --profile $1 is not of Corecast: corecast or plain" >&2; return 2 ;;
  esac
}
