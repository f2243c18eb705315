//! End-to-end cases on real Kubernetes.
fn main() {}
