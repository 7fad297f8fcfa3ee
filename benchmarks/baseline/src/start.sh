#!/bin/bash
# Starts the WebUI's API and RunPod's handler beside it; further flags for the WebUI as arguments.
set -e

LD_PRELOAD=$(ldconfig -p | grep -o '/[^ ]*libtcmalloc_minimal.so.4' | head -n 1)
export LD_PRELOAD
cd /stable-diffusion-webui
python webui.py --nowebui --api --port 3000 --ckpt /model.safetensors --skip-version-check \
    --no-download-sd-model --no-hashing "$@" &
[[ -z $RUNPOD_ENDPOINT_ID ]] || exec python -u /handler.py
wait
