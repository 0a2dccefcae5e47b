"""What verbs of the command line share: times, waiting options, supervision. A verb itself is in its feature."""
