# An AUTOMATIC1111 WebUI worker for RunPod. Plain `docker build .` makes it; `invoke build` makes the
# same image from prefetched models, mirrors and pins. Every ARG default equals config.yaml.
#
#   download, sources, clip, large, packages, checked, runpod, webui, worker
#                        made side by side, thrown away
#   models               what is baked in; `--build-context models=DIR` replaces it
#   checkpoint           of the models, or what `invoke build` serves to the builder
#   extensions           none; `--build-context extensions=DIR` replaces it
#   build_final_image    the image; what changes often comes last

ARG BASE_DOWNLOAD=alpine/git:2.43.0
ARG BASE_RUNTIME=pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime
# Where the image takes its checkpoint from: `fetched` where `invoke build` serves it to the builder.
ARG CHECKPOINT_STAGE=models
# Where it takes extensions from: `installed` where there are any, after their installers ran.
ARG EXTENSIONS_STAGE=extensions


# --- download: the checkpoint and the tokenizer, from the Hub, proven whole -----------------------
FROM ${BASE_DOWNLOAD} AS download
SHELL ["/bin/ash", "-eo", "pipefail", "-c"]
ARG APK_MIRROR=
# The base decides which curl; its version changes nothing that is kept.
# hadolint ignore=DL3018
RUN --mount=type=secret,id=ca_bundle \
    if [ -n "$APK_MIRROR" ]; then sed -i "s|https\?://[^/]*/alpine|$APK_MIRROR|" /etc/apk/repositories; fi; \
    if [ -s /run/secrets/ca_bundle ]; then export SSL_CERT_FILE=/run/secrets/ca_bundle; fi; \
    apk add --no-cache curl

ARG HF_ENDPOINT=https://huggingface.co
# Empty for an image without a checkpoint; MODEL_PATH then names the one that the worker loads.
ARG MODEL_REPO=XpucT/Deliberate
ARG MODEL_FILE=Deliberate_v6.safetensors
ARG MODEL_REVISION=main
ARG MODEL_SHA256=bcce73a08e95a4d4a3332875342792a50ab9bf9f07fdedcab49fd425fac173be
ARG MODEL_SIZE=2132625894
RUN --mount=type=bind,source=scripts/image/hub-file,target=/build/hub-file \
    --mount=type=secret,id=hf_token --mount=type=secret,id=ca_bundle \
    [ -z "$MODEL_REPO" ] || /build/hub-file "$MODEL_REPO" "$MODEL_REVISION" "$MODEL_FILE" \
        /model.safetensors "$MODEL_SHA256" "$MODEL_SIZE"

# A Stable Diffusion 1.x checkpoint asks for these five at its first load; baked in the Hub cache's
# own layout they make the container start with no network. version.txt keeps transformers from
# trying to convert the cache at every start.
ARG VOCABULARY_REPO=openai/clip-vit-large-patch14
ARG VOCABULARY_REVISION=32bd64288804d66eefd0ccbe215aa642df71cc41
RUN --mount=type=bind,source=scripts/image/hub-file,target=/build/hub-file \
    --mount=type=secret,id=hf_token --mount=type=secret,id=ca_bundle \
    cache="/extra/opt/huggingface/hub/models--$(echo "$VOCABULARY_REPO" | sed 's|/|--|g')"; \
    for file in config.json vocab.json merges.txt tokenizer_config.json special_tokens_map.json; do \
        /build/hub-file "$VOCABULARY_REPO" "$VOCABULARY_REVISION" "$file" \
            "$cache/snapshots/$VOCABULARY_REVISION/$file"; \
    done; \
    mkdir -p "$cache/refs"; \
    printf %s "$VOCABULARY_REVISION" >"$cache/refs/main"; \
    printf 1 >"$(dirname "$cache")/version.txt"; \
    for file in "$cache/refs/main" "$(dirname "$cache")/version.txt"; do \
        touch -d "@$((0x$(sha256sum "$file" | cut -c 1-7)))" "$file"; \
    done; \
    find /extra -type d -exec touch -d @0 {} +


