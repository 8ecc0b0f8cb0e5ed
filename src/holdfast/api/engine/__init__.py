"""The Engine API: conversations that run in turns, watched as frames. Its specification is wire/engine.md."""
