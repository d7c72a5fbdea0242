"""What the end-to-end tests share: a server of their own, and clients that see every byte."""