# --- models: /model.safetensors, and under /extra everything else at its place in the image -------
# The brackets are a pattern, which may match nothing: an image without a checkpoint is meant so.
FROM scratch AS models
COPY --from=download /model.safetensor[s] /
COPY --from=download /extra /extra


# --- checkpoint: that of the models, or fetched from `invoke build`, where the builder reaches it ----
FROM scratch AS fetched
ARG CHECKPOINT_ADDRESS=
ARG CHECKPOINT_SHA256=
ADD --checksum=sha256:${CHECKPOINT_SHA256} --chmod=0644 http://${CHECKPOINT_ADDRESS} /

FROM ${CHECKPOINT_STAGE} AS checkpoint


# --- extensions: one folder each and their list, by `--build-context extensions=DIR`; or none -----
# An empty list and not an empty stage: BuildKit answered a copy of an empty stage from its cache, with
# the files that an earlier build's context had (Docker 26.1).
FROM ${BASE_DOWNLOAD} AS no-extensions
RUN mkdir /extensions && echo '[]' >/extensions/extensions.json \
    && touch -d @0 /extensions/extensions.json /extensions

FROM scratch AS extensions
COPY --from=no-extensions /extensions /


# --- certificates: a folder with a file ca_bundle, by `--build-context certificates=DIR`; or none ---
# A secret would do too, but on a fresh machine a RUN with one began 8 to 18 s later than the same RUN
# without (BuildKit 0.13), once for each chain of stages.
FROM scratch AS certificates


# --- sources: the WebUI and its components at their commits, without history or demo media --------
FROM ${BASE_DOWNLOAD} AS sources
SHELL ["/bin/ash", "-eo", "pipefail", "-c"]
ARG GITHUB=https://github.com
WORKDIR /stable-diffusion-webui/repositories
# Stability-AI/stablediffusion left GitHub in December 2025; w-e-w is the WebUI's maintainer.
ARG STABLE_DIFFUSION_REPO=w-e-w/stablediffusion
ARG STABLE_DIFFUSION_COMMIT=cf1d67a6fd5ea1aa600c4df58e5b47da45f6bdbf
ARG GENERATIVE_MODELS_REPO=Stability-AI/generative-models
ARG GENERATIVE_MODELS_COMMIT=45c443b316737a4ab6e40413d7794a7f5657c19f
ARG K_DIFFUSION_REPO=crowsonkb/k-diffusion
ARG K_DIFFUSION_COMMIT=ab527a9a6d347f364e3d185ba6d714e22d80cb3c
ARG BLIP_REPO=salesforce/BLIP
ARG BLIP_COMMIT=48211a1594f1321b00f14c9f7a5b4813144b2fb9
ARG ASSETS_REPO=AUTOMATIC1111/stable-diffusion-webui-assets
ARG ASSETS_COMMIT=6f7db241d2f8ba7457bac5ca9753331f0c266917
RUN --mount=type=bind,source=scripts/image/fetch-source,target=/build/fetch-source \
    --mount=type=bind,from=certificates,target=/run/secrets \
    fetch() { \
        repo=$1; shift; \
        case $repo in *://*) ;; *) repo=$GITHUB/$repo ;; esac; \
        /build/fetch-source "$repo" "$@"; \
    }; \
    fetch "$STABLE_DIFFUSION_REPO" "$STABLE_DIFFUSION_COMMIT" HEAD stable-diffusion-stability-ai assets; \
    fetch "$GENERATIVE_MODELS_REPO" "$GENERATIVE_MODELS_COMMIT" HEAD generative-models assets; \
    fetch "$K_DIFFUSION_REPO" "$K_DIFFUSION_COMMIT" HEAD k-diffusion; \
    fetch "$BLIP_REPO" "$BLIP_COMMIT" HEAD BLIP BLIP.gif demo.ipynb; \
    fetch "$ASSETS_REPO" "$ASSETS_COMMIT" HEAD stable-diffusion-webui-assets
