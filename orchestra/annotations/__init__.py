"""Annotations: what they say about values, whether one fits another, and their forms in JSON."""
