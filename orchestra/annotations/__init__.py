"""Annotations: facts about the values they describe, and whether one fits another."""
