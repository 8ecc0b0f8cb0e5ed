"""Where the scripted model was; it is a part of the product now."""

from holdfast.testing.model import Calls, Piece, Response, Says, ScriptedModel, Thinks

__all__ = ["Calls", "Piece", "Response", "Says", "ScriptedModel", "Thinks"]
