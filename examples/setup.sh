# Shell functions for the two set-up commands, examples/quickstart and tests/run. To be sourced.

# Installs the Debian packages that are missing, as root or with sudo; elsewhere says what to install.
duet_install() {
  local missing=() package
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    local tool
    for tool in c++ cmake ninja pkg-config; do
      command -v "$tool" >/dev/null && continue
      echo "This script installs packages on Debian and Ubuntu only. Elsewhere, install a C++20 compiler (g++ 12 or" >&2
      echo "clang 14), CMake 3.24, Ninja, pkg-config, Eigen 3.4, stb, nlohmann/json, PCRE2, utf8proc, CLI11 and, for the" >&2
      echo "tests, GoogleTest; then run it again." >&2
      exit 1
    done
    return 0
  fi
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "== Installing ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Needs root or sudo to install: ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
