"""Lambda's operations, prepared by botocore's serializer alone: they are nearly all that a large run calls.

botocore's client spends most of a request's preparation on what never differs between two of them: the endpoint's rules,
events without a handler, contexts. The first call of an operation goes through the client, and shows where it is sent.
"""

from collections.abc import Callable
from typing import Any, cast

from botocore.awsrequest import prepare_request_dict
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.serialize import create_serializer

from scanner.direct import Sender


class Operation:
    """One operation of a client; called as its method is, it gives and raises the same."""

    def __init__(self, client: BaseClient, method: str, sender: Sender) -> None:
        """Take a client of a service whose requests go to one address, its method, and its sender."""
        self._model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
        # The first call is validated by the client; the types of what we send do not differ between two.
        self._serializer: Any = create_serializer(
            client.meta.service_model.resolved_protocol, include_validation=False
        )
        config: Any = client.meta.config
        self._user_agent = config.user_agent
        self._by_client: Callable[..., dict[str, Any]] = getattr(client, method)
        self._sender = sender

    def __call__(self, **parameters: Any) -> dict[str, Any]:
        """Call it. Raises ClientError where AWS refuses, and what botocore raises for a connection."""
        where = self._sender.sent_to.get(self._model.name)
        if where is None:
            return self._by_client(**parameters)
        request = self._serializer.serialize_to_request(parameters, self._model)
        prepare_request_dict(request, where.origin, user_agent=self._user_agent)
        answer, parsed = self._sender.send(self._model, request, where)
        if answer.status_code >= 300:
            raise ClientError(cast("Any", parsed), self._model.name)
        return parsed
