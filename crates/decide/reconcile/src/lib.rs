//! What each controller does next.
