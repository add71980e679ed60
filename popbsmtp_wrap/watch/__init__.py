"""The resident process that follows mail logs and hands their logins to the recorder."""
