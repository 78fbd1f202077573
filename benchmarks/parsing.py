"""What parsing a ListFunctions page costs: botocore's own parser beside ways around it, all inside a client call.

The network is left out (``before-send`` gives the answer), so that a row's figure is the CPU of building,
signing and parsing one call. The first row's page is empty: what is above it is parsing.

    python -m benchmarks.parsing [--json]
"""

import gc
import json
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import botocore.session
import msgspec
import orjson
import typer
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.config import Config
from rich.console import Console
from rich.table import Table

from benchmarks import msgspec_page
from benchmarks.answers import functions_page

Handler = Callable[..., None]
Loads = Callable[[bytes], dict[str, Any]]


class _Body:
    """The part of urllib3's response that botocore reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


def client_answering(body: bytes, handler: Handler | None) -> BaseClient:
    """A real Lambda client whose every ListFunctions is answered with ``body`` and parsed by ``handler``."""
    session = botocore.session.Session()
    session.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret", "token")
    client = session.create_client(
        "lambda", region_name="us-east-1", config=Config(retries={"total_max_attempts": 1})
    )
    headers: Any = {"content-type": "application/json", "content-length": str(len(body))}

    def answer(request: Any, **_: Any) -> Any:
        return AWSResponse(request.url, 200, headers, _Body(body))

    events: Any = client.meta.events
    events.register("before-send.lambda.ListFunctions", answer)
    if handler is not None:
        events.register("before-parse.lambda.ListFunctions", handler)
    return client


def parsed_by(loads: Loads) -> Handler:
    """A ``before-parse`` handler that takes the body from botocore's parser and hands over what ``loads`` makes."""

    def handler(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
        customized_response_dict.update(loads(response_dict["body"]))
        response_dict["body"] = b"{}"

    return handler


def ways() -> dict[str, Handler | None]:
    """Every way of parsing, by name."""
    return {
        "botocore": None,
        "json": parsed_by(json.loads),
        "orjson": parsed_by(orjson.loads),
        "msgspec, untyped": parsed_by(msgspec.json.decode),
        "msgspec, typed": parsed_by(msgspec_page.loads),
    }


def microseconds_a_call(clients: dict[str, Any], calls: int, rounds: int = 40) -> dict[str, float]:
    """CPU microseconds of one ListFunctions with each client: the best of many short, alternating rounds."""
    best = dict.fromkeys(clients, float("inf"))
    for _ in range(rounds):
        for name, client in clients.items():
            gc.collect()
            started = time.process_time()
            for _ in range(calls):
                client.list_functions()
            best[name] = min(best[name], (time.process_time() - started) * 1e6 / calls)
    return best


def measure(functions: int, calls: int) -> list[dict[str, Any]]:
    """Rows of page, parser, call_us and parse_us (call_us without what a call with an empty page takes)."""
    body = functions_page("us-east-1", 0, functions, functions)
    clients: dict[str, Any] = {name: client_answering(body, handler) for name, handler in ways().items()}
    for name, client in clients.items():
        found = client.list_functions()["Functions"]
        if len(found) != functions:
            raise AssertionError(f"{name} gave {len(found)} functions of {functions}")
    empty = client_answering(b'{"Functions":[]}', None)
    best = microseconds_a_call({"": empty, **clients}, calls)
    return [
        {
            "page": functions,
            "bytes": len(body),
            "parser": name,
            "call_us": best[name],
            "parse_us": best[name] - best[""],
        }
        for name in clients
    ]


def main(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    calls: Annotated[int, typer.Option(min=1, help="Calls a round.")] = 20,
) -> None:
    """Time each way of parsing pages of 50 and 25 functions."""
    rows = measure(50, calls) + measure(25, calls)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("functions", "bytes", "parser", "call µs", "of it parsing µs", "parsing, × botocore's")
    for row in rows:
        own = next(r["parse_us"] for r in rows if r["page"] == row["page"] and r["parser"] == "botocore")
        figures = (f"{row['call_us']:,.0f}", f"{row['parse_us']:,.0f}", f"{own / row['parse_us']:.1f}")
        table.add_row(str(row["page"]), f"{row['bytes']:,}", row["parser"], *figures)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
