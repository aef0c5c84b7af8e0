"""Run pipelines from programs that do not use Trio: the engine runs in its own thread."""
