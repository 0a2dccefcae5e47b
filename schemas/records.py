"""The records on our topics, one frozen dataclass for each Avro record in this folder.

Field names, order and types follow the newest `.avsc` of the record exactly (a contract test compares them). Times are
Unix milliseconds. `order_key` compares as text within one bucket/key and dialect; an empty one orders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """Where a Kafka record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label's score, 0 to 1.

    `rendition` is an index into the prediction's `renditions`: the one that gave the value, the highest of all.
    """

    label: str
    value: float
    rendition: int = 0


@dataclass(frozen=True, slots=True)
class Rendition:
    """One picture that the models looked at: a part of one frame, as fractions 0 to 1 of the upright frame.

    `frame` is the index of the frame in the animation. `ground` is the colour under a transparent picture: `white` or
    `dark`; it is empty without transparency.
    """

    frame: int
    left: float
    top: float
    right: float
    bottom: float
    ground: str


@dataclass(frozen=True, slots=True)
class Region:
    """A box in the upright picture, as fractions 0 to 1 of its width and height."""

    left: float
    top: float
    right: float
    bottom: float
    value: float


@dataclass(frozen=True, slots=True)
class ModelScores:
    """What one model version says of one content.

    `skipped` is empty, or says why a cascade did not need to run (its labels then hold the gate's value).
    """

    model: str
    version: str
    preprocessing: str
    labels: tuple[LabelScore, ...]
    regions: tuple[Region, ...]
    cached: bool
    skipped: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one upload went, in milliseconds; zero where a step was not needed."""

    queued_ms: int
    fetch_ms: int
    decode_ms: int
    infer_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One upload to be scored: identity, where the object is, and how this attempt came to be.

    With `covers_from_ms` and `covers_until_ms` it was found in a bucket listing, and stands for the one upload of this
    object whose event time lies between them. A rescoring copies `event_key` and `superseded` of what it scores again.
    """

    upload_id: str
    bucket: str
    key: str
    alternate_key: str | None
    version_id: str | None
    etag: str | None
    size_bytes: int | None
    dialect: str
    event_name: str
    sequencer: str | None
    order_key: str
    event_time_ms: int
    identified_at_ms: int
    source: Position
    lane: str
    attempt: int
    not_before_ms: int
    defer_reason: str
    job_id: str | None
    known_sha256: str | None
    models: tuple[str, ...]
    force: bool
    previous: tuple[ModelScores, ...]
    covers_from_ms: int | None = None
    covers_until_ms: int | None = None
    event_key: str | None = None
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """The one outcome of one upload: `scored`, `rejected` or `gone`.

    `event_key` is set where `key` is the other reading of the key that the event named, and is then its first reading.
    `frames` is at least 1 where the picture was scored; 0 marks a record before version 3. `truncated`: the file ends
    before the picture does; it was scored as far as it goes. `publishable` is true only if the picture was scored and
    the verdict of the policy is not `block`.
    """

    upload_id: str
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size_bytes: int | None
    sha256: str | None
    outcome: str
    reason: str
    detail: str
    superseded: bool
    cached: bool
    format: str
    width: int
    height: int
    scores: tuple[ModelScores, ...]
    reasons: tuple[str, ...]
    previous: tuple[ModelScores, ...]
    dialect: str
    sequencer: str | None
    order_key: str
    event_name: str
    event_time_ms: int
    identified_at_ms: int
    scored_at_ms: int
    timings: Timings
    lane: str
    attempt: int
    job_id: str | None
    source: Position
    task: Position
    worker: str
    release: str
    event_key: str | None = None
    frames: int = 0
    truncated: bool = False
    publishable: bool = False
    renditions: tuple[Rendition, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRemoved:
    """An object, or one version of it, was deleted.

    `event_key` as in ImagePrediction: with it, the removal concerns only what was found by the other reading too.
    """

    removal_id: str
    bucket: str
    key: str
    version_id: str | None
    delete_marker: bool
    dialect: str
    sequencer: str | None
    order_key: str
    event_time_ms: int
    source: Position
    event_key: str | None = None


@dataclass(frozen=True, slots=True)
class ContentEmbedding:
    """The embedding of one content: value[i] = int8(values[i]) * scale, `dimensions` long."""

    sha256: str
    model: str
    version: str
    preprocessing: str
    dimensions: int
    scale: float
    values: bytes
    computed_at_ms: int


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """One condition of a rule that held: `value` of the label stood in relation `op` to `threshold`.

    `rendition` is an index into the flag's `renditions`: the one that gave the value.
    """

    model: str
    version: str
    label: str
    value: float
    op: str
    threshold: float
    cached: bool
    rendition: int = 0


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """One rule that matched, with the conditions that made it match and a sentence for people."""

    rule: str
    action: str
    severity: int
    explanation: str
    conditions: tuple[RuleCondition, ...]


@dataclass(frozen=True, slots=True)
class FlaggedImage:
    """A decision that explains itself. `state` is `flagged`, or `cleared` when a rescoring takes a flag back.

    `frames`, `truncated` and `renditions` are those of the prediction.
    """

    flag_id: str
    upload_id: str
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    sha256: str | None
    state: str
    action: str
    severity: int
    rules: tuple[RuleMatch, ...]
    policy: str
    policy_version: str
    changed: bool
    previous_action: str
    previous_rules: tuple[str, ...]
    job_id: str | None
    superseded: bool
    dialect: str
    order_key: str
    event_time_ms: int
    scored_at_ms: int
    decided_at_ms: int
    prediction: Position
    event_key: str | None = None
    frames: int = 0
    truncated: bool = False
    renditions: tuple[Rendition, ...] = ()


@dataclass(frozen=True, slots=True)
class DecidedLabel:
    """What a decision says of one label: `value` 1 (true of the picture) or 0; `score` is what the model had said.

    `weight`, 0 to 1, is how sure the decision makes it; 0 withdraws what an earlier decision said.
    """

    model: str
    version: str
    label: str
    value: float
    score: float
    weight: float


@dataclass(frozen=True, slots=True)
class ModerationDecision:
    """What a person decided of an image. Later decisions of one image stand over earlier ones; all stay.

    `decision` is `approve`, `reject` or `skip`; `reverses` names the decision that this one takes back.
    """

    decision_id: str
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    sha256: str | None
    upload_id: str | None
    flag_id: str | None
    decision: str
    reason: str
    moderator: str
    policy: str
    policy_version: str
    reverses: str | None
    dialect: str
    order_key: str
    event_time_ms: int
    decided_at_ms: int
    labels: tuple[DecidedLabel, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """What somebody who knows says of one label of one image, for training.

    The latest of an image, model and label stands; a `weight` of 0 withdraws what was said before.
    """

    label_id: str
    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    sha256: str | None
    upload_id: str | None
    model: str
    version: str
    label: str
    value: float
    score: float
    source: str
    author: str
    reason: str
    weight: float
    decision_id: str
    reverses: str | None
    labelled_at_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be handled, with its original bytes.

    `part` is the index of the record inside the source message, or -1 for the message as a whole; `value` is cut at the
    stated limit only if the source itself exceeded it, and `value_bytes` then tells its true length.
    """

    letter_id: str
    source: Position
    part: int
    source_timestamp_ms: int
    agent: str
    kind: str
    reason: str
    detail: str
    attempts: int
    upload_id: str | None
    bucket: str | None
    object_key: str | None
    key: bytes | None
    value: bytes | None
    value_bytes: int
    first_seen_ms: int
    dead_at_ms: int
    job_id: str | None


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """One fact that every process reads: a job with its cursor, an activation, a redriven dead letter.

    `body` is a JSON object whose shape depends on `kind` (docs/topics.md).
    """

    kind: str
    name: str
    body: str
    written_at_ms: int
    written_by: str


Record = (
    ImageTask
    | ImagePrediction
    | ImageRemoved
    | ContentEmbedding
    | FlaggedImage
    | ModerationDecision
    | Label
    | DeadLetter
    | ControlRecord
)
RECORDS: dict[str, type[Record]] = {
    cls.__name__: cls
    for cls in (
        ImageTask,
        ImagePrediction,
        ImageRemoved,
        ContentEmbedding,
        FlaggedImage,
        ModerationDecision,
        Label,
        DeadLetter,
        ControlRecord,
    )
}
