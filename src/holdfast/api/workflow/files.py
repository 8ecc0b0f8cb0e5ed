"""Files as inputs: kept before the run starts, referred to by id, and with the run from then on."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from io import BytesIO
from typing import Any, Final

import msgspec

from holdfast.api.http.call import Call
from holdfast.api.http.errors import MalformedBody, UnsupportedMediaType
from holdfast.api.workflow.refusals import WorkflowRefusal, invalid
from holdfast.errors import FileNotFound
from holdfast.model import File
from holdfast.runs import Runs

FILE_BYTES_MAX: Final = 32 * 1024 * 1024
FORM_BYTES_MAX: Final = 2 * FILE_BYTES_MAX + 1024 * 1024
FORM_FILES: Final = ("file_1", "file_2")
REFERENCE: Final = re.compile(r"file_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,", re.ASCII)
_IMAGES: Final = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


class Upload(msgspec.Struct, frozen=True):
    """A file as it came."""

    name: str
    media_type: str
    content: bytes


class Form(msgspec.Struct, frozen=True):
    """A multipart body: its texts and its files by name."""

    texts: dict[str, str]
    files: dict[str, Upload]

    def compared(self) -> Any:
        """What makes two forms the same call: their parts, whatever stands between them."""
        files = {
            name: [file.name, file.media_type, hashlib.sha256(file.content).hexdigest()]
            for name, file in self.files.items()
        }
        return {"texts": self.texts, "files": files}


async def read_form(call: Call) -> Form:
    """
    The multipart body of a call (RFC 7578).

    Raises:
        UnsupportedMediaType, BodyTooLarge, BodyTimeout, MalformedBody
        WorkflowRefusal: a file is too large, or a part stands twice.
    """
    from multipart import (  # type: ignore[import-untyped]
        MultipartError,
        MultipartParser,
        parse_options_header,
    )

    declared = (call.header(b"content-type") or b"").decode("latin-1")
    media_type, options = parse_options_header(declared)
    if media_type != "multipart/form-data" or not options.get("boundary"):
        raise UnsupportedMediaType("the body must be multipart/form-data with a boundary")
    data = await call.raw_body(FORM_BYTES_MAX)
    texts: dict[str, str] = {}
    files: dict[str, Upload] = {}
    try:
        limits = {"memory_limit": FORM_BYTES_MAX, "spool_limit": FORM_BYTES_MAX, "part_limit": 32}
        for part in MultipartParser(BytesIO(data), options["boundary"], **limits):
            if part.name in texts or part.name in files:
                raise invalid(part.name, "this part stands twice")
            if part.filename is None and part.name not in FORM_FILES:
                texts[part.name] = part.value
                continue
            if part.size > FILE_BYTES_MAX:
                raise WorkflowRefusal(
                    "payload_too_large",
                    f"{part.name} has over {FILE_BYTES_MAX} bytes",
                    status=413,
                    limit=FILE_BYTES_MAX,
                )
            name = part.filename or part.name
            files[part.name] = Upload(name, part.content_type or "application/octet-stream", part.raw)
    except (MultipartError, UnicodeDecodeError) as exc:
        raise MalformedBody(f"the multipart body cannot be read: {exc}") from None
    return Form(texts, files)


async def keep(runs: Runs, tenant: str, upload: Upload) -> str:
    """Keep a file for 24 hours, or with the run that takes it; its reference comes back."""
    file = File(
        file_id=f"file_{uuid.uuid4()}",
        tenant=tenant,
        name=upload.name[:255],
        media_type=upload.media_type[:255],
        size=len(upload.content),
        sha256=hashlib.sha256(upload.content).hexdigest(),
        created_at=runs.worker.clock.now(),
    )
    await runs.store.put_file(file, upload.content)
    return file.file_id


def image(value: str, loc: str) -> Upload:
    """
    An image slot as a file.

    Raises:
        WorkflowRefusal: it is neither base64 nor a data: URL.
    """
    found = _DATA_URL.match(value)
    media_type, text = (None, value) if found is None else (found[1], value[found.end() :])
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(loc, "base64 or a data: URL, as a text") from None
    if not content:
        raise invalid(loc, "an image; this is empty")
    if media_type is None:
        media_type = next((kind for head, kind in _IMAGES if content.startswith(head)), None)
        media_type = media_type or ("image/webp" if content[8:12] == b"WEBP" else "application/octet-stream")
    return Upload(loc.rpartition(".")[2], media_type, content)


def references_of(inputs: dict[str, dict[str, Any]]) -> list[str]:
    """The references among the slots."""
    slots = [*inputs["strings"].values(), *inputs["images"].values()]
    return [value for value in slots if isinstance(value, str) and REFERENCE.match(value)]


async def check_references(runs: Runs, tenant: str, references: list[str]) -> None:
    """
    Make sure that the tenant has these files.

    Raises:
        FileNotFound
    """
    for reference in references:
        if await runs.store.file(tenant, reference) is None:
            raise FileNotFound(f"there is no file {reference!r}; upload it first", reference=reference)
