//! Live traffic to a file and, packet by packet, to whatever looks at it.
