"""
Webhooks: what happens to runs, sent to those who asked for it. Independent of the APIs through which runs are started.

    endpoint.py   an endpoint: where events go to, and which
    signing.py    secrets and signatures (Standard Webhooks)
    guard.py      which addresses may be called at all
    schedule.py   when the next attempt is due, and when an endpoint is given up
    post.py       one attempt: addresses are checked, then one of them is called
    transport.py  the call over HTTP; outcome.py: what comes of it
    sender.py     outbox → deliveries → attempts
    service.py    what APIs and the server call
"""

from holdfast.webhooks.endpoint import EVENTS, Endpoint
from holdfast.webhooks.service import Webhooks, Wish

__all__ = ["EVENTS", "Endpoint", "Webhooks", "Wish"]
