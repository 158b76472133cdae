"""The policy network: specification, decoder, attention, Hugging Face weights in and out."""
