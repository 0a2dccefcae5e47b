"""JSON of requests and answers, for the OpenAPI document. Requests are checked by it; views.py creates answers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.domain.object_names import MAX_BUCKET_BYTES, MAX_KEY_BYTES


def _text(value: str) -> str:
    # JSON can contain half of a surrogate pair, which no store or topic can hold as text.
    if any("\ud800" <= letter <= "\udfff" or letter == "\0" for letter in value):
        raise ValueError("holds a NUL or half of a surrogate pair")
    return value


def _at_most(most_bytes: int) -> AfterValidator:
    def checked(value: str) -> str:
        if len(value.encode()) > most_bytes:
            raise ValueError(f"is longer than {most_bytes} bytes in UTF-8")
        return value

    return AfterValidator(checked)


# The pattern is for the document; it admits surrogates, because few languages can exclude them in a pattern.
Text = Annotated[str, AfterValidator(_text), Field(json_schema_extra={"pattern": "^[^\\x00]*$"})]
Bucket = Annotated[Text, Field(min_length=1, max_length=MAX_BUCKET_BYTES), _at_most(MAX_BUCKET_BYTES)]
Key = Annotated[Text, Field(min_length=1, max_length=MAX_KEY_BYTES), _at_most(MAX_KEY_BYTES)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Action = Literal["notify", "review", "block"]
# A list of actions in a query.
ACTION_LIST: Final = r"^((notify|review|block)(,(notify|review|block))*)?$"


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Region(BaseModel):
    """A box in the upright picture, as fractions of its width and height."""

    left: float
    top: float
    right: float
    bottom: float
    value: float


class Rendition(BaseModel):
    """One picture that the models scored: a part of a frame, as fractions of its width and height.

    `ground`: `white` or `dark`, the colour under a transparent picture; empty without transparency.
    """

    frame: int
    left: float
    top: float
    right: float
    bottom: float
    ground: str


class Condition(BaseModel):
    """A condition of a rule that holds. `rendition`: index into the flag's `renditions` of the one with `value`."""

    model: str
    version: str
    label: str
    value: float
    op: str
    threshold: float
    cached: bool
    rendition: int


class Rule(BaseModel):
    """A rule of the policy that matches, in words and figures."""

    rule: str
    action: str
    severity: int
    explanation: str
    conditions: list[Condition]


class Flag(BaseModel):
    """The policy's verdict on an image."""

    flag_id: str
    state: Literal["flagged", "cleared"]
    action: str
    severity: int
    policy: str
    policy_version: str
    decided_ms: int
    rules: list[Rule]
    frames: int
    truncated: bool
    renditions: list[Rendition]


class Decision(BaseModel):
    """A moderator's decision."""

    decision_id: str
    decision: Literal["approve", "reject", "skip"]
    reason: str
    moderator: str
    reverses: str | None
    decided_ms: int


class DecidedLabel(BaseModel):
    """A label that a decision confirms or denies; weight 0 withdraws the label of an earlier decision."""

    model: str
    version: str
    label: str
    value: float
    score: float
    weight: float


class MadeDecision(Decision):
    """A decision with its image and its labels."""

    bucket: str
    key: str
    upload_id: str | None
    flag_id: str | None
    policy: str
    policy_version: str
    labels: list[DecidedLabel]


class Pending(BaseModel):
    """A later upload of the same image that has no outcome yet."""

    upload_id: str
    since_ms: int


class Times(BaseModel):
    """Times of upload, identification and scoring (Unix ms), and durations of the stages (ms)."""

    uploaded_ms: int
    identified_ms: int
    scored_ms: int
    queued_ms: int
    fetch_ms: int
    decode_ms: int
    infer_ms: int
    total_ms: int


