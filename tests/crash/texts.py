"""What the agents of the kill tests say in all, when nothing of it is void."""

from __future__ import annotations

from typing import Final

PARTS: Final = 4
TOKENS: Final = 5

TEXTS: Final = {
    "tale": "".join("".join(f"{part}.{number} " for number in range(TOKENS)) + f"[{part}] " for part in range(PARTS)),
    "sync": "".join(f"{part}.{number} " for part in range(PARTS) for number in range(TOKENS)),
    "fan": "".join(f"{number} " for number in range(TOKENS * PARTS)),
    "fragile": "before after ",
}
