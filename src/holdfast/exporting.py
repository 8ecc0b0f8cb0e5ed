"""Sending spans over OTLP, where the settings name a place: the OpenTelemetry SDK is loaded here and nowhere else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from holdfast.settings import InvalidSetting, Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

# A place that does not answer must hold up neither the runs nor the stop.
EXPORT_SECONDS: Final = 3
CLOSE_SECONDS: Final = 1.5


def open_exporter(settings: Settings) -> TracerProvider | None:
    """
    What collects spans and sends them in the background; None if the settings name no place.

    It becomes the provider of the process too, if that has none, so that spans of agents go the same way.

    Raises:
        InvalidSetting: the extra `otlp` is missing, or a header is no `name=value`.
    """
    if settings.otlp_endpoint is None or not settings.tracing:
        return None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise InvalidSetting("sending spans needs the extra: pip install 'holdfast[otlp]'", "otlp_endpoint") from exc
    exporter = OTLPSpanExporter(settings.otlp_endpoint, headers=_headers(settings), timeout=EXPORT_SECONDS)
    provider = TracerProvider(resource=Resource.create({"service.name": "holdfast"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    return provider


def close_exporter(provider: TracerProvider) -> None:
    """Send what is left, for at most CLOSE_SECONDS. Blocks."""
    closing = threading.Thread(target=provider.shutdown, name="spans", daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)


def _headers(settings: Settings) -> dict[str, str]:
    found = {}
    for number, item in enumerate(settings.otlp_headers, 1):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise InvalidSetting(f"otlp_headers: header {number} is no name=value", "otlp_headers")
        found[name.strip()] = value.strip()
    return found
