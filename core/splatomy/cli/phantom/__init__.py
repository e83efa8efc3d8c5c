"""The phantoms on the command line: what each is written as, and the command that writes them."""

from splatomy.cli.phantom.command import phantom

__all__ = ["phantom"]
