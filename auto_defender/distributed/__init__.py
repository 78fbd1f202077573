"""A run spread over several invocations by a state machine."""
