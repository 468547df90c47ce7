"""The test bed: a network namespace, QEMU machines in it, and SIP phones that hear what they are sent."""
