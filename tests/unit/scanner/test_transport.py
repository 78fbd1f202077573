"""Which answers are handed over as the JSON that they are."""

import botocore.session
import pytest

from scanner.aws.transport import is_plain_json

SESSION = botocore.session.Session()


@pytest.mark.parametrize(
    ("service", "operation", "plain"),
    [
        ("lambda", "ListFunctions", True),
        ("lambda", "GetFunctionConfiguration", True),
        ("lambda", "UpdateFunctionConfiguration", True),
        ("lambda", "ListTags", True),
        ("lambda", "TagResource", True),  # nothing to parse
        ("lambda", "Invoke", False),  # a blob, and headers
        ("sts", "AssumeRole", False),  # XML
        ("organizations", "ListAccounts", False),  # timestamps
        ("cloudwatch", "GetMetricData", False),  # timestamps
    ],
)
def test_only_what_botocore_would_not_change(service: str, operation: str, plain: bool) -> None:
    model = SESSION.get_service_model(service).operation_model(operation)
    assert is_plain_json(model) is plain
