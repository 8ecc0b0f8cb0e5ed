"""The catalog: a directory with the agents, prompt skills and tools of an installation, its policy and its MCP servers."""

from holdfast.agents.catalog.calling import CallingProgram
from holdfast.agents.catalog.catalogs import Catalogs, Reloaded
from holdfast.agents.catalog.model import Catalog, Definition
from holdfast.agents.catalog.prompts import PromptSkills
from holdfast.agents.catalog.reading import read_catalog

__all__ = ["CallingProgram", "Catalog", "Catalogs", "Definition", "PromptSkills", "Reloaded", "read_catalog"]
