# Common code of check, apply and revert: the arguments, the table, and reading, comparing and
# writing of values.

TABLE="$(dirname "${BASH_SOURCE[0]}")/keys"
SIZES=(10000 100000 1000000 10000000)

# The default file for the values from before apply.
STATE_DEFAULT=/var/lib/corecast/kernel-tuning.state

CONNECTIONS=1000000
STATE=$STATE_DEFAULT
DRY_RUN=
PRINT=

# Parses the flags that the calling script accepts, such as "--connections --state".
arguments() {
  local known=" $1 --help "
  shift
  while (($# > 0)); do
    if [[ "$known" != *" $1 "* ]]; then
      fail "unknown argument $1; it takes${known% --help }"
    fi
    case "$1" in
      --help) usage; exit 0 ;;
      --dry-run) DRY_RUN=1; shift; continue ;;
      --print) PRINT=1; shift; continue ;;
    esac
    if (($# < 2)); then fail "$1 needs a value"; fi
    case "$1" in
      --connections) CONNECTIONS=$(number "$2") || exit 2 ;;
      --state) STATE=$2 ;;
    esac
    shift 2
  done
}

# Prints the comment at the head of the calling script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

fail() {
  echo "${0##*/}: $*" >&2
  exit 2
}

# Accepts 100k and 1M.
number() {
  local text="${1//_/}"
  case "$text" in
    *[kK]) text="${text%[kK]}000" ;;
    *[mM]) text="${text%[mM]}000000" ;;
  esac
  if [[ ! "$text" =~ ^[1-9][0-9]{0,8}$ ]]; then
    fail "--connections $1: a number from 1 to 999999999, such as 50000, 100k or 1M, is wanted"
  fi
  echo "$text"
}

# Calls `$1 key rule where value` for each row with a value for CONNECTIONS. The value is from the
# first column that is large enough, or from the last one.
each_key() {
  local call="$1" key rule where values column=0 value
  while ((column < ${#SIZES[@]} - 1 && CONNECTIONS > SIZES[column])); do
    column=$((column + 1))
  done
  while IFS='|' read -r key rule where values; do
    key=$(trim "$key")
    if [[ -z "$key" || "$key" == \#* ]]; then continue; fi
    IFS='|' read -ra values <<<"$values"
    value=$(trim "${values[column]}")
    if [[ "$value" != - ]]; then "$call" "$key" "$(trim "$rule")" "$(trim "$where")" "$value"; fi
  done <"$TABLE"
}

# Reduces white space to single spaces between words, because /proc/sys has tabs.
trim() {
  local words
  read -ra words <<<"$1"
  echo "${words[*]}"
}

path_of() { echo "/proc/sys/${1//.//}"; }

# Prints the present value of a key. Fails if this kernel or network namespace lacks the key.
current() { trim "$(cat "$(path_of "$1")" 2>/dev/null)" | grep .; }

# Whether value $2 satisfies rule $1 with $3, number by number.
holds() {
  local rule="$1" at found wanted
  read -ra found <<<"$2"
  read -ra wanted <<<"$3"
  if ((${#found[@]} != ${#wanted[@]})); then return 1; fi
  for at in "${!wanted[@]}"; do
    case "$rule" in
      min) ((found[at] >= wanted[at])) || return 1 ;;
      max) ((found[at] <= wanted[at])) || return 1 ;;
      is) ((found[at] == wanted[at])) || return 1 ;;
      *) fail "$TABLE: unknown rule $rule" ;;
    esac
  done
}

# Writes a value and reads it back, because some keys ignore or change a value without an error.
write() {
  local key="$1" value="$2"
  { echo "$value" >"$(path_of "$key")"; } 2>/dev/null && [[ "$(current "$key")" == "$value" ]]
}

# Prints the reason why a key is absent.
absent_because() {
  if [[ "$1" == net.netfilter.* ]]; then echo "nothing is tracked: nothing to do"; return; fi
  case "$2" in
    host) echo "not in this kernel, or only outside this container: run this on the host" ;;
    *) echo "not in this kernel" ;;
  esac
}

row() { printf '%-36s %-24s %-32s %s\n' "$1" "$2" "$3" "$4"; }
