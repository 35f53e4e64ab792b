//! The reference matcher.
