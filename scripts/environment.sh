# Sourced by the other scripts: makes the project's environment and leaves $python, its interpreter.
#
# PYTHON chooses the interpreter that makes the environment, VENV where it is (.venv by default).
set -euo pipefail

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}
python=$venv/bin/python
stamp=$venv/.installed

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if supported "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  local found
  found=$("${PYTHON:-python3}" --version 2>&1 | head -n 1) || true
  echo "Python 3.10 to 3.13 is needed; found: ${found:-none}. Set PYTHON to one of them." >&2
  return 1
}

# Installs what setup.py and constraints.txt ask for, unless the same was installed before.
prepare() {
  local wanted creator
  wanted="$root $(cat "$root"/{setup.py,constraints.txt,scripts/environment.sh} | cksum)"
  if supported "$python" && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if ! supported "$python"; then
    creator=$(find_python) || exit 2
    echo "Making the environment $venv with $creator"
    "$creator" -m venv --clear "$venv"
  fi
  echo "Installing (a minute or so the first time)"
  local wanted_packages=(--constraint "$root/constraints.txt" --editable "$root[test]")
  local pip=("$python" -m pip install --quiet --disable-pip-version-check)
  # uv takes a third of pip's time, but does not know pip's settings (a mirror, certificates).
  "${pip[@]}" --constraint "$root/constraints.txt" uv 2>/dev/null &&
    UV_SYSTEM_CERTS=1 "$python" -m uv pip install --quiet --python "$python" "${wanted_packages[@]}" 2>/dev/null ||
    "${pip[@]}" "${wanted_packages[@]}"
  # ImageNet weights; CONTRIBUTING.md says why they are no dependency.
  "$python" -c 'from robustcls.models.pretrained import fetch_imagenet_weights as fetch; fetch()' \
    2>/dev/null || echo "The ImageNet weights could not be fetched; weights: imagenet will say why."
  echo "$wanted" > "$stamp"
}

prepare
cd "$root"
