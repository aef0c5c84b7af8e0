"""The same endpoint on each server, and the client that measures them from outside."""
