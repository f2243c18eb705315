//! The outage story on one machine.
fn main() {}
