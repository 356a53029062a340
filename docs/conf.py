"""The documentation: MyST pages, notebooks as they are stored, and a reference made from the docstrings."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reference_pages import lead_back, markdown, remember, write_reference  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from whatwhere import __version__  # noqa: E402

project = "whatwhere"
author = "The whatwhere developers"
copyright = "MIT licence"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"

default_role = "code"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"whatwhere {__version__}"

write_reference(HERE / "reference")
shutil.copytree(HERE.parent / "examples/notebooks", HERE / "notebooks", dirs_exist_ok=True)


def setup(app: Sphinx) -> None:
    """Prepare docstrings, and the links from source code back to them."""
    app.connect("autodoc-process-docstring", remember, priority=400)  # Napoleon is at 500
    app.connect("autodoc-process-docstring", markdown, priority=600)
    app.connect("html-page-context", lead_back)
