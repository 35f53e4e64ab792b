//! Frames off a network card: ef_vi, verbs, ExaNIC, AF_XDP, AF_PACKET and UDP behind one zero-copy trait.
