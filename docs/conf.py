"""How the documentation is built."""

from __future__ import annotations

from importlib import metadata

project = "pycontainer"
author = "The pycontainer authors"
copyright = author
release = metadata.version("pycontainer")
html_title = f"pycontainer {release}"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "benchmarks/results.md"]
myst_enable_extensions = ["attrs_inline", "deflist", "fieldlist"]
myst_heading_anchors = 3

# Docstrings put code into single backquotes where it is a name, as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
