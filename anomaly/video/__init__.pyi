"""The public names, listed once. Each loads on first use."""

from .films import Film as Film
from .films import write_film as write_film
from .frame_scores import frame_figures as frame_figures
from .frame_scores import normalized_scores as normalized_scores

__all__ = ["Film", "frame_figures", "normalized_scores", "write_film"]
