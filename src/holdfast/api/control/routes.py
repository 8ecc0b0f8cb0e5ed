"""
What the CLI asks of a running server, because an embedded store belongs to exactly one process.

    GET    /_holdfast/keys            the keys, revoked ones too
    POST   /_holdfast/keys            {"name", "role"?, "tenant"?}: a new key; its text is in this answer and nowhere else
    POST   /_holdfast/keys/{name}/rotate  {"overlap_seconds"?}: a new key in its place; both are good for so long
    DELETE /_holdfast/keys/{name}     revoke it
    POST   /_holdfast/backup          {"target"}: a copy of the store in a new directory, made while it is in use

Every call needs an admin's key of the tenant `default`: keys and backups are those of all tenants. Errors are `{"error", "message", "details"?}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from litestar import delete, get, post

from holdfast.api.control.keys import add_key, new_key_of, overlap_of, revoke_key, rotate_key, shown_key
from holdfast.api.control.operations import OPERATIONS, SCHEMAS
from holdfast.api.control.refusals import render
from holdfast.api.http.call import Call
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.routing import Api
from holdfast.errors import Forbidden, InvalidRequest
from holdfast.model import DEFAULT_TENANT

BODY_BYTES_MAX: Final = 64 * 1024
_ADMIN: Final = {"role": "admin"}


@get("/_holdfast/keys", opt=_ADMIN)
async def list_keys(request: Call) -> Reply:
    """The keys of all tenants, revoked ones too."""
    _check(request)
    return json_reply({"keys": [shown_key(key) for key in await request.runs.store.keys()]})


@post("/_holdfast/keys", opt=_ADMIN)
async def create_key(request: Call) -> Reply:
    """A new key; its text is in this answer and nowhere else."""
    _check(request)
    services = request.services
    made = await add_key(services.runs.store, services.clock, services.ids, new_key_of(await request.json_body()))
    await services.authenticator.refresh(services.runs.store)
    return json_reply(made, 201)


@post("/_holdfast/keys/{name:str}/rotate", opt=_ADMIN)
async def rotate(request: Call) -> Reply:
    """A new key in the place of one; both are good for the overlap."""
    _check(request)
    services = request.services
    overlap = overlap_of(await request.json_body(), services.settings.key_overlap_seconds_max)
    store, name = services.runs.store, request.path_value("name")
    made = await rotate_key(store, services.clock, services.ids, name, overlap)
    await services.authenticator.refresh(store)
    return json_reply(made, 201)


@delete("/_holdfast/keys/{name:str}", opt=_ADMIN, status_code=200)
async def delete_key(request: Call) -> Reply:
    """Revoke a key."""
    _check(request)
    services = request.services
    revoked = await revoke_key(services.runs.store, services.clock, request.path_value("name"))
    await services.authenticator.refresh(services.runs.store)
    return json_reply(revoked)


@post("/_holdfast/backup", opt=_ADMIN)
async def backup(request: Call) -> Reply:
    """A copy of the store in a new directory, made while it is in use."""
    _check(request)
    target = backup_target(await request.json_body())
    await request.runs.store.backup(str(target))
    return json_reply({"target": str(target)})


def _check(request: Call) -> None:
    request.query()
    if request.caller.tenant != DEFAULT_TENANT:
        raise Forbidden(f"this needs an admin's key of the tenant {DEFAULT_TENANT}", needed="admin")


def backup_target(body: Any) -> Path:
    """
    Where a backup goes: an absolute path at which nothing stands yet.

    Raises:
        InvalidRequest
    """
    given = body.get("target") if isinstance(body, dict) and set(body) <= {"target"} else None
    if not isinstance(given, str) or not given or "\0" in given or not Path(given).is_absolute():
        raise InvalidRequest('the body is {"target": <an absolute path>}', field="target")
    target = Path(given)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidRequest(f"{target} exists already; a backup goes to a new directory", field="target")
    return target


def control() -> Api:
    """Everything under `/_holdfast/`."""
    return Api(
        name="control",
        handlers=(list_keys, create_key, rotate, delete_key, backup),
        render=render,
        body_max=BODY_BYTES_MAX,
        repairs_text=False,
        operations=OPERATIONS,
        schemas=SCHEMAS,
        error_schema="ControlError",
    )
