"""Subscribers that speak what other tools understand. They know the wire (`pipeline.messages`), nothing behind it."""
