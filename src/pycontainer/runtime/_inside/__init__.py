"""The processes between the host program and a container: zygote, monitor, init.

They run under ``python -I -S`` and import only the standard library's built-in modules and
`pycontainer._linux`: each millisecond of import is paid by the first container of a program.
"""
