"""The configuration is validated whole: one line that names the file, the line, the key and what is expected."""

import pytest

from auto_defender.config import Configuration, read_configuration
from scanner.core.errors import BadInput

GOOD = b"""
organization:
  role_name: AutoDefenderMember
  regions: [us-east-1, us-west-2]
defender:
  layers:
    python: arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4
    nodejs: arn:aws:lambda:{region}:{account_id}:layer:twistlock-nodejs:4
  wrapper: /opt/twistlock/wrapper
  environment: {TW_POLICY: s3cr3t-policy}
"""


def read(text: bytes, **environ: str) -> Configuration:
    return read_configuration(text, "c.yaml", environ)


def test_defaults_are_the_documented_ones() -> None:
    settings = read(GOOD)
    assert settings.rollout.dry_run is True
    assert settings.defender.tag is not None
    assert (settings.defender.tag.key, settings.defender.tag.value) == ("SecurityProtected", "True")
    assert settings.risk.max_layers == 5
    assert settings.risk.min_memory_mb == 256
    assert settings.risk.timeout_buffer_sec == 30
    assert settings.risk.zipped_size_threshold_mb == 70
    assert settings.risk.architectures == ("x86_64",)
    assert (settings.rollout.max_changes_per_run, settings.rollout.max_changes_per_account) == (500, 50)
    assert settings.defender.version_policy == "exact"
    assert (settings.defender.previous.layers, settings.defender.previous.wrappers) == ((), ())
    assert settings.output == "./out"


@pytest.mark.parametrize(("ending", "version"), [("", 0), (":*", 0), (":7", 7)])
def test_a_previous_layer_is_of_one_version_or_of_any(ending: str, version: int) -> None:
    given = (
        f"  previous: {{layers: ['arn:aws:lambda:{{region}}:{{account_id}}:layer:old{ending}']}}\n  wrapper:"
    )
    (layer,) = read(GOOD.replace(b"  wrapper:", given.encode())).defender.previous_layers(
        "us-west-2", "222233334444"
    )
    assert (layer.region, layer.account_id, layer.name, layer.version) == (
        "us-west-2",
        "222233334444",
        "old",
        version,
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"role_name: AutoDefenderMember", b"rolename: X", "line 3: organization.rolename: unknown key"),
        (b"  role_name: AutoDefenderMember\n", b"", "line 2: organization.role_name: missing"),
        (b"[us-east-1, us-west-2]", b"[us-east-1, us_west]", "line 4: organization.regions"),
        (b"[us-east-1, us-west-2]", b"[]", "name at least one region"),
        (b"[us-east-1, us-west-2]", b"[us-east-1, us-east-1]", "stands twice"),
        (b"[us-east-1, us-west-2]", b"all", "organization.regions"),
        (b":layer:twistlock-python:4", b":layer:twistlock-python", "expected a layer version ARN"),
        (b"{account_id}:layer", b"{account}:layer", "expected a layer version ARN"),
        (b"    python: arn", b"    ruby: arn", "line 7: defender.layers.ruby"),
        (
            b"    python: arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4",
            b"    python: {}",
            "names no region",
        ),
        (b"/opt/twistlock/wrapper", b"opt/wrapper", "absolute path"),
        (b"/opt/twistlock/wrapper", b"{python: /opt/w}", "no entry for 'nodejs'"),
        (b"TW_POLICY", b"AWS_REGION", "keeps for itself"),
        (
            b"TW_POLICY: s3cr3t-policy",
            b"TW_POLICY: 12345678",
            "defender.environment.TW_POLICY: expected text",
        ),
        (
            b"  wrapper:",
            b"  version_policy: newest\n  wrapper:",
            "line 9: defender.version_policy: expected 'exact' or 'at_least'",
        ),
        (
            b"  wrapper:",
            b"  previous: {layers: [twistlock]}\n  wrapper:",
            "line 9: defender.previous.layers: 'twistlock' is no layer ARN",
        ),
        (
            b"  wrapper:",
            b"  previous: {layers: ['arn:aws:lambda:{account}:1:layer:x']}\n  wrapper:",
            "is no layer ARN",
        ),
        (
            b"  wrapper:",
            b"  previous: {wrappers: [opt/w]}\n  wrapper:",
            "line 9: defender.previous.wrappers: 'opt/w' is no absolute path",
        ),
        (b"  wrapper:", b"  previous: {layer: []}\n  wrapper:", "defender.previous.layer: unknown key"),
        (b"defender:", b"risk: {min_memory_mb: '256'}\ndefender:", "line 5: risk.min_memory_mb"),
        (b"defender:", b"risk: {max_layers: 6}\ndefender:", "less than or equal to 5"),
        (b"defender:", b"rollout: {waves: [{name: a}]}\ndefender:", "wave 'a' selects no function"),
        (
            b"defender:",
            b"rollout: {waves: [{name: a, ous: [ou-r-1]}]}\ndefender:",
            "line 5: rollout.waves.0.ous.0",
        ),
        (
            b"defender:",
            b"rollout: {waves: [{name: a, accounts: ['111122223333'], soak_hours: 48}]}\ndefender:",
            "raise health.hours to 48",
        ),
        (
            b"defender:",
            b"rollout: {health: {enabled: false}, waves: [{name: a, accounts: ['111122223333']}]}\ndefender:",
            "set its min_healthy to 0",
        ),
        (b"defender:", b"rollout: {kill_switch: /auto-defender/stop}\ndefender:", "rollout.kill_switch"),
        (b"defender:", b"rollout: {dry_run: 'no'}\ndefender:", "line 5: rollout.dry_run"),
        (
            b"defender:",
            b"rollout: {optout_tag: {key: AutoDefender, value: off}}\ndefender:",
            "put it in quotes",
        ),
        (b"defender:", b"defender: {}\ndefender:", "the key 'defender' stands twice"),
    ],
)
def test_a_fault_is_reported_in_one_line(old: bytes, new: bytes, said: str) -> None:
    assert old in GOOD
    with pytest.raises(BadInput) as raised:
        read(GOOD.replace(old, new))
    assert "c.yaml" in str(raised.value)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "s3cr3t" not in str(raised.value)
    assert "12345678" not in str(raised.value)


