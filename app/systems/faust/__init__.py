"""Faust: transport, tables in RocksDB, the data folder of a worker."""
