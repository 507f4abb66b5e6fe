#!/usr/bin/env bash
# Build a Python without an interpreter lock, and run the tests and the soak on it: `make freethreaded`.
#
#     tests/freethreaded.sh [PYTEST-ARGUMENT...]
#
# The source is Debian's (suite forky), fetched by apt with lists of its own, so that the machine's settings stay
# as they are; the Python is made once, in .freethreaded/ (`rm -r .freethreaded` has it made anew), in some five
# minutes. It needs a compiler, make, dpkg-dev, and the headers of OpenSSL, zlib, libffi and SQLite.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$PWD/.freethreaded
python=$home/venv/bin/python
jobs=${JOBS:-4}

build() {
    local mirror work
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' \
        | sed -n 's/^Debian //p' | head -n 1)
    [ -n "$mirror" ] || { echo 'apt knows no mirror of Debian' >&2; exit 1; }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s forky main\n' "$mirror" \
        >"$work/sources.list"
    cat >"$work/apt.conf" <<SETTINGS
Dir::State::lists "$work/lists";
Dir::Cache::archives "$work/archives";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "-";
SETTINGS
    (
        cd "$work"
        export APT_CONFIG=$work/apt.conf
        apt-get update -qq
        apt-get source -qq --download-only python3.13
        tar xf python3.13_*.orig.tar.*
        cd Python-3.13*
        ./configure -q --disable-gil --prefix="$home/python"
        make -s -j "$jobs" >build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
        make -s install >>build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
    )
    "$home/python/bin/python3" -c 'import ctypes, sqlite3, ssl, zlib' \
        || { echo 'Python was built without some module: are the headers there?' >&2; rm -rf "$home"; exit 1; }
}

[ -x "$home/python/bin/python3" ] || build
if [ ! -e "$home/venv/.installed" ]; then
    "$home/python/bin/python3" -m venv "$home/venv"
    "$python" -m pip install --quiet --upgrade 'pip >= 25.1'
    # Those of the tests' own libraries that have no wheel for it, and need Rust or more to be built, are left out; of
    # hypothesis, the latest without Rust.
    "$python" -m pip install --quiet --editable . bottle coverage django falcon flask gunicorn 'hypothesis < 6.140' \
        prometheus-client pytest pytest-randomly pytest-timeout pytest-xdist requests rich
    touch "$home/venv/.installed"
fi

export PYTHON_GIL=0
"$python" -c 'import httptools, sys; assert not sys._is_gil_enabled(); print(sys.version)'
# The probe's tests look at servers from outside, for minutes; the soak comes last, on as many event loops as there
# are cores. The others look into one event loop, but for those of several.
echo 'left out: tests/test_probe.py, and what needs httpbin and watchfiles, which have no wheel for it'
HANGUP_EVENT_LOOPS=1 "$python" -m pytest -q -p no:cacheprovider -n "$jobs" --dist loadgroup \
    --ignore tests/test_probe.py --ignore tests/test_endurance.py -k 'not httpbin and not reload' "$@"
"$python" tests/endurance.py 30
