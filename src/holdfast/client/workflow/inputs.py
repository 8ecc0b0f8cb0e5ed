"""What a run is given at its start, as the wire has it: slots, images, files, and what else was said."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

Upload = bytes | str | Path | BinaryIO
Image = str | bytes


def run_inputs(strings: Mapping[str, Any] | None, images: Mapping[str, Image] | None) -> dict[str, Any]:
    """`inputs` of a start. Images given as bytes become base64."""
    encoded_images = {
        slot: base64.b64encode(image).decode() if isinstance(image, bytes) else image
        for slot, image in (images or {}).items()
    }
    return {"strings": dict(strings or {}), "images": encoded_images}


def given(**fields: Any) -> dict[str, Any]:
    """What was said at all."""
    return {name: value for name, value in fields.items() if value is not None}


def headers_of(tenant_id: str | None, extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**({} if tenant_id is None else {"X-Tenant-Id": tenant_id}), **(extra or {})}


async def upload_parts(
    file_1: Upload | None, filename_1: str | None, file_2: Upload | None, filename_2: str | None
) -> list[tuple[str, tuple[str, bytes]]]:
    """The files as parts. They are read whole, so that a second try sends the same."""
    parts = []
    for field, file, filename in (("file_1", file_1, filename_1), ("file_2", file_2, filename_2)):
        if file is not None:
            name, content = await asyncio.to_thread(_content, file)
            parts.append((field, (filename or name or field, content)))
    return parts


def _content(file: Upload) -> tuple[str | None, bytes]:
    if isinstance(file, bytes):
        return None, file
    if isinstance(file, str | Path):
        return Path(file).name, Path(file).read_bytes()
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) else None, file.read()
