"""The shared layer: for the organization alone, and never taken away from functions that use it."""

import pytest

from tools.templates import CENTRAL, render

GIVEN = {
    "LayerName": "twistlock-python",
    "Description": "Defender 33.01.137, Python",
    "BucketPrefix": "layers",
    "ZipKey": "33.01.137.zip",
    "CompatibleRuntimes": "python3.11,python3.12",
    "OrganizationId": "o-a1b2c3d4e5",
}


def test_the_layer_comes_from_the_regions_own_bucket() -> None:
    layer = render("layer-sharing.yaml", CENTRAL, **GIVEN)["Layer"]["Properties"]
    assert layer["Content"] == {"S3Bucket": "layers-us-east-1", "S3Key": "33.01.137.zip"}
    assert layer["CompatibleRuntimes"] == ["python3.11", "python3.12"]


def test_the_organization_is_the_only_principal() -> None:
    sharing = render("layer-sharing.yaml", CENTRAL, **GIVEN)["Sharing"]["Properties"]
    assert sharing == {
        "LayerVersionArn": "Layer",
        "Action": "lambda:GetLayerVersion",
        "Principal": "*",
        "OrganizationId": "o-a1b2c3d4e5",
    }


@pytest.mark.parametrize("missing", ["OrganizationId", "LayerName", "ZipKey"])
def test_nothing_is_shared_without_an_organization(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        render(
            "layer-sharing.yaml", CENTRAL, **{key: value for key, value in GIVEN.items() if key != missing}
        )


def test_old_versions_stay_and_stay_shared() -> None:
    for resource in render("layer-sharing.yaml", CENTRAL, **GIVEN).values():
        assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"
