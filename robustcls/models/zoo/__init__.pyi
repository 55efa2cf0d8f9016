from .cards import Card as Card
from .cards import names as names
from .cards import read_card as read_card
from .loading import load_pretrained as load_pretrained

__all__ = ["Card", "load_pretrained", "names", "read_card"]
