"""What orchestra claims, measured beside its peers in one run. Start with `run.py`."""
