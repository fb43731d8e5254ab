//! Packets to flows to transactions to findings: one pass, bounded memory, no I/O and no clock but the packets' own.
