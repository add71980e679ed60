"""Where launchers that were installed before 0.1.0 look for popbsmtp-wrap."""
