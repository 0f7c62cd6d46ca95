"""The supervisor: the process that owns etcd, balancing, task states and commands of one node."""
