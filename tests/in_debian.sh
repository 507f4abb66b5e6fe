#!/usr/bin/env bash
# Run a command in a tree of Debian sid, which has Pythons that the machine has not, by root on Debian:
#
#     tests/in_debian.sh COMMAND ARGUMENT...
#
# The tree is made once, by mmdebstrap, in .debian/ (DEBIAN_TREE names another place); `rm -r .debian` has it
# made anew. The mirror, and how it is reached, are the machine's own settings of apt. This checkout is there
# at its own path, and /proc and /dev are mounted, in a namespace that ends with the command: no mount is left.
# The exit status is 75 where there is no such tree to be had, and the command's otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
tree=${DEBIAN_TREE:-$checkout/.debian}
pythons=(3.13 3.14 3.15)
# What the tests start: curl, openssl.
packages=ca-certificates,curl,openssl,procps
for python in "${pythons[@]}"; do
    packages+=,python$python,python$python-venv,libpython$python-testsuite
done

cannot() {
    echo "$*" >&2
    exit 75
}

make_tree() {
    local log settings mirror
    log=$(mktemp) settings=$(mktemp)
    if ! command -v mmdebstrap >/dev/null; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap; } \
            >"$log" 2>&1 || { tail -n 5 "$log" >&2; cannot 'mmdebstrap could not be installed'; }
    fi
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' \
        | sed -n 's/^Debian //p' | head -n 1)
    [ -n "$mirror" ] || cannot "apt knows no mirror of Debian"
    # How the mirror is reached, and what is asked of its signatures' age.
    apt-config dump | grep -iE '^Acquire::(https?|Retries|Check-Valid-Until|Check-Date)\b' >"$settings" || true
    rm -rf --one-file-system "$tree" "$tree.new"
    mmdebstrap --mode=root --variant=minbase --aptopt="$settings" --include="$packages" \
        sid "$tree.new" "$mirror" >"$log" 2>&1 \
        || { tail -n 5 "$log" >&2; rm -rf --one-file-system "$tree.new"; cannot "mmdebstrap could not make a tree of sid"; }
    # Hosts that the machine trusts, package indexes among them.
    if [ -d /usr/local/share/ca-certificates ]; then
        cp -RL /usr/local/share/ca-certificates/. "$tree.new/usr/local/share/ca-certificates/"
        chroot "$tree.new" update-ca-certificates >/dev/null 2>&1
    fi
    rm -f "$log" "$settings"
    mv "$tree.new" "$tree"
}

[ "$(id -u)" = 0 ] || cannot 'not root: no tree of Debian is made'
command -v apt-get >/dev/null || cannot 'this is no Debian'
unshare --mount true 2>/dev/null || cannot 'this machine permits no mounts'
[ -d "$tree" ] || make_tree

mkdir -p "$tree$checkout"
cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
for file in /etc/pip.conf /etc/xdg/pip; do
    [ ! -e $file ] || { mkdir -p "$tree$(dirname $file)" && cp -RL $file "$tree$(dirname $file)/"; }
done
# The system is the tree's; of the environment, what concerns networks, pip and how many cores are used is kept.
kept=()
while IFS= read -r each; do
    kept+=("$each")
done < <(env | grep -E '^(CI|JOBS|PIP_[A-Z_]+|[A-Za-z]+_(proxy|PROXY)|PYTEST_[A-Z_]+)=' || true)
exec unshare --mount --propagation private bash -c '
    tree=$1 checkout=$2
    shift 2
    mount -t proc proc "$tree/proc"
    mount --rbind /dev "$tree/dev"
    mount --bind "$checkout" "$tree$checkout"
    exec chroot "$tree" env -i "$@"
' -- "$tree" "$checkout" "${kept[@]}" \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    PYTHONPYCACHEPREFIX=/var/cache/python \
    sh -c 'cd "$0" && exec "$@"' "$checkout" "$@"
