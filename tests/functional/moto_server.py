"""A moto server in this process, and the real command line as a process that calls it over HTTP."""

import logging
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from moto.awslambda.models import lambda_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from auto_defender.demo.functions import fill
from auto_defender.demo.organization import REGIONS, Organization, build_organization
from auto_defender.demo.run import configuration_text, optouts_text
from auto_defender.demo.simulated_aws import like_aws
from tests.loaded_python import Done, start
from tests.machine import ROOT


class OneAtATime:
    """moto's application, with one request in it at a time, whatever the number of connections.

    moto's backends are dictionaries without locks, which requests fill and iterate over; a test that counts calls must
    not see the retry of a 500 that two requests caused.
    """

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        with self._lock:
            return self._application(environ, start_response)


@contextmanager
def serving() -> Iterator[str]:
    """Serve moto on loopback, in a thread of this process; yield its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each request
    server = make_server("127.0.0.1", 0, OneAtATime(), threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, args=[0.05], name="moto", daemon=True)
    with like_aws():
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def reset(url: str) -> None:
    """Forget every account."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST"), timeout=10).close()


def environment(url: str | None = None, **more: str) -> dict[str, str]:
    """Return a process's environment: nothing of the developer's AWS, and where a server is, keys for it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    apart = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    keys = {
        "AWS_ENDPOINT_URL": url or "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    return {**own, **apart, **keys, **more}


def auto_defender(*arguments: str, env: Mapping[str, str], cwd: Path = ROOT) -> Done:
    """Run the command line to its end."""
    return start("-m", "auto_defender", *arguments, env=env, cwd=cwd).wait()


@dataclass
class Workspace:
    """A folder with a configuration, an opt-out file and the output of runs."""

    folder: Path
    organization: Organization

    def configure(self, **sections: Any) -> str:
        """Write the configuration with some keys changed, and give its path."""
        optouts = self.folder / "optouts.yaml"
        if not optouts.exists():
            optouts.write_text(optouts_text(self.organization), encoding="utf-8")
        settings = yaml.safe_load(configuration_text(optouts))
        settings["output"] = str(self.folder / "out")
        for section, value in sections.items():
            if isinstance(value, Mapping):
                settings.setdefault(section, {}).update(value)
            else:
                settings[section] = value
        path = self.folder / "auto-defender.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return str(path)

    def run_file(self, run_id: str, name: str) -> str:
        """Read one of a run's files from the output folder."""
        (path,) = (self.folder / "out").glob(f"runs/*/*/*/{run_id}/{name}")
        return path.read_text(encoding="utf-8-sig")


def configurations(accounts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return every function's configuration by ARN, with its tags, as the server has it now."""
    return {
        function.function_arn: {**function.get_configuration(), "Tags": dict(function.tags)}
        for account_id in accounts
        for region in REGIONS
        for function in lambda_backends[account_id][region].list_functions()
    }


def workspace_with(server: str, folder: Path, accounts: int) -> Workspace:
    """Reset the server, fill it with a new organization, and return the workspace of a test in it."""
    reset(server)
    organization = build_organization(accounts)
    fill(organization)
    return Workspace(folder, organization)
