"""The documentation site: `make docs` builds it into site/ from pages, docstrings and scripts that it runs."""

import importlib
import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "integrations")]
os.environ.setdefault("KERAS_BACKEND", "torch")  # else Keras looks for TensorFlow

from genlabel_plugins import __version__  # noqa: E402

PACKAGES = [
    "genlabel_plugins",
    *sorted(path.name for path in (DOCS.parent / "integrations").iterdir() if (path / "__init__.py").exists()),
    "genlabel_plugins.testing",
    "genlabel_plugins.diagnostics",
    "genlabel_plugins.selection",
    "genlabel_plugins.mixing",
    "genlabel_plugins.loops",
]

project = "genlabel_plugins"
author = "the developers of genlabel_plugins"
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]

# Pages in Markdown; a heading is a link target, so `page.md#heading` works here as it does in a repository.
myst_enable_extensions = ["colon_fence", "dollarmath"]
default_role = "literal"  # docstrings write code between single backticks
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto"]
exclude_patterns = ["**/README.md", "**/GALLERY_HEADER.md"]

# An API page for each public name.
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # What scikit-learn's metadata routing hangs onto a class, in scikit-learn's own words.
    "exclude-members": "set_fit_request, set_score_request, set_partial_fit_request, set_predict_request",
}
templates_path = ["_templates"]
napoleon_use_ivar = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# Scripts that are run at build, with their output and pictures.
sphinx_gallery_conf = {
    "examples_dirs": ["tutorials", "gallery"],
    "gallery_dirs": ["auto_tutorials", "auto_gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib",),
    "min_reported_time": 3600,
}

html_theme = "pydata_sphinx_theme"
html_title = f"genlabel_plugins {version}"
html_static_path: list[str] = []
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_nav_level": 1,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["last-updated"],
    "back_to_top_button": True,
}
html_last_updated_fmt = "%Y-%m-%d"
copyright = "the developers of genlabel_plugins, Apache-2.0"


def _write_api_index(app: object) -> None:
    """A table of the public names of each package; a name stands where users import it from."""
    seen: set[str] = set()
    lines = ["API", "===", "", "Every public name, under the package that exports it, with its source.", ""]
    for package in PACKAGES:
        module = importlib.import_module(package)
        names = [name for name in module.__all__ if name not in seen and callable(getattr(module, name))]
        seen.update(names)
        lines += [package, "-" * len(package), "", (module.__doc__ or "").splitlines()[0], ""]
        lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
        lines += [*(f"   {package}.{name}" for name in names), ""]
    page = DOCS / "api" / "index.rst"
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join(lines))


def setup(app: object) -> None:
    """Called by Sphinx."""
    _write_api_index(app)