BY_REGION = GOOD.replace(
    b"    python: arn:aws:lambda:{region}:111122223333:layer:twistlock-python:4\n",
    b"    python:\n"
    b"      us-east-1: arn:aws:lambda:us-east-1:111122223333:layer:twistlock-python:4\n"
    b"      us-west-2: arn:aws:lambda:us-west-2:111122223333:layer:twistlock-python:7\n",
)


def test_a_layer_may_be_given_region_by_region() -> None:
    defender = read(BY_REGION).defender
    assert defender.layer_for("python", "us-east-1", "222233334444").version == 4
    assert defender.layer_for("python", "us-west-2", "222233334444").version == 7
    assert defender.layer_for("nodejs", "eu-west-1", "222233334444").region == "eu-west-1"


def test_regions_that_nobody_listed_need_no_layer() -> None:
    defender = read(BY_REGION.replace(b"[us-east-1, us-west-2]", b"enabled")).defender
    with pytest.raises(BadInput, match="no layer version ARN for eu-west-1"):
        defender.layer_for("python", "eu-west-1", "222233334444")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"      us-west-2: arn", b"      us_west: arn", "line 9: defender.layers.python.us_west"),
        (b"      us-west-2: arn", b"      eu-west-1: arn", "python.eu-west-1 has a layer of us-west-2"),
        (b"twistlock-python:7", b"twistlock-python", "expected a layer version ARN"),
        (
            b"arn:aws:lambda:us-west-2:111122223333:layer:twistlock-python:7",
            b"7",
            "line 9: defender.layers.python.us-west-2: expected text",
        ),
        (
            b"[us-east-1, us-west-2]",
            b"[us-east-1, sa-east-1]",
            "defender.layers.python has no layer for sa-east-1",
        ),
    ],
)
def test_a_fault_in_a_map_of_regions_is_reported(old: bytes, new: bytes, said: str) -> None:
    assert old in BY_REGION
    with pytest.raises(BadInput) as raised:
        read(BY_REGION.replace(old, new))
    assert said in str(raised.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"just words", b"organization:\n"])
def test_a_file_that_is_no_configuration(text: bytes) -> None:
    with pytest.raises(BadInput, match=r"c\.yaml"):
        read(text)


def test_the_missions_variables_override() -> None:
    settings = read(
        GOOD,
        DRY_RUN="False",
        EXCLUSION_LIST="billing-api, legacy-*",
        MAX_LAYERS="4",
        MIN_MEMORY_MB="512",
        TIMEOUT_BUFFER_SEC="60",
        ZIPPED_SIZE_THRESHOLD="50 MB",
    )
    assert settings.rollout.dry_run is False
    assert settings.rollout.exclusion_list == ("billing-api", "legacy-*")
    assert settings.risk.max_layers == 4
    assert settings.risk.min_memory_mb == 512
    assert settings.risk.timeout_buffer_sec == 60
    assert settings.risk.zipped_size_threshold_mb == 50


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DRY_RUN", "maybe"),
        ("DRY_RUN", ""),
        ("MAX_LAYERS", "6"),
        ("EXCLUSION_LIST", ""),
        ("EXCLUSION_LIST", " , "),
        ("MAX_LAYERS", "many"),
        ("MIN_MEMORY_MB", "-1"),
    ],
)
def test_a_wrong_variable_is_reported_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(BadInput, match=f"environment variable {variable}"):
        read(GOOD, **{variable: value})


def test_a_release_is_what_is_attached_and_nothing_else() -> None:
    release = read(GOOD).release
    assert read(GOOD + b"rollout: {dry_run: false}\n").release == release
    for old, new in (
        (b"python:4", b"python:5"),
        (b"s3cr3t-policy", b"rotated"),
        (b"/opt/twistlock", b"/opt/d"),
    ):
        assert read(GOOD.replace(old, new)).release != release


def test_secrets_do_not_show() -> None:
    settings = read(GOOD)
    assert "s3cr3t" not in repr(settings)
    assert "s3cr3t" not in settings.model_dump_json()