class Scored(BaseModel):
    """Results of models: values from 0 to 1 by model and label, boxes, skipped cascades with the cause, versions.

    `frames`: number of frames of an animation; 0 without scores. `truncated`: the file ends before the picture does.
    `rendition_of`: by model and label, the index into `renditions` of the one with the value; 0 if not listed.
    """

    format: str
    width: int
    height: int
    frames: int
    truncated: bool
    publishable: bool
    renditions: list[Rendition]
    scores: dict[str, dict[str, float]]
    rendition_of: dict[str, dict[str, int]]
    regions: dict[str, list[Region]]
    skipped: dict[str, str]
    reasons: list[str]
    models: dict[str, str]


class Outcome(Scored):
    """One outcome of one upload. `publishable`: it was scored, and the policy of that time did not block it."""

    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size_bytes: int | None
    sha256: str | None
    upload_id: str
    outcome: Literal["scored", "rejected", "gone"]
    reason: str
    detail: str
    superseded: bool
    cached: bool
    times: Times
    job_id: str | None


class Image(Outcome):
    """Present state of an image. `publishable`: a product may show it; decisions and `pending` are considered."""

    flag: Flag | None
    decision: Decision | None
    pending: Pending | None


class SeenAs(BaseModel):
    """Latest bucket and key of a content."""

    bucket: str
    key: str


class Content(Scored):
    """Latest outcome of a content."""

    sha256: str
    outcome: str
    reason: str
    scored_ms: int
    seen_as: SeenAs


class UnderWay(BaseModel):
    """An upload that has no outcome yet."""

    bucket: str
    key: str
    status: Literal["under_way"]
    upload_id: str
    since_ms: int
    queue_seconds: float


class ImageName(_Wire):
    """Bucket and key, exactly."""

    bucket: Bucket
    key: Key


class BatchRequest(_Wire):
    """Up to 500 images."""

    images: Annotated[list[ImageName], Field(max_length=500)]


class BatchEntry(BaseModel):
    """State of one image of a batch."""

    bucket: str
    key: str
    status: Literal["found", "under_way", "removed", "unknown"]
    image: Image | None


class Batch(BaseModel):
    """States in the order of the request."""

    images: list[BatchEntry]


class History(BaseModel):
    """Stored outcomes and decisions, newest first."""

    bucket: str
    key: str
    outcomes: list[Outcome]
    decisions: list[Decision]


class DecideRequest(_Wire):
    """A decision on an image. Idempotent by `decision_id`."""

    decision_id: Annotated[Text, Field(min_length=1, max_length=100)]
    bucket: Bucket
    key: Key
    decision: Literal["approve", "reject", "skip"]
    reason: Annotated[Text, Field(max_length=200)] = ""
    flag_id: Annotated[Text, Field(max_length=100)] = ""
    reverses: Annotated[Text, Field(max_length=100)] = ""


class LeaseRequest(_Wire):
    """Number of images to lease, and their actions (default: all that wait)."""

    count: Annotated[int, Field(ge=1, le=5)] = 1
    actions: Annotated[list[Action], Field(min_length=1, max_length=3)] | None = None


class Leased(BaseModel):
    """An image that is leased to you until `expires_ms`."""

    lease_id: str
    expires_ms: int
    priority: int
    waiting_seconds: float
    image: Image


class Leases(BaseModel):
    """Your leases, and the number of all waiting images."""

    leases: list[Leased]
    waiting: int


class LeaseIds(_Wire):
    """Ids of leases."""

    lease_ids: Annotated[list[Annotated[Text, Field(max_length=100)]], Field(max_length=50)]


class Renewed(BaseModel):
    """Leases that you still hold, and leases that you lost."""

    renewed: list[str]
    lost: list[str]


class DayCounts(BaseModel):
    """Decisions of the day (UTC)."""

    approve: int
    reject: int
    skip: int


class Queue(BaseModel):
    """Number of images that wait for a moderator."""

    waiting: int
    leased: int
    by_action: dict[str, int]
    oldest_seconds: float | None
    today: DayCounts
    mine: DayCounts


class Flagged(BaseModel):
    """An image that waits."""

    priority: int
    waiting_seconds: float
    leased_by: str | None
    image: Image


class FlaggedList(BaseModel):
    """Waiting images, in the order in which moderators get them."""

    images: list[Flagged]
