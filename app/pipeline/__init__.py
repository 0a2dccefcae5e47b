"""Use cases: framework-free async, one file per agent."""
