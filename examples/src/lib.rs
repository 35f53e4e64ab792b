//! One-purpose example programs for linerate, on any backend.
