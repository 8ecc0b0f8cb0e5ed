"""Declared skills: files that list steps, executed as durable runs."""
