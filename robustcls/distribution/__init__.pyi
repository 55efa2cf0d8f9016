"""The public names, listed once. Each loads on first use."""

from .batches import distribute_batches as distribute_batches
from .cluster import Cluster as Cluster
from .collectives import from_chief as from_chief
from .collectives import is_chief as is_chief
from .collectives import on_chief as on_chief
from .collectives import require_same as require_same
from .multi_worker import MultiWorker as MultiWorker
from .multi_worker import for_workers as for_workers
from .replicas import draw_for_replica as draw_for_replica
from .replicas import share_of as share_of
from .starting import start as start

__all__ = [
    "Cluster",
    "MultiWorker",
    "distribute_batches",
    "draw_for_replica",
    "for_workers",
    "from_chief",
    "is_chief",
    "on_chief",
    "require_same",
    "share_of",
    "start",
]
