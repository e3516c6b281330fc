#!/usr/bin/env bash
# Fills a models folder during the build: download.sh DIR, with MODEL_TYPE and ACCEPT_LICENCES.
# Tokens come from build secrets, which no layer and no history keeps.
set -euo pipefail

models=$1
pack=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
secrets=${SECRETS_DIR:-/run/secrets}
mkdir -p "$models"

if [[ -r $secrets/huggingface_token ]]; then
    HUGGINGFACE_ACCESS_TOKEN=$(<"$secrets/huggingface_token")
    export HUGGINGFACE_ACCESS_TOKEN
fi
if [[ -r $secrets/civitai_key ]]; then
    CIVITAI_API_KEY=$(<"$secrets/civitai_key")
    export CIVITAI_API_KEY
fi

read -ra types <<<"${MODEL_TYPE:-}"
read -ra licences <<<"${ACCEPT_LICENCES:-}"
names=()
for type in "${types[@]}"; do
    case $type in
    none) ;;
    starter) python3 "$pack/devtools/pack.py" starter.prepare --models-dir "$models" ;;
    *) names+=("$type") ;;
    esac
done
if ((${#names[@]})); then
    exec python3 "$pack/catalogue" download "${names[@]}" --models-dir "$models" \
        "${licences[@]/#/--accept-licence=}"
fi
