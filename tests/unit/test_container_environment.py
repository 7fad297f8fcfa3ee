"""Settings, flags, environment, folders, health and log of the worker."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch.spec import ArtifactSpec
from scripts.common.fetch.volume_models import as_json
from scripts.common.secrets import make_redactor, read_token, strip_secrets
from scripts.container import paths
from scripts.container.log import LogfmtFormatter, SecretFilter
from scripts.container.setting_conflicts import refuse_conflicts, warn_of_platform_limit
from scripts.container.setting_parsers import Warmup
from scripts.container.settings import VARIABLES, Settings
from scripts.container.status.state import State, check_health, write_state
from scripts.container.webui.environment import can_preload, find_tcmalloc, webui_environment
from scripts.container.webui.flags import list_model_files, webui_flags
from scripts.container.webui.model_flags import choose_memory_flags, choose_model_flags
from scripts.container.webui.model_tree import build_model_tree
from scripts.host.config.load import ROOT
from tests.support.safetensors import write_safetensors


def settings(**environ: str) -> Settings:
    return Settings.from_environment(environ)


def flags(*models: str, **environ: str) -> list[str]:
    made = settings(**environ)
    return webui_flags(made, made.model_path, models)


def test_a_pod_serves_all_interfaces_and_serverless_loopback() -> None:
    assert settings().webui_host == "0.0.0.0"
    assert settings(RUNPOD_ENDPOINT_ID="abc").webui_host == "127.0.0.1"
    assert settings(RUNPOD_ENDPOINT_ID="abc", WEBUI_HOST="0.0.0.0").webui_host == "0.0.0.0"
    assert not settings(RUNPOD_ENDPOINT_ID="abc", WORKER_MODE="pod").is_serverless


@pytest.mark.parametrize(
    "environ",
    [
        {"WORKER_MODE": "other"},
        {"WEBUI_PORT": "high"},
        {"WEBUI_PORT": "65536"},
        {"METRICS_PORT": "1.5"},
        {"READY_TIMEOUT": "0"},
        {"JOB_TIMEOUT": "0.0"},
        {"MODEL_SCAN_TIMEOUT": "0"},
        {"RESTARTS": "-1"},
        {"WARMUP": "63x64x1"},
        {"WEBUI_ARGS": "--ckpt 'open"},
        {"ACCELERATOR": "tpu"},
        {"CHECKPOINT_NAME": "photo.ckpt"},
        {"CHECKPOINT_NAME": "../photo.safetensors"},
        {"CHECKPOINT_NAME": "/photo.safetensors"},
    ],
)
def test_an_invalid_value_is_refused_by_name(environ: dict[str, str]) -> None:
    (name,) = environ
    with pytest.raises(UserError, match=name) as caught:
        settings(**environ)
    assert caught.value.hint


@pytest.mark.parametrize("value", ["unseen", "unseen:", "unseen:a:b", "unseen:a,b"])
def test_invalid_credentials_are_refused_and_not_shown(value: str) -> None:
    with pytest.raises(UserError, match="API_AUTH") as caught:
        settings(API_AUTH=value)
    assert "unseen" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"METRICS_PORT": "3000"}, "WEBUI_PORT and METRICS_PORT are both 3000"),
        ({"WEBUI_PORT": "0"}, "WEBUI_PORT is 0"),
        ({"WEBUI_ARGS": "--xformers --port=3001"}, "--port, .* WEBUI_PORT"),
        ({"WEBUI_ARGS": "--api-auth me:unseen"}, "--api-auth, .* API_AUTH"),
        ({"WEBUI_ARGS": "--data-dir /workspace"}, "--data-dir, .* DATA_DIR"),
        ({"WEBUI_ARGS": "--tls-keyfile /k --tls-certfile /c"}, "TLS"),
        ({"IMAGE_FLAGS": '{"add": ["--ui-debug-mode"]}'}, "--ui-debug-mode"),
    ],
)
def test_settings_that_fail_every_job_are_refused(environ: dict[str, str], named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        refuse_conflicts(settings(**environ))
    assert caught.value.code == "setting-invalid"
    assert "unseen" not in str(caught.value)


def test_settings_that_work_together_are_not_refused() -> None:
    refuse_conflicts(settings())
    refuse_conflicts(settings(METRICS_PORT="0", WEBUI_ARGS="--medvram --tls-keyfile /k"))


@pytest.mark.parametrize(
    ("environ", "warns"),
    [
        ({"RUNPOD_ENDPOINT_ID": "x", "RUNPOD_INIT_TIMEOUT": "600"}, True),
        ({"RUNPOD_ENDPOINT_ID": "x", "RUNPOD_INIT_TIMEOUT": "630"}, False),
        ({"RUNPOD_ENDPOINT_ID": "x"}, False),
        ({"RUNPOD_INIT_TIMEOUT": "60"}, False),
    ],
)
def test_a_platform_that_gives_up_first_is_a_warning(
    environ: dict[str, str], warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_platform_limit(settings(**environ), environ)
    assert ("event=late-reason" in capsys.readouterr().err) == warns


@given(st.sampled_from(list(VARIABLES)), st.text(max_size=30))
def test_any_value_is_parsed_or_refused_with_a_user_error(name: str, value: str) -> None:
    with suppress(UserError):
        settings(**{name: value})


def test_cuda_uses_xformers_and_falls_back_to_torch_attention() -> None:
    made = flags()
    assert {"--xformers", "--opt-sdp-attention", "--api", "--nowebui"} <= set(made)
    assert made[made.index("--ckpt") + 1] == "/model.safetensors"
    assert "--use-cpu" not in made


def test_cpu_uses_full_precision_without_xformers() -> None:
    made = " ".join(flags(ACCELERATOR="cpu"))
    assert "--use-cpu all --no-half --precision full" in made
    assert "xformers" not in made


def test_config_adds_and_removes_flags_before_webui_args() -> None:
    image = '{"add": ["--lora-dir", "/loras"], "remove": ["--xformers", "--no-hashing"]}'
    made = flags(IMAGE_FLAGS=image, WEBUI_ARGS="--lora-dir /mine")
    assert made[-4:] == ["--lora-dir", "/loras", "--lora-dir", "/mine"]
    assert "--opt-sdp-attention" in made
    assert not {"--xformers", "--no-hashing"} & set(made)


@pytest.mark.parametrize(
    ("base", "memory", "expected"),
    [
        ("SD1", 2, ["--lowvram"]),
        ("SD1", 4, ["--medvram"]),
        ("SD2", 8, ["--medvram-sdxl"]),
        ("", 8, ["--medvram-sdxl"]),
        ("SDXL", 6, ["--lowvram"]),
        ("SDXL", 8, ["--medvram-sdxl"]),
        ("SDXL", 10, ["--medvram-sdxl"]),
        ("SDXL", 12, []),
        ("SD1", 24, []),
        ("SDXL", 0, []),
    ],
)
def test_memory_flags_follow_the_size_of_the_card(
    base: str, memory: int, expected: list[str]
) -> None:
    reported = int(memory * 0.97 * 2**30)
    assert choose_memory_flags(reported, base) == expected


def test_the_vae_keeps_full_precision_unless_the_header_shows_a_small_model(
    tmp_path: Path,
) -> None:
    sd1, sdxl = "cond_stage_model.transformer.x", "conditioner.embedders.1.model.ln_final.weight"
    unet = "model.diffusion_model.input_blocks.0.0.weight"
    of_sd1 = write_safetensors(tmp_path / "sd1.safetensors", sd1, unet)
    of_sdxl = write_safetensors(tmp_path / "sdxl.safetensors", sdxl, unet)
    made = settings(GPU_MEMORY="off")
    assert choose_model_flags(made, of_sd1) == ()
    assert choose_model_flags(made, of_sdxl) == ("--no-half-vae",)
    assert choose_model_flags(made, tmp_path / "missing.ckpt") == ("--no-half-vae",)
    assert choose_model_flags(settings(ACCELERATOR="cpu"), of_sdxl) == ()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[]", "JSON"),
        ('{"add": "--medvram"}', "JSON"),
        ('{"adds": []}', "no adds"),
        ('{"remove": ["--api"]}', "needs --api"),
        ('{"remove": ["--medvram"]}', "not one of the worker's own"),
    ],
)
def test_invalid_image_flags_are_refused(text: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        settings(IMAGE_FLAGS=text)


@pytest.mark.parametrize("text", ["expandable_segments", "a:b,", "a: b", "off"])
def test_an_allocator_setting_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="PYTORCH_CUDA_ALLOC_CONF"):
        settings(PYTORCH_CUDA_ALLOC_CONF=text)


def test_allocator_settings_reach_the_webui() -> None:
    text = "garbage_collection_threshold:0.8,roundup_power2_divisions:[256:1,>:4]"
    environ = {"PYTORCH_CUDA_ALLOC_CONF": text}
    assert webui_environment(environ, settings(**environ))["PYTORCH_CUDA_ALLOC_CONF"] == text


def test_the_pickle_scan_is_off_only_without_pickles() -> None:
    assert "--disable-safe-unpickle" in flags("a.safetensors", "readme.txt")
    assert "--disable-safe-unpickle" not in flags("a.safetensors", "B.CKPT")
    for path in ("/model.ckpt", "/model", "/model.safetensors.bak"):
        assert "--disable-safe-unpickle" not in flags(MODEL_PATH=path)


@pytest.mark.parametrize(
    "place", ["MODEL_DIR", "DATA_DIR", "WEBUI_ARGS", "a flag", "VOLUME_MODELS"]
)
def test_a_pickle_is_found_in_every_configured_place(tmp_path: Path, place: str) -> None:
    configured = {
        "MODEL_DIR": str(tmp_path / "checkpoints"),
        "DATA_DIR": str(tmp_path / "data"),
        "WEBUI_ARGS": f"--vae-dir '{tmp_path}/my vaes' --lora-dir={tmp_path}/loras",
        "VOLUME_MODELS": str(tmp_path / "volume-models.json"),
    }
    places_of = {
        "MODEL_DIR": tmp_path / "checkpoints" / "by" / "me.ckpt",
        "DATA_DIR": tmp_path / "data" / "embeddings" / "style.pt",
        "WEBUI_ARGS": tmp_path / "my vaes" / "vae.pt",
        "a flag": tmp_path / "loras" / "lora.PT",
    }
    for path in places_of.values():
        path.parent.mkdir(parents=True)
        path.with_name("whole.safetensors").touch()
    assert "--disable-safe-unpickle" in flags_of_supervisor(configured)
    if place == "VOLUME_MODELS":
        spec = ArtifactSpec(url="https://example.invalid/x", name="x.ckpt", sha256="0" * 64)
        listed = as_json({"/runpod-volume/x.ckpt": spec})
        (tmp_path / "volume-models.json").write_text(listed)
    else:
        places_of[place].touch()
    assert "--disable-safe-unpickle" not in flags_of_supervisor(configured)


def flags_of_supervisor(environ: dict[str, str]) -> list[str]:
    """The flags with all model files found."""
    configured = settings(**environ)
    tree = build_model_tree(configured)
    return webui_flags(configured, tree.checkpoint, list_model_files(configured, tree))


def test_a_pickle_named_by_a_flag_is_found() -> None:
    assert "--disable-safe-unpickle" not in flags_of_supervisor(
        {"WEBUI_ARGS": "--vae-path=/vae.pt"}
    )


def test_further_flags_come_last_and_keep_quotes() -> None:
    assert flags(WEBUI_ARGS="--theme 'deep blue' --port 1")[-4:] == [
        "--theme",
        "deep blue",
        "--port",
        "1",
    ]


def test_credentials_are_in_no_argument_list() -> None:
    secret = "user:of-a-test"  # noqa: S105 - nobody's
    configured = settings(API_AUTH=secret)
    assert secret not in " ".join(webui_flags(configured, configured.model_path, []))
    env = webui_environment({"API_AUTH": secret, "COMMANDLINE_ARGS": "--api-log"}, configured)
    assert env["COMMANDLINE_ARGS"] == f"--api-log --api-auth {secret}"
    assert "API_AUTH" not in env


def test_the_webui_gets_neither_this_code_nor_secrets() -> None:
    env = webui_environment(
        {
            "PYTHONPATH": f"/opt/worker:{ROOT}:/mine",
            "HF_TOKEN": "x",
            "BUCKET_SECRET_ACCESS_KEY": "y",
            "CIVITAI_API_TOKEN": "z",
        },
        settings(TCMALLOC="off"),
    )
    assert env == {"PYTHONPATH": "/mine", "WEBUI_LAZY_IMPORTS": "on"}
    assert "PYTHONPATH" not in webui_environment(
        {"PYTHONPATH": "/opt/worker"}, settings(TCMALLOC="off")
    )


def test_a_library_that_cannot_be_preloaded_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "libtcmalloc.so"
    broken.write_bytes(b"no library")
    assert find_tcmalloc(str(broken)) == ""
    assert "tcmalloc-missing" in capsys.readouterr().err
    assert find_tcmalloc("off") == ""
    assert capsys.readouterr().err == ""


def test_the_found_library_can_be_preloaded() -> None:
    found = find_tcmalloc("auto")
    assert not found or can_preload(found)


def test_without_a_volume_the_pip_cache_is_ephemeral_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = tmp_path / "volume"
    configured = settings(
        VOLUME_DIR=str(volume),
        PIP_CACHE_DIR=str(volume / ".cache/pip"),
        WORKER_DIR=str(tmp_path / "worker"),
    )
    assert paths.choose_pip_cache(configured) == tmp_path / "worker" / "pip-cache"
    assert not volume.exists()
    assert capsys.readouterr().err.count("pip-cache-ephemeral") == 1
    volume.mkdir()
    assert paths.choose_pip_cache(configured) == volume / ".cache/pip"
    assert capsys.readouterr().err == ""


def test_a_file_at_the_pip_caches_path_is_avoided(tmp_path: Path) -> None:
    (tmp_path / "pip").write_text("a file")
    configured = settings(PIP_CACHE_DIR=str(tmp_path / "pip"), WORKER_DIR=str(tmp_path / "worker"))
    assert paths.choose_pip_cache(configured) == tmp_path / "worker" / "pip-cache"


def test_without_a_writable_folder_the_hint_is_a_tmpfs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="tmpfs"):
        paths.require_writable(settings(WORKER_DIR=str(tmp_path / "file" / "below")))


def test_health_is_ready_only_with_a_running_supervisor(tmp_path: Path) -> None:
    assert check_health(tmp_path) == (False, "stopped")
    write_state(tmp_path, State(phase="loading", supervisor=os.getpid(), reason="slow disk"))
    assert check_health(tmp_path) == (False, "loading: slow disk")
    write_state(tmp_path, State(phase="ready", supervisor=os.getpid()))
    assert check_health(tmp_path) == (True, "ready")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_state(tmp_path, State(phase="ready", supervisor=gone.pid))
    assert check_health(tmp_path)[0] is False


def test_a_damaged_state_file_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"phase": "ready"')
    assert check_health(tmp_path)[0] is False


@pytest.mark.parametrize(
    ("code", "excluded"),
    [
        (
            "from scripts.container.__main__ import main; main(['health'])",
            {"logging", "http.client", "asyncio", "psutil", "pydantic", "torch"},
        ),
        (
            "from scripts.container.supervisor.supervisor import Supervisor",
            {"http.client", "asyncio", "psutil", "pydantic", "prometheus_client", "requests"},
        ),
    ],
    ids=["health", "supervisor"],
)
def test_nothing_slow_is_imported_before_the_webui_starts(
    tmp_path: Path, code: str, excluded: set[str]
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print({excluded} & set(sys.modules))"],
        env={"PYTHONPATH": str(ROOT), "WORKER_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "set()"


def log_line(event: str, **fields: object) -> str:
    """A formatted record of level error at a fixed time."""
    now = datetime(2026, 11, 23, 10, 0, 0, 7000, tzinfo=timezone.utc)
    record = logging.makeLogRecord({"msg": event, "levelname": "ERROR", "fields": fields})
    record.created, record.msecs = now.timestamp(), 7
    SecretFilter(SECRETS).filter(record)
    return LogfmtFormatter().format(record)


def test_a_log_entry_is_one_line_of_quoted_fields() -> None:
    assert log_line("job-failed", job="a b", why='x="1"\ny', none="", seconds=1.25, child=3) == (
        "time=2026-11-23T10:00:00.007Z level=error event=job-failed "
        'job="a b" why="x=\\"1\\"\\ny" seconds=1.250 child=3'
    )


SECRETS = {
    "API_AUTH": "me:first-word,you:second-word",
    "HF_TOKEN": "hf_secret",
    "TOKEN_CIVITAI_COM": "civitai-secret",
    "RUNPOD_API_KEY": "runpod-secret",
    "BUCKET_SECRET_ACCESS_KEY": "bucket-secret",
}


@pytest.mark.parametrize(
    "secret",
    ["me:first-word", "second-word", *list(SECRETS.values())[1:], "civitai-secret/hf_secret"],
)
def test_secrets_are_replaced_in_every_log_field(secret: str) -> None:
    line = log_line("x", reason=ValueError(f"at https://{secret}@host"), count=1)
    assert secret not in line
    assert "***@host" in line
    assert "count=1" in line


def test_white_space_around_secrets_is_removed() -> None:
    environ = {"HF_TOKEN": " hf_abc\r\n", "API_AUTH": "me: pass \n", "PATH": " /bin"}
    strip_secrets(environ)
    assert environ == {"HF_TOKEN": "hf_abc", "API_AUTH": "me: pass ", "PATH": " /bin"}


def test_a_secret_is_replaced_as_it_is_sent_and_as_it_is_quoted() -> None:
    redact = make_redactor({"HF_TOKEN": "hf_abc\n"})
    assert redact("Bearer hf_abc") == "Bearer ***"
    assert redact(repr(b"Bearer hf_abc\n")) == r"b'Bearer ***\n'"


@pytest.mark.parametrize("value", ["hf_a\nhf_b", "hf a", "hf_ä"])
def test_a_token_that_no_header_holds_is_refused_unseen(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_EXAMPLE_COM", value)
    with pytest.raises(UserError, match="TOKEN_EXAMPLE_COM") as caught:
        read_token("TOKEN_EXAMPLE_COM")
    assert "hf" not in str(caught.value)


def test_the_warmup_can_be_larger_several_or_off() -> None:
    assert settings().warmup == (Warmup(64, 64, 1),)
    assert settings(WARMUP="512x768x2").warmup == (Warmup(512, 768, 2),)
    sizes = settings(WARMUP="512x512, 832x1216x4").warmup
    assert sizes == (Warmup(512, 512, 1), Warmup(832, 1216, 4))
    assert settings(WARMUP="off").warmup == ()


@pytest.mark.parametrize("size", ["832*1216", "830x1216", "00x64", "64x64x0", "", "off"])
def test_a_warmup_size_that_is_invalid_is_named(size: str) -> None:
    with pytest.raises(UserError, match=f"'{re.escape(size)}' is not width x height"):
        settings(WARMUP=f"512x512,{size}")
