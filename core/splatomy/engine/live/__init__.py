"""Live sessions: reconstruction while the video arrives."""

from splatomy.engine.live.phantom_source import PhantomSource
from splatomy.engine.live.request import LiveRequest
from splatomy.engine.live.running import live

__all__ = ["LiveRequest", "PhantomSource", "live"]
