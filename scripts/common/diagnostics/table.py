"""Every known failure: a code, a sentence and a hint.

`invoke doctor`, the container's preflight, the smoke tests and the README's troubleshooting all
speak from this table, so a failure has the same name wherever it shows. It is longer than other
modules because it is data: one row a failure, all in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Diagnostic:
    """One known failure.

    Args:
        code: its stable name, lower case with hyphens.
        message: what is wrong, for a person.
        hint: what to do next.
        signature: a regular expression that recognises it in a log; empty where none does.
    """

    code: str
    message: str
    hint: str
    signature: str = ""


_ROWS: Final = (
    Diagnostic(
        "engine-missing",
        "No Docker engine answers.",
        "start it, or run: scripts/bootstrap --yes invoke doctor",
        signature=r"Cannot connect to the Docker daemon",
    ),
    Diagnostic(
        "buildx-missing",
        "The Docker engine has no buildx, or one older than 0.13.",
        "install it; on Debian and Ubuntu: apt-get install docker-buildx",
    ),
    Diagnostic(
        "source-gone",
        "A git source or its commit cannot be fetched.",
        "check mirrors.github, or give another repo in a1111.sources",
        signature=r"fetch-source: cannot fetch",
    ),
    Diagnostic(
        "torch-replaced",
        "A Python package brought its own torch, or xformers is made for another one.",
        "run: invoke pin --python",
        signature=r"check-packages: ",
    ),
    Diagnostic(
        "image-untested",
        "The image has no passing smoke report.",
        "run: nox -s smoke, for a GPU image nox -s gpu_smoke; or take the risk: "
        "invoke push --untested",
    ),
    Diagnostic(
        "registry-refused",
        "The registry refuses these credentials, or there are none for it.",
        "run: docker login REGISTRY, with an account that may push to image.repository",
        signature=r"no basic auth credentials|unauthorized: |(?<!ermission )denied: "
        r"|insufficient_scope|40[13] (?:Unauthorized|Forbidden)|HTTP (?:status: )?40[13]\b",
    ),
    Diagnostic(
        "registry-lost",
        "The registry does not answer, or stopped answering during a push.",
        "once it answers, run the push again: layers that are up stay up",
    ),
    Diagnostic(
        "gpu-not-visible",
        "No NVIDIA GPU is visible in the container.",
        "start it with --gpus all on a machine with the NVIDIA driver and container toolkit, "
        "or use the cpu variant",
        # The WebUI's memory monitor catches the same words on a machine that needs no GPU.
        signature=r"(?<!caught exception ')"
        r"(?:Found no NVIDIA driver on your system|No CUDA GPUs are available"
        r"|Torch is not able to use GPU)",
    ),
    Diagnostic(
        "driver-too-old",
        "The NVIDIA driver is too old for the CUDA that torch was built for.",
        "choose a host with a newer driver; on RunPod: allowedCudaVersions 12.8",
        signature=r"NVIDIA driver on your system is too old|CUDA driver version is insufficient",
    ),
    Diagnostic(
        "driver-older",
        "The NVIDIA driver is older than torch's CUDA: it runs its code, but compiles none.",
        "update the driver if something fails with PTX; nothing else needs it",
        signature=r"the provided PTX was compiled with an unsupported toolchain",
    ),
    Diagnostic(
        "no-kernel-image",
        "torch carries no code for this GPU.",
        "choose another GPU, or a base.runtime whose torch carries its architecture",
        signature=r"no kernel image is available for execution on the device"
        r"|with CUDA capability \S+ is not compatible with the current PyTorch",
    ),
    Diagnostic(
        "torch-broken",
        "torch cannot be imported, or was built without CUDA.",
        "build the image again; its base must be base.runtime",
        signature=r"Torch not compiled with CUDA enabled",
    ),
    Diagnostic(
        "cudnn-too-old",
        "cuDNN is older than 9, or missing.",
        "use a base.runtime with cuDNN 9",
        signature=r"CUDNN_STATUS_NOT_INITIALIZED|Unable to find any of \{libcudnn",
    ),
    Diagnostic(
        "xformers-mismatch",
        "xformers is missing, or was built for another torch.",
        "pin the xformers made for this torch: invoke pin --python",
        signature=r"xFormers can't load C\+\+/CUDA extensions|xFormers was built for",
    ),
    Diagnostic(
        "kernel-failed",
        "A GPU computation fails or is wrong.",
        "try another machine: with supported code this points at the GPU or its driver",
        signature=r"CUDNN_STATUS_EXECUTION_FAILED|CUBLAS_STATUS_EXECUTION_FAILED",
    ),
    Diagnostic(
        "cuda-error",
        "A CUDA error has poisoned the WebUI's process; only a new one can draw.",
        "nothing: the worker replaces itself; if it comes back, try another machine",
        signature=r"CUDA error: (?!no kernel image|out of memory)",
    ),
    Diagnostic(
        "out-of-memory",
        "GPU memory does not suffice for the picture asked for.",
        "ask for smaller pictures or a smaller batch, or set WEBUI_ARGS=--medvram",
        signature=r"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory",
    ),
    Diagnostic(
        "model-missing",
        "The checkpoint is not there.",
        "set MODEL_PATH, or build the image with its model",
        signature=r"No checkpoints found\. When searching",
    ),
    Diagnostic(
        "model-corrupt",
        "The checkpoint is not a whole model file.",
        "build the image again; invoke models.verify says whether the store is sound",
        signature=r"Error while deserializing header|SafetensorError|MetadataIncompleteBuffer",
    ),
    Diagnostic(
        "tcmalloc-missing",
        "tcmalloc cannot be preloaded; memory fragments sooner without it.",
        "install libtcmalloc-minimal4 in the image, or set TCMALLOC to its path",
    ),
    Diagnostic(
        "volume-unwritable",
        "The network volume cannot be written to; pip's cache ends with the container.",
        "mount it writable for uid 1000, or free space: pip-cache prune",
    ),
    Diagnostic(
        "memory-low",
        "The container may use less memory than loading the checkpoint takes.",
        "give it more, or take a smaller checkpoint",
    ),
    Diagnostic(
        "shm-small",
        "Shared memory (/dev/shm) is smaller than Docker makes it.",
        "run with --shm-size 64m or more",
    ),
    Diagnostic(
        "disk-low",
        "This build may not fit on the disk.",
        "free space: invoke clean, invoke models.prune, docker builder prune",
    ),
    Diagnostic(
        "packages-unlocked",
        "The lock of the image's Python packages is missing.",
        "run: invoke pin --python",
    ),
    Diagnostic(
        "unpinned",
        "Some inputs are not pinned, so a later build may differ.",
        "run: invoke pin",
    ),
    Diagnostic(
        "mirror-unreachable",
        "An outside source does not answer, or has no longer what the build wants.",
        "check the network, or name another place under mirrors in config.yaml",
    ),
    Diagnostic(
        "ca-bundle-unusable",
        "The file of certificates is not there, or holds none.",
        "name a PEM file in mirrors.ca_bundle, or null",
    ),
    Diagnostic(
        "gpu-not-here",
        "This machine has no GPU that the driver sees.",
        "build here, and run nox -s gpu_smoke on a machine with a GPU; or choose --variant cpu",
    ),
    Diagnostic(
        "toolkit-missing",
        "The engine cannot give this machine's GPU to a container.",
        "install nvidia-container-toolkit, then: nvidia-ctk runtime configure, restart the engine",
    ),
    Diagnostic(
        "image-unknown",
        "It is not known which GPUs the image carries code for.",
        "build it, then ask again, with the same --variant: invoke build, invoke doctor",
    ),
    Diagnostic(
        "input-invalid",
        "A job's input cannot be meant; the message names the field.",
        "correct the field and send the job again",
    ),
    Diagnostic(
        "job-timeout",
        "A job took longer than it may.",
        "ask for less, or set input.timeout or JOB_TIMEOUT higher",
    ),
    Diagnostic(
        "webui-died",
        "The WebUI ended while it worked on a job.",
        "it is started again; the log says why it ended",
    ),
    Diagnostic(
        "answer-garbage",
        "The WebUI's answer holds no whole picture.",
        "try again; the worker's log may say more",
    ),
    Diagnostic(
        "answer-too-large",
        "The pictures are larger than RunPod takes in an answer.",
        "ask for fewer, for samples_format jpg, or set BUCKET_ENDPOINT_URL",
    ),
    Diagnostic(
        "upload-failed",
        "The pictures were drawn, but could not be stored in the bucket.",
        "check BUCKET_ENDPOINT_URL and its keys",
    ),
    Diagnostic(
        "not-ready",
        "No picture could be drawn in time.",
        "the worker's log says why",
    ),
    Diagnostic(
        "disk-full",
        "The disk is full.",
        "free space: invoke models.prune, docker builder prune",
        signature=r"No space left on device|ENOSPC",
    ),
    Diagnostic(
        "not-safetensors",
        "A model file is not a whole safetensors file.",
        "fetch it again, or check that the source really is a .safetensors file",
        signature=r"not a whole safetensors file",
    ),
    Diagnostic(
        "pickle-refused",
        "A model is a pickle (.ckpt, .pt), which can run code when it is loaded.",
        "use a .safetensors file, or say allow_pickle: true for this model",
        signature=r"a pickle can run code",
    ),
    Diagnostic(
        "wrong-bytes",
        "A source sent another file than config and lock expect; it was discarded.",
        "if the source has changed on purpose, run: invoke pin; otherwise distrust it",
        signature=r"is not the expected file and was discarded",
    ),
    Diagnostic(
        "model-damaged",
        "A file in the model store has changed since it was verified.",
        "see which: invoke models.verify; delete it with --delete and run: invoke models.prefetch",
        signature=r"the file has changed: sha256",
    ),
    Diagnostic(
        "download-refused",
        "A model's source refuses the download, or does not have the file.",
        "check the address; gated models need accepted terms and HF_TOKEN, others TOKEN_<HOST>",
        signature=r"the server refused: 40[13]|GatedRepo",
    ),
    Diagnostic(
        "download-broken",
        "A download kept breaking; what arrived is kept.",
        "run it again, it resumes; if it keeps breaking, set a mirror",
        signature=r"could not be fetched: ",
    ),
    Diagnostic(
        "certificate",
        "A server's certificate is not trusted.",
        "behind an inspecting proxy, set mirrors.ca_bundle or SSL_CERT_FILE",
        signature=r"CERTIFICATE_VERIFY_FAILED|certificate is not trusted",
    ),
    Diagnostic(
        "unpinned-url",
        "A model's URL has no checksum to hold it to.",
        "give sha256 in config.yaml, or once: invoke models.prefetch --trust-on-first-use",
    ),
    Diagnostic(
        "store-unwritable",
        "The model store cannot be written to.",
        "check its permissions, or point MODELS_STORE at another folder",
        signature=r"the store cannot be written to",
    ),
    Diagnostic(
        "setting-invalid",
        "An environment variable of the worker has a value that cannot be.",
        "see the README's table of variables",
    ),
    Diagnostic(
        "not-writable",
        "The worker finds no folder to write to.",
        "mount a tmpfs on /tmp, or set WORKER_DIR to a writable folder",
    ),
    Diagnostic(
        "gpu-not-given",
        "The engine cannot give a container a GPU.",
        "install the NVIDIA container toolkit, or draw on the processor: --cpu",
        signature=r"could not select device driver",
    ),
    Diagnostic(
        "port-taken",
        "Something else listens on the WebUI's port.",
        "set WEBUI_PORT to a free one",
        signature=r"address already in use|Address already in use",
    ),
    Diagnostic(
        "tokenizer-missing",
        "The tokenizer's files are not in the image; loading the checkpoint needs the network.",
        "build the image again; keep the hub-cache model in config.yaml",
        signature=r"Can't load tokenizer for|outgoing traffic has been disabled"
        r"|couldn't connect to .+ to load (?:the|this) file",
    ),
    Diagnostic(
        "model-not-loaded",
        "The API answers, but its checkpoint is not loaded: it cannot draw.",
        "the worker's log says why; an open port proves nothing",
        signature=r"Stable diffusion model failed to load",
    ),
    Diagnostic(
        "libgl-missing",
        "A library that OpenCV links is missing in the image.",
        "keep libgl1 and libglib2.0-0 in the Dockerfile's apt-install",
        signature=r"lib(?:GL|gthread-2\.0|glib-2\.0)\.so\.\d: cannot open shared object",
    ),
    Diagnostic(
        "package-missing",
        "A Python package that the WebUI imports is missing or broken in the image.",
        "run: invoke pin --python, and build again",
    ),
    Diagnostic(
        "picture-flat",
        "What was drawn has one colour throughout.",
        "compare --precision and --no-half-vae flags; NaN in half precision looks like this",
        signature=r"the picture has one colour throughout",
    ),
    Diagnostic(
        "picture-broken",
        "What was drawn is not a whole PNG.",
        "look at the worker's log; a proxy in between may cut answers",
        signature=r"the WebUI's answer holds no picture",
    ),
    Diagnostic(
        "picture-size",
        "What was drawn has another size than asked for.",
        "see which WebUI extension or flag changes sizes",
        signature=r"the picture is \d+x\d+, not \d+x\d+",
    ),
    Diagnostic(
        "not-repeatable",
        "The same seed draws another picture the second time.",
        "see which option changed between the two; the report holds both",
    ),
    Diagnostic(
        "api-locked",
        "The API asks for a user and a password.",
        "set API_AUTH=user:password in the environment, as the worker has it",
        signature=r"Incorrect username or password",
    ),
    Diagnostic("not-drawn", "The API does not draw.", "the worker's log says why"),
    Diagnostic(
        "port-closed",
        "Nothing answers on port 3000.",
        "leave WEBUI_PORT and WEBUI_HOST as they are, or see the worker's log",
        signature=r"the API did not answer in time",
    ),
    Diagnostic(
        "served-by-root",
        "The serving process runs as root.",
        "leave WORKER_USER and the Dockerfile's user as they are",
    ),
    Diagnostic(
        "stop-late",
        "The container does not stop within its deadline, so jobs would be cut off.",
        "keep the entry point and STOPSIGNAL; compare STOP_TIMEOUT with smoke.stop_timeout",
    ),
    Diagnostic(
        "labels-wrong",
        "The image does not say what it is.",
        "build it with invoke build",
    ),
    Diagnostic(
        "leftovers",
        "History, caches or tools of the build are left in the image.",
        "remove them in the layer that makes them; invoke inspect says where they are",
    ),
    Diagnostic(
        "secret-in-image",
        "The image holds what looks like a secret.",
        "revoke it, then pass it as a build secret; invoke inspect says where it is",
    ),
    Diagnostic(
        "world-writable",
        "Files in the image may be changed by any user.",
        "take the permission away in the layer that makes them",
    ),
    Diagnostic(
        "setuid-file",
        "Files above the base image run with their owner's rights, whoever starts them.",
        "take the bit away in the layer that makes them: chmod ug-s",
    ),
    Diagnostic(
        "wasted-bytes",
        "Layers hold many bytes that later layers overwrite or delete.",
        "write and delete in one RUN; invoke inspect says which files",
    ),
    Diagnostic(
        "image-too-large",
        "The image is larger than config.yaml allows.",
        "see what grew: invoke inspect --diff REF; or raise smoke.total_size_limit",
    ),
    Diagnostic(
        "gpus-differ",
        "The driver and torch do not see the same GPUs.",
        "start it without CUDA_VISIBLE_DEVICES, or try another machine",
    ),
    Diagnostic(
        "gpu-memory-kept",
        "GPU memory does not return after jobs.",
        "look for extensions that keep pictures or models on the GPU",
    ),
)

DIAGNOSTICS: Final = {row.code: row for row in _ROWS}
