"""A Xen host without a Xen machine: the hypervisor and a small dom0, emulated, with its domains and its toolstack."""
