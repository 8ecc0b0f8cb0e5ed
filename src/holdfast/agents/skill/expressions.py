"""
The expressions of skills: `condition`, `while.condition`, `foreach.items`, `router.on`. No I/O.

    expr   = and {"or" and}     and = not {"and" not}     not = "not" not | cmp     cmp = value [op value]
    op     = "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in"
    value  = number | string | "true" | "false" | "null" | "none" | ref | "(" expr ")" | "[" [expr {"," expr}] "]"
    number = ["-"] digits ["." digits]   the minus touching its digits;   string = '…' or "…" without escapes and line ends
    ref    = name {"." (name | digits)}  name = [A-Za-z_][A-Za-z0-9_-]*;  one name alone means vars.<name>

A text is first cut into tokens, then parsed by one function for each rule above. Whatever is left over, or is not in the
grammar, is an error with its column: nothing is taken for what it might have meant. Values are JSON and compared as JSON:
a boolean is never a number. Evaluating cannot fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from holdfast.agents.skill.model import Json
from holdfast.agents.skill.references import BadReference, Reference, reference_of

LENGTH_MAX: Final = 1000
# Each level of brackets costs some frames of Python's stack, here and when the expression is evaluated.
DEPTH_MAX: Final = 64

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<number>-?[0-9]+(?:\.[0-9]+)?)
    | (?P<string>'[^'\r\n]*'|"[^"\r\n]*")
    | (?P<ref>[A-Za-z_][A-Za-z0-9_-]*(?:\.(?:[A-Za-z_][A-Za-z0-9_-]*|[0-9]+))*)
    | (?P<mark>==|!=|<=|>=|<|>|[()\[\],])""",
    re.VERBOSE,
)
_JOINED: Final = re.compile(r"[A-Za-z0-9_.]")  # what may not follow a number or a reference without a space
_CONSTANTS: Final[dict[str, Json]] = {"true": True, "false": False, "null": None, "none": None}
_RESERVED: Final = frozenset({"and", "or", "not", "in"})
_COMPARISONS: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in", "not in"})

Read = Callable[[Reference], Json]


