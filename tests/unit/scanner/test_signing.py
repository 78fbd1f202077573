"""Our signature beside the one that botocore makes of the same request."""

import string
from datetime import UTC, datetime
from time import gmtime
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode, percent_encode_sequence
from hypothesis import given
from hypothesis import strategies as st

from scanner.aws.signing import signed_headers

NOW = 1_795_503_600
TEXT = st.text(max_size=12)
ORIGINS = st.sampled_from(
    [
        "https://lambda.eu-west-1.amazonaws.com",
        "https://Lambda.Example:443",
        "https://localhost:8443",
        "http://localhost:80",
        "http://[::1]:443",
        "https://[::1]",
        "https://user:p@localhost",
    ]
)
LABEL = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12)
PATHS = st.lists(TEXT.map(percent_encode), max_size=4).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.lists(st.tuples(LABEL, TEXT), max_size=4).map(percent_encode_sequence)
HEADERS = st.dictionaries(
    st.sampled_from(["User-Agent", "Content-Type", "X-Amz-Target", "Expect", "Accept"]),
    st.text(string.ascii_letters + " /;=.", max_size=20),
)


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.tuples(ORIGINS, PATHS, QUERIES),
    HEADERS,
    st.binary(max_size=40),
    st.tuples(LABEL, LABEL, st.none() | LABEL),
    st.tuples(LABEL, LABEL),
)
def test_every_header_is_botocores(
    method: str,
    target: tuple[str, str, str],
    headers: dict[str, str],
    body: bytes,
    keys: tuple[str, str, str | None],
    scope: tuple[str, str],
) -> None:
    origin, path, query = target
    url = f"{origin}{path}" + (f"?{query}" if query else "")
    credentials = Credentials(*keys)
    theirs = AWSRequest(method, url, dict(headers), body)
    with (
        patch("scanner.aws.signing.gmtime", lambda: gmtime(NOW)),
        patch("botocore.auth.get_current_datetime", lambda *_: datetime.fromtimestamp(NOW, UTC)),
    ):
        ours = signed_headers(
            credentials.get_frozen_credentials(), scope[0], scope[1], method, url, headers, body
        )
        SigV4Auth(credentials, *scope).add_auth(theirs)
    assert ours == dict(theirs.headers.items())
