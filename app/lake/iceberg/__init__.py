"""Iceberg tables: catalog, snapshots, data files. The only package that imports pyiceberg."""
