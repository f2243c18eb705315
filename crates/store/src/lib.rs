//! Everything of the hub that survives power loss.
