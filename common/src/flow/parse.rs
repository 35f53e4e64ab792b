//! Flows as text.

/// A flow that could not be understood: which text, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseFlowError {}
