"""What every resident process needs: events, jobs and their supervisor, the service manager."""
