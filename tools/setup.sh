# Sourced by quickstart, check and .ci/run: installs what a bare Debian 12 lacks, sets up ccache.

drrik_packages=(
  # build
  g++ cmake ninja-build ccache pkg-config
  # libraries (docs/dependencies.md says why each is here)
  libdnnl-dev libhwy-dev nlohmann-json3-dev libsimdjson-dev libpcre2-dev libutf8proc-dev
  ocl-icd-opencl-dev  # Debian's libdnnl-dev asks CMake for OpenCL but only recommends it
  libcurl4-openssl-dev libssl-dev libcpp-httplib-dev
  libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev
  libeigen3-dev
  zlib1g-dev libzstd-dev liblz4-dev libbz2-dev liblzma-dev
  libopenmpi-dev openmpi-bin  # drrik-mpi
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

# Arrow's C++ library is in no Debian 12 package; the Python wheel carries it with its headers.
arrow_version=26.0.1
declare -A arrow_sha256=(
  [x86_64]=39cb0f2418282c24bea6ceda77b03e5a8f0a5766b63a8bf194d4e2a2c423548c
  [aarch64]=22a96a225de107eb9acd1ad9a818198ca832df2a4c0952412f754a7ed2105a98
)

# fetch_arrow: unpacks that library where cmake/DrrikArrow.cmake looks for it. Optional: whatever
# goes wrong is said and the build goes on, without Parquet and Arrow files.
fetch_arrow() {
  local dir=${DRRIK_ARROW_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/drrik/arrow}
  local machine sum
  machine=$(uname -m)
  sum=${arrow_sha256[$machine]:-}
  [ "$(cat "$dir/wheel.sha256" 2>/dev/null)" = "$sum" ] && [ -n "$sum" ] && return 0
  if [ -z "$sum" ]; then
    say "No Arrow for $machine is known: Parquet and Arrow files will not be read"
    return 0
  fi
  say "Fetching Arrow $arrow_version (for Parquet and Arrow files)"
  python3 -m pip --version >/dev/null 2>&1 || (install_packages python3-pip) || true
  local work
  work=$(mktemp -d) || return 0
  if ! (unpack_arrow "$dir" "$machine" "$sum" "$work"); then
    say "Arrow $arrow_version could not be fetched: Parquet and Arrow files will not be read"
  fi
  rm -rf "$work"
}

# unpack_arrow DIR MACHINE SHA256 WORK
unpack_arrow() {
  local dir=$1 machine=$2 sum=$3 wheels=$4
  timeout 600 python3 -m pip --quiet --disable-pip-version-check download --no-deps \
    --only-binary :all: --implementation cp --python-version 3.11 --retries 1 --timeout 30 \
    --platform "manylinux_2_28_$machine" --dest "$wheels" "pyarrow==$arrow_version" || return 1
  echo "$sum  $(echo "$wheels"/pyarrow-*.whl)" | sha256sum --check --quiet || return 1
  python3 - "$wheels" <<'PYTHON' || return 1
import pathlib, re, sys, zipfile
folder = pathlib.Path(sys.argv[1])
wanted = re.compile(r"pyarrow/(include/(arrow|parquet)/.*|lib(arrow|parquet)\.so\.\d+)$|.*/licenses/(.*\.txt)$")
with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
    for name in wheel.namelist():
        match = wanted.fullmatch(name)
        if match and not name.endswith("/"):
            to = folder / "arrow" / (match[4] or match[1] or name.split("/")[-1])
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(wheel.read(name))
PYTHON
  # Beside its place first, then renamed: whoever looks sees all of it or nothing.
  mkdir -p "$dir" && rm -rf "$dir.new" && mv "$wheels/arrow" "$dir.new" &&
    chmod -R u=rwX,go=rX "$dir.new" && echo "$sum" >"$dir.new/wheel.sha256" &&
    rm -rf "$dir" && mv -T "$dir.new" "$dir"
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
