"""The golden disk and its OS tree in the formats of each hypervisor and container manager."""
