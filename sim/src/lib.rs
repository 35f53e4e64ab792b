//! Simulated network cards behind the vendors' C ABIs, for tests and for users without a card.
