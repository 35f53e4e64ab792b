//! AF_PACKET backend of linerate: TPACKET_V3 receive ring, batched transmit, fanout, classic BPF.
