# Sourced by quickstart, check and .ci/run: installs what a bare Debian 12 lacks, sets up ccache.

drrik_packages=(
  # build
  g++ cmake ninja-build ccache pkg-config
  # libraries (docs/dependencies.md says why each is here)
  libdnnl-dev libhwy-dev nlohmann-json3-dev libsimdjson-dev libpcre2-dev libutf8proc-dev
  ocl-icd-opencl-dev  # Debian's libdnnl-dev asks CMake for OpenCL but only recommends it
  libcurl4-openssl-dev libssl-dev
  libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev zlib1g-dev libzstd-dev
  # tests and benchmarks
  libgtest-dev libgmock-dev libbenchmark-dev
  # figures
  gnuplot-nox fonts-dejavu-core
)
# The slow proofs of .ci/run need these as well.
drrik_ci_packages=(clang-14 clang-tidy-14 libclang-rt-14-dev libomp-14-dev chromium)

say() { printf '\033[1m%s\033[0m\n' "$*"; }

# install_packages NAME...: does nothing, and needs no root, when all are there.
install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "need root (or sudo) to install: ${missing[*]}" >&2; exit 1; }
    root=(sudo)
  fi
  say "Installing ${missing[*]}"
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
}

# build PRESET TARGET...: configures when needed, then builds.
build() {
  local preset=$1
  shift
  export DRRIK_CCACHE
  DRRIK_CCACHE=$(command -v ccache || true)
  cmake --preset "$preset" >"$(build_log "$preset")" 2>&1 ||
    { cat "$(build_log "$preset")"; exit 1; }
  cmake --build "build/$preset" --target "$@"
}

build_log() {
  mkdir -p "build/$1"
  echo "build/$1/configure.log"
}