ARG WEBUI_REPO=AUTOMATIC1111/stable-diffusion-webui
ARG A1111_RELEASE=v1.9.3
ARG WEBUI_COMMIT=1c0a0c4c26f78c32095ebc7f8af82f5c04fca8c0
RUN --mount=type=bind,source=scripts/image/fetch-source,target=/build/fetch-source \
    --mount=type=bind,from=certificates,target=/run/secrets \
    case $WEBUI_REPO in *://*) repo=$WEBUI_REPO ;; *) repo=$GITHUB/$WEBUI_REPO ;; esac; \
    /build/fetch-source "$repo" "$WEBUI_COMMIT" "refs/tags/$A1111_RELEASE" /webui screenshot.png test .github; \
    # The WebUI makes this folder in its own, where the worker may not write: it ends if it cannot.
    mkdir /webui/config_states; \
    touch -r /webui/.commit /webui/config_states /webui; \
    cp -a /webui/. /stable-diffusion-webui/; \
    # Tag Autocomplete, and the WebUI with a damaged config.json, write into this one.
    ln -s /tmp /stable-diffusion-webui/tmp; \
    touch -h -r /webui/.commit /stable-diffusion-webui/tmp /stable-diffusion-webui


# --- clip: the one source that is installed as a package, so that nothing waits for the others -----
FROM ${BASE_DOWNLOAD} AS clip
SHELL ["/bin/ash", "-eo", "pipefail", "-c"]
ARG GITHUB=https://github.com
ARG CLIP_REPO=openai/CLIP
ARG CLIP_COMMIT=d50d76daa670286dd6cacf3bcd80b5e4823fc8e1
RUN --mount=type=bind,source=scripts/image/fetch-source,target=/build/fetch-source \
    --mount=type=bind,from=certificates,target=/run/secrets \
    case $CLIP_REPO in *://*) repo=$CLIP_REPO ;; *) repo=$GITHUB/$CLIP_REPO ;; esac; \
    /build/fetch-source "$repo" "$CLIP_COMMIT" HEAD /clip CLIP.png notebooks


# --- python: the base with a fast installer; what is built on it is copied, the installer is not --
FROM ${BASE_RUNTIME} AS python
ARG PYTHON_INDEX=
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=certificates,target=/run/secrets \
    --mount=type=bind,source=requirements/tools.txt,target=/tools.txt \
    --mount=type=bind,source=scripts/image/install-tools,target=/build/install-tools \
    /build/install-tools /tools /tools.txt
ENV PATH=/tools/bin:$PATH UV_LINK_MODE=copy


# --- locks: half of the packages' bytes are in five of them, and those are installed apart ---------
# All of OpenCV's distributions are among them: they have the same files.
FROM ${BASE_DOWNLOAD} AS locks
ARG GITHUB=https://github.com
ARG REQUIREMENTS=requirements/cuda128.txt
RUN --mount=type=bind,source=${REQUIREMENTS},target=/requirements.txt \
    --mount=type=bind,source=scripts/image/split-lock,target=/build/split-lock \
    /build/split-lock /requirements.txt /locks llvmlite numba scipy xformers \
        opencv-python opencv-contrib-python opencv-python-headless opencv-contrib-python-headless


# --- large, packages: what the WebUI imports, beside the base's torch and never instead of it -----
FROM python AS large
ARG PYTORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=certificates,target=/run/secrets \
    --mount=type=bind,from=locks,source=/locks/large.txt,target=/requirements.txt \
    --mount=type=bind,source=scripts/image/install-packages,target=/build/install-packages \
    --mount=type=bind,source=scripts/image/slim.py,target=/build/slim.py \
    --mount=type=bind,source=scripts/image/fix-times,target=/build/fix-times \
    /build/install-packages /opt/webui /requirements.txt

FROM python AS packages
ARG PYTORCH_INDEX=
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=certificates,target=/run/secrets \
    --mount=type=bind,from=locks,source=/locks/rest.txt,target=/requirements.txt \
    --mount=type=bind,source=scripts/image/install-packages,target=/build/install-packages \
    --mount=type=bind,source=scripts/image/slim.py,target=/build/slim.py \
    --mount=type=bind,source=scripts/image/fix-times,target=/build/fix-times \
    --mount=type=bind,from=clip,source=/clip,target=/clip \
    /build/install-packages /opt/webui /requirements.txt /clip

