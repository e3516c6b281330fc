#!/usr/bin/env bash
# What the container runs: the doctor first, then, in its place, the worker or ComfyUI alone.
#
#   FLUX_FACE_SERVE  worker (default): RunPod's handler, which starts and watches ComfyUI;
#                    routes: only ComfyUI with the API, for a load-balancing endpoint or a server of your own
#   MODEL_TYPE       models that must be there: sets or models of the catalogue, starter, or none
#   FLUX_FACE_DOCTOR off: start without looking, some seconds earlier
set -euo pipefail

pack=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
comfyui=${COMFYUI_PATH:-/comfyui}
serve=${FLUX_FACE_SERVE:-worker}
SERVE_API_LOCALLY=${SERVE_API_LOCALLY:-}
port=${FLUX_FACE_COMFYUI_PORT:-8188}
old_port=${FLUX_FACE_OLD_PORT:-3001}
volume=/runpod-volume

refuse() {
    printf 'flux-face: %s\n' "$1" >&2
    exit 2
}

if [[ -d $volume/models ]]; then
    export FLUX_FACE_COMFYUI_ARGS="${FLUX_FACE_COMFYUI_ARGS:-} --extra-model-paths-config $pack/docker/extra_model_paths.yaml"
fi
# As the worker reads them: quotes keep words together.
mapfile -t arguments < <(xargs --no-run-if-empty -n 1 printf '%s\n' <<<"${FLUX_FACE_COMFYUI_ARGS:-}")
read -ra types <<<"${MODEL_TYPE:-none}"

checks=(--comfyui "$comfyui" --models-dir "$comfyui/models" --models-dir "$volume/models")
for folder in input output temp user; do
    checks+=(--writable "$comfyui/$folder")
done
if [[ -n ${FLUX_FACE_DATA_DIR:-} ]]; then
    checks+=(--writable "$FLUX_FACE_DATA_DIR")
fi
for type in "${types[@]}"; do
    [[ $type == none ]] || checks+=(--model-type "$type")
done
[[ " ${arguments[*]} " == *" --cpu "* ]] || checks+=(--gpu)

case $serve in
worker)
    checks+=(--port "$port")
    case ${SERVE_API_LOCALLY,,} in 1 | true | yes | on) checks+=(--host 0.0.0.0 --port 8000) ;; esac
    ;;
routes)
    [[ -n ${FLUX_FACE_API_TOKENS:-} ]] ||
        refuse "FLUX_FACE_SERVE=routes needs FLUX_FACE_API_TOKENS=name:token: without, only this container may call"
    checks+=(--host 0.0.0.0 --port "$port")
    ;;
*) refuse "FLUX_FACE_SERVE must be worker or routes, not $serve" ;;
esac
[[ $old_port == 0 ]] || checks+=(--port "$old_port")

if [[ ${FLUX_FACE_DOCTOR:-on} != off ]]; then
    python3 "$pack/doctor" "${checks[@]}" || refuse "not started: see what failed above"
fi

# The first model type that has a graph of its name is what requests without a profile get.
for type in "${types[@]}"; do
    if [[ -z ${FLUX_FACE_DEFAULT_PROFILE:-} && -f $pack/workflows/api/$type.json ]]; then
        export FLUX_FACE_DEFAULT_PROFILE=$type
    fi
done
export FLUX_FACE_OLD_PORT=$old_port

if [[ $serve == worker ]]; then
    exec python3 "$pack/worker" "$@"
fi
tcmalloc=$(/sbin/ldconfig -p | awk '/libtcmalloc_minimal\.so/ { print $NF; exit }')
if [[ -n $tcmalloc ]]; then
    export LD_PRELOAD=$tcmalloc
fi
cd "$comfyui"
exec python3 main.py --listen 0.0.0.0 --port "$port" --disable-auto-launch --disable-metadata \
    --database-url sqlite:///:memory: "${arguments[@]}" "$@"
