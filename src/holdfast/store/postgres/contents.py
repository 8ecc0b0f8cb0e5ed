"""
Contents of files, each once under its SHA-256, in pieces of 1 MiB.

A file's row and the content that it names come in one transaction. The row of a content is locked meanwhile, so that
no sweep takes away what is just being named again.
"""

from __future__ import annotations

import hashlib
from typing import Final

from holdfast.errors import JournalCorrupt, StoreError
from holdfast.model import File
from holdfast.store.postgres.connection import Connection
from holdfast.store.sql import statements

READS: Final = statements("postgres", "reads")
SQL: Final = statements("postgres", "changes")

PIECE_BYTES: Final = 1 << 20
PIECE_SECONDS: Final = 30.0


async def put(connection: Connection, file: File, content: bytes) -> None:
    """
    Keep a file with its content, inside the caller's transaction.

    Raises:
        StoreError: the content is not the one that the file names.
    """
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise StoreError(f"the content of the file does not have the SHA-256 {file.sha256}")
    if await connection.fetchval(SQL["put_content"], file.sha256, len(content), timeout=PIECE_SECONDS):
        for place in range(0, len(content), PIECE_BYTES):
            piece = content[place : place + PIECE_BYTES]
            await connection.execute(SQL["put_piece"], file.sha256, place // PIECE_BYTES, piece, timeout=PIECE_SECONDS)
    await connection.execute(
        SQL["put_file"],
        file.tenant,
        file.file_id,
        file.number,
        file.name,
        file.media_type,
        file.size,
        file.sha256,
        file.created_at,
    )


async def get(connection: Connection, sha256: str) -> bytes:
    """
    Read a content.

    Raises:
        JournalCorrupt: it is not what was written.
    """
    pieces = await connection.fetch(READS["content"], sha256, timeout=PIECE_SECONDS)
    content = b"".join([piece[0] for piece in pieces])
    if hashlib.sha256(content).hexdigest() != sha256:
        raise JournalCorrupt(f"the content {sha256} is not what was written; restore a backup")
    return content
