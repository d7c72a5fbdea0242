# Sourced by the scripts here that start servers. The servers end with the script, and each has a
# log. PORTS has 12 reserved ports, so that no server shares its port by accident with another one
# or with an outgoing connection. Expects PIDS=() and the script's NAME.

LOGS=$(mktemp -d)
trap servers_end EXIT

coproc PORTS_HELD { exec python3 tests/e2e/harness/ports.py 12; }
read -r -a PORTS <&"${PORTS_HELD[0]}"

servers_end() {
  # One may have ended already. Its log has been shown if that matters.
  kill "${PIDS[@]}" "$PORTS_HELD_PID" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$LOGS"
}

# Whether there is a listener on address $1.
listens() { (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null; }

# Waits up to 60 s for a listener on address $1. Shows log $2 if there is none.
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

# Starts the command after address $1 with its output in a log. It fails if the address already has
# a listener, because the kernel would distribute connections among both.
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

# Prints the URL path for clients with Corecast's profile $1.
path_of() {
  case "$1" in
    corecast) echo /connection/websocket ;;
    plain) echo '/ws?channels={channel}' ;;
    *) echo "$NAME: --profile $1 is not of Corecast: corecast or plain" >&2; return 2 ;;
  esac
}
