# Sourced by the other scripts: leaves $python, the interpreter of the project's own environment.
#
# PYTHON chooses the interpreter that makes the environment, VENV where it is (.venv by default).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
    if supported "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  local found
  found=$("${PYTHON:-python3}" --version 2>&1 | head -n 1) || found="none"
  echo "Python 3.10 to 3.13 is needed; found: $found. Set PYTHON to one of those versions." >&2
  return 2
}

# prepare EXTRAS: makes the environment and installs the project with those extras, unless that
# was done before with the same files.
prepare() {
  local extras=$1 stamp="$venv/.installed-$1" wanted creator
  python="$venv/bin/python"
  wanted=$(cat "$root/setup.py" "$root/constraints.txt" "${BASH_SOURCE[0]}" | cksum)
  wanted="$wanted $root"
  if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if ! { [ -x "$python" ] && supported "$python"; }; then
    creator=$(find_python) || exit 2
    echo "Making the environment $venv with $creator"
    "$creator" -m venv --clear "$venv"
  fi
  echo "Installing (about two minutes the first time)"
  "$python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/constraints.txt" --editable "$root[$extras]"
  "$python" -m robustcls.models.pretrained
  echo "$wanted" > "$stamp"
}
