"""Services that cannot listen where they should: one sentence, before they start."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli.group import run
from orchestrator.embedded import redis_version
from orchestrator.errors import InvalidSettings, StoreUnavailable
from orchestrator.http.server import serve
from orchestrator.listening import why_taken
from orchestrator.settings import load_settings

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_is_taken_only_while_somebody_listens(taken: int) -> None:
    assert why_taken("127.0.0.1", taken) == "Address already in use"
    assert why_taken("127.0.0.1", 0) is None
    assert why_taken("no-such-host.invalid", 80)


def test_the_http_service_names_a_port_that_is_taken(taken: int) -> None:
    with pytest.raises(InvalidSettings, match=f"http.port: {taken} on 127.0.0.1 cann"):
        serve(load_settings(http={"port": taken}))


def test_flower_names_a_port_that_is_taken(
    taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["flower", "--port", str(taken)]) == 2
    told = capsys.readouterr().err
    assert f"--port: {taken} on 127.0.0.1 cannot be used (Address already" in told


def test_the_http_service_names_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("no key")
    http = {"port": 0, "tls_certificate": tmp_path / "gone.pem", "tls_key": key}
    with pytest.raises(InvalidSettings, match=r"gone\.pem is no file\); name PEM"):
        serve(load_settings(http=http))
    (tmp_path / "gone.pem").write_text("no certificate")
    with pytest.raises(InvalidSettings, match=r"cannot be used \(.*PEM.*\); name PEM"):
        serve(load_settings(http=http))


def test_the_http_service_asks_no_terminal_for_the_passphrase_of_its_key(
    certificate: Path, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.pem"
    lock = ("rsa", "-aes128", "-passout", "pass:word", "-in", certificate)
    subprocess.run(
        [shutil.which("openssl"), *lock, "-out", locked],
        check=True,
        capture_output=True,
    )
    http = {"port": 0, "tls_certificate": certificate, "tls_key": locked}
    with pytest.raises(InvalidSettings, match="with a key that has no passphrase"):
        serve(load_settings(http=http))


def test_an_option_that_redis_py_does_not_know_is_told_before_any_service_starts() -> (
    None
):
    url = "redis://127.0.0.1:9/0?foo=1"
    with pytest.raises(StoreUnavailable, match="option after `\\?`"):
        redis_version(url)
    with pytest.raises(StoreUnavailable, match="option after `\\?`"):
        serve(load_settings(storage={"redis_url": url}))


@pytest.mark.parametrize(
    "option",
    [
        "timeout=0",
        "socket_timeout=-1",
        "socket_timeout=nan",
        "socket_connect_timeout=inf",
        "socket_read_size=0",
    ],
)
def test_a_number_that_no_connection_works_with_is_told_by_its_name(
    option: str,
) -> None:
    name = option.partition("=")[0]
    with pytest.raises(StoreUnavailable, match=f"^{name} of the Redis URL is"):
        redis_version(f"redis://127.0.0.1:9/0?{option}")


def test_an_url_does_not_say_which_commands_are_repeated() -> None:
    url = "redis://127.0.0.1:9/0?retry_on_error=x&retry_on_timeout=yes"
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        redis_version(url)
