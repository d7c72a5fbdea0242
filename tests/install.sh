# Installs what the tests need: Debian packages, and those of PyPI, npm and Go in tests/.cache. A
# part of `test`.

set -euo pipefail

section_install() {
  mkdir -p "$CACHE"
  install_python venv requirements.txt
  install_python venv-old-sdk requirements-old-sdk.txt
  install_node
  install_autobahn
  install_profiles
  install_go
  # No later section needs a network.
  cargo fetch --locked --quiet
}

# Programs that only some tests need, and their packages. These tests are skipped where a package
# can't be installed.
OF_SOME_TESTS=(crun:crun docker-compose:docker-compose dpkg-deb:dpkg go:golang-go haproxy:haproxy
  nginx:nginx promtool:prometheus runc:runc systemd-analyze:systemd)

# Prints the packages of those programs that are missing, of `program:package`. Debian keeps some
# programs where only root looks.
missing_of() {
  local pair
  for pair in "$@"; do
    PATH="$PATH:/usr/sbin:/sbin" type -P "${pair%%:*}" >/dev/null || echo "${pair##*:}"
  done
}

# Prints the Debian packages without which nothing can be tested.
missing_debian() {
  missing_of cc:build-essential chromium:chromium curl:curl ip:iproute2 kill:procps nft:nftables \
    node:nodejs npm:npm openssl:openssl prlimit:util-linux python3:python3 \
    redis-server:redis-server valgrind:valgrind
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  # rustup installs both with cargo. Debian has a separate package for each.
  if [[ "$(type -P cargo)" == /usr/bin/cargo ]]; then
    type -P cargo-fmt >/dev/null || echo rustfmt-web
    type -P cargo-clippy >/dev/null || echo rust-web-clippy
  fi
}

