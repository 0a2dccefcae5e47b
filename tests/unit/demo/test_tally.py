"""What the demo counts, on records made by hand."""

from __future__ import annotations

from dataclasses import replace

from app.demo.pictures import Picture
from app.demo.tally import Tally
from schemas.records import FlaggedImage, ImagePrediction
from tests.support.schema_examples import newest_example


def _prediction(key: str, **changes: object) -> ImagePrediction:
    record = newest_example("ImagePrediction")
    assert isinstance(record, ImagePrediction)
    return replace(record, key=key, **changes)  # type: ignore[arg-type]  # the fields of the test are right


def _flag(key: str, severity: int, rule: str) -> FlaggedImage:
    record = newest_example("FlaggedImage")
    assert isinstance(record, FlaggedImage)
    return replace(record, key=key, severity=severity, rules=(replace(record.rules[0], rule=rule),))


def _picture(key: str, scored: bool | None = True) -> Picture:
    return Picture(key, b"", "plain", scored)


def test_outcomes_are_counted_once_per_key_and_strangers_not_at_all() -> None:
    tally = Tally(total=2)
    tally.upload(_picture("a"))
    tally.upload(_picture("b"))
    tally.see(_prediction("stranger"), 0, 1)
    tally.see(_prediction("a", cached=True), 0, 5)
    tally.see(_prediction("a", cached=True), 0, 7)
    assert (tally.waiting, tally.hits, tally.complete) == (1, 1, False)
    tally.see(_prediction("b", outcome="rejected", reason="empty", publishable=False), 3, 2)
    assert tally.complete
    assert (tally.count("scored"), tally.count("rejected")) == (1, 1)
    assert tally.rejections() == {"empty": 1}
    assert tally.summary() == {
        "scored": 1,
        "rejected": 1,
        "gone": 0,
        "publishable": 1,
        "from_known_scores": 1,
        "flagged": 0,
    }
    assert tally.positions == {0: 7, 3: 2}


def test_an_outcome_that_its_bytes_do_not_deserve_is_a_surprise() -> None:
    tally = Tally(total=4)
    for key, scored in (("good", True), ("bad", False), ("either", None), ("fine", True)):
        tally.upload(_picture(key, scored))
    tally.see(_prediction("good", outcome="rejected", reason="undecodable"), 0, 0)
    tally.see(_prediction("bad"), 0, 1)
    tally.see(_prediction("either", outcome="rejected"), 0, 2)
    tally.see(_prediction("fine"), 0, 3)
    assert [surprise.picture.key for surprise in tally.surprises()] == ["good", "bad"]


def test_examples_tell_of_different_rules_most_severe_first() -> None:
    tally = Tally(total=5)
    flags = (("a", 1, "dark"), ("b", 3, "text"), ("a größe", 3, "text"), ("c", 3, "text"), ("d", 2, "blurry"))
    for key, severity, rule in flags:
        tally.upload(_picture(key))
        tally.see(_flag(key, severity, rule), 0, 0)
    assert [flag.key for flag in tally.examples(3)] == ["b", "d", "a"]
    assert [flag.key for flag in tally.examples(9)] == ["b", "d", "a", "c", "a größe"]


def test_rates_are_of_the_last_seconds() -> None:
    tally = Tally(total=100)
    assert tally.rates(0.0) == (0.0, 0.0)
    for number in range(10):
        tally.upload(_picture(str(number)))
    assert tally.rates(2.0) == (5.0, 0.0)
    assert tally.rates(20.0) == (0.0, 0.0)
