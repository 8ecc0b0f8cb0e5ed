"""
The prompt skills of a tenant: those of the catalog, which only its files change, and those that the tenant made itself.

The latter are items of the memory's store `skills`, so that export and import carry them. Where both have a name, that of
the catalog counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.agents.catalog.catalogs import Catalogs
from holdfast.agents.catalog.model import EMPTY
from holdfast.agents.prompt_skill import PromptSkill
from holdfast.errors import Forbidden, InvalidRequest, PromptSkillNotFound, SkillExists
from holdfast.memory import Draft, Memory, shown_item
from holdfast.store.memory import MemoryItem

STORE: Final = "skills"
PLATFORM: Final = "platform"
CUSTOM: Final = "custom"
PAGE: Final = 200


class Listed(msgspec.Struct, frozen=True):
    """A prompt skill, whose it is, and how sure its tenant is of it."""

    skill: PromptSkill
    source: str  # platform, custom
    confidence: float = 1.0


class PromptSkills:
    """Made once per server; used on its event loop."""

    def __init__(self, memory: Memory, catalogs: Catalogs | None) -> None:
        self._memory = memory
        self._catalogs = catalogs
        self._changing = asyncio.Lock()  # a change reads before it writes

    @property
    def platform(self) -> Mapping[str, PromptSkill]:
        """Those of the catalog."""
        return (EMPTY if self._catalogs is None else self._catalogs.current).skills

    async def all(self, tenant: str) -> list[Listed]:
        """By name."""
        found = {name: Listed(skill, PLATFORM) for name, skill in self.platform.items()}
        before: tuple[int, str] | None = None
        now = self._memory.now()
        while True:
            page = await self._memory.store.items(tenant, STORE, before=before, limit=PAGE)
            for item in page:
                found.setdefault(item.item_id, Listed(_skill_of(item), CUSTOM, shown_item(item, now)["confidence"]))
            if len(page) < PAGE:
                return [found[name] for name in sorted(found)]
            before = page[-1].created_at, page[-1].item_id

    async def usable(self, tenant: str, *, custom_only: bool) -> list[PromptSkill]:
        """By name; without those of the catalog, if so wished."""
        return [listed.skill for listed in await self.all(tenant) if not custom_only or listed.source == CUSTOM]

    async def get(self, tenant: str, name: str) -> PromptSkill:
        """
        Raises:
            PromptSkillNotFound
        """
        known = self.platform.get(name)
        if known is not None:
            return known
        item = await self._memory.store.item(tenant, STORE, name)
        if item is None:
            raise PromptSkillNotFound(f"there is no skill {name!r}")
        return _skill_of(item)

    async def create(self, tenant: str, skill: PromptSkill, *, by: str) -> PromptSkill:
        """
        Raises:
            SkillExists: nothing was changed.
        """
        is_free = skill.name not in self.platform
        # Whoever is the first, in whatever process, has made it.
        if is_free and await self._memory.add(tenant, _draft_of(skill), source=f"api:{by}"):
            return skill
        raise SkillExists(f"there is a skill {skill.name!r} already")

    async def change(self, tenant: str, name: str, changes: Mapping[str, Any], *, by: str) -> PromptSkill:
        """
        Replace fields of a tenant's own skill.

        Raises:
            PromptSkillNotFound
            Forbidden: it is one of the catalog.
            InvalidRequest: nothing would be left of it.
        """
        async with self._changing:
            self._check_own(name)
            changed = msgspec.structs.replace(await self.get(tenant, name), **changes)
            if not changed.prompt and not changed.scripts:
                raise InvalidRequest("scripts: this skill has no prompt, so it keeps some", field="scripts")
            await self._memory.write(tenant, _draft_of(changed), source=f"api:{by}")
        return changed

    async def delete(self, tenant: str, name: str) -> None:
        """
        Raises:
            PromptSkillNotFound
            Forbidden: it is one of the catalog.
        """
        async with self._changing:
            self._check_own(name)
            if not await self._memory.store.delete(tenant, STORE, name):
                raise PromptSkillNotFound(f"there is no skill {name!r}")

    def _check_own(self, name: str) -> None:
        if name in self.platform:
            raise Forbidden(f"the skill {name!r} is one of the catalog, which only its files change", rule="platform")


def _draft_of(skill: PromptSkill) -> Draft:
    return Draft(store=STORE, item_id=skill.name, fields=skill.fields)


def _skill_of(item: MemoryItem) -> PromptSkill:
    fields: dict[str, Any] = msgspec.json.decode(item.fields)
    return PromptSkill(
        name=item.item_id,
        description=fields["description"],
        category=fields["category"],
        prompt=fields["prompt_template"],
        scripts=fields["scripts"],
        capabilities=tuple(fields["capabilities"]),
    )