section_debian() {
  local missing optional package
  mapfile -t missing < <(missing_debian)
  mapfile -t optional < <(missing_of "${OF_SOME_TESTS[@]}")
  ROOT=()
  if ((EUID != 0)); then ROOT=(sudo); fi
  if ! type -P "${ROOT[@]:-apt-get}" >/dev/null || ! type -P apt-get >/dev/null; then
    if ((${#missing[@]} > 0)); then fail "not root, no sudo or no apt; missing: ${missing[*]}"; fi
    echo "not root, no sudo or no apt: some tests will be skipped, for lack of ${optional[*]}"
    return
  fi
  "${ROOT[@]}" apt-get update -q || ((${#missing[@]} == 0))
  refuse_services
  if ((${#missing[@]} > 0)); then apt_install "${missing[@]}"; fi
  for package in "${optional[@]}"; do
    apt_install "$package" || echo "$package can't be installed: some tests will be skipped"
  done
}

# Debian starts services as it installs them, if this program does not refuse.
refuse_services() {
  local policy=/usr/sbin/policy-rc.d
  if [[ -e "$policy" ]]; then return; fi
  printf '#!/bin/sh\nexit 101\n' | "${ROOT[@]}" tee "$policy" >/dev/null
  trap '"${ROOT[@]}" rm -f '"$policy" EXIT
  "${ROOT[@]}" chmod 755 "$policy"
}

# Installs packages. On a machine with systemd, their services do not start at boot either.
apt_install() {
  local before units
  before=$(enabled_units)
  echo "installing $*"
  "${ROOT[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "$@" || return
  mapfile -t units < <(comm -13 <(echo "$before") <(enabled_units))
  if ((${#units[@]} > 0)) && [[ -d /run/systemd/system ]]; then
    "${ROOT[@]}" systemctl disable --quiet "${units[@]}" || true
  fi
}

enabled_units() {
  find /etc/systemd/system -path '*.wants/*' -printf '%f\n' 2>/dev/null | sort -u
}

# Creates a virtual environment in tests/.cache/$1 with the packages of tests/e2e/$2.
install_python() {
  local venv="$CACHE/$1" requirements="tests/e2e/$2"
  unchanged "$venv" "$requirements" tests/e2e/constraints.txt && return
  rm -rf "$venv"
  python3 -m venv "$venv"
  local constraints=()
  if [[ "$1" == venv ]]; then constraints=(-c tests/e2e/constraints.txt); fi
  "$venv/bin/pip" install -q --disable-pip-version-check -r "$requirements" "${constraints[@]}"
  stamp "$venv" "$requirements" tests/e2e/constraints.txt
}

# Node.js looks for modules in the directories above the script, so the tests need a link.
install_node() {
  local files=(tests/e2e/package.json tests/e2e/package-lock.json)
  ln -sfn ../.cache/node/node_modules tests/e2e/node_modules
  unchanged "$CACHE/node" "${files[@]}" && return
  rm -rf "$CACHE/node"
  mkdir -p "$CACHE/node"
  cp "${files[@]}" "$CACHE/node/"
  npm --prefix "$CACHE/node" ci --ignore-scripts --no-audit --no-fund --silent
  stamp "$CACHE/node" "${files[@]}"
}

# Builds the scenarios of the SDK for Go.
install_go() {
  local source=tests/e2e/sdk/go
  local files=("$source/main.go" "$source/go.mod" "$source/go.sum")
  unchanged "$CACHE/go" "${files[@]}" && return
  rm -rf "$CACHE/go"
  mkdir -p "$CACHE/go"
  if ! type -P go >/dev/null; then
    echo "go is not installed: the tests of its SDK will be skipped"
    return
  fi
  (cd "$source" && go build -mod=readonly -o "$CACHE/go/sdk" .)
  stamp "$CACHE/go" "${files[@]}"
}

# The suite needs Python 2.7, which Debian no longer has, but pyenv does. Without it the section is
# skipped.
install_autobahn() {
  if autobahn_installed; then return; fi
  local python
  if ! python=$(python2); then
    echo "Python 2.7 is missing: the section autobahn will be skipped"
    return
  fi
  rm -rf "$CACHE/autobahn"
  "$python" -m pip install -q --disable-pip-version-check --no-warn-conflicts \
    --target "$CACHE/autobahn" "autobahntestsuite==$AUTOBAHN_VERSION" 2>&1 \
    | grep -v "^DEPRECATION" || true
  [[ -d "$CACHE/autobahn/autobahntestsuite" ]] || fail "autobahntestsuite was not installed"
  touch "$CACHE/autobahn/.version-$AUTOBAHN_VERSION"
}

# Fetches the default seccomp profiles of Docker, from the proxy of Go's modules, and of Podman,
# from Debian. The image is tried with them. Where one can't be had, its test is skipped.
install_profiles() {
  local directory="$CACHE/profiles" package=golang-github-containers-common
  mkdir -p "$directory"
  if [[ ! -e "$directory/docker.json" ]]; then
    GOFLAGS=-modcacherw GOMODCACHE="$directory/go" go mod download "$DOCKER_PROFILE" \
      && cp "$directory/go/$DOCKER_PROFILE/default.json" "$directory/docker.json" \
      || echo "there is no profile of Docker, which Debian's golang-go would fetch"
  fi
  if [[ ! -e "$directory/podman.json" ]]; then
    (cd "$directory" && apt-get download -q "$package" && dpkg --extract "$package"_*.deb .) \
      && cp "$directory/usr/share/containers/seccomp.json" "$directory/podman.json" \
      || echo "there is no profile of Podman, which Debian's $package has"
  fi
}

# Whether the suite and its Python are installed.
autobahn_installed() {
  [[ -e "$CACHE/autobahn/.version-$AUTOBAHN_VERSION" ]] && python2 >/dev/null
}

# Prints a Python 2.7 that runs. A shim of pyenv on PATH may belong to a version that is not
# selected.
python2() {
  local candidate
  for candidate in python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
    if "$candidate" -c '' 2>/dev/null; then echo "$candidate"; return; fi
  done
  return 1
}

unchanged() { [[ "$(cat "$1/.stamp" 2>/dev/null)" == "$(hash_of "${@:2}")" ]]; }

stamp() { hash_of "${@:2}" >"$1/.stamp"; }

hash_of() { cat "$@" | sha256sum; }
