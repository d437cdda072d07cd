#!/usr/bin/env bash
# Installs what the tests need of a Debian machine beside Node: Chromium, in which the verifier's bundle runs. Needs root, or sudo
# without a password. Does nothing where there is a Chromium already.
set -euo pipefail

if command -v chromium >/dev/null; then exit 0; fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium >/dev/null