class BadExpression(ValueError):
    """A text that is no expression; `column` counts from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.message, self.column = message, column


class UnknownNamespace(BadExpression):
    """A reference that has the right form and names nothing that can be read."""


@dataclass(frozen=True, slots=True)
class Constant:
    value: Json


@dataclass(frozen=True, slots=True)
class Lookup:
    reference: Reference
    column: int


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class Compare:
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Chain:
    """Operands joined by `and` or by `or`."""

    is_and: bool
    operands: tuple[Node, ...]


Node = Constant | Lookup | Items | Not | Compare | Chain


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    root: Node

    def evaluate(self, read: Read) -> Json:
        """The value, a JSON value; `read` is asked only for what the value needs. Raises nothing that `read` does not raise."""
        return _evaluate(self.root, read)

    def lookups(self) -> Iterator[Lookup]:
        """All references with their columns, in the order of the text."""
        return _lookups(self.root)


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """
    The expression that a text is.

    Raises:
        BadExpression: it is none; the column says where.
    """
    if len(text) > LENGTH_MAX:
        raise BadExpression(f"expected at most {LENGTH_MAX} characters, found {len(text)}", LENGTH_MAX + 1)
    parser = _Parser(_tokens(text))
    root = parser.expression()
    parser.end()
    return Expression(text, root)


def json_equal(left: Json, right: Json) -> bool:
    """Equality of JSON values: 1 is 1.0, true is not 1, mappings have no order."""
    pending = [(left, right)]
    while pending:
        a, b = pending.pop()
        if isinstance(a, bool) or isinstance(b, bool):
            if a is not b:
                return False
        elif isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            pending.extend((value, b[key]) for key, value in a.items())
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pending.extend(zip(a, b, strict=True))
        elif a != b:
            return False
    return True


# ------------------------------------------------------------------------------------------------------------- parsing


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, string, ref, mark, end
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise BadExpression(_unknown(text, place), place + 1)
        kind = str(match.lastgroup)
        end = match.end()
        if kind in ("number", "ref") and _JOINED.match(text, end):
            raise BadExpression(
                f"expected a space or an operator after {match.group()!r}, found {text[end]!r}", end + 1
            )
        if kind != "space":
            found.append(_Token(kind, match.group(), place + 1))
        place = end
    found.append(_Token("end", "", len(text) + 1))
    return found


def _unknown(text: str, place: int) -> str:
    character = text[place]
    if character in "'\"":
        return f"expected the string to end with {character} in its line"
    if character == "-":
        return "a minus stands only before the digits of a number, and touches them"
    if character == "=":
        return "expected == for a comparison, found ="
    return f"{character!r} has no meaning in an expression"


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> _Token | None:
        token = self._token
        if token.kind in ("ref", "mark") and token.text in texts:
            self._next += 1
            return token
        return None

    def end(self) -> None:
        token = self._token
        if token.kind != "end":
            raise BadExpression(f"expected the end, found {token.text!r}", token.column)

    def expression(self) -> Node:
        return self._chain("or", lambda: self._chain("and", self._negation))

    def _chain(self, word: str, operand: Callable[[], Node]) -> Node:
        operands = [operand()]
        while self._take(word):
            operands.append(operand())
        return operands[0] if len(operands) == 1 else Chain(word == "and", tuple(operands))

    def _negation(self) -> Node:
        count = 0
        while self._take("not"):
            count += 1
        node = self._comparison()
        for _ in range(min(count, 2 - count % 2)):  # an even number of them still makes a boolean
            node = Not(node)
        return node

    def _comparison(self) -> Node:
        left = self._value()
        operator = self._operator()
        return left if operator is None else Compare(operator, left, self._value())

    def _operator(self) -> str | None:
        if token := self._take("==", "!=", "<", "<=", ">", ">=", "in"):
            return token.text
        after = self._tokens[self._next + 1 : self._next + 2]
        if after and self._token.text == "not" and self._token.kind == "ref" and after[0].text == "in":
            self._next += 2
            return "not in"
        return None

    def _value(self) -> Node:
        token = self._token
        self._next += 1
        if token.kind == "number":
            return Constant(_number(token))
        if token.kind == "string":
            return Constant(token.text[1:-1])
        if token.kind == "ref" and token.text in _CONSTANTS:
            return Constant(_CONSTANTS[token.text])
        if token.kind == "ref" and token.text not in _RESERVED:
            return _lookup(token)
        if token.text in ("(", "[") and token.kind == "mark":
            return self._brackets(token)
        found = "the end" if token.kind == "end" else repr(token.text)
        raise BadExpression(f"expected a value, found {found}", token.column)

    def _brackets(self, opened: _Token) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise BadExpression(f"expected at most {DEPTH_MAX} brackets inside each other", opened.column)
        inside = self._list() if opened.text == "[" else self._group()
        self._depth -= 1
        return inside

    def _group(self) -> Node:
        node = self.expression()
        self._close(")")
        return node

    def _list(self) -> Node:
        if self._take("]"):
            return Items(())
        items = [self.expression()]
        while self._take(","):
            items.append(self.expression())
        self._close("]")
        return Items(tuple(items))

    def _close(self, mark: str) -> None:
        if not self._take(mark):
            found = repr(self._token.text) if self._token.kind != "end" else "the end"
            raise BadExpression(f"expected {mark!r}, found {found}", self._token.column)


def _number(token: _Token) -> int | float:
    value = float(token.text) if "." in token.text else int(token.text)
    if abs(value) >= (1 << 63 if isinstance(value, int) else float("inf")):
        raise BadExpression("expected a number that JSON readers take", token.column)
    return value


def _lookup(token: _Token) -> Node:
    first, *path = token.text.split(".")
    try:
        return Lookup(reference_of(first, tuple(path)) if path else Reference("vars", (first,)), token.column)
    except BadReference as exc:
        raise UnknownNamespace(str(exc), token.column) from None


# ---------------------------------------------------------------------------------------------------------- evaluating


def _evaluate(node: Node, read: Read) -> Json:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Lookup):
        return read(node.reference)
    if isinstance(node, Compare):
        return _compare(node.operator, _evaluate(node.left, read), _evaluate(node.right, read))
    if isinstance(node, Chain):
        return _evaluate_chain(node, read)
    if isinstance(node, Not):
        return not _evaluate(node.operand, read)
    return [_evaluate(item, read) for item in node.items]


def _evaluate_chain(node: Chain, read: Read) -> Json:
    value: Json = None
    for operand in node.operands:
        value = _evaluate(operand, read)
        if bool(value) is not node.is_and:  # `and` ends at what is false, `or` at what is true
            break
    return value


def _compare(operator: str, left: Json, right: Json) -> bool:
    if operator in ("==", "!="):
        return json_equal(left, right) is (operator == "==")
    if operator in ("in", "not in"):
        return _is_in(left, right) is (operator == "in")
    if not (_is_number(left) and _is_number(right)):
        return False
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    return bool(left > right) if operator == ">" else bool(left >= right)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_in(left: Json, right: Json) -> bool:
    if isinstance(right, list):
        return any(json_equal(left, item) for item in right)
    return isinstance(left, str) and isinstance(right, (str, dict)) and left in right


def _lookups(node: Node) -> Iterator[Lookup]:
    if isinstance(node, Lookup):
        yield node
    elif isinstance(node, Compare):
        yield from _lookups(node.left)
        yield from _lookups(node.right)
    elif isinstance(node, Chain):
        for operand in node.operands:
            yield from _lookups(operand)
    elif isinstance(node, Not):
        yield from _lookups(node.operand)
    elif isinstance(node, Items):
        for item in node.items:
            yield from _lookups(item)
