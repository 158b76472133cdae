"""A workdir in a bucket: objects, logs made of them, one owner, and a folder on this machine that follows it."""
