"""Verdict of Sightline on a file: scored pictures, or a rejection and the policy's action on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.domain.images import ImageLimits, Rejection
from app.domain.policy import Policy, Subject, evaluate, parse_policy
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodeOptions
from app.settings import ROOT, LimitSettings
from tests.support.oracle.means import GROUNDS, means, on_ground

# Actions by which a picture that was not scored comes before a person, or is never shown.
_HELD: Final = frozenset({"review", "block"})


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """`looks`: means by frame and ground, empty if the file was rejected. `held`: the policy holds a rejection back."""

    reason: str
    truncated: bool
    held: bool
    width: int
    height: int
    frames: int
    looks: Mapping[int, Mapping[str, Any]]


def default_policy() -> Policy:
    """Return the policy that ships."""
    path = ROOT / "policies" / "default.yaml"
    return parse_policy(path.read_text(), str(path))


def new_decoder(frames: int = 5) -> Decoder:
    """Return a decoder with the default limits that never reduces, so that pixels compare one to one."""
    limits = LimitSettings()
    return Decoder(
        ImageLimits(limits.max_bytes, limits.max_pixels, limits.max_side, limits.max_frames),
        DecodeOptions(smallest_side=0, frames=frames),
    )


def judge(decoder: Decoder, policy: Policy, content: bytes) -> Judged:
    """Decode `content`, or ask the policy about its rejection."""
    found = decoder.decode(content)
    if isinstance(found, Rejection):
        action = evaluate(policy, Subject("rejected", found.reason.value, ())).action
        return Judged(found.reason.value, False, action in _HELD, found.width, found.height, 0, {})
    looks = {
        frame.index: {ground: means(on_ground(frame.pixels, ground)) for ground in GROUNDS} for frame in found.frames
    }
    header = found.header
    return Judged("", found.truncated, False, header.width, header.height, header.frames, looks)
