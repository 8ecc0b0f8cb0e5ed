"""
The model that needs neither network nor key: a development aid that says so.

`replies` decides, without I/O and without the model library; `model` is its form for pydantic-ai, and the only module
here that loads it.
"""
