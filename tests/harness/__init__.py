"""Private mail and database servers for the tests: loopback only, gone when the tests are."""
