//! Long work: states and transitions (pure), the one driver that changes them, the record on disk.
