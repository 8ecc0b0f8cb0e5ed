"""
What the offline model answers: a table of rules over the last message, the first that fits wins. No I/O.

The same conversation always gives the same reply, so that tests, demos and crash tests can compare texts. A rule that
needs a tool asks for it; when the tool has answered, the reply is made of its answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from holdfast.agents.models.offline import phrases
from holdfast.agents.models.offline.questions import question_to_ask

COUNT_MAX = 100_000

# Not strftime: that follows the locale.
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


class Exchange(msgspec.Struct, frozen=True):
    """An earlier turn: what the person wrote and what was answered."""

    user: str
    assistant: str


class Answer(msgspec.Struct, frozen=True):
    """What a tool gave back in this turn."""

    tool: str
    input: dict[str, Any]
    output: Any
    failed: bool = False


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """All that the reply depends on."""

    message: str
    earlier: Sequence[Exchange] = ()
    answers: Sequence[Answer] = ()
    tools: frozenset[str] = frozenset()


class Wish(msgspec.Struct, frozen=True):
    """A tool that the model wants to have called."""

    tool: str
    input: dict[str, Any]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Text, or tools to call first; thinking comes before both."""

    text: str = ""
    thinking: str = ""
    wishes: tuple[Wish, ...] = ()


def reply_to(conversation: Conversation) -> Reply:
    """What the model answers, or which tools it needs first."""
    if conversation.answers:
        return Reply(text=" ".join(_from_answer(answer) for answer in conversation.answers))
    for rule in _RULES:
        reply = rule(conversation)
        if reply is not None:
            return reply
    return Reply(text=phrases.CANNOT)


def _from_answer(answer: Answer) -> str:
    if answer.failed:
        return f"The tool {answer.tool} did not work: {answer.output}"
    if answer.tool == "current_time":
        return _told_time(str(answer.output))
    if answer.tool == "sum":
        return f"{' + '.join(str(number) for number in answer.input.get('numbers', []))} = {answer.output}."
    if answer.tool == "ask_human":
        return f"You answered: {answer.output}. Thank you!"
    return f"The tool {answer.tool} answered: {answer.output}"


