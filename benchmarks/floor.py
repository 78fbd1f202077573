"""The least that a sweep in Python can cost: what it must sign, send, receive and parse, and nothing else."""

import json
import os
import queue
import re
import ssl
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlencode, urlsplit

from benchmarks.task import ROLE, Found, Task
from simulator.sigv4 import Keys, signed_headers

_KEYS = re.compile(
    r"<AccessKeyId>(.*?)</AccessKeyId><SecretAccessKey>(.*?)</SecretAccessKey><SessionToken>(.*?)</SessionToken>"
)
_LIST = "/2015-03-31/functions/"


class _Worker:
    """One thread's kept-alive connection."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._host = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
        self._connection = HTTPSConnection(self._host, context=tls) if tls else HTTPConnection(self._host)
        self._own: Keys = (
            os.environ["AWS_ACCESS_KEY_ID"],
            os.environ["AWS_SECRET_ACCESS_KEY"],
            os.environ["AWS_SESSION_TOKEN"],
        )

    def _send(
        self, keys: Keys, region: str, service: str, method: str, path: str, query: str, body: bytes
    ) -> bytes:
        headers = signed_headers(keys, (region, service), method, self._host, path, query, body)
        self._connection.request(method, f"{path}?{query}" if query else path, body or None, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} from {service}: {content[:200]!r}")
        return content

    def assume(self, account: str, role: str) -> Keys:
        """AssumeRole in this account."""
        form = {"Action": "AssumeRole", "Version": "2011-06-15", "RoleSessionName": "floor"}
        body = urlencode(form | {"RoleArn": f"arn:aws:iam::{account}:role/{role}"}).encode()
        found = _KEYS.search(self._send(self._own, "us-east-1", "sts", "POST", "/", "", body).decode())
        if not found:
            raise RuntimeError("AssumeRole gave no credentials")
        return found[1], found[2], found[3]

    def count(self, keys: Keys, region: str) -> int:
        """How many functions the account has in this region."""
        total, marker = 0, ""
        while True:
            query = f"Marker={marker}" if marker else ""
            page = json.loads(self._send(keys, region, "lambda", "GET", _LIST, query, b""))
            total += len(page["Functions"])
            marker = page.get("NextMarker", "")
            if not marker:
                return total


def floor(task: Task) -> Found:
    """Hand-signed requests on kept-alive connections, parsed by json.loads and thrown away."""
    tls = None
    if urlsplit(os.environ["AWS_ENDPOINT_URL"]).scheme == "https":
        tls = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for _ in range(task.workers):
        idle.put(_Worker(tls))

    def account_of(account: str) -> int:
        worker = idle.get()
        try:
            keys = worker.assume(account, ROLE)
            return sum(worker.count(keys, region) for region in task.regions)
        finally:
            idle.put(worker)

    with ThreadPoolExecutor(task.workers) as pool:
        return Found(sum(pool.map(account_of, task.accounts)))
