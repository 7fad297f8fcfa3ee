"""Images in jobs: found in every place, fetched from addresses within limits."""

from __future__ import annotations

import base64
import socket
import threading
import time
from typing import Any

import pytest

from scripts.common.diagnostics.error import UserError
from scripts.common.fetch import public_address
from scripts.container.serverless.request import image_download
from scripts.container.serverless.request.image_download import fetch_image
from scripts.container.serverless.request.input_images import find_images, prepare_images
from tests.support.errors import user_error
from tests.support.fault_server import Behaviour, misbehaving
from tests.support.webui import png

IMAGE = png(8, 8, 1)
TEXT = base64.b64encode(IMAGE).decode()


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count 127.0.0.1 as an address of the internet, and no other of this machine."""
    monkeypatch.setattr(public_address, "is_public", lambda address: address == "127.0.0.1")


def places(image: str) -> dict[str, Any]:
    """A request with an image in every place that may hold one."""
    return {
        "prompt": "https://example.com/not-an-image.png",
        "init_images": [image, image],
        "mask": image,
        "image": image,
        "imageList": [{"name": "https://example.com/name", "data": image}],
        "alwayson_scripts": {
            "ControlNet": {
                "args": [
                    {"image": image, "mask": image, "module": "canny"},
                    {"input_image": image, "model": "http://a.example"},
                    {"image": {"image": image, "mask": image}},
                ]
            },
            "reactor": {"args": [True, "https://example.com"]},
        },
    }


def test_images_are_found_in_every_place() -> None:
    unit = "alwayson_scripts.ControlNet.args"
    assert [path for path, _ in find_images(places("x"))] == [
        *("init_images[0]", "init_images[1]", "mask", "image", "imageList[0].data"),
        *(f"{unit}[0].image", f"{unit}[0].mask", f"{unit}[1].input_image"),
        *(f"{unit}[2].image.image", f"{unit}[2].image.mask"),
    ]


def test_addresses_are_replaced_by_their_images() -> None:
    fetched: list[str] = []

    def fetch(url: str, seconds: float) -> bytes:
        assert 0 < seconds <= 5
        fetched.append(url)
        return IMAGE

    fields = places("https://images.example/a.png")
    prepare_images(fields, fetch, 5.0)
    assert fields == places(TEXT)
    assert len(fetched) == 10


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64,",
        "data:application/octet-stream;base64,",
        "DATA:image/png;charset=utf-8;base64,",
        "data:;base64,",
    ],
)
def test_data_uris_of_any_form_become_plain_base64(uri: str) -> None:
    fields = places(f"{uri}{TEXT}")
    prepare_images(fields, fetch_image, 5.0)
    assert fields == places(TEXT)


@pytest.mark.parametrize("value", [None, 3, [], {}, [None, 3, [3]], {"image": 3}])
def test_other_values_are_left_to_the_webui(value: Any) -> None:
    fields = {"init_images": value, "mask": value, "alwayson_scripts": {"a": {"args": value}}}
    prepare_images(fields, fetch_image, 5.0)
    assert fields["mask"] == value


@pytest.mark.usefixtures("loopback_is_public")
def test_an_image_is_fetched_from_its_address() -> None:
    with misbehaving(IMAGE) as server:
        fields: dict[str, Any] = {"init_images": [f"{server.url}/a.png"]}
        prepare_images(fields, fetch_image, 5.0)
    assert fields == {"init_images": [TEXT]}


@pytest.mark.usefixtures("loopback_is_public")
def test_a_connection_that_breaks_is_tried_again() -> None:
    with misbehaving(IMAGE, Behaviour(stop_at=50), Behaviour(status=503), Behaviour()) as server:
        assert fetch_image(server.url, 5.0) == IMAGE


def refused(url: str, seconds: float = 5.0) -> UserError:
    error = user_error(prepare_images, {"mask": url}, fetch_image, seconds)
    assert "input.mask cannot be fetched" in str(error)
    return error


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/",
        "http://localhost:3000/sdapi/v1/options",
        "HTTP://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.0.0.1]/",
        "https://user:secret@192.168.0.1/a.png",
    ],
)
def test_addresses_inside_the_network_are_refused(url: str) -> None:
    error = refused(url)
    assert error.code == "address-not-public"
    assert "secret" not in str(error)


@pytest.mark.usefixtures("loopback_is_public")
def test_a_redirect_into_the_network_is_refused() -> None:
    to_inside = Behaviour(status=302, headers={"Location": "http://127.0.0.2:9/"})
    with misbehaving(b"", to_inside) as server:
        assert refused(server.url).code == "address-not-public"


@pytest.mark.usefixtures("loopback_is_public")
@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (Behaviour(content=b"<!doctype html>"), "the address holds no image"),
        (Behaviour(status=404), "the server answered 404"),
        (Behaviour(status=503), "the server answered 503"),
        (Behaviour(content=IMAGE * 100), "it is larger than 0 MB"),
        (Behaviour(content=IMAGE * 100, chunked=True), "it is larger than 0 MB"),
        (Behaviour(stop_at=50), "the connection"),
        (Behaviour(stop_at=50, how="stall"), "in time"),
        (Behaviour(stop_at=50, how="crawl"), "in time"),
    ],
)
def test_limits_of_fetched_images(
    behaviour: Behaviour, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_download, "MAX_IMAGE", 10_000)
    began = time.monotonic()
    with misbehaving(IMAGE, behaviour) as server:
        error = refused(server.url, seconds=1.0)
    assert message in str(error)
    assert error.code == "input-invalid"
    assert time.monotonic() - began < 4


@pytest.mark.usefixtures("loopback_is_public")
def test_headers_that_never_end_are_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def dribble() -> None:
            connection, _ = listener.accept()
            with connection:
                while True:
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=dribble, daemon=True).start()
        began = time.monotonic()
        assert "in time" in str(refused(f"http://127.0.0.1:{listener.getsockname()[1]}/", 0.5))
        assert time.monotonic() - began < 3
