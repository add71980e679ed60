"""The old import path of popbsmtp-wrap."""

from popbsmtp_wrap.wrapper.wrap import main

__all__ = ["main"]
