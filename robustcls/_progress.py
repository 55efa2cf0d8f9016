"""Progress bars: `tqdm` as text in a terminal, as a widget in a notebook."""

import warnings

from tqdm import TqdmWarning

with warnings.catch_warnings():
    # A notebook without widgets gets text, which is no news.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
