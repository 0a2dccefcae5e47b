"""One file per outside system, and the memory twins."""
