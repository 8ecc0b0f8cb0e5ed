"""Clients of the Workflow API for tests."""

from __future__ import annotations

from typing import Any

from holdfast.client.backoff import Backoff
from holdfast.client.workflow import WorkflowClient
from tests.support.server import KEY, ServerProcess


def client_of(server: ServerProcess, **options: Any) -> WorkflowClient:
    """A client with the test's key, whose delays are short."""
    client = WorkflowClient(server.url, **options)
    client.set_api_key(KEY)
    client._http.backoff = lambda: Backoff(0.01, 0.2)
    return client
