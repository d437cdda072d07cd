#!/usr/bin/env bash
# Installs what the tests need of a Debian machine beside Node: Chromium, in which the verifier's bundle runs; bubblewrap, the jail of
# sandboxes and engines; a C compiler for the attacker in it; SoftHSM, an HSM for root keys; Redis, which gateways share. Needs root, or
# sudo without a password. Leaves alone what is there.
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null || missing+=("${@:2}"); }
need chromium chromium
need bwrap bubblewrap
need cc gcc libc6-dev
need softhsm2-util softhsm2
need redis-server redis-server

if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
