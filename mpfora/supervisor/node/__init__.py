"""What concerns this node as a whole: its session and lease, its status, what it mends. Pure."""
