"""Local stack of real servers as child processes: Kafka, schema registry, Redis, S3, and Kafka Connect on demand."""
