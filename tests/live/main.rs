//! Tests against real services.
