# Sourced by the scripts beside it: makes sure of a virtual environment and sets $venv and $root.
# Needs Python >= 3.11 with the venv module, and a package index; nothing else.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)

find_python() {
    for candidate in "${BOTCTL_PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    echo "botctl: error: no Python >= 3.11 found" >&2
    echo "hint: install one, or name it in BOTCTL_PYTHON" >&2
    return 1
}

# need_environment LOCK: the packages of LOCK, in a virtual environment that matches it.
need_environment() {
    lock=$1
    if [ -n "${BOTCTL_VENV:-}" ]; then
        venv=$BOTCTL_VENV
    elif [ -w "$root" ]; then
        venv=$root/.venv
    else
        venv=${XDG_CACHE_HOME:-$HOME/.cache}/botctl/venv-$(printf '%s' "$root" | cksum | cut -d ' ' -f 1)
    fi
    stamp=$(cksum < "$root/$lock" | tr ' ' '-')
    if [ ! -f "$venv/.botctl-$lock-$stamp" ] || [ ! -x "$venv/bin/python" ]; then
        python=$(find_python) || exit 1
        "$python" "$root/scripts/make_environment.py" "$root" "$venv" "$lock" "$stamp" || exit 1
    fi
}
