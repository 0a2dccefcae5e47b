"""Schema registry and Avro: bytes from records, records from bytes."""