# A package that brought its own torch would pass every import and fail on the GPU. In a stage of its
# own, because every RUN leaves a layer with the time of /etc, and this one changes nothing else.
FROM packages AS checked
ARG ACCELERATOR=cuda
RUN --mount=type=bind,from=large,source=/opt/webui,target=/large \
    --mount=type=bind,source=scripts/image/check-packages.py,target=/build/check-packages.py \
    python /build/check-packages.py /opt/webui /large


# --- runpod: the SDK in an environment of its own; its pins and the WebUI's exclude each other ----
FROM python AS runpod
RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,from=certificates,target=/run/secrets \
    --mount=type=bind,source=requirements/runpod.txt,target=/runpod.txt \
    --mount=type=bind,source=scripts/image/install-packages,target=/build/install-packages \
    --mount=type=bind,source=scripts/image/slim.py,target=/build/slim.py \
    --mount=type=bind,source=scripts/image/fix-times,target=/build/fix-times \
    /build/install-packages /opt/runpod /runpod.txt


# --- webui: the sources and their bytecode, which nobody who serves may write beside them ---------
FROM python AS webui
COPY --from=sources /stable-diffusion-webui /stable-diffusion-webui
RUN --mount=type=bind,source=scripts/image/compile,target=/build/compile \
    /build/compile /stable-diffusion-webui


# --- installed: the extensions, after each one's installer ran once; skipped where there are none --
FROM python AS installing
COPY --from=extensions / /opt/extensions/
ARG REQUIREMENTS=requirements/cuda128.txt
# Without a network, and what it sees is read-only but the extensions: pip answers from what is
# installed. The WebUI's folder may be written, and is not kept: a shell makes a file of an unquoted
# `>=1.0` there.
RUN --network=none \
    --mount=type=bind,from=checked,source=/opt/webui,target=/opt/webui \
    --mount=type=bind,from=large,source=/opt/webui,target=/large \
    --mount=type=bind,from=webui,source=/stable-diffusion-webui,target=/stable-diffusion-webui,rw \
    --mount=type=bind,from=models,target=/models \
    --mount=type=bind,source=${REQUIREMENTS},target=/requirements.txt \
    --mount=type=bind,source=scripts/common,target=/build/scripts/common \
    --mount=type=bind,source=scripts/image/install-extensions.py,target=/build/install-extensions.py \
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/build /opt/webui/bin/python /build/install-extensions.py \
        /opt/extensions /stable-diffusion-webui /requirements.txt /models \
        /large/lib/python3.11/site-packages

FROM scratch AS installed
COPY --from=installing /opt/extensions /

FROM ${EXTENSIONS_STAGE} AS baked


# --- worker: the container's scripts likewise, with times and modes that no checkout decides --------
FROM python AS worker
COPY scripts/common /opt/worker/scripts/common
COPY scripts/container /opt/worker/scripts/container
RUN --mount=type=bind,source=scripts/image/compile,target=/build/compile \
    chmod -R u=rwX,go=rX /opt/worker && find /opt/worker -exec touch -d @0 {} + \
    && /build/compile /opt/worker


# --- build_final_image ----------------------------------------------------------------------------
FROM ${BASE_RUNTIME} AS build_final_image
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive \
    PIP_PREFER_BINARY=1 \
    ROOT=/stable-diffusion-webui \
    PYTHONUNBUFFERED=1

# OpenCV links libGL (and that libX11) and GLib; GitPython wants git at import; tini reaps; the
# supervisor preloads tcmalloc; A1111 draws grid captions with a real font; procps is for the person
# inside. The base image's release decides the versions, and the day, unless APT_SNAPSHOT names another.
# Temporary files lie outside the layer: an engine does not always list a folder that is as before.
ARG APT_MIRROR=
ARG APT_SNAPSHOT=
RUN --mount=type=bind,source=scripts/image/apt-install,target=/build/apt-install \
    --mount=type=bind,source=scripts/image/fix-times,target=/build/fix-times \
    --mount=type=bind,from=certificates,target=/build/certificates \
    --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt,sharing=locked \
    --mount=type=tmpfs,target=/var/log --mount=type=tmpfs,target=/var/cache/ldconfig \
    --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/var/lib/dpkg/updates \
    began=$(mktemp); sleep 0.1; \
    /build/apt-install fonts-dejavu-core git libglib2.0-0 libtcmalloc-minimal4 libx11-6 procps tini \
        --files-of libgl1 libglvnd0 libglx0 \
    && /build/fix-times --since "$began"

