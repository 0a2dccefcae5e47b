"""S3: read and write objects, signed requests, credentials, health of stores."""
