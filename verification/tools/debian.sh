#!/bin/bash
# Unpacks packages of a Debian suite into target/tools/NAME, and leaves the system
# as it is: for tools that the installed suite lacks.
#
#   verification/tools/debian.sh NAME SUITE PACKAGE...
#   verification/tools/debian.sh rust-src sid rust-src     (`cargo verify sanitizers`)
#
# The mirror is the one that this machine installs from.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1 suite=$2
shift 2

# A machine has sources of the old form, of the new one, or both.
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | grep -v security | head -n 1 | tr -d ' ' || true)
[ -n "$mirror" ] || { echo "no Debian mirror among apt's sources" >&2; exit 1; }

folder=target/tools/$name
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/packages" "$work/root"
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$key] $mirror $suite main" >"$work/sources"
# Lists and cache of its own; root, because _apt may not read a private folder.
options=(-oDir::Etc::sourcelist="$work/sources" -oDir::Etc::sourceparts=/dev/null
    -oDir::State::Lists="$work/lists" -oDir::Cache="$work/cache"
    -oAcquire::Languages=none -oAPT::Sandbox::User=root)
apt-get "${options[@]}" -qq update
(cd "$work/packages" && apt-get "${options[@]}" -qq download "$@")
for package in "$work"/packages/*.deb; do
    dpkg -x "$package" "$work/root"
done
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$work/root" "$folder"
echo "$folder: $*"
