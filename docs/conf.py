"""How Sphinx builds the site: bash scripts/docs."""

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path[:0] = [str(Path(__file__).with_name("_extensions")), str(Path(__file__).parents[1])]
warnings.filterwarnings("ignore", category=DeprecationWarning)

project = "robustcls"
author = "the authors of robustcls"
project_copyright = author
html_title = "robustcls"

extensions = ["leaderboard", "myst_nb", "public_names", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_copy_source = False
html_show_sourcelink = False

# Docstrings write code in single backticks.
default_role = "code"
# Those of Keras are not written for Sphinx.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
maximum_signature_line_length = 88

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are run by a test; the site shows the outputs that are in them.
nb_execution_mode = "off"

# A reference to a name of this project must lead somewhere; types of other packages need not.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!(robustcls|anomaly)\.).*"),
    ("py:(class|obj|data)", r"(robustcls|anomaly)\..*"),
]


def copy_notebooks(app):
    """Brings the notebooks below the pages; a link out of the folder would not be followed."""
    folder = Path(app.srcdir, "examples")
    folder.mkdir(exist_ok=True)
    for path in Path(app.srcdir).parent.glob("examples/*.ipynb"):
        copy = folder / path.name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.write_bytes(path.read_bytes())


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", copy_notebooks)
