"""Which events there are, who may publish them, who wants them, and the pages written from that."""
