"""
Graphs of LangGraph as agents. This package is loaded with the first graph that is served, and it alone knows the library.
"""

from holdfast.agents.langgraph.program import GraphProgram

__all__ = ["GraphProgram"]
