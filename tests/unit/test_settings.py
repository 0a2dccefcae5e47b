from __future__ import annotations

import pytest

from app.errors import ConfigurationError
from app.inference.active import active_manifests, load_active
from app.settings import Secret, SettingRow, load_settings, setting_rows

NUMBERS = [row for row in setting_rows() if row.kind in (int, float)]


def test_defaults_need_no_environment() -> None:
    settings = load_settings({"PATH": "/bin"})
    assert settings.kafka.partitions == 8
    assert settings.s3.excluded_prefixes == ()


def test_values_are_parsed_by_type() -> None:
    settings = load_settings(
        {
            "SIGHTLINE_KAFKA_PARTITIONS": "4",
            "SIGHTLINE_S3_BUCKETS": "images, more ,",
            "SIGHTLINE_INFERENCE_MIXED_PRECISION": "yes",
            "SIGHTLINE_LANE_DRAIN_SECONDS": "2.5",
        }
    )
    assert settings.kafka.partitions == 4
    assert settings.s3.buckets == ("images", "more")
    assert settings.inference.mixed_precision is True
    assert settings.lane.drain_seconds == 2.5


def test_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(
        ConfigurationError, match=r"SIGHTLINE_KAFKA_BOOTSTRAPS; did you mean SIGHTLINE_KAFKA_BOOTSTRAP\?"
    ):
        load_settings({"SIGHTLINE_KAFKA_BOOTSTRAPS": "x"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SIGHTLINE_KAFKA_PARTITIONS", "many"),
        ("SIGHTLINE_KAFKA_PARTITIONS", "-1"),
        ("SIGHTLINE_INFERENCE_MIXED_PRECISION", "perhaps"),
        ("SIGHTLINE_INFERENCE_DEVICE", "tpu"),
        ("SIGHTLINE_LANE_DRAIN_SECONDS", "40"),
        ("SIGHTLINE_KAFKA_REQUEST_TIMEOUT_SECONDS", "10"),
        ("SIGHTLINE_KAFKA_SESSION_TIMEOUT_SECONDS", "90"),
        ("SIGHTLINE_KAFKA_PARTITIONS", "0"),
        ("SIGHTLINE_KAFKA_SESSION_TIMEOUT_SECONDS", "0"),
        ("SIGHTLINE_LANE_RELEASE_RESULTS", "0"),
        ("SIGHTLINE_LANE_TICK_SECONDS", "nan"),
        ("SIGHTLINE_LANE_TICK_SECONDS", "inf"),
        ("SIGHTLINE_LANE_DEAD_LETTER_RATIO", "50"),
        ("SIGHTLINE_REDIS_TOMBSTONE_HOURS", "3"),
        ("SIGHTLINE_S3_CONCURRENCY", "0"),
        ("SIGHTLINE_ENGINE_MAX_BATCH", "0"),
        ("SIGHTLINE_TABLES_WRITE_BUFFER_BYTES", "33554432"),
        ("SIGHTLINE_TABLES_CLAIMS_DAYS", "1"),
    ],
)
def test_wrong_value_is_refused_by_name(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable}='?{text}'? must"):
        load_settings({variable: text})


def test_the_sentence_says_what_is_allowed() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^SIGHTLINE_S3_CONCURRENCY='0' must be a whole number, 1 or more \(Objects that"
    ):
        load_settings({"SIGHTLINE_S3_CONCURRENCY": "0"})
    with pytest.raises(ConfigurationError, match=r"^SIGHTLINE_LANE_DEAD_LETTER_RATIO='2' must be a number, 0 to 1 \("):
        load_settings({"SIGHTLINE_LANE_DEAD_LETTER_RATIO": "2"})
    with pytest.raises(ConfigurationError, match=r"^SIGHTLINE_STACK_S3='aws' must be one of ministack, versitygw \("):
        load_settings({"SIGHTLINE_STACK_S3": "aws"})


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.variable)
def test_every_number_is_finite_and_has_a_least_value_that_its_default_keeps(row: SettingRow) -> None:
    assert row.least is not None
    assert row.least <= row.default
    assert row.most is None or row.default <= row.most
    for text in ("nan", "inf", "-inf", str(row.kind(row.least) - 1)):
        with pytest.raises(ConfigurationError, match=row.variable):
            load_settings({row.variable: text})
    if row.most is not None:
        with pytest.raises(ConfigurationError, match=row.variable):
            load_settings({row.variable: str(row.kind(row.most) + 1)})


def test_a_disabled_model_that_is_none_is_refused_wherever_models_are_chosen() -> None:
    inference = load_settings({"SIGHTLINE_INFERENCE_DISABLED": "nope"}).inference
    sentence = r"SIGHTLINE_INFERENCE_DISABLED='nope' must be .* there are category, "
    with pytest.raises(ConfigurationError, match=sentence):
        active_manifests(inference)
    with pytest.raises(ConfigurationError, match=sentence):
        load_active(inference)


def test_secrets_print_masked() -> None:
    settings = load_settings({"SIGHTLINE_S3_SECRET_KEY": "hunter2"})
    assert "hunter2" not in repr(settings)
    assert f"{settings.s3.secret_key}" == "'***'"
    assert settings.s3.secret_key.reveal() == "hunter2"
    assert repr(Secret("")) == "''"


def test_every_setting_is_documented() -> None:
    rows = list(setting_rows())
    assert len({row.variable for row in rows}) == len(rows)
    assert [row.variable for row in rows if not row.doc.endswith((".", ")."))] == []
    assert [row.variable for row in rows if not row.summary or len(row.summary) > 150] == []
