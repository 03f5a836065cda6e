#!/bin/sh
# Sees to the system packages that the build, the tests and the demo need.
#
#   tools/system-packages.sh PYTHON
#
# As root, and where there is apt-get, it installs what is missing; elsewhere it says what that is and fails.
set -eu

python=${1:-python3}
PATH=$PATH:/usr/sbin:/sbin

has() {
    command -v "$1" >/dev/null 2>&1
}

# The Debian package of each thing that is not there.
missing_packages() {
    has gcc || echo gcc
    has make || echo make
    has pkg-config || echo pkg-config
    has "${CLANG:-clang}" || echo clang
    has "${LLVM_STRIP:-llvm-strip}" || echo llvm
    has openssl || echo openssl
    has curl || echo curl
    has wget || echo wget
    has gnutls-cli || echo gnutls-bin
    has tstclnt && has certutil || echo libnss3-tools
    has mount || echo mount
    # Without pkg-config nothing can be said about the libraries: apt-get knows what is installed.
    has pkg-config && pkg-config --exists 'libbpf >= 1.1' || echo libbpf-dev
    has pkg-config && pkg-config --exists libelf || echo libelf-dev
    has pkg-config && pkg-config --exists zlib || echo zlib1g-dev
    has pkg-config && pkg-config --exists openssl || echo libssl-dev
    missing_for_python
}

missing_for_python() {
    if ! has "$python"; then
        [ "$python" = python3 ] && echo python3 python3-venv python3-dev
        return 0
    fi
    # The version's own packages: python3-venv would be the default Python's.
    name=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$name-venv"
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] || echo "$name-dev"
}

packages=$(missing_packages | tr '\n' ' ')
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && has apt-get; then
    echo "installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    # shellcheck disable=SC2086 # one word a package
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $packages >/dev/null
    packages=$(missing_packages | tr '\n' ' ')
fi
if [ -n "$packages" ]; then
    echo "These system packages are missing (Debian's names): $packages" >&2
    echo "Install them (libbpf in version 1.1 or newer), or run this as root where there is apt-get." >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "$python is no Python 3.10 or newer: choose another with 'make PYTHON=...'" >&2
    exit 1
fi
