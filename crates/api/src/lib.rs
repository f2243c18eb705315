//! The vocabulary of the Kubernetes API on bytes: requests, selectors, objects, watch frames, patches. No I/O.
