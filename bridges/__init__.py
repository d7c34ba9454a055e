"""Subscribers that speak what other tools understand. They know the wire (`pipeline.messages`) and nothing behind it."""
