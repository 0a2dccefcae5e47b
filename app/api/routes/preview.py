"""GET /v1/images/{bucket}/{key}/preview: a small JPEG of the image that was scored."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from app.api.dependencies import parts_of
from app.api.documents import COMMON, problems
from app.api.guards.auth import allow
from app.api.paths import image_key
from app.api.problems import Problem
from app.domain.images import Rejection
from app.domain.outcomes import GONE
from app.errors import Overloaded
from app.ports.objects import ObjectRef
from app.serving.previews import SIZES, Gone

router = APIRouter(tags=["images"], dependencies=[Depends(allow("moderate"))])
_JPEG: Final = "image/jpeg"
_USUAL_SIZE: Final = 512
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "the preview", "content": {_JPEG: {"schema": {"type": "string", "format": "binary"}}}},
    **problems(*COMMON, 400, 404),
}


@router.get(
    "/v1/images/{bucket}/{key}/preview",
    responses=_RESPONSES,
    response_class=Response,
)
async def get_preview(
    request: Request,
    image: Annotated[tuple[str, str], Depends(image_key)],
    upload: Annotated[
        str, Query(max_length=100, description="only the picture of this upload: the `upload_id` of the image")
    ] = "",
    size: Annotated[int, Query(ge=SIZES[0], le=SIZES[1], description="longest side, pixels")] = _USUAL_SIZE,
) -> Response:
    """Return the version that was scored last: upright, without metadata, no side longer than `size`.

    404 `gone`: that version is no longer in the store. 422: it cannot be decoded, for a reason of docs/images.md.
    """
    parts = parts_of(request)
    bucket, key = image
    known = await parts.index.image(bucket, key)
    if known is None or (known.prediction is None and known.removed_at_ms is None):
        raise Problem(404, "unknown_image", "no outcome of this image is known")
    if known.prediction is None:
        raise Problem(404, "removed_image", "the image was removed", removed_ms=known.removed_at_ms)
    if upload and known.prediction.upload_id != upload:
        raise Problem(404, "unknown_upload", "the image was uploaded or scored again in the meantime")
    if known.prediction.outcome == GONE:
        raise Problem(404, "gone", "the image was deleted before it could be read")
    if parts.pictures is None:
        raise Problem(503, "unavailable", "this service reads no objects")
    outcome = known.prediction
    ref = ObjectRef(outcome.bucket, outcome.key, outcome.version_id, outcome.etag, outcome.size_bytes)
    try:
        preview = await parts.pictures.previews.preview(ref, size)
    except Overloaded as error:
        headers = {"Retry-After": str(error.retry_after_seconds)}
        raise Problem(429, "overloaded", str(error), headers=headers) from error
    match preview:
        case Gone(detail):
            raise Problem(404, "gone", f"the version that was scored is no longer in the store: {detail}")
        case Rejection():
            raise Problem(422, preview.reason.value, preview.detail)
        case bytes():
            return Response(preview, 200, _headers(parts.settings.api.preview_seconds), _JPEG)


def _headers(seconds: float) -> dict[str, str]:
    return {
        "Cache-Control": f"private, max-age={int(seconds)}, no-transform",
        "Content-Disposition": 'inline; filename="preview.jpg"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
