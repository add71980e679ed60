"""What an installed launcher imports that was written when popbsmtp-wrap lay here."""

from popbsmtp_wrap.wrapper.wrap import main

__all__ = ["main"]
