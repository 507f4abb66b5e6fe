"""Sphinx's settings."""

import hangup

project = "hangup"
author = "The hangup authors"
copyright = "2026, The hangup authors"  # noqa: A001 - Sphinx's name
release = version = hangup.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "hangup"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False
