"""Measures orchestra's claims and its peers in one run. Start with `run.py`."""
