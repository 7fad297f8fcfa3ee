"""`invoke deploy` against a stand-in of RunPod's REST API v2, and what it refuses."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.host.build.inputs import resolve
from scripts.host.config.load import ROOT, LoadedConfig, load
from scripts.host.deploy import deploy
from scripts.host.deploy.deployments import DeploymentRecord, record_file
from scripts.host.deploy.endpoint_spec import find_model_step, list_changes
from scripts.host.deploy.gpu_pools import order_pools, read_pools
from scripts.host.deploy.runpod_api import RunpodApi
from scripts.host.registry.push import PushedReference, PushRecord, record_path
from tests.support.errors import user_error
from tests.support.interruption import run_until
from tests.support.running import error_line, invoke
from tests.support.runpod_rest import KEY, Account, serving

MOMENTS = int(os.environ.get("INTERRUPTIONS", "3"))  # fifty by hand
BLACKWELL = ("sm_80", "sm_86", "sm_90", "sm_120")


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def api(account: Account) -> Iterator[RunpodApi]:
    with serving(account) as url:
        yield RunpodApi(url, KEY)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., LoadedConfig]:
    """Load the project's config with changes, for a checkout in which an image was pushed."""

    def make(*define: str, variant: str = "cuda128") -> LoadedConfig:
        loaded = load(variant, ("image.repository=host/me", *define))
        return replace(loaded, root=tmp_path)

    push(tmp_path, "sha256:1")
    return make


def push(root: Path, digest: str, *, untested: bool = False, archs: tuple[str, ...] = ()) -> None:
    """Record a push."""
    reference = PushedReference(reference="host/me:one", digest=digest, was_there=False)
    record = PushRecord(
        image_id="sha256:0",
        variant="cuda128",
        untested=untested,
        references=(reference,),
        size=9_300_000_000,
        archs=archs or ("sm_80", "sm_86", "sm_90"),
    )
    path = record_path(root, "cuda128", candidate=False)
    path.parent.mkdir(exist_ok=True)
    path.write_text(record.model_dump_json())


def run(loaded: LoadedConfig, api: RunpodApi, digest: str = "") -> DeploymentRecord:
    """Deploy as the task does."""
    return deploy.apply(loaded, api, deploy.plan(loaded, api, digest))


def test_an_endpoint_is_created_with_every_field(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    loaded = config(
        "deploy.secrets={API_AUTH: a1111_login}",
        "deploy.volumes=[vol1]",
        "deploy.excluded_gpus=['NVIDIA L40']",
    )
    record = run(loaded, api)
    [(_, _, sent)] = [each for each in account.requests if each[0] == "POST"]
    assert sent == {
        "name": "a1111-cuda128",
        "type": "QUEUE",
        "image": "host/me@sha256:1",
        "args": "",
        "disk": 17,
        "ports": [],
        "env": {"API_AUTH": "{{ RUNPOD_SECRET_a1111_login }}", "RUNPOD_INIT_TIMEOUT": "660"},
        "registry": None,
        "gpu": {
            "pools": ["AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO"],
            "excludedTypes": ["NVIDIA L40"],
            "count": 1,
            "minCudaVersion": "12.8",
            "allowedCudaVersions": [],
        },
        "workers": {"min": 0, "max": 3, "idleTimeout": 10},
        "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4.0},
        "dataCenterIds": [],
        "networkVolumes": ["vol1"],
        "timeout": 660000,
        "flashboot": "FLASHBOOT",
    }
    assert record.endpoint in account.endpoints
    assert json.loads(record_file(loaded).read_text())["endpoint"] == record.endpoint


def test_a_plan_changes_nothing(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    planned = deploy.plan(config(), api)
    assert "gpu.count: 1" in planned.changes
    assert {method for method, _, _ in account.requests} == {"GET"}
    assert not record_file(config()).exists()


def test_a_second_deployment_changes_what_differs_and_nothing_else(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig], tmp_path: Path
) -> None:
    first = run(config(), api)
    assert deploy.plan(config(), api).changes == ()
    push(tmp_path, "sha256:2")
    loaded = config("deploy.workers.max=5", "deploy.env={JOB_TIMEOUT: '300'}")
    account.endpoints[first.endpoint]["env"] |= {"HF_TOKEN": "typed in the console"}
    planned = deploy.plan(loaded, api)
    assert set(planned.changes) == {
        'image: "host/me@sha256:1" → "host/me@sha256:2"',
        "workers.max: 3 → 5",
        'env.JOB_TIMEOUT: none → "300"',
        "env.HF_TOKEN: *** → none",
    }
    second = deploy.apply(loaded, api, planned)
    assert second.endpoint == first.endpoint
    assert [each.image.digest for each in second.deployments] == ["sha256:1", "sha256:2"]
    assert len(account.endpoints) == 1


def test_an_older_digest_is_the_rollback(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig], tmp_path: Path
) -> None:
    run(config(), api)
    push(tmp_path, "sha256:2")
    record = run(config(), api)
    run(config(), api, "sha256:1")
    assert account.endpoints[record.endpoint]["image"] == "host/me@sha256:1"
    error = user_error(deploy.plan, config(), api, "sha256:9")
    assert error.code == "image-untested"
    assert "sha256:9" in error.message


