"""Starts the loopback server in its own process and returns how clients reach it."""

import datetime
import ipaddress
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from ssl import create_default_context
from typing import Any

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.answers import CENTRAL_ACCOUNT
from simulator.http import environment

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class RunningServer:
    """A server that runs: ``url``, and the environment that makes any AWS SDK talk to it and nowhere else."""

    port: int
    ca_bundle: Path | None

    @property
    def url(self) -> str:
        return f"{'https' if self.ca_bundle else 'http'}://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Environment variables of a client in the central account."""
        variables = environment(self.url, CENTRAL_ACCOUNT) | {"PYTHONPATH": str(ROOT)}
        return variables | ({"AWS_CA_BUNDLE": str(self.ca_bundle)} if self.ca_bundle else {})

    def stats(self) -> dict[str, Any]:
        """The server's counts since it started or was reset (see ``aws_server.Stats``)."""
        return self._control("GET", "/__stats__")

    def set_faults(self, plan: dict[str, list[dict[str, Any]]]) -> None:
        """A new fault plan, see ``faults.read_plan``: {"ACCOUNT/REGION": [{"kind": "reset", "times": 1}]}."""
        self._control("POST", "/__faults__", json.dumps(plan).encode())

    def reset(self) -> None:
        """Reset every count, session and fault."""
        self._control("POST", "/__reset__")

    def _control(self, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        if self.ca_bundle:
            connection = HTTPSConnection(
                "127.0.0.1", self.port, timeout=10, context=create_default_context(cafile=self.ca_bundle)
            )
        connection.request(method, path, body)
        answer: dict[str, Any] = json.load(connection.getresponse())
        connection.close()
        return answer


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A new self-signed certificate for 127.0.0.1: the server's PEM, and a CA bundle that trusts it.

    The bundle contains the public authorities as well, so that loading it costs as much as with AWS.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(
        now - datetime.timedelta(days=1)
    )
    builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem, bundle = folder / "server.pem", folder / "ca-bundle.pem"
    pem.write_bytes(private + certificate)
    bundle.write_bytes(Path(certifi.where()).read_bytes() + certificate)
    return pem, bundle


@contextmanager
def running_server(
    accounts: int = 100,
    functions: int = 25,
    regions: tuple[str, ...] = ("us-east-1", "us-west-2"),
    page_size: int = 50,
    latency_ms: float = 0,
    tls: bool = False,
    check_signatures: bool = False,
) -> Iterator[RunningServer]:
    """The server in a process of its own, for as long as the block runs.

    functions: in each account and region; check_signatures: reject requests that are not signed with the key's secret.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.aws_server",
        "--accounts",
        str(accounts),
        "--functions",
        str(functions),
    ]
    command += [
        "--regions",
        ",".join(regions),
        "--page-size",
        str(page_size),
        "--latency-ms",
        str(latency_ms),
    ]
    command += ["--check-signatures"] if check_signatures else []
    with tempfile.TemporaryDirectory() as folder:
        bundle = None
        if tls:
            pem, bundle = write_certificate(Path(folder))
            command += ["--certificate", str(pem)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdin and process.stdout
        try:
            yield RunningServer(json.loads(process.stdout.readline())["port"], bundle)
        finally:
            process.stdin.close()
            process.wait(timeout=10)
            process.stdout.close()
