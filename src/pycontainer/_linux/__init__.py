"""Kernel facilities, one module each; the only home of `ctypes`. Raises only `OSError`."""