# The serving processes are never root: the supervisor starts them as this user. chage leaves out the
# day of its making, which the backup of the file would keep.
RUN --mount=type=bind,source=scripts/image/fix-times,target=/build/fix-times \
    --mount=type=tmpfs,target=/tmp \
    began=$(mktemp); sleep 0.1; \
    groupadd --gid 1000 worker \
    && useradd --uid 1000 --gid worker --create-home --shell /bin/bash worker \
    && chage --lastday -1 worker && cp -a /etc/shadow /etc/shadow- \
    && mkdir -p /opt/extensions /opt/runpod /opt/webui /opt/worker/scripts/common \
        /opt/worker/scripts/container /stable-diffusion-webui \
    && /build/fix-times --since "$began"

# A new package or script never re-uploads the model, nor the reverse: --link layers stand on
# nothing. An engine that makes them one upon the other all the same makes the same ones again,
# since the folders that they fill are there; what changes most often comes last. What rarely
# changes comes before the models, and is in place while they are still being downloaded.
COPY --link --from=large /opt/webui /opt/webui
COPY --link --from=runpod /opt/runpod /opt/runpod
COPY --link --from=webui /stable-diffusion-webui /stable-diffusion-webui
COPY --link --from=checkpoint /model.safetensor[s] /
COPY --link --from=models /extra/ /
COPY --link --from=baked / /opt/extensions/
COPY --link --from=checked /opt/webui /opt/webui

# What the worker reads. PIP_CACHE_DIR is for run time: RunPod mounts its volume at /runpod-volume.
# IMAGE_FLAGS and IMAGE_SETTINGS are webui.flags and webui.settings of config.yaml, as JSON;
# CHECKPOINT_NAME is what the WebUI lists /model.safetensors as. MODEL_PATH of an image without a
# checkpoint is hub:owner/repo/file[@revision]: RunPod caches it, or the worker downloads it.
ARG MODEL_FILE=Deliberate_v6.safetensors
ARG CHECKPOINT_NAME=${MODEL_FILE}
ARG MODEL_PATH=/model.safetensors
ARG ACCELERATOR=cuda
ARG IMAGE_FLAGS=
ARG IMAGE_SETTINGS=
ENV ACCELERATOR=${ACCELERATOR} \
    CHECKPOINT_NAME=${CHECKPOINT_NAME} \
    IMAGE_FLAGS=${IMAGE_FLAGS} \
    IMAGE_SETTINGS=${IMAGE_SETTINGS} \
    MODEL_PATH=${MODEL_PATH} \
    PATH=/opt/webui/bin:$PATH \
    WEBUI_PYTHON=/opt/webui/bin/python \
    PYTHONPATH=/opt/worker \
    HF_HOME=/opt/huggingface \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    PIP_CACHE_DIR=/runpod-volume/.cache/a1111/pip

COPY --link --from=worker /opt/worker/scripts/common /opt/worker/scripts/common
COPY --link --from=worker /opt/worker/scripts/container /opt/worker/scripts/container

WORKDIR /stable-diffusion-webui
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["/opt/runpod/bin/python", "-m", "scripts.container", "health"]
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/runpod/bin/python", "-m", "scripts.container"]

# Last, because they change with every commit.
ARG VERSION=dev
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
# Of `invoke build`: a hash of what decides the image, and what its command `smoke` expects of it.
ARG BUILD_ID=
ARG IMAGE_SMOKE=
ENV BUILD_ID=${BUILD_ID} \
    IMAGE_SMOKE=${IMAGE_SMOKE}
LABEL org.opencontainers.image.title="A1111 WebUI worker" \
      org.opencontainers.image.description="AUTOMATIC1111 Stable Diffusion WebUI as a RunPod worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      com.github.a1111-worker.build-id="${BUILD_ID}"
