"""Optional model weights that a user brings along: which files a published folder needs, and what is wrong.

The one layout so far is that of Diff2DGS (diffusion video inpainting). Nothing is ever fetched. Files are
read by their headers alone; pickled ones are opened in a separate, limited process, see ``convert``.
"""

from splatomy.weights.convert import ConvertLimits, convert
from splatomy.weights.files import FileFacts, read_facts
from splatomy.weights.layout import DIFF2DGS, CheckedFile, Part, WeightsCheck, check

__all__ = [
    "DIFF2DGS",
    "CheckedFile",
    "ConvertLimits",
    "FileFacts",
    "Part",
    "WeightsCheck",
    "check",
    "convert",
    "read_facts",
]
