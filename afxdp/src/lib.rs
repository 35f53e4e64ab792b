//! AF_XDP backend of linerate: zero-copy rings with flow steering in the kernel.
