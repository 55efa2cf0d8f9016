from .certification import BoundedMargins as BoundedMargins
from .certification import certify_by_bounds as certify_by_bounds
from .initialization import initialize_for_bounds as initialize_for_bounds
from .network import Network as Network

__all__ = ["BoundedMargins", "Network", "certify_by_bounds", "initialize_for_bounds"]
