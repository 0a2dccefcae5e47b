"""Every format times every oddity: small files, made when they are asked for, that the oracle test compares."""