def test_an_image_without_a_report_is_not_deployed(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig], tmp_path: Path
) -> None:
    push(tmp_path, "sha256:3", untested=True)
    assert user_error(deploy.plan, config(), api).code == "image-untested"
    record_path(tmp_path, "cuda128", candidate=False).unlink()
    assert "invoke push" in user_error(deploy.plan, config(), api).hint
    assert account.requests == []


def test_an_unknown_pool_or_card_is_named_before_anything_is_made(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    error = user_error(deploy.plan, config("deploy.pools=[ADA_42]"), api)
    assert error.code == "gpu-pool-unknown"
    assert "ADA_24" in error.hint
    error = user_error(deploy.plan, config("deploy.excluded_gpus=['NVIDIA H100']"), api)
    assert error.location == "deploy.excluded_gpus"
    one = ("deploy.pools=[ADA_24]", "deploy.excluded_gpus=['NVIDIA GeForce RTX 4090']")
    assert "no card is left" in user_error(deploy.plan, config(*one), api).message
    assert {method for method, _, _ in account.requests} == {"GET"}


def test_pools_come_in_order_of_price(api: RunpodApi) -> None:
    pools = order_pools(["ADA_48_PRO", "ADA_24", "AMPERE_24"], [], read_pools(api), BLACKWELL)
    assert [pool.id for pool in pools] == ["AMPERE_24", "ADA_24", "ADA_48_PRO"]


def test_a_blackwell_pool_needs_a_report_with_its_code(
    api: RunpodApi, config: Callable[..., LoadedConfig], tmp_path: Path
) -> None:
    loaded = config("deploy.pools=[ADA_24, ADA_32_PRO]")
    error = user_error(deploy.plan, loaded, api)
    assert error.code == "no-kernel-image"
    assert "12.0" in error.message
    push(tmp_path, "sha256:2", archs=BLACKWELL)
    assert deploy.plan(loaded, api).spec["gpu"]["pools"] == ["ADA_24", "ADA_32_PRO"]


@pytest.mark.parametrize(("key", "code"), [("", "runpod-refused"), ("rpa_other", "runpod-refused")])
def test_a_wrong_or_missing_key_is_refused_and_not_shown(
    api: RunpodApi,
    config: Callable[..., LoadedConfig],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    code: str,
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", key)
    monkeypatch.setenv("RUNPOD_API_BASE_URL", api.base)

    def plan() -> object:
        return deploy.plan(config(), RunpodApi.from_environment())

    error = user_error(plan)
    assert error.code == code
    assert not key or key not in str(error)


def test_too_many_requests_and_failures_of_runpod_leave_nothing(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    planned = deploy.plan(config(), api)
    account.answers.append((429, {"Retry-After": "17"}, {"title": "Too Many Requests"}))
    error = user_error(deploy.apply, config(), api, planned)
    assert error.code == "runpod-busy"
    assert "17 s" in error.hint
    account.answers.append((400, {}, {"detail": "no longer any instances available"}))
    assert "no longer any instances" in user_error(deploy.apply, config(), api, planned).message
    assert account.endpoints == {}
    assert not record_file(config()).exists()
    account.answers.append((500, {}, {"title": "Oops"}))
    assert user_error(deploy.apply, config(), api, planned).code == "runpod-lost"
    assert "no endpoint yet" in user_error(deploy.describe_status, config(), api).message
    assert run(config(), api).endpoint in account.endpoints


@pytest.mark.parametrize("when", ["before the plan", "after the plan"])
def test_an_endpoint_that_was_deleted_is_not_made_again_by_itself(
    account: Account,
    api: RunpodApi,
    config: Callable[..., LoadedConfig],
    tmp_path: Path,
    when: str,
) -> None:
    run(config(), api)
    before = record_file(config()).read_text()
    push(tmp_path, "sha256:2")
    if when == "before the plan":
        account.delete_all()
        error = user_error(deploy.plan, config(), api)
    else:
        planned = deploy.plan(config(), api)
        account.delete_all()
        error = user_error(deploy.apply, config(), api, planned)
    assert error.code == "runpod-gone"
    assert "deployments/cuda128.json" in error.hint
    assert account.endpoints == {}
    assert record_file(config()).read_text() == before


def test_a_lost_answer_does_not_make_a_second_endpoint(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    planned = deploy.plan(config(), api)
    account.create(planned.spec)
    account.answers.append((504, {}, None))
    assert user_error(deploy.apply, config(), api, planned).code == "runpod-lost"
    [name] = account.endpoints
    assert run(config("deploy.name=other"), api).endpoint == name
    assert account.endpoints[name]["name"] == "other"
    assert len(account.endpoints) == 1


def test_an_endpoint_of_that_name_from_elsewhere_is_left_alone(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    account.page = 1
    run(config("deploy.name=first"), api)
    record_file(config()).unlink()  # as on another machine
    run(config(), api)
    record_file(config()).unlink()
    error = user_error(deploy.plan, config(), api)
    assert error.code == "endpoint-exists"
    assert "ep2" in error.message
    assert run(config("deploy.endpoint=ep2", "deploy.workers.max=1"), api).endpoint == "ep2"
    assert len(account.endpoints) == 2


def test_an_endpoint_of_another_kind_is_left_alone(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    record = run(config(), api)
    account.endpoints[record.endpoint]["type"] = "LOAD_BALANCER"
    assert "no queue endpoint" in user_error(deploy.plan, config(), api).message


def test_a_server_that_does_not_answer_is_one_error(config: Callable[..., LoadedConfig]) -> None:
    error = user_error(deploy.plan, config(), RunpodApi("http://127.0.0.1:9", KEY))
    assert error.code == "runpod-lost"


def test_a_variant_for_the_processor_is_not_deployed(
    api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    assert "processor" in user_error(deploy.plan, config(variant="cpu"), api).message


@pytest.mark.parametrize(
    "env", ["{HF_TOKEN: hf_secret}", "{LOGIN: '{{ RUNPOD_SECRET_login }}'}", "{X: '{{ typo }}'}"]
)
def test_secrets_are_given_by_name_only(config: Callable[..., LoadedConfig], env: str) -> None:
    with pytest.raises(UserError, match=r"deploy\.secrets") as caught:
        config(f"deploy.env={env}")
    assert "hf_secret" not in str(caught.value)


def test_a_base_without_a_version_of_cuda_needs_one(
    api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    base = "base.runtime=host/base:1"
    assert "deploy.min_cuda" in user_error(deploy.plan, config(base), api).hint
    planned = deploy.plan(config(base, "deploy.min_cuda='13.0'"), api)
    assert planned.spec["gpu"]["minCudaVersion"] == "13.0"


def test_a_cached_model_needs_a_step_in_the_console(
    config: Callable[..., LoadedConfig],
) -> None:
    assert find_model_step("/model.safetensors") == ""
    step = find_model_step("hub:me/models/a/b.safetensors@abc")
    assert "Model: https://huggingface.co/me/models:abc" in step
    record = DeploymentRecord(endpoint="ep1", name="a")
    steps = deploy.next_steps(resolve(config(variant="slim")), record)
    assert "https://huggingface.co/XpucT/Deliberate" in steps[0]
    steps = deploy.next_steps(resolve(config("deploy.secrets={HF_TOKEN: mine}")), record)
    assert "mine" in steps[0]
    assert steps[1:] == ["test it: nox -s endpoint_smoke -- --endpoint ep1"]


def test_what_runpod_leaves_out_is_no_difference() -> None:
    spec: dict[str, Any] = {"args": "", "ports": [], "registry": None, "workers": {"min": 0}}
    assert list_changes({"workers": {"min": 0}, "createdAt": "x"}, spec) == []
    changes = list_changes({"workers": {}, "args": "x"}, spec)
    assert changes == ['args: "x" → ""', "workers.min: none → 0"]


def test_status_names_image_workers_and_changes_elsewhere(
    account: Account, api: RunpodApi, config: Callable[..., LoadedConfig]
) -> None:
    assert "no endpoint yet" in user_error(deploy.describe_status, config(), api).message
    record = run(config(), api)
    text = "\n".join(deploy.describe_status(config(), api))
    assert f"{record.endpoint}  a1111-cuda128  QUEUE" in text
    assert "host/me@sha256:1 (deployed " in text
    assert "0 running, 0 idle" in text
    account.endpoints[record.endpoint]["image"] = "host/me:latest"
    assert "changed elsewhere" in "\n".join(deploy.describe_status(config(), api))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that `invoke deploy` needs, in which an image was pushed."""
    for name in ("scripts", "tasks.py", "config.yaml"):
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        place(ROOT / name, tmp_path / name)
    push(tmp_path, "sha256:1")
    return tmp_path


def test_a_user_sees_what_will_be_then_what_was_done(
    account: Account, api: RunpodApi, checkout: Path
) -> None:
    def run_invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
        answer = invoke(*arguments, root=checkout, RUNPOD_API_KEY=KEY, RUNPOD_API_BASE_URL=api.base)
        assert KEY not in answer.stdout + answer.stderr
        return answer

    shown = run_invoke("deploy", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert 'gpu.minCudaVersion: "12.8"' in shown.stdout
    assert "nothing was changed" in shown.stderr
    assert account.endpoints == {}
    done = run_invoke("deploy")
    assert done.stdout == shown.stdout
    assert "created ep1" in done.stderr
    assert "nox -s endpoint_smoke -- --endpoint ep1" in done.stderr
    assert "nothing to change" in run_invoke("deploy").stderr
    assert "host/me@sha256:1" in run_invoke("deploy.status").stdout
    account.delete_all()
    assert "[runpod-gone]" in error_line(run_invoke("deploy"))


def test_an_interrupted_deployment_is_gone_on_with(
    account: Account, api: RunpodApi, checkout: Path
) -> None:
    """Ctrl-C and SIGTERM, while an endpoint is made or updated by requests of 0.2 s."""
    moments = random.Random("deploy")  # noqa: S311 - moments, not secrets
    environment = {"RUNPOD_API_KEY": KEY, "RUNPOD_API_BASE_URL": api.base}
    record = record_file(replace(load(), root=checkout))
    for number in range(MOMENTS):
        account.delay, is_update = 0.2, bool(account.endpoints)
        push(checkout, f"sha256:{number}")
        after, stop = moments.uniform(0.4, 1.6), (signal.SIGINT, signal.SIGTERM)[number % 2]
        ended = run_until(checkout, "deploy", after=after, stop=stop, environment=environment)
        said = f"after {after:.3f} s, {stop.name}: {ended}"
        assert (ended.left, ended.running) == ((), ()), said
        assert len(account.endpoints) <= 1, said
        assert [each.name for each in record.parent.glob("*")] in ([], [record.name]), said
        if ended.status and ended.was_running:
            assert ended.says_interrupted(stop), said
        account.delay = 0
        again = run_until(checkout, "deploy", environment=environment)
        assert again.status == 0, (said, again)
        [(name, endpoint)] = account.endpoints.items()
        assert endpoint["image"] == f"host/me@sha256:{number}", said
        found = DeploymentRecord.model_validate_json(record.read_text())
        images = [each.image.digest for each in found.deployments]
        assert (found.endpoint, images[-1]) == (name, f"sha256:{number}"), said
        assert len(images) == len(set(images)), said
        assert "nothing to change" in run_until(checkout, "deploy", environment=environment).errors
        if is_update:
            account.delete_all()
            record.unlink()
