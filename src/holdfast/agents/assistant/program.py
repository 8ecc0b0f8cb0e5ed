"""
The built-in assistant as an agent that can be run. Cheap to import and to make: the model library is loaded with the
first turn, or before that by `preload` in the background.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from holdfast.agents.assistant.kit import ALL, Kit, Skills
from holdfast.agents.assistant.limits import STANDARD, Limits
from holdfast.agents.models import WORD_DELAY_SECONDS, build_model, check_model, credentials_of, is_offline
from holdfast.agents.models.library import LIBRARY
from holdfast.agents.tools import Tool, Tools, builtin_tools, memory_tools
from holdfast.agents.tools.gate import Gate
from holdfast.execution.codec import encode_result
from holdfast.execution.context import Context
from holdfast.execution.program import Result
from holdfast.memory import Memory
from holdfast.model import Run
from holdfast.model.lifecycle import Restart

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from holdfast.agents.assistant.loop import Loop
    from holdfast.agents.mcp import Mcp

NAME: Final = "assistant"
MAX_TOKENS: Final = 4096

INSTRUCTIONS: Final = (
    "You are a helpful assistant. Answer in the language of the person who writes to you, and be brief. "
    "Use the tools where they help. If you cannot go on without a decision or a fact that only the person has, "
    "ask with the tool ask_human; otherwise decide yourself and say what you assumed."
)

Learn: TypeAlias = Callable[[Run], Awaitable[None]]
"""Starts what learns from a turn, once, however often it is called."""

# Where a message may stand in the input, in this order.
_MESSAGE_FIELDS = ("message", "query", "input", "prompt")


class AssistantProgram:
    """
    Converses: a model, tools, the thread's history.

    Its model requests and tool calls are steps, so a turn goes on after a crash where it stopped, and none of them
    is made twice. `model` is `provider:model`, a model object of pydantic-ai, or None for the offline model.
    """

    framework = "assistant"
    restart = Restart.ALWAYS
    is_sync = False

    def __init__(
        self,
        model: str | Model[Any] | None = None,
        *,
        key: str | None = None,
        url: str | None = None,
        fallback: str | Model[Any] | None = None,
        planner: str | Model[Any] | None = None,
        name: str = NAME,
        tools: Tools | None = None,
        instructions: str = INSTRUCTIONS,
        max_tokens: int | None = MAX_TOKENS,
        limits: Limits = STANDARD,
        client_tools: Sequence[str] = ("*",),
        offline_word_delay_seconds: float = WORD_DELAY_SECONDS,
    ) -> None:
        """
        Args:
            fallback: the model that is asked where `model` does not answer; it has the same key and URL if it is of the
                same provider.
            planner: the model that lists the steps before a turn, unless its caller wants none; its key and URL likewise.
            client_tools: which registered tools its model may have its caller execute: full names, or patterns such
                as `crm.*`.

        Raises:
            ModelNotConfigured: the settings name no usable model.
        """
        if model is None or isinstance(model, str):
            check_model(model, key, url)
        if isinstance(fallback, str):
            main = model if isinstance(model, str) else None
            self._fallback_access = credentials_of(fallback, main, key, url)
            check_model(fallback, *self._fallback_access, setting="HOLDFAST_MODEL_FALLBACK")
        if isinstance(planner, str):
            main = model if isinstance(model, str) else None
            check_model(planner, *credentials_of(planner, main, key, url), setting="HOLDFAST_MODEL_PLANNER")
        self.name = name
        self.tools = builtin_tools(limits.hitl_expires_seconds) if tools is None else tools
        self._has_own_tools = tools is not None
        self._offered: set[str] = set()
        self._memory: Memory | None = None
        self._learn: Learn | None = None
        self._gate = Gate()
        self.mcp: Mcp | None = None
        self._kit: Kit = ALL
        self._skills: Skills | None = None
        self._model, self._key, self._url = model, key, url
        self._fallback, self._planner = fallback, planner
        self._sub_agents: Mapping[str, str] = {}
        self._colleague: Callable[[str], AssistantProgram] | None = None
        self._instructions = instructions
        self._max_tokens = max_tokens
        self._limits = limits
        self.client_tools = tuple(client_tools)
        self._word_delay_seconds = offline_word_delay_seconds
        self._loop: Loop | None = None
        self._loading = threading.Lock()

    def use_learning(self, learn: Learn) -> None:
        """Have turns learned from, from the next one on."""
        self._learn = learn

    def use_mcp(self, mcp: Mcp) -> None:
        """Offer the tools of connected MCP servers; called before the first turn. Tools that were given stay alone."""
        if not self._has_own_tools:
            self.mcp = mcp

    def use_skills(self, skills: Skills) -> None:
        """Offer prompt skills; called before the first turn. Tools that were given stay alone."""
        if not self._has_own_tools:
            self._skills = skills

    def use_gate(self, gate: Gate) -> None:
        """Have calls decided by the policy and the grants of this one; called before the first turn on a store."""
        self._gate = gate
        self._loop = None  # one that was made for another store

    def use_tools(self, tools: Iterable[Tool[Any]]) -> None:
        """
        Offer these tools too; called before the first turn on a store. Tools that were given are not added to, and of those
        that were offered here before, for another store, the new ones take the place.
        """
        if not self._has_own_tools:
            for tool in tools:
                if self.tools.get(tool.name) is None or tool.name in self._offered:
                    self.tools.put(tool)
                    self._offered.add(tool.name)
            self._loop = None  # one that was made for another store

    def use_memory(self, memory: Memory) -> None:
        """Remember, from the next turn on; called before the first one. Tools that were given are not added to."""
        self._memory = memory
        self.use_tools(memory_tools(memory))

    def use_sub_agents(self, agents: Mapping[str, str], colleague: Callable[[str], AssistantProgram]) -> None:
        """
        Let it delegate parts of a turn; called before the first one.

        Args:
            agents: whom to, with what they are for.
            colleague: one of these by its name, from any thread.
        """
        self._sub_agents, self._colleague = agents, colleague

    def check_model(self, name: str) -> None:
        """
        Let the name of a model pass that a variant can have.

        Raises:
            ModelNotConfigured
        """
        check_model(name, *self._access_to(name))

    def variant(self, name: str, *, model: str | None, tools: Tools, instructions: str, kit: Kit) -> AssistantProgram:
        """
        One that shares everything with this one but what is given here; without a model, that too.
        """
        made = copy.copy(self)
        made.name, made.tools, made._instructions = name, tools, instructions
        made._kit = kit
        made.client_tools = ()
        made._loop, made._loading = None, threading.Lock()
        if model is not None:
            made._model, (made._key, made._url) = model, self._access_to(model)
        return made

    def _access_to(self, model: str) -> tuple[str | None, str | None]:
        """Key and URL for a model beside the main one."""
        main = self._model if isinstance(self._model, str) else None
        return credentials_of(model, main, self._key, self._url)

    @property
    def is_offline(self) -> bool:
        """Whether it answers from the offline model."""
        return (self._model is None or isinstance(self._model, str)) and is_offline(self._model, self._url)

    async def refused_media(self, blocks: Sequence[Any]) -> tuple[int, str] | None:
        """Which of these blocks its model cannot take, the first one and what it is; None: it takes all."""
        loop = self._loop
        if loop is None:
            loop = await asyncio.to_thread(self.preload)
        return loop.refused_media(blocks)

    async def execute(self, context: Context, input: Any) -> Result:
        """Answer the message in the input; text and messages of the turn are in the result."""
        loop = self._loop
        if loop is None:
            loop = await asyncio.to_thread(self.preload)
        text, media = message_of(input)
        result = await loop.answer(context, text, media)
        learn = self._learn
        if learn is not None:
            # Before the end, so that no crash comes in between; it waits for the end by itself.
            start = functools.partial(learn, context.execution.run)
            await context.step("learn", context.execution.insist, start, side_effects=False, visible=False)
        return result

    def preload(self) -> Loop:
        """Load the model library and make the model, in the calling thread: some two seconds the first time."""
        with self._loading, LIBRARY:
            if self._loop is None:
                self._loop = self._make_loop()
            return self._loop

    def _make_loop(self) -> Loop:
        from holdfast.agents.assistant.loop import Loop

        model = self._model
        if model is None or isinstance(model, str):
            model = build_model(model, self._key, self._url, word_delay_seconds=self._word_delay_seconds)
        fallback = self._fallback
        if isinstance(fallback, str):
            fallback = build_model(fallback, *self._fallback_access, word_delay_seconds=self._word_delay_seconds)
        planner = self._planner
        if isinstance(planner, str):
            planner = build_model(planner, *self._access_to(planner), word_delay_seconds=self._word_delay_seconds)
        colleague = self._colleague
        return Loop(
            model,
            self.tools,
            fallback=fallback,
            instructions=self._instructions,
            max_tokens=self._max_tokens,
            limits=self._limits,
            client_tools=self.client_tools,
            memory=self._memory,
            gate=self._gate,
            mcp=self.mcp,
            kit=self._kit,
            planner=planner,
            sub_agents=self._sub_agents,
            loop_of=None if colleague is None else lambda name: colleague(name).preload(),
            skills=self._skills,
        )


def message_of(input: Any) -> tuple[str, list[Any]]:
    """The message in a run's input and its media blocks; an input without a message is given as JSON text."""
    if isinstance(input, str):
        return input, []
    if isinstance(input, dict):
        given = input.get("media")
        media = given if isinstance(given, list) else []
        for name in _MESSAGE_FIELDS:
            if isinstance(input.get(name), str):
                return input[name], media
        if media:
            return "", media
    return encode_result(input, what="the input").decode(), []
