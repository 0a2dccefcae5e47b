"""Previews: upright, small, without anything of the file but its pixels; made once; refused as the stream refuses."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from app.api.application import build_application
from app.api.pictures import PictureParts
from app.api.problems import PROBLEM_JSON
from app.domain.filters import UploadFilter
from app.domain.images import Rejection, RejectReason
from app.errors import Overloaded, StoreUnavailable
from app.ports.index import IndexEntry
from app.ports.objects import ObjectMissing, ObjectRef
from app.serving.admission import BodyRoom
from app.serving.previews import Gone, Previews
from app.serving.references import ReferencedObjects
from app.serving.scoring import Scoring
from app.settings import ApiSettings, Settings
from tests.support.api.in_process import bearer, client_of, give_key, memory_parts
from tests.support.decoding.inline import InlineDecoding
from tests.support.eventually import eventually
from tests.support.manual_clock import ManualClock
from tests.support.memory.contents import MemoryContents
from tests.support.memory.index import MemoryIndex
from tests.support.memory.objects import MemoryObjectStore
from tests.support.outcomes import prediction, removal
from tests.support.pictures import corners, encoded, jpeg, noise, plain
from tests.support.streaming.counted import CountedMeters

ORIENTATION, ARTIST, GPS = 0x0112, 0x013B, 0x8825


@dataclass(slots=True)
class Service:
    """Previews on twins, and a client of their route."""

    previews: Previews
    store: MemoryObjectStore
    index: MemoryIndex
    clock: ManualClock
    meters: CountedMeters
    client: httpx.AsyncClient

    def answers(self) -> dict[str, int]:
        return {key[1]: count for key, count in self.meters.counts.items()}

    async def known(self, key: str, ref: ObjectRef, **more: str) -> None:
        outcome = prediction(bucket="images", key=key, etag=ref.etag, version_id=ref.version_id, **more)
        await self.index.apply([IndexEntry(outcome, b"")])


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    settings = Settings(api=ApiSettings(preview_seconds=60))
    store, index, clock, meters = MemoryObjectStore(), MemoryIndex(), ManualClock(), CountedMeters()
    store.create_bucket("images")
    previews = Previews(store, InlineDecoding(), settings, clock, meters)
    parts = memory_parts(settings, clock)
    parts.index = index
    parts.pictures = PictureParts(
        scoring=Scoring(settings, InlineDecoding(), MemoryContents(index), clock, meters),
        bodies=BodyRoom(1),
        objects=ReferencedObjects(store, UploadFilter.of(settings), 1),
        previews=previews,
    )
    async with client_of(build_application(parts)) as client:
        client.headers.update(bearer(give_key(parts, ["moderate"])[0]))
        yield Service(previews, store, index, clock, meters, client)
    if store.gate is not None:
        store.gate.set()
    await previews.close()


def shown(content: object) -> Image.Image:
    assert isinstance(content, bytes), content
    return Image.open(io.BytesIO(content))


async def made(service: Service, body: bytes, size: int = 512) -> Image.Image:
    return shown(await service.previews.preview(service.store.put("images", "a", body), size))


def turned(orientation: int, image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[ARTIST] = "somebody"
    exif[GPS] = {1: "N", 2: (47.0, 22.0, 0.0)}
    return encoded(image or corners((640, 320)), "JPEG", quality=95, exif=exif, comment=b"a secret")


async def test_a_preview_is_upright(service: Service) -> None:
    # Orientation 6: the camera was held so that the stored upper left is the shown upper right.
    image = await made(service, turned(6))
    assert image.size == (256, 512)
    right, left = image.getpixel((250, 6)), image.getpixel((6, 6))
    assert isinstance(right, tuple) and isinstance(left, tuple)
    assert right[0] > 200 and right[1] < 80 and min(left) > 200


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_nothing_but_pixels_is_left_of_the_file(service: Service, kind: str) -> None:
    exif = Image.Exif()
    exif[ARTIST] = "somebody"
    body = encoded(noise(1), kind, exif=exif, icc_profile=b"profile of a camera")
    image = await made(service, body)
    assert image.format == "JPEG" and dict(image.getexif()) == {}
    assert not {"exif", "icc_profile", "comment", "xmp"} & set(image.info)


async def test_comments_and_places_are_gone(service: Service) -> None:
    content = await service.previews.preview(service.store.put("images", "a", turned(1)), 512)
    assert isinstance(content, bytes)
    assert b"Exif" not in content and b"secret" not in content and b"somebody" not in content


@pytest.mark.parametrize("size", [32, 100, 512])
@pytest.mark.parametrize("shape", [(2000, 30), (30, 2000), (700, 701), (16, 9)])
async def test_no_side_is_longer_than_asked(service: Service, size: int, shape: tuple[int, int]) -> None:
    image = await made(service, jpeg((9, 99, 9), shape), size)
    assert max(image.size) == min(size, max(shape)) and min(image.size) >= 1


async def test_bombs_are_refused_with_the_streams_code(service: Service) -> None:
    bomb = bytearray(encoded(plain((0, 0, 0), (64, 64)), "PNG"))
    bomb[16:24] = (12_000).to_bytes(4, "big") * 2
    for body, reason in (
        (bytes(bomb), RejectReason.TOO_MANY_PIXELS),
        (encoded(plain((0, 0, 0), (70_000, 1)), "PNG"), RejectReason.TOO_LARGE_SIDE),
        (b"GIF89a", RejectReason.UNDECODABLE),
        (b"<svg onload=alert(1)>", RejectReason.UNSUPPORTED_FORMAT),
    ):
        found = await service.previews.preview(service.store.put("images", "a", body), 512)
        assert isinstance(found, Rejection) and found.reason is reason, found


async def test_exactly_what_was_scored_is_shown(service: Service) -> None:
    old = service.store.put("images", "a", jpeg((250, 0, 0)))
    service.store.put("images", "a", jpeg((0, 250, 0)))
    assert isinstance(await service.previews.preview(old, 64), Gone)
    service.store.delete("images", "a")
    assert isinstance(await service.previews.preview(old, 64), Gone)


async def test_a_preview_is_kept_for_a_while(service: Service) -> None:
    ref = service.store.put("images", "a", jpeg((250, 0, 0)))
    first = await service.previews.preview(ref, 64)
    assert await service.previews.preview(ref, 64) == first
    await service.previews.preview(ref, 65)
    assert len(service.store.fetches) == 2, "another size is another preview"
    await service.clock.sleep(61)
    await service.previews.preview(ref, 64)
    assert len(service.store.fetches) == 3
    assert service.answers() == {"made": 3, "kept": 1}


async def test_equal_requests_in_flight_are_made_once(service: Service) -> None:
    ref = service.store.put("images", "a", jpeg((250, 0, 0)))
    service.store.gate = asyncio.Event()
    callers = [asyncio.create_task(service.previews.preview(ref, 64)) for _ in range(5)]
    await eventually(lambda: len(service.store.fetches) == 1)
    callers[0].cancel()
    await asyncio.wait(callers[:1])
    service.store.gate.set()
    found = await asyncio.gather(*callers[1:])
    assert len(set(found)) == 1 and len(service.store.fetches) == 1
    assert service.answers() == {"joined": 4, "failed": 1}


async def test_more_than_can_be_made_are_refused(service: Service) -> None:
    service.store.gate = asyncio.Event()
    refs = [service.store.put("images", f"{number}", jpeg((number, 0, 0))) for number in range(17)]
    callers = [asyncio.create_task(service.previews.preview(ref, 64)) for ref in refs[:16]]
    await eventually(lambda: len(service.store.fetches) == 16)
    with pytest.raises(Overloaded):
        await service.previews.preview(refs[16], 64)
    service.store.gate.set()
    await asyncio.gather(*callers)


async def test_the_route_gives_a_picture_that_only_this_browser_keeps(service: Service) -> None:
    await service.known("a.jpg", service.store.put("images", "a.jpg", jpeg((250, 0, 0), (800, 600))))
    answer = await service.client.get("/v1/images/images/a.jpg/preview")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert shown(answer.content).size == (512, 384)
    assert answer.headers["cache-control"] == "private, max-age=60, no-transform"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("inline")
    await service.known("a b/ä?.jpg", service.store.put("images", "a b/ä?.jpg", jpeg((250, 0, 0))))
    for path in ("a%20b/%C3%A4%3F.jpg", "a%20b%2F%C3%A4%3F.jpg"):
        assert (await service.client.get(f"/v1/images/images/{path}/preview")).status_code == 200
    small = await service.client.get("/v1/images/images/a.jpg/preview", params={"size": 40})
    assert shown(small.content).size == (40, 30)


async def test_the_route_says_why_there_is_none(service: Service) -> None:
    async def ask(key: str, **query: str) -> tuple[int, str]:
        answer = await service.client.get(f"/v1/images/images/{key}/preview", params=query)
        assert answer.headers["content-type"] == PROBLEM_JSON
        return answer.status_code, answer.json()["code"]

    assert await ask("unknown.jpg") == (404, "unknown_image")
    gone = service.store.put("images", "gone.jpg", jpeg((1, 2, 3)))
    await service.known("gone.jpg", gone)
    service.store.delete("images", "gone.jpg")
    assert await ask("gone.jpg") == (404, "gone")
    bad = service.store.put("images", "bad.jpg", b"no picture")
    await service.known("bad.jpg", bad, outcome="rejected")
    assert await ask("bad.jpg") == (422, "unsupported_format")
    for size in ("31", "1025", "x"):
        assert await ask("bad.jpg", size=size) == (422, "invalid_request")
    service.store.failures.append(StoreUnavailable("away"))
    assert await ask("bad.jpg") == (503, "unavailable")
    old = service.store.put("images", "old.jpg", jpeg((1, 2, 3)))
    await service.known("old.jpg", replace(old, etag="e1\nx-evil: 1"))
    assert await ask("old.jpg") == (404, "gone")
    service.store.failures.append(ObjectMissing("forbidden", "403"))
    assert await ask("bad.jpg") == (422, "forbidden")
    await service.index.apply([IndexEntry(removal(bucket="images", key="bad.jpg", order=2), b"")])
    assert await ask("bad.jpg") == (404, "removed_image")
    service.index.available = False
    assert await ask("bad.jpg") == (503, "unavailable")
