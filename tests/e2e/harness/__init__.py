"""The harness of the end-to-end tests: servers for single tests, and clients that see every
byte."""
