"""The public names, listed once. Each loads on first use."""

from .checking.parity import check_export as check_export
from .clients.client import Client as Client
from .errors import ServingError as ServingError
from .exports.exporting import export as export
from .exports.exporting import export_run as export_run
from .server.run import serve as serve

__all__ = [
    "Client",
    "ServingError",
    "check_export",
    "export",
    "export_run",
    "serve",
]
