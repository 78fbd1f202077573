"""ministack as a process: an AWS on the loopback that enforces roles (AUTH=true) and speaks TLS (USE_SSL=1)."""

import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.machine import ROOT

# The emulator has requirements of its own, so it lives in its own environment; `make` sets that up.
PROGRAM = Path(os.environ.get("AUTO_DEFENDER_MINISTACK", ROOT / ".venv-ministack" / "bin" / "ministack"))
SECRET = "test"
START_TIMEOUT_SEC = 300.0
SCRATCH_BYTES = 4 * 1024**3


class Emulator:
    """A running ministack. Twelve digits as an access key are the root of the account of that number."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.url = url
        self.certificate = certificate

    def root(self, account_id: str, service: str, region: str = "us-east-1") -> Any:
        """Return a client of the service that calls as the account's root."""
        return self.client(service, region, access_key=account_id, secret_key=SECRET, token=None)

    def client(
        self, service: str, region: str, *, access_key: str, secret_key: str, token: str | None
    ) -> Any:
        """Return a client of the service that calls with these credentials."""
        # The stubs know no service whose name is only known at run time.
        make: Any = boto3.client
        return make(
            service,
            region_name=region,
            endpoint_url=self.url,
            verify=str(self.certificate),
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )


@contextmanager
def running(program: Path) -> Iterator[Emulator]:
    """Start ministack on a free port, and stop it at the end."""
    port = _free_port()
    with (
        tempfile.TemporaryDirectory(prefix="ministack-", dir=_scratch()) as home,
        (Path(home) / "log").open("wb") as log,
    ):
        process = subprocess.Popen(
            [str(program)],
            env=_environment(port, home),
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            emulator = Emulator(f"https://127.0.0.1:{port}", Path(home) / "ministack-tls" / "server.crt")
            _wait_until_healthy(emulator, process, Path(home) / "log")
            yield emulator
        finally:
            # At once, and its functions' processes with it: there is nothing to save.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _scratch() -> Path | None:
    """Return a folder in memory if there is one of some size, or None for the usual one.

    The emulator unpacks the package, 160 MB, for each execution environment of a function.
    """
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > SCRATCH_BYTES else None


def _environment(port: int, home: str) -> dict[str, str]:
    """Return the emulator's environment; the developer's own AWS settings are not part of it."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": home,
        "TMPDIR": home,
        "AUTH": "true",
        "USE_SSL": "1",  # the report bucket refuses plain HTTP
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AWS_ACCESS_KEY_ID": "no-such-key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "LOG_LEVEL": "WARNING",
        "SFN_WAIT_SCALE": "0.01",  # the waits of a state machine between its attempts
    }


def _free_port() -> int:
    """Return a free port below those that Linux gives to connections: no other test's connection can take it."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 20000 and 32000")


def _wait_until_healthy(emulator: Emulator, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SEC
    while time.monotonic() < deadline and process.poll() is None:
        try:
            trusted = ssl.create_default_context(cafile=str(emulator.certificate))
            with urllib.request.urlopen(f"{emulator.url}/_ministack/health", timeout=5, context=trusted):
                return
        except OSError:  # no certificate yet, nobody listens yet
            time.sleep(0.1)
    raise RuntimeError(f"ministack did not start; its log ends:\n{log.read_text()[-2000:]}")
