"""
Reading a catalog directory. It is taken as a whole or not at all, and what is wrong is told of all files at once:

    agents/<name>/agent.json    name, description, model, tools, system_prompt_path; default, sub_agents
    skills/<name>/skill.json    name, description, category, prompt_path, capabilities; scripts/ beside it
    tools/<name>.json           name, description, input_schema, implementation; requires_permission, high_cost
    policy.json                 which tools are allowed, asked about, denied
    mcp_servers.json            the MCP servers that tenants can connect to
    core_soul.json              the soul of a tenant that never changed it

Names equal those of their files, paths stay inside of the catalog, and whatever is named exists. All parts may be absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from holdfast.agents.catalog.model import AgentEntry, Catalog, ToolEntry, is_named
from holdfast.agents.mcp.servers import McpServer, load_servers
from holdfast.agents.prompt_skill import SKILL, PromptSkill
from holdfast.agents.tools.policy import NO_POLICY, Policy, load_policy
from holdfast.errors import CatalogInvalid, NotConfigured
from holdfast.execution.schema import InvalidSchema, schema_of
from holdfast.settings import InvalidSetting

SOUL_FILE: Final = "core_soul.json"

# As in the APIs: agents are named in URLs, tools by models, skills by people.
AGENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
TOOL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
SKILL_NAME: Final = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+(-[a-z0-9]+)*\Z")

FILE_BYTES_MAX: Final = 1024 * 1024
TEXT_BYTES_MAX: Final = 256 * 1024
SCRIPTS_MAX: Final = 20

DELEGATE: Final = "delegate"

T = TypeVar("T")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a catalog may refer to that is not in it. `check_model` raises `NotConfigured` for a model that cannot work."""

    tools: Collection[str] = ()
    agents: Collection[str] = ()  # that are served otherwise, so that their names are taken
    check_model: Callable[[str], None] = lambda _: None


