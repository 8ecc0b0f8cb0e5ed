"""
MCP servers whose tools the assistant may use: which there are, how a tenant is connected to them, calling them.

Importing this loads neither the model library nor the client: those come with the first connection.
"""

from holdfast.agents.mcp.connections import Connection, Mcp, Pending
from holdfast.agents.mcp.remote import RemoteTool, remote_tools_of
from holdfast.agents.mcp.servers import McpServer, load_servers

__all__ = ["Connection", "Mcp", "McpServer", "Pending", "RemoteTool", "load_servers", "remote_tools_of"]
