"""Optional model weights that a user brings along: which files a published folder needs, and what is wrong.

The one layout so far is that of Diff2DGS (diffusion video inpainting). Nothing is ever fetched. Files are
read by their headers alone; pickled ones are opened in a separate, limited process, see ``convert``.
"""

from splatomy.weights.convert import ConvertLimits, convert
from splatomy.weights.files import FileFacts, read_facts
from splatomy.weights.layout import DIFF2DGS, CheckedFile, Part, WeightsCheck, check
from splatomy.weights.licences import Licence, licence_of
from splatomy.weights.reading import WeightsFolder, open_weights

__all__ = [
    "DIFF2DGS",
    "CheckedFile",
    "ConvertLimits",
    "FileFacts",
    "Licence",
    "Part",
    "WeightsCheck",
    "WeightsFolder",
    "check",
    "convert",
    "licence_of",
    "open_weights",
    "read_facts",
]