def _told_time(text: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return f"It is {text}."
    zone = time.strftime("%z")
    shown = "UTC" if zone in ("", "+0000") else f"UTC{zone[:3]}:{zone[3:]}"
    return f"It is {time:%H:%M:%S} {shown} on {time.day} {_MONTHS[time.month - 1]} {time.year}."


# The rules, in the order in which they are tried.


def _thinks(conversation: Conversation) -> Reply | None:
    match = re.match(r"(?is)\s*(?:please )?think\b[^.?!]*?\babout (.+?)[\s.?!]*$", conversation.message)
    if match is None:
        return None
    subject = match[1]
    return Reply(
        thinking=f"I am to think about {subject}. There are only rules in me, and none of them knows about it. "
        "So the honest answer is a short one.",
        text=f"I thought about {subject}, as far as a few rules can think. {phrases.HOW_TO}",
    )


def _counts(conversation: Conversation) -> Reply | None:
    match = re.search(r"(?i)\bcount\b[^.?!]*?\bto (\d{1,9})\b", conversation.message)
    if match is None:
        return None
    last = int(match[1])
    if last > COUNT_MAX:
        return Reply(text=f"I do not count further than {COUNT_MAX}.")
    return Reply(text=", ".join(str(number) for number in range(min(1, last), last + 1)) + ".")


def _asks_back(conversation: Conversation) -> Reply | None:
    asked = question_to_ask(conversation.message)
    if asked is None:
        return None
    if "ask_human" not in conversation.tools:
        return Reply(text="I have no tool here to ask you with.")
    question, choices = asked
    return Reply(wishes=(Wish("ask_human", {"question": question, **({"choices": choices} if choices else {})}),))


def _echoes(conversation: Conversation) -> Reply | None:
    match = re.match(r"(?is)\s*(?:please )?(?:repeat|say)\b[^:]{0,30}:\s*(.+)", conversation.message)
    return None if match is None else Reply(text=match[1].strip())


def _repeats(conversation: Conversation) -> Reply | None:
    message = conversation.message
    asked = re.search(
        r"(?i)\b(?:repeat|translate|say (?:that|this|it))\b|\bsame (?:thing )?in\b"
        r"|^\s*(?:and |now )?in [^\W\d_]+(?: please)?[\s.?!]*$",
        message,
    )
    if asked is None:
        return None
    language = _language(message)
    if not conversation.earlier:
        return Reply(text="I have not said anything yet in this conversation.")
    last = conversation.earlier[-1].assistant
    if language is None:
        return Reply(text=last)
    said = phrases.in_language(last, language)
    if said is not None:
        return Reply(text=said)
    if language == "English":
        return Reply(text=last)
    return Reply(
        text=f"I cannot say that in {language}. {phrases.WHO} I only know some of my own sentences in French, German, "
        f"Spanish and Italian. {phrases.HOW_TO}"
    )


def _rephrases(conversation: Conversation) -> Reply | None:
    if re.search(r"(?i)\b(?:rephrase|reword|in other words|differently|another way)\b", conversation.message) is None:
        return None
    if not conversation.earlier:
        return Reply(text="I have not said anything yet in this conversation.")
    last = conversation.earlier[-1].assistant
    english = phrases.original(last)
    if english is not None:
        return Reply(text=english if last == phrases.REPHRASED[english] else phrases.REPHRASED[english])
    return Reply(text=f"I have no other words for that. {phrases.WHO} {phrases.HOW_TO}")


def _recalls(conversation: Conversation) -> Reply | None:
    if (
        re.search(r"(?i)\bwhat (?:did|have) I\b.*\b(?:say|said|ask|asked|write|written)\b", conversation.message)
        is None
    ):
        return None
    if not conversation.earlier:
        return Reply(text="This is the first thing that you have written here.")
    return Reply(text=f"You said: {conversation.earlier[-1].user}")


def _uses_tools(conversation: Conversation) -> Reply | None:
    wishes = _named_wishes(conversation.message) or [
        *_time_wishes(conversation.message),
        *_sum_wishes(conversation.message),
    ]
    if not wishes:
        return None
    missing = [wish.tool for wish in wishes if wish.tool not in conversation.tools]
    if missing:
        return Reply(text=f"I have no tool {missing[0]} here.")
    return Reply(wishes=tuple(wishes))


def _named_wishes(message: str) -> list[Wish]:
    """`Use the tool NAME`, with or without `with {…}`."""
    found = re.fullmatch(r"(?is)\s*use the tool ([A-Za-z_][\w-]*)(?: with (\{.*\}))?[.!]?\s*", message)
    if found is None:
        return []
    try:
        arguments = json.loads(found[2] or "{}")
    except ValueError:
        return []
    return [Wish(found[1], arguments)]


def _time_wishes(message: str) -> list[Wish]:
    asked = re.search(
        r"(?i)\b(?:what time|time is it|the time|current time|what day|what date|(?:today's|the) date)\b", message
    )
    if asked is None:
        return []
    zone = re.search(r"\b([A-Z][a-z]+/[A-Z][A-Za-z_]+)\b", message)
    return [Wish("current_time", {"timezone": zone[1]} if zone else {})]


def _sum_wishes(message: str) -> list[Wish]:
    if re.search(r"(?i)\d\s*\+\s*-?\d|\b(?:sum|add|plus|total)\b", message) is None:
        return []
    texts = re.findall(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,9})?(?![\w])", message)
    numbers = [float(text) if "." in text else int(text) for text in texts]
    return [Wish("sum", {"numbers": numbers})] if len(numbers) > 1 else []


def _greets(conversation: Conversation) -> Reply | None:
    if (
        re.search(r"(?i)\b(?:hello|hi|hey|greet|good (?:morning|day|afternoon|evening))\b", conversation.message)
        is None
    ):
        return None
    greeted = any(phrases.original(exchange.assistant) == phrases.HELLO for exchange in conversation.earlier)
    hello = phrases.HELLO_AGAIN if greeted else phrases.HELLO
    language = _language(conversation.message)
    return Reply(text=hello if language is None else phrases.in_language(hello, language) or hello)


def _is_polite(conversation: Conversation) -> Reply | None:
    for pattern, sentence in (
        (r"(?i)\b(?:thanks|thank you)\b", phrases.WELCOME),
        (r"(?i)\b(?:goodbye|good night|bye)\b", phrases.GOODBYE),
        (r"(?i)\b(?:who|what) are you\b|\byour name\b|\bintroduce yourself\b", phrases.WHO),
        (r"(?i)\bwhat can you\b|\bhelp\b", f"{phrases.WHO} {phrases.ABILITIES} {phrases.HOW_TO}"),
    ):
        if re.search(pattern, conversation.message):
            return Reply(text=sentence)
    return None


def _language(message: str) -> str | None:
    """The language that a message asks for, as its English name; any word behind `in` or `to` that could be one."""
    named = re.search(r"(?i)\b(?:in|into|to|auf|en)\s+([^\W\d_]+)(?:\s+please)?[\s.?!,]*$", message)
    if named is None:
        return None
    word = named[1]
    known = phrases.LANGUAGES.get(word.lower())
    return known or (word if word[0].isupper() else None)


_RULES: Sequence[Callable[[Conversation], Reply | None]] = (
    _thinks,
    _counts,
    _asks_back,
    _echoes,
    _repeats,
    _rephrases,
    _recalls,
    _uses_tools,
    _greets,
    _is_polite,
)
