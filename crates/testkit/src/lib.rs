//! A simulated kube-apiserver, a relay that cuts links, a kubelet-like client and clusters of real binaries.
