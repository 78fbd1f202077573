"""A run spread over many processes: one begins it, each batch of accounts is swept by another, one concludes it."""
