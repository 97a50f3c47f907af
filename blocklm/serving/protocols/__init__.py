"""Reads requests in the protocols of llama.cpp and OpenAI, and shapes the answers."""
