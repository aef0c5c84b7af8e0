"""Pipelines for programs that are not on Trio: an engine in a thread of its own."""
