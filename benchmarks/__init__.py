"""Measures pycontainer and another program side by side: ``python -m benchmarks --list``."""
