"""Between supervisor, zygote and child: frames on sockets, and slots in shared memory."""
