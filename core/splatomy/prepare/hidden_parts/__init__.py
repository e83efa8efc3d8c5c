"""Parts of an object that other things hide: where they are in each picture, how deep, and of what colour.

A user draws the hidden part into a few views (or none); ``support`` finds what the object stands on;
``project`` carries a coarse shape of the whole object into all views, with a test of what is hidden there;
``filling`` colours it, from other views where one shows the place, smoothly where none does.
"""

from splatomy.prepare.hidden_parts.filling import Filled, fill_views, with_given
from splatomy.prepare.hidden_parts.project import HiddenParts, hidden_parts, with_drawn_masks
from splatomy.prepare.hidden_parts.support import support_plane

__all__ = [
    "Filled",
    "HiddenParts",
    "fill_views",
    "hidden_parts",
    "support_plane",
    "with_drawn_masks",
    "with_given",
]
