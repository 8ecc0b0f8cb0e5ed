"""The tool `ask_human`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from holdfast.agents.tools.tool import Call, Tool

# Three days: over a weekend, and into the next working day.
ASK_SECONDS = 259_200


class AskInput(msgspec.Struct, forbid_unknown_fields=True):
    question: Annotated[str, msgspec.Meta(description="What to ask.", min_length=1, max_length=10_000)]
    choices: Annotated[
        list[str] | None, msgspec.Meta(description="The possible answers; without them any text is one.")
    ] = None


def ask_human_tool(expires_in: float = ASK_SECONDS) -> Tool[AskInput]:
    """Asks the person and gives the answer back; `hitl_expired` when nobody answers in time."""

    async def ask_human(call: Call, input: AskInput) -> Any:
        found = await call.context.ask_in_full(
            input.question, choices=input.choices or None, expires_in=expires_in, key=f"ask:{call.key}"
        )
        blocks = found.get("blocks") or []
        call.attached.extend(block for block in blocks if block.get("type") != "text")
        further = {
            "note": found.get("note"),
            "texts": [block["text"] for block in blocks if block.get("type") == "text"],
            "files_attached": len(call.attached),
        }
        told = {name: value for name, value in further.items() if value}
        return {"answer": found["answer"], **told} if told else found["answer"]

    return Tool(
        name="ask_human",
        description="Asks the person a question and waits for the answer, for days if need be.",
        input=AskInput,
        function=ask_human,
        asks=True,
    )
