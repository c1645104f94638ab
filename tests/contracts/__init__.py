"""What every implementation of a protocol must do, once: each has a test class that subclasses the contract and says how to make one.

A contract is a class of tests over an abstract fixture. It names the protocol's behaviour and nothing of any implementation; what only
one of them does stands in its own tests.
"""
