from __future__ import annotations

import pytest

from app.errors import ConfigurationError
from app.settings import Secret, load_settings, setting_rows


def test_defaults_need_no_environment() -> None:
    settings = load_settings({"PATH": "/bin"})
    assert settings.kafka.partitions == 8
    assert settings.s3.excluded_prefixes == ("lake/", "archive/")


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
    ],
)
def test_wrong_value_is_refused_by_name(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        load_settings({variable: text})


def test_secrets_print_masked() -> None:
    settings = load_settings({"SIGHTLINE_S3_SECRET_KEY": "hunter2"})
    assert "hunter2" not in repr(settings)
    assert f"{settings.s3.secret_key}" == "'***'"
    assert settings.s3.secret_key.reveal() == "hunter2"
    assert repr(Secret("")) == "''"


def test_every_setting_is_documented() -> None:
    rows = list(setting_rows())
    assert len({row.variable for row in rows}) == len(rows)
    assert all(row.doc for row in rows)
