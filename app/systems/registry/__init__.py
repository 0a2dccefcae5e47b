"""Schema registry and Avro codec."""
