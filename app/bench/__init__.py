"""Speed and memory, measured on this machine with real servers; bench/README.md says how to read the figures."""
