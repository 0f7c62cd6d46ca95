"""The supervisor's end of the zygote: its process, its runs, their connections and output."""