class _Agent(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str
    model: str | None
    tools: list[str]
    system_prompt_path: str
    default: bool = False
    sub_agents: list[str] = []


class _Skill(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str = ""
    category: str = ""
    prompt_path: str | None = None
    capabilities: list[str] = []


class _Soul(msgspec.Struct, forbid_unknown_fields=True):
    identity: str = ""
    values: list[str] = []
    patterns: list[str] = []


class _Bad(Exception):
    """A file does not fit."""


def read_catalog(directory: str | Path, known: Known) -> Catalog:
    """
    The catalog in a directory. Blocks.

    Raises:
        CatalogInvalid: its `errors` name each file that does not fit, with the reason.
    """
    return _Reading(Path(directory), known).read()


def refusal(errors: Sequence[Mapping[str, str]]) -> CatalogInvalid:
    """What a catalog with these errors is refused with."""
    listed = "; ".join(f"{error['file']}: {error['message']}" for error in errors)
    return CatalogInvalid(f"the catalog does not fit: {listed}", errors)


class _Reading:
    def __init__(self, root: Path, known: Known) -> None:
        self._root = root.resolve()
        self._known = known
        self._errors: list[dict[str, str]] = []

    def read(self) -> Catalog:
        if not self._root.is_dir():
            raise refusal([{"file": str(self._root), "message": "there is no such directory"}])
        no_servers: Mapping[str, McpServer] = {}
        servers = self._part(load_servers, no_servers)
        policy: Policy = self._part(load_policy, NO_POLICY)
        agents = self._each("agents", "agent.json", self._agent)
        skills = self._each("skills", "skill.json", self._skill)
        tools = self._tools()
        soul = self._soul()
        self._check_tools(tools, skills, servers)
        self._check_agents(agents, skills, tools, servers)
        if self._errors:
            raise refusal(sorted(self._errors, key=lambda error: error["file"]))
        return Catalog(agents=agents, skills=skills, tools=tools, policy=policy, servers=servers, soul=soul)

    def _wrong(self, path: Path, message: str) -> None:
        try:
            name = path.relative_to(self._root).as_posix()
        except ValueError:
            name = str(path)
        self._errors.append({"file": name, "message": message})

    # Files

    def _part(self, load: Callable[[str], T], otherwise: T) -> T:
        """A part that has a reader of its own, whose messages begin with the file's path."""
        try:
            return load(str(self._root))
        except InvalidSetting as exc:
            path, _, message = exc.message.partition(": ")
            self._wrong(Path(path), message or exc.message)
            return otherwise

    def _each(self, folder: str, file: str, read: Callable[[Path], T]) -> dict[str, T]:
        """
        What is declared by a file of this name in each folder of a folder. JSON that lies beside these folders would
        declare nothing, whatever its author meant.
        """
        found: dict[str, T] = {}
        for place in self._listed(self._root / folder):
            if not place.is_dir():
                if place.suffix == ".json":
                    self._wrong(place, f"declares nothing here; it belongs into {folder}/{place.stem}/{file}")
                continue
            try:
                found[place.name] = read(place / file)
            except _Bad as exc:
                self._wrong(place / file, str(exc))
        return found

    def _tools(self) -> dict[str, ToolEntry]:
        found: dict[str, ToolEntry] = {}
        for path in self._listed(self._root / "tools"):
            if path.suffix != ".json" or path.is_dir():
                continue
            try:
                found[path.stem] = self._tool(path)
            except _Bad as exc:
                self._wrong(path, str(exc))
        return found

    def _listed(self, folder: Path) -> Iterator[Path]:
        """What is in a folder, by name, but for what is hidden; nothing where there is no such folder."""
        try:
            inside = sorted(folder.iterdir())
        except FileNotFoundError:
            return
        except OSError as exc:
            self._wrong(folder, f"the folder cannot be read: {exc.strerror}")
            return
        yield from (path for path in inside if not path.name.startswith("."))

    def _bytes(self, path: Path, most: int) -> bytes:
        if not path.resolve().is_relative_to(self._root):
            raise _Bad(f"{_shown(path, self._root)} leads outside of the catalog")
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            raise _Bad(f"there is no file {_shown(path, self._root)}") from None
        except OSError as exc:
            raise _Bad(f"{_shown(path, self._root)} cannot be read: {exc.strerror}") from None
        if len(data) > most:
            raise _Bad(f"{_shown(path, self._root)} has more than {most // 1024} KiB")
        return data

    def _json(self, path: Path, type: type[T]) -> T:
        try:
            return msgspec.json.decode(self._bytes(path, FILE_BYTES_MAX), type=type)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise _Bad(str(exc)) from None

    def _text(self, path: Path) -> str:
        try:
            return self._bytes(path, TEXT_BYTES_MAX).decode("utf-8-sig").replace("\0", "")
        except UnicodeDecodeError as exc:
            raise _Bad(f"{_shown(path, self._root)} is no UTF-8: byte {exc.start}") from None

    def _named(self, base: Path, path: str, field: str) -> str:
        """The text of a file that another one names: beside that one, or seen from the root of the catalog."""
        places = [base / path, self._root / path]
        for place in places:
            if not place.resolve().is_relative_to(self._root):
                raise _Bad(f"{field}: {path!r} leads outside of the catalog")
        return self._text(places[0] if places[0].exists() else places[1])

    # Entries

    def _agent(self, path: Path) -> AgentEntry:
        given = self._json(path, _Agent)
        _check_name(given.name, path.parent.name, AGENT_NAME)
        return AgentEntry(
            name=given.name,
            description=given.description,
            model=given.model,
            tools=tuple(given.tools),
            system_prompt=self._named(path.parent, given.system_prompt_path, "system_prompt_path"),
            is_default=given.default,
            sub_agents=tuple(given.sub_agents),
        )

    def _skill(self, path: Path) -> PromptSkill:
        given = self._json(path, _Skill)
        _check_name(given.name, path.parent.name, SKILL_NAME)
        scripts = self._scripts(path.parent / "scripts")
        if given.prompt_path is None and not scripts:
            raise _Bad("prompt_path is missing, and there are no scripts either")
        prompt = "" if given.prompt_path is None else self._named(path.parent, given.prompt_path, "prompt_path")
        return PromptSkill(
            name=given.name,
            description=given.description,
            category=given.category,
            prompt=prompt,
            scripts=scripts,
            capabilities=tuple(given.capabilities),
        )

    def _scripts(self, folder: Path) -> dict[str, str]:
        files = [path for path in self._listed(folder) if not path.is_dir()]
        if len(files) > SCRIPTS_MAX:
            raise _Bad(f"scripts: there may be {SCRIPTS_MAX} files; there are {len(files)}")
        return {path.name: self._text(path) for path in files}

    def _tool(self, path: Path) -> ToolEntry:
        given = self._json(path, ToolEntry)
        _check_name(given.name, path.stem, TOOL_NAME)
        try:
            schema_of(given.input_schema)
        except InvalidSchema as exc:
            raise _Bad(f"input_schema: {exc.message}") from None
        if given.input_schema.get("type", "object") != "object":
            raise _Bad("input_schema: the input of a tool is an object")
        return given

    def _soul(self) -> Mapping[str, Any] | None:
        path = self._root / SOUL_FILE
        if not path.exists():
            return None
        try:
            found: Mapping[str, Any] = msgspec.to_builtins(self._json(path, _Soul))
        except _Bad as exc:
            self._wrong(path, str(exc))
            return None
        return found

    # References

    def _check_tools(
        self, tools: Mapping[str, ToolEntry], skills: Mapping[str, PromptSkill], servers: Mapping[str, McpServer]
    ) -> None:
        for name, tool in tools.items():
            path, wanted = self._root / "tools" / f"{name}.json", tool.implementation
            if wanted.kind == "platform" and wanted.ref not in self._known.tools:
                self._wrong(path, f"implementation.ref: there is no platform tool {wanted.ref!r}")
            elif wanted.kind == "skill" and wanted.ref not in skills:
                self._wrong(path, f"implementation.ref: there is no skill {wanted.ref!r}")
            elif wanted.kind == "mcp" and not _is_action(wanted.ref, servers):
                self._wrong(path, f"implementation.ref: {wanted.ref!r} is no <server>.<action> of mcp_servers.json")
            is_own = wanted.kind == "platform" and wanted.ref == name
            if name in self._known.tools and not is_own:
                self._wrong(path, f"name: {name!r} is a platform tool, which only a tool made of it may replace")

    def _check_agents(
        self,
        agents: Mapping[str, AgentEntry],
        skills: Mapping[str, PromptSkill],
        tools: Mapping[str, ToolEntry],
        servers: Mapping[str, McpServer],
    ) -> None:
        named = {*self._known.tools, *tools, *(f"{SKILL}{name}" for name in skills), DELEGATE}
        defaults = [name for name, agent in agents.items() if agent.is_default]
        for name, agent in agents.items():
            path = self._root / "agents" / name / "agent.json"
            if name in self._known.agents:
                self._wrong(path, f"name: an agent {name!r} is served already")
            if len(defaults) > 1 and agent.is_default:
                self._wrong(path, f"default: one agent may be the default one, not {', '.join(defaults)}")
            for tool in agent.tools:
                if not _may_be_named(tool, named, servers):
                    self._wrong(path, f"tools: there is no tool {tool!r}")
            for other in agent.sub_agents:
                if other not in agents:
                    self._wrong(path, f"sub_agents: there is no agent {other!r} in the catalog")
            if agent.model is not None:
                try:
                    self._known.check_model(agent.model)
                except NotConfigured as exc:
                    self._wrong(path, f"model: {exc.message}")


def _check_name(name: str, file: str, allowed: re.Pattern[str]) -> None:
    if name != file:
        raise _Bad(f"name: {name!r} has to be {file!r}, as the file is called")
    if not allowed.match(name):
        raise _Bad(f"name: {name!r} is no name; names fit {allowed.pattern.removesuffix(chr(92) + 'Z')}")


def _may_be_named(tool: str, named: Collection[str], servers: Mapping[str, McpServer]) -> bool:
    """A tool that is there, a pattern that fits one, or what may come to be: skills of a tenant, actions of a server."""
    if tool in named or _is_action(tool, servers):
        return True
    is_pattern = any(character in tool for character in "*?[")
    return is_pattern and (tool.startswith(SKILL) or any(is_named(name, [tool]) for name in named))


def _is_action(ref: str, servers: Mapping[str, McpServer]) -> bool:
    server, dot, action = ref.partition(".")
    return server in servers and bool(dot and action)


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
