"""What several suites of tests use."""
