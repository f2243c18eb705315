//! yurthub: the Kubernetes API of an edge node, with or without its cloud.
