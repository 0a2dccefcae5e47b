"""The wire: Avro files (source of truth) and their dataclass records."""
