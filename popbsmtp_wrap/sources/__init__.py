"""Where logins come from."""
