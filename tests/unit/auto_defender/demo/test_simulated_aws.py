"""moto behaves like AWS when many threads call it for the first time."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from botocore import model as botocore_model
from moto.core.model import OperationModel, ServiceModel
from moto.core.utils import get_service_model

from auto_defender.demo.simulated_aws import like_aws


def test_the_first_requests_of_two_threads_get_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, leave = threading.Event(), threading.Event()
    original = botocore_model.ServiceModel.operation_model

    def slow(service: ServiceModel, name: str) -> botocore_model.OperationModel:
        made = original(service, name)
        inside.set()
        leave.wait(20)
        return made

    monkeypatch.setattr(botocore_model.ServiceModel, "operation_model", slow)
    service = ServiceModel(get_service_model("lambda")._service_description, "lambda")
    with like_aws(), ThreadPoolExecutor(2) as threads:
        first = threads.submit(service.operation_model, "ListFunctions")
        inside.wait(20)
        second = threads.submit(service.operation_model, "ListFunctions")
        wait([second], timeout=0.2)
        leave.set()
        assert isinstance(second.result(), OperationModel)
        assert second.result() is first.result()
