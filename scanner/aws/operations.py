"""Lambda's operations with plain requests, prepared here: they are nearly all that a large run calls.

botocore's client spends most of a request's CPU on what never differs between two of them: the endpoint's rules, events
without a handler, contexts, a walk of the service model. The first call of an operation goes through the client, which
validates it and shows where it is sent; a test holds every other against the client's.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote

import orjson
from botocore.exceptions import ClientError
from botocore.model import OperationModel

from scanner.aws.transport import Sender, is_plain

Method = Callable[..., dict[str, Any]]
_Parameters = Mapping[str, Any]


def is_plain_request(model: OperationModel) -> bool:
    """Tell whether an operation's request is strings in its path and query, and beside them JSON as it is given."""
    shape = model.input_shape
    return model.service_model.resolved_protocol == "rest-json" and all(
        member.serialization.get("location") in {"uri", "querystring"} or is_plain(member)
        for member in (shape.members.values() if shape else ())
    )


class Operation:
    """One operation of a client; called as its method is, it gives and raises the same."""

    def __init__(self, model: OperationModel, by_client: Method, sender: Sender, user_agent: str) -> None:
        """Take an operation of plain requests that all go to one address, its client's method, and that client's sender."""
        self._model = model
        self._by_client = by_client
        self._sender = sender
        self._headers = {"User-Agent": user_agent}
        # Where each parameter goes, and the name that it has there.
        self._uri: dict[str, str] = {}
        self._query: dict[str, str] = {}
        self._body: dict[str, str] = {}
        places = {"uri": self._uri, "querystring": self._query}
        shape: Any = model.input_shape
        for name, member in shape.members.items():
            place = places.get(member.serialization.get("location"), self._body)
            place[name] = member.serialization.get("name", name)
        self._names = frozenset(shape.members)

    def __call__(self, **parameters: Any) -> dict[str, Any]:
        """Call it. Raises ClientError where AWS refuses, and what botocore raises for a connection."""
        where = self._sender.sent_to.get(self._model.name)
        if where is None or not self._knows(parameters):
            return self._by_client(**parameters)
        body = self._content(parameters)
        request = {
            "method": self._model.http["method"],
            "url": where.origin + self._target(parameters),
            "headers": self._headers | {"Content-Type": "application/json"} if body else self._headers,
            "body": body,
        }
        answer, parsed = self._sender.send(self._model, request, where)
        if answer.status_code >= 300:
            raise ClientError(cast("Any", parsed), self._model.name)
        return parsed

    def _knows(self, parameters: _Parameters) -> bool:
        """Tell whether these are parameters of the operation, those of its path included; if not, the client objects."""
        return (
            self._names.issuperset(parameters)
            and self._uri.keys() <= parameters.keys()
            and None not in parameters.values()
        )

    def _target(self, parameters: _Parameters) -> str:
        path: str = self._model.http["requestUri"]
        for name, label in self._uri.items():
            path = path.replace("{" + label + "}", _encoded(parameters[name]))
        pairs = [
            f"{wire}={_encoded(value)}"
            for name, wire in self._query.items()
            if name in parameters
            for value in _values(parameters[name])
        ]
        # An operation's own path may have a query: that of ListProvisionedConcurrencyConfigs ends in ?List=ALL.
        return path + ("&" if "?" in path else "?") + "&".join(pairs) if pairs else path

    def _content(self, parameters: _Parameters) -> bytes:
        document = {wire: parameters[name] for name, wire in self._body.items() if name in parameters}
        return orjson.dumps(document) if document else b""


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _encoded(value: Any) -> str:
    return quote(str(value), safe="-._~")
