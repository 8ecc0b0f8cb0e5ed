"""
Model providers on this machine: they speak the streaming protocols of OpenAI (chat completions and responses) and of
Anthropic (messages), say what a test scripts, and keep what they were asked.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

PROTOCOLS: Final = ("openai-chat", "openai-responses", "anthropic")


@dataclass
class Fault:
    """A refusal instead of a stream."""

    status: int
    kind: str = "server_error"
    message: str = "something went wrong"
    retry_after: str | None = None


@dataclass
class Reply:
    """What the model says: thinking, then text, then calls (id, tool, arguments). With `cut` the stream breaks off behind it."""

    text: str = ""
    thinking: str = ""
    calls: Sequence[tuple[str, str, dict[str, Any]]] = ()
    cut: bool = False
    fault: Fault | None = None  # told in the stream, in the place of its end
    before_end: Callable[[], object] = lambda: None  # called when all but the end was sent
    input_tokens: int = 172  # besides 640 that are read from a cache; told by the messages protocol alone


def overflow(protocol: str) -> Fault:
    """What this provider says of a conversation that is too long."""
    if protocol == "anthropic":
        return Fault(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    return Fault(400, "context_length_exceeded", "Your input exceeds the context window of this model.")


@dataclass
class Provider:
    """`script` is used up from the front; what comes after it is `otherwise`."""

    url: str = ""
    protocol: str = PROTOCOLS[0]
    script: list[Reply | Fault] = field(default_factory=list)
    otherwise: Reply | Fault = field(default_factory=lambda: Reply("Nothing is scripted."))
    requests: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settings(self) -> dict[str, str]:
        """Those of a server whose assistant asks this provider."""
        name = "anthropic:test" if self.protocol == "anthropic" else f"{self.protocol}:test"
        return {"HOLDFAST_MODEL": name, "HOLDFAST_MODEL_URL": self.url, "HOLDFAST_MODEL_KEY": "provider-key"}

    def take(self, request: dict[str, Any]) -> Reply | Fault:
        with self._lock:
            self.requests.append(request)
            return self.script.pop(0) if self.script else self.otherwise

    def reset(self, *script: Reply | Fault) -> None:
        with self._lock:
            self.script, self.requests = list(script), []


@contextlib.contextmanager
def provider(protocol: str) -> Iterator[Provider]:
    made = Provider(protocol=protocol)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            answer = made.take(json.loads(self.rfile.read(length)))
            with contextlib.suppress(OSError):  # whoever asked may be gone
                if isinstance(answer, Fault):
                    self._refuse(answer)
                else:
                    self._stream(answer)

        def _refuse(self, fault: Fault) -> None:
            error = {"type": fault.kind, "code": fault.kind, "message": fault.message}
            body = json.dumps({"type": "error", "error": error}).encode()
            self.send_response(fault.status)
            if fault.retry_after is not None:
                self.send_header("retry-after", fault.retry_after)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, reply: Reply) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            events = list(_ENCODERS[made.protocol](reply))
            for place, event in enumerate(events):
                if place == len(events) - _ENDS[made.protocol]:
                    reply.before_end()
                    if reply.fault is not None:
                        self._chunk(_FAULTS[made.protocol](reply.fault))
                        break
                    if reply.cut:
                        self.close_connection = True
                        self.connection.close()
                        return
                self._chunk(event)
            self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    base = f"http://127.0.0.1:{server.server_address[1]}"
    made.url = base if protocol == "anthropic" else f"{base}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _pieces(text: str) -> list[str]:
    """As they arrive: some words at a time."""
    words = text.split(" ")
    return [word + (" " if place < len(words) - 1 else "") for place, word in enumerate(words)]


def _data(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def _named(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)


def _chat(reply: Reply) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _data({**head, "choices": [choice]})

    head = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": "test"}
    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(reply.thinking) if reply.thinking else []:
        yield chunk({"reasoning_content": piece})
    for piece in _pieces(reply.text) if reply.text else []:
        yield chunk({"content": piece})
    for index, (call_id, tool, arguments) in enumerate(reply.calls):
        text = json.dumps(arguments)
        call = {"index": index, "id": call_id, "type": "function", "function": {"name": tool, "arguments": ""}}
        yield chunk({"tool_calls": [call]})
        for part in (text[:4], text[4:]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield chunk({}, "tool_calls" if reply.calls else "stop")
    usage = {"prompt_tokens": 812, "completion_tokens": 3, "total_tokens": 815}
    yield _data({**head, "choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 640}}})
    yield _data(b"[DONE]")


def _responses(reply: Reply) -> Iterator[bytes]:
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "test",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "status": "in_progress",
    }
    numbers = iter(range(1_000_000))

    def event(kind: str, **fields: Any) -> bytes:
        return _named({"type": f"response.{kind}", "sequence_number": next(numbers), **fields})

    yield event("created", response=response)
    output: list[dict[str, Any]] = []
    if reply.thinking:
        place = {"item_id": "rs_1", "output_index": len(output), "summary_index": 0}
        yield event(
            "output_item.added", output_index=len(output), item={"type": "reasoning", "id": "rs_1", "summary": []}
        )
        yield event("reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""})
        for piece in _pieces(reply.thinking):
            yield event("reasoning_summary_text.delta", **place, delta=piece)
        yield event("reasoning_summary_text.done", **place, text=reply.thinking)
        item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": reply.thinking}]}
        yield event("output_item.done", output_index=len(output), item=item)
        output.append(item)
    if reply.text:
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
        yield event("output_item.added", output_index=len(output), item=message)
        place = {"item_id": "msg_1", "output_index": len(output), "content_index": 0}
        yield event("content_part.added", **place, part={"type": "output_text", "text": "", "annotations": []})
        for piece in _pieces(reply.text):
            yield event("output_text.delta", **place, delta=piece, logprobs=[])
        yield event("output_text.done", **place, text=reply.text, logprobs=[])
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        yield event("content_part.done", **place, part=part)
        done = {**message, "status": "completed", "content": [part]}
        yield event("output_item.done", output_index=len(output), item=done)
        output.append(done)
    for call_id, tool, arguments in reply.calls:
        text = json.dumps(arguments)
        call = {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": tool, "arguments": ""}
        yield event("output_item.added", output_index=len(output), item=call)
        place = {"item_id": call["id"], "output_index": len(output)}
        for piece in (text[:4], text[4:]):
            yield event("function_call_arguments.delta", **place, delta=piece)
        yield event("function_call_arguments.done", **place, arguments=text, name=tool)
        done = {**call, "arguments": text, "status": "completed"}
        yield event("output_item.done", output_index=len(output), item=done)
        output.append(done)
    usage = {
        "input_tokens": 812,
        "output_tokens": 3,
        "total_tokens": 815,
        "input_tokens_details": {"cached_tokens": 640},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    yield event("completed", response={**response, "status": "completed", "output": output, "usage": usage})


def _messages(reply: Reply) -> Iterator[bytes]:
    usage = {
        "input_tokens": reply.input_tokens,
        "cache_read_input_tokens": 640,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test", "content": []}
    yield _named(
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}}
    )
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if reply.thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(reply.thinking)]
        signed = [*deltas, {"type": "signature_delta", "signature": "c2lnbmVk"}]
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, signed))
    if reply.text:
        blocks.append(
            ({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(reply.text)])
        )
    for call_id, tool, arguments in reply.calls:
        text = json.dumps(arguments)
        parts = [{"type": "input_json_delta", "partial_json": part} for part in (text[:4], text[4:])]
        blocks.append(({"type": "tool_use", "id": call_id, "name": tool, "input": {}}, parts))
    for index, (block, deltas) in enumerate(blocks):
        yield _named({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas:
            yield _named({"type": "content_block_delta", "index": index, "delta": delta})
        yield _named({"type": "content_block_stop", "index": index})
    reason = "tool_use" if reply.calls else "end_turn"
    yield _named(
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 3},
        }
    )
    yield _named({"type": "message_stop"})


def _fault_in_stream(fault: Fault) -> bytes:
    return _named({"type": "error", "error": {"type": fault.kind, "message": fault.message}})


def _fault_in_chat(fault: Fault) -> bytes:
    return _data({"error": {"type": "server_error", "code": fault.status, "message": fault.message}})


def _fault_in_responses(fault: Fault) -> bytes:
    return _named(
        {"type": "error", "sequence_number": 99, "code": "server_error", "message": fault.message, "param": None}
    )


_FAULTS: Final = {
    "openai-chat": _fault_in_chat,
    "openai-responses": _fault_in_responses,
    "anthropic": _fault_in_stream,
}
_ENCODERS: Final = {"openai-chat": _chat, "openai-responses": _responses, "anthropic": _messages}
# How many events end a stream: without them it is cut in mid-answer.
_ENDS: Final = {"openai-chat": 3, "openai-responses": 1, "anthropic": 2}
